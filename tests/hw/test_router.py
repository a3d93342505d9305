"""The record router, the group unpacker and the beat assembler."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.hw import router
from lutern.hw.config import HwConfig
from lutern.hw.router import BeatAssembler, GroupUnpacker, RecordRouter
from lutern.sim.runner import run_bench

PAUSES = ("none", "random", "bursty", "alternating")
ROUTERS: dict[str, dict[str, Any]] = {
    "16": {"word_bytes": 2},  # a header of two words
    "24": {"word_bytes": 3},  # a header that fills its word
    "72": {"word_bytes": 9},
    "144": {"word_bytes": 18},
}
UNPACKERS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"word_bytes": 2}, (1, 2, 4)),  # 1, 2 and 4 words per group
    ({"word_bytes": 8, "streams": 2}, (1, 2, 4)),  # 4, 2 and 1 groups per word
    ({"word_bytes": 9, "results_per_cycle": 2}, (1, 2, 4)),  # 2 and 1 groups per word, then 2 words per group
    ({"word_bytes": 18, "results_per_cycle": 4}, (1,)),  # 2 groups per word, and two unused bytes
]
ASSEMBLERS: dict[str, dict[str, Any]] = {
    "one": {"rows": 5, "columns": 4, "word_bytes": 4},
    "two": {"rows": 5, "columns": 4, "word_bytes": 2},
    "four": {"rows": 10, "columns": 4, "word_bytes": 2},
}


def run_router(name: str, pause: str) -> None:
    run_bench(
        RecordRouter(HwConfig("bench", **ROUTERS[name])),
        "lutern.sim.benches.router",
        seed=51,
        parameters={"config": ROUTERS[name], "pause": pause},
    )


@pytest.mark.parametrize("name", ROUTERS)
def test_router(name: str) -> None:
    run_router(name, "none")


@pytest.mark.parametrize(
    "pause", [pytest.param(name, marks=() if name == "random" else pytest.mark.slow) for name in PAUSES[1:]]
)
def test_router_with_pauses(pause: str) -> None:
    run_router("16", pause)


def run_unpacker(shape: int, pause: str) -> None:
    values, choices = UNPACKERS[shape]
    run_bench(
        GroupUnpacker(HwConfig("bench", **values), choices),
        "lutern.sim.benches.unpacker",
        seed=52,
        parameters={"config": values, "choices": choices, "pause": pause},
    )


@pytest.mark.parametrize("shape", range(len(UNPACKERS)))
def test_unpacker(shape: int) -> None:
    run_unpacker(shape, "none")


@pytest.mark.parametrize(("shape", "pause"), [*((0, pause) for pause in PAUSES[1:]), (2, "random")])
def test_unpacker_with_pauses(shape: int, pause: str) -> None:
    run_unpacker(shape, pause)


def run_assembler(name: str, pause: str) -> None:
    values = {**ASSEMBLERS[name], "source": "streamed"}
    block = BeatAssembler(HwConfig("bench", **values))
    assert block.latency == 1
    run_bench(block, "lutern.sim.benches.beats", seed=53, parameters={"config": values, "pause": pause})


@pytest.mark.parametrize("name", ASSEMBLERS)
def test_assembler(name: str) -> None:
    run_assembler(name, "none")


@pytest.mark.parametrize("pause", PAUSES[1:])
def test_assembler_with_pauses(pause: str) -> None:
    run_assembler("two", pause)


@pytest.mark.parametrize(
    ("what", "wrong", "run"),
    [
        ("HEADER_LENGTH_BITS", 12, lambda: run_router("16", "none")),
        ("OPERATION_BITS", 224, lambda: run_router("16", "none")),
        ("ITEM_BITS", 15, lambda: run_unpacker(1, "none")),
        ("group_shape", lambda config, items: (1, 1), lambda: run_unpacker(1, "none")),
    ],
    ids=["length", "operation", "items", "groups"],
)
def test_mutation_is_found(what: str, wrong: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, what, wrong)
    with pytest.raises(AssertionError, match="seed"):
        run()
