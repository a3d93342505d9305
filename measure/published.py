"""Results that others report about ternary language models on hardware: tokens/s, joules per token, and their
grade.

Grades: "measured" on hardware by its author; "simulated" by synthesis and simulation; "projected" by its author from
something smaller; "published", if the source does not say how. Tokens/s and joules may have different grades. A figure
has the worst grade of the figures from which it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published result of one stream, unless ``what`` says otherwise. 0 joules means that joules are not reported."""

    model: str
    device: str
    tokens_per_second: float
    grade: str
    who: str
    what: str
    joules: float = 0.0
    joules_grade: str = ""
    watts: str = ""


PUBLISHED_FIGURES = (
    Published("370m", "U250", 86.4, "projected", "ternip", "one stream, its cycles at 300 MHz"),
    Published("370m", "U250", 1943.0, "measured", "ternip", "24 streams"),
    Published(
        "370m",
        "U250",
        3889.0,
        "projected",
        "ternip",
        "45 streams, a design that is placed and routed",
        0.013,
        "projected",
        "52",
    ),
    Published(
        "370m",
        "KV260",
        26.2,
        "published",
        "matmulfree_KRIA",
        "matrices in the FPGA, the rest on its processors; 34.5 of six streams",
    ),
    Published(
        "370m",
        "Loihi 2",
        59.4,
        "published",
        "Abreu et al.",
        "arXiv 2503.18002, results preliminary by its abstract; 8-bit weights, embedding and head left out",
        0.0708,
        "published",
        "4.2",
    ),
    Published(
        "370m",
        "several U280",
        16300.0,
        "simulated",
        "TerEffic",
        "arXiv 2502.16473, weights on the chips",
        0.0022,
        "simulated",
        "36",
    ),
    Published(
        "1.3b",
        "D5005",
        23.8,
        "projected",
        "Zhu et al.",
        "arXiv 2406.02528 v1 to v5; measured: 43 to 456 ms a block of 512 to 2,048, 13.4 to 13.9 W",
        0.55,
        "projected",
        "13",
    ),
    Published("2.7b", "U280", 727.0, "simulated", "TerEffic", "arXiv 2502.16473, from HBM", 0.063, "simulated", "46"),
    Published(
        "BitNet 2.4B",
        "KV260",
        18.6,
        "measured",
        "bitnet-kv260",
        "whole board, 3.8 W of it idle; an earlier run: 16.8 tokens/s, 0.381 J",
        0.368,
        "measured",
        "6.8",
    ),
    Published(
        "BitNet 2.4B",
        "Arty A7-35T",
        0.33,
        "projected",
        "ternfpga",
        "composed of measured blocks; watts are Vivado's estimate",
        1.6,
        "projected",
        "0.49",
    ),
    Published(
        "BitNet 0.73B",
        "KV260",
        25.0,
        "published",
        "TeLLMe v2",
        "arXiv 2510.15926, at most, under 5 W",
        0.2,
        "published",
        "5",
    ),
    Published(
        "BitNet 0.73B",
        "KV260",
        9.0,
        "published",
        "TeLLMe v1",
        "arXiv 2504.16266, at most, a power budget of 7 W",
        0.78,
        "published",
        "7",
    ),
)
"""Results of the released models come first, model by model. Results of other ternary models follow."""

__all__ = ["PUBLISHED_FIGURES", "Published"]
