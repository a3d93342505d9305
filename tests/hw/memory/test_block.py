"""The memories in block RAM on the chip, and the readers of these memories."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Elaboratable
from amaranth.lib.fifo import SyncFIFO

from lutern.hw.config import HwConfig
from lutern.hw.memory import ResidentMemory, StreamedMemory, readers, trit_parts
from lutern.hw.memory import block as memory
from lutern.hw.memory.readers import Repeater
from lutern.measure.netlist import cell_models
from lutern.model_ref.errors import LuternError
from lutern.sim import runner
from lutern.sim.convert import convert_verilog
from lutern.sim.runner import run_bench

LATENCIES: dict[type[Any], dict[str, int]] = {
    ResidentMemory: {"latency": 5, "trit_latency": 6, "row_latency": 8, "read_latency": 7},
    StreamedMemory: {"latency": 2, "row_latency": 4, "read_latency": 3},
}
BANKS = {"trit_latency": 7}
"""With several banks of trits, the selection of the bank takes one more cycle."""
HALVES = {"row_latency": 9, "read_latency": 8}
"""With words that are read in two steps, the second half takes one more cycle."""
CONFIGS: dict[str, dict[str, Any]] = {
    "one": {"rows": 4, "columns": 4, "word_bytes": 4},  # a beat has the size of a word
    "two": {"rows": 4, "columns": 16, "word_bytes": 8},  # a beat of 13 bytes has a full part and a shorter part
    "three": {"rows": 8, "columns": 16, "word_bytes": 9, "streams": 2},  # 26 bytes are three parts, not four
    "eleven": {"rows": 16, "columns": 16, "word_bytes": 5},  # a beat of 52 bytes has eleven parts
    "banks": {"rows": 4, "columns": 16, "word_bytes": 8, "cells": "ecp5"},  # the trits are in four banks
    "stream": {"rows": 5, "columns": 4, "word_bytes": 2, "streams": 4, "source": "streamed"},
}


BANKED = ("two", "banks")
"""Machines that are tested with banks of 16 beats. Without cells of ECP5 there is one bank, with the same latency."""


@pytest.fixture(autouse=True)
def models_of_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Append Yosys' models of the cells to the Verilog of machines with cells of ECP5."""
    monkeypatch.setattr(
        runner, "convert_verilog", lambda text: convert_verilog(text) + (cell_models() if "TRELLIS_FF" in text else "")
    )


def run_memory(name: str, pause: str, seed: int = 81, **options: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if name in BANKED:
            patch.setattr(trit_parts, "BANK_BEATS", 16)
        _run_memory(name, pause, seed, **options)


def _run_memory(name: str, pause: str, seed: int, **options: Any) -> None:
    values = {"memory_words": 128, "trit_beats": 64, "codes_per_cycle": 4, **CONFIGS[name]}
    config = HwConfig("bench", **values)
    block = StreamedMemory(config) if config.source == "streamed" else ResidentMemory(config)
    latencies = LATENCIES[type(block)]
    steps = 1
    if config.source == "resident":
        steps = trit_parts.side_steps(config)
        latencies = latencies | (HALVES if steps == 2 else {}) | (BANKS if name in BANKED else {})
    assert {key: getattr(block, key) for key in latencies} == latencies
    run_bench(
        block,
        "lutern.sim.benches.memory",
        seed=seed,
        parameters={"config": values, "pause": pause, "steps": steps, **latencies},
        **options,
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_memory(name: str) -> None:
    run_memory(name, "none")


@pytest.mark.parametrize(
    ("name", "pause"),
    [("eleven", "random"), ("eleven", "bursty"), ("stream", "random"), ("stream", "bursty"), ("stream", "alternating")],
)
def test_memory_with_pauses(name: str, pause: str) -> None:
    run_memory(name, pause, seed=82)


class Forgetful(Repeater):
    """A mutant that loses the item at the port when the host takes the memory away, in place of reading the item
    again."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        with m.If(~self.granted):
            m.d.sync += self.address.eq(self.address)
        return m


@pytest.mark.parametrize(
    ("name", "what", "wrong"),
    [
        ("stream", "Repeater", Forgetful),
        ("eleven", "TRIT_MEMORY_BIT", 22),
        ("three", "full_parts", lambda config: 1),
        ("stream", "SyncFIFO", lambda width, depth: SyncFIFO(width=width, depth=depth - 4)),
    ],
    ids=["replay", "parts", "rows", "room"],
)
def test_mutation_is_found(name: str, what: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, readers):
        if hasattr(module, what):
            monkeypatch.setattr(module, what, wrong)
    with pytest.raises(AssertionError, match="seed"):
        run_memory(name, "random")


def test_a_beat_narrower_than_a_word_is_refused() -> None:
    with pytest.raises(LuternError, match="a beat of trits has 4 bytes and holds no word of 8"):
        ResidentMemory(HwConfig("narrow", rows=4, columns=4))
