"""The norm equals `model_ref.norm` bit for bit, with all shapes, pauses and resets. Its latencies are exact."""

from typing import Any

import pytest
from amaranth.hdl import Const

from lutern.hw.config import HwConfig
from lutern.hw.norm import RmsNorm, quantiser, scalar_path
from lutern.hw.norm import scalar as norm_scalar
from lutern.hw.norm import statistics as norm_statistics
from lutern.model_ref import norm
from lutern.sim.runner import run_bench

ELEMENTS = [24, 16, 64, 4, 20]
SEED = 11


def run_norm(
    results: int,
    codes: int,
    *,
    streams: int = 1,
    elements: list[int] = ELEMENTS,
    random: int = 12,
    seed: int = SEED,
    **parameters: Any,
) -> None:
    """Run all edge vectors, then random vectors, each with the operations of its place in a layer."""
    config: dict[str, Any] = {
        "results_per_cycle": results,
        "codes_per_cycle": codes,
        "max_width": max(elements),
        "streams": streams,
    }
    run_bench(
        RmsNorm(HwConfig("bench", **config)),
        "lutern.sim.benches.norm",
        seed=seed,
        parameters={"config": config, "elements": elements, "random": random, **parameters},
    )


@pytest.mark.parametrize(("results", "codes"), [(1, 4), (2, 4)])
def test_latencies_are_exact(results: int, codes: int) -> None:
    run_norm(results, codes, exact=True)


@pytest.mark.parametrize(
    ("results", "streams", "active"), [(1, 2, 2), (2, 4, 4), pytest.param(2, 4, 3, marks=pytest.mark.slow), (2, 4, 1)]
)
def test_latencies_of_streams_are_exact(results: int, streams: int, active: int) -> None:
    """Some code passes take less time, and some take more time, than the computation of a stream's scalars."""
    run_norm(results, 4, streams=streams, active=active, elements=[24, 260, 16, 252, 4], random=3, exact=True)


@pytest.mark.parametrize("active", [4, 2])
@pytest.mark.parametrize("pause", ["random", "bursty"])
def test_pauses_of_streams(pause: str, active: int) -> None:
    run_norm(2, 4, streams=4, active=active, pause=pause, seed=6, random=4)


def test_reset_in_mid_vectors() -> None:
    run_norm(1, 4, streams=2, reset=21, pause="random", random=4)


@pytest.mark.parametrize("pause", ["none", "random", "bursty", "alternating"])
def test_pauses(pause: str) -> None:
    run_norm(2, 4, pause=pause, seed=5)


def test_outputs_do_not_wait_for_ready() -> None:
    run_norm(1, 4, sink="after_valid", random=4)


@pytest.mark.parametrize("beats", [1, 15])
def test_reset_in_mid_vector(beats: int) -> None:
    run_norm(1, 4, reset=beats, pause="random", random=4)


@pytest.mark.slow
@pytest.mark.parametrize(("results", "codes", "streams"), [(1, 1, 2), (4, 4, 8), (2, 8, 16)])
def test_shapes_of_streams(results: int, codes: int, streams: int) -> None:
    run_norm(results, codes, streams=streams, random=20, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("results", "codes"),
    [(1, 1), (2, 2), (4, 8), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 2), (4, 4)))],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_shapes(results: int, codes: int, seed: int) -> None:
    run_norm(results, codes, random=40, seed=seed, exact=seed == 1)


@pytest.mark.parametrize(
    ("module", "constant", "value", "stage"),
    [
        (quantiser, "CODE_ROUND", 0, "codes"),
        (norm_scalar, "ROUND_FACTOR", 0, "codes"),
        pytest.param(norm_scalar, "ROOT_EXPONENT", -25 ^ 1, "scale", marks=pytest.mark.slow),
        pytest.param(norm_scalar, "RECIPROCAL_EXPONENT", -33 ^ 2, "scale", marks=pytest.mark.slow),
        (norm_statistics, "TOP_EXPONENT", 17 ^ 1, "scale"),
    ],
)
def test_mutation_of_a_constant_is_found(
    module: Any, constant: str, value: int, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (getattr(module, constant) ^ value).bit_count() == 1
    monkeypatch.setattr(module, constant, value)
    with pytest.raises(AssertionError, match=rf"norm\.{stage}: token .* got .* expected .* seed {SEED}"):
        run_norm(1, 4)


def test_mutation_of_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from lutern.sim.benches.norm import EDGES, build_cases

    words = list(scalar_path.TABLE_WORDS)
    vector = build_cases([*EDGES, "random"], ELEMENTS, SEED)[-1].vectors[0]
    largest = norm.gather(vector.x, vector.outer, vector.inner).largest[0]
    words[512 + (int(largest[0]) >> 8 & 255)] ^= 1 << 12
    monkeypatch.setattr(scalar_path, "TABLE_WORDS", words)
    with pytest.raises(AssertionError, match=r"norm\.(codes|scale): token .* got .* expected"):
        run_norm(1, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "stage"),
    [
        (norm_statistics, "keys", "codes"),
        (norm_statistics, "low", "scale"),
        (norm_statistics, "high", "scale"),
        (scalar_path, "previous", "scale"),
        (scalar_path, "roots", "scale"),
    ],
)
def test_mutation_of_a_streams_memory_is_found(
    module: Any, name: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bench finds a memory that stores one value for all streams."""

    class Shared(norm_statistics.Running):
        def __init__(self, m: Any, which: str, bits: int, streams: int, place: Any) -> None:
            super().__init__(m, which, bits, streams, Const(0, len(place)) if which == name else place)

    monkeypatch.setattr(module, "Running", Shared)
    with pytest.raises(AssertionError, match=rf"norm\.{stage}: token .* got .* expected .* seed {SEED}"):
        run_norm(1, 4, streams=2)
