"""The residual stream against the golden model."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Cat, Const

from lutern.hw import residual
from lutern.hw.config import HwConfig
from lutern.hw.layouts import Op
from lutern.hw.scale import SumScale
from lutern.model_ref.model import add_residual
from lutern.sim.benches.with_late_values import LateResidual
from lutern.sim.runner import run_bench

LATENCY = 6


def run(
    lanes: int, source: str = "none", sink: str = "none", testcase: str | None = None, streams: int = 1, active: int = 1
) -> None:
    values = {"results_per_cycle": lanes, "max_width": 32, "streams": streams}
    block = residual.Residual(HwConfig("bench", **values))
    assert block.latency == LATENCY
    run_bench(
        LateResidual(block),
        "lutern.sim.benches.residual",
        seed=20 + lanes,
        testcase=testcase,
        parameters={
            "config": values,
            "source": source,
            "sink": sink,
            "latency": LATENCY,
            "tokens": 10,
            "active": active,
        },
    )


@pytest.mark.parametrize(("lanes", "streams", "active"), [(1, 1, 1), (2, 1, 1), (1, 4, 4), (2, 4, 3), (1, 2, 1)])
def test_h_latency_and_reset(lanes: int, streams: int, active: int) -> None:
    run(lanes, streams=streams, active=active)


@pytest.mark.parametrize(("source", "sink"), [("random", "random"), ("none", "bursty"), ("alternating", "after_valid")])
def test_pauses(source: str, sink: str) -> None:
    run(2, source, sink)
    run(2, source, sink, streams=4, active=4)


def test_scale_and_residual_together_are_add_residual() -> None:
    generator = np.random.default_rng(3)
    for _ in range(200):
        h, sums = generator.integers(-(1 << 31) + 1, 1 << 31, 16), generator.integers(-(1 << 20), 1 << 20, 16)
        cut, frac, mantissa = int(generator.integers(0, 4)), int(generator.integers(10, 31)), 70000
        exponent = int(generator.integers(-50, -10))
        values, _ = SumScale.model(Op.RESIDUAL, sums, cut, mantissa, -(exponent + cut + frac))
        matrix: Any = SimpleNamespace(cut=cut, frac_bits=frac)
        expected = add_residual(h[None], sums[None], matrix, (np.array([mantissa]), np.array([exponent])))
        assert np.array_equal(residual.Residual.model(h, values, Op.RESIDUAL)[0], expected[0])


@pytest.mark.parametrize(("constant", "bit"), [("H_BITS", 1), ("X_BITS", 1)])
def test_mutation_is_found(constant: str, bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual, constant, getattr(residual, constant) ^ bit)
    with pytest.raises(AssertionError, match=r"residual\.(x|tap): layer \d+, index \d+, cycle \d+: got 0x.* seed 22"):
        run(2, testcase="edges_then_random")


def test_mutation_of_the_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    one_bit = lambda config, payload: Cat(payload.index[:4], payload.stream[0], Const(0))  # noqa: E731
    monkeypatch.setattr(residual, "place_of", one_bit)
    with pytest.raises(AssertionError, match=r"residual\.(x|tap): layer \d+, index \d+, cycle \d+: got 0x.* seed 22"):
        run(2, testcase="edges_then_random", streams=4, active=4)
