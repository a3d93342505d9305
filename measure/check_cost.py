"""Counts the cost of the check of weights (`hw/weight_check.py`) in a machine: its cells, and the words that it adds to
a token.

    machine ─► `weight_check` alone, synthesised ─► LUT4, FF, block RAM
            └► program's sizes for the largest model that fits ─► words of a token, and how many of them are checks

The fields of the command SETUP, the answer to the command DAMAGE and the watchdog are not part of the block. Their
cells are in the row of `top`. For each machine yosys takes a few seconds, and the results are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lutern.firmware.limits import reason_against
from lutern.firmware.schedule import program_sizes, records
from lutern.hw.config import HwConfig
from lutern.hw.layouts import RecordKind, check_words, header_words
from lutern.measure.cost import Cost, measure_cost
from lutern.model_ref.config import ModelConfig

BLOCK = "weight_check"


@dataclass(frozen=True)
class CheckCost:
    """The cells of the block, and the number of words that it adds to a token of ``model``.

    A token reads ``words`` words, of which ``added`` are checks with their headers. ``share`` is the bytes of
    these checks divided by all bytes that the token would read without them.
    """

    cost: Cost
    model: str
    words: int
    added: int
    share: float


def added_words(model_config: ModelConfig, hw_config: HwConfig) -> int:
    """Return the number of words of checks, with their headers, that a token reads."""
    checks = sum(record.kind is RecordKind.CHECK for record in records(model_config, hw_config))
    return checks * (header_words(hw_config) + check_words(hw_config)) + check_words(hw_config)


def added_share(model_config: ModelConfig, hw_config: HwConfig) -> float:
    """Return the bytes of ``added_words`` divided by the bytes, including resident trits, that a token would read
    without checks.
    """
    sizes, added = program_sizes(model_config, hw_config), added_words(model_config, hw_config) * hw_config.word_bytes
    read = sizes.pass_words() * hw_config.word_bytes + sizes.trit_beats * hw_config.beat_bytes
    return added / (read - added)


def measure_check(hw_config: HwConfig, models: Mapping[str, ModelConfig]) -> CheckCost | None:
    """Return the cost with the first of ``models`` that fits the machine; None if no model fits."""
    for name, model_config in models.items():
        if reason_against(model_config, hw_config) is None:
            return CheckCost(
                measure_cost(BLOCK, hw_config),
                name,
                program_sizes(model_config, hw_config).pass_words(),
                added_words(model_config, hw_config),
                added_share(model_config, hw_config),
            )
    return None


__all__ = ["BLOCK", "CheckCost", "added_share", "added_words", "measure_check"]
