"""The signature in gateware, for narrow and wide words, with and without instantiated LUT4 cells."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Const, Module, Value

from lutern.hw import signature
from lutern.hw.signature import SignatureCheck
from lutern.model_ref.signature import columns
from lutern.sim import runner
from lutern.sim.convert import convert_verilog

SEED = 80
LUT4 = "module LUT4(input A, B, C, D, output Z); parameter [15:0] INIT = 0; assign Z = INIT[{D, C, B, A}]; endmodule\n"


def run(bits: int, pause: str = "none", block: type[SignatureCheck] = SignatureCheck, *, cells: bool = False) -> None:
    component = block(bits, cells=cells)
    parameters = {"bits": bits, "pause": pause, "latency": component.latency}
    runner.run_bench(component, "lutern.sim.benches.signature", seed=SEED, parameters=parameters)
    assert component.latency == (4 if bits > 512 else 3)


@pytest.fixture(autouse=True)
def with_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "convert_verilog", lambda text: convert_verilog(text) + LUT4)


@pytest.mark.parametrize(
    ("bits", "cells"), [(16, True), (72, False), (72, True), (144, True), (512, False), (824, False), (824, True)]
)
def test_signature(bits: int, cells: bool) -> None:
    run(bits, cells=cells)


@pytest.mark.parametrize("pause", ["random", "bursty"])
def test_signature_with_pauses(pause: str) -> None:
    run(16, pause, cells=True)


class Endless(SignatureCheck):
    """A mutant that does not reset the state at the start of a block."""

    def _next(self, m: Module, first: Value, before: list[Value], word: Value, bits: list[int]) -> Value:
        return super()._next(m, Const(0), before, word, bits)


class HalfCompared(SignatureCheck):
    """A mutant that does not compare the upper half of the state."""

    def _differs(self, m: Module, state: Value) -> Value:
        half = len(state) // 2
        return state[:half] != self.wanted[:half]


@pytest.mark.parametrize("block", [Endless, HalfCompared])
def test_mutation_is_found(block: type[SignatureCheck]) -> None:
    with pytest.raises(AssertionError, match=rf"signature: \(done, bad\) .* block \d+ of .* words, .* seed {SEED}"):
        run(16, block=block)


@pytest.mark.parametrize(
    ("what", "wrong"),
    [("TAPS", (6, 11, 29, 38)), ("columns", lambda bits: (*columns(bits)[:-1], 0))],
    ids=["polynomial", "column"],
)
def test_mutation_of_the_code_is_found(what: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, what, wrong)
    with pytest.raises(AssertionError, match=rf"signature: \(done, bad\) .* block \d+ of .* words, .* seed {SEED}"):
        run(16)
