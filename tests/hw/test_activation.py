"""The sigmoid against the golden model."""

from dataclasses import asdict

import pytest

from lutern.hw import activation
from lutern.hw.config import HwConfig
from lutern.sim.benches import activation as tb_activation
from lutern.sim.benches.with_shared_blocks import StreamedSigmoid
from lutern.sim.runner import run_bench

CONFIGS = {lanes: HwConfig(f"bench-{lanes}", results_per_cycle=lanes) for lanes in (1, 2)}


def run(lanes: int, *, source: str = "none", seed: int = 1) -> None:
    parameters = {"config": asdict(CONFIGS[lanes]), "source": source}
    run_bench(StreamedSigmoid(CONFIGS[lanes]), "lutern.sim.benches.activation", parameters=parameters, seed=seed)


@pytest.mark.parametrize("lanes", CONFIGS)
@pytest.mark.parametrize("source", ["none", "random", "alternating", "bursty"])
def test_results(lanes: int, source: str) -> None:
    run(lanes, source=source, seed=20 + lanes)


def test_latency() -> None:
    assert activation.SIGMOID_STAGES == tb_activation.LATENCY


def test_mutation_of_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    table = list(activation.SEGMENT_TABLE)
    table[311] ^= 1
    monkeypatch.setattr(activation, "SEGMENT_TABLE", table)
    with pytest.raises(AssertionError, match="sigmoid: index"):
        run(1)


# If a bit below 19 of the clamp changes, no result changes, because sigma is within half a unit of its limit there.
@pytest.mark.parametrize(("name", "bit"), [("ARGUMENT_MAX", 19), ("PRODUCT_HALF", 6)])
def test_mutation_of_a_constant_is_found(monkeypatch: pytest.MonkeyPatch, name: str, bit: int) -> None:
    monkeypatch.setattr(activation, name, getattr(activation, name) ^ (1 << bit))
    with pytest.raises(AssertionError, match="sigmoid: index"):
        run(1)
