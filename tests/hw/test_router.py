"""The record router and the group unpacker."""

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.layouts import EMBEDDING_BITS, GAIN_BITS
from lutern.hw.router import GroupUnpacker, RecordRouter
from lutern.sim.runner import run_bench

PAUSES = ("none", "random", "bursty", "alternating")
UNPACKERS = [
    ({"columns": 4}, GAIN_BITS, (1, 2, 4)),  # 32 bits: 1 group a word; 2 and 3 words a group
    ({"columns": 16}, GAIN_BITS, (1, 2, 4)),  # 104 bits: 4, 2 and 1 groups a word
    ({"columns": 16, "results_per_cycle": 2}, GAIN_BITS, (1, 2, 4)),  # 2 and 1 groups a word, 2 words a group
    ({"columns": 16, "results_per_cycle": 2}, EMBEDDING_BITS, (1,)),  # 3 groups a word
]


def run_router(values: dict[str, int], pause: str) -> None:
    run_bench(RecordRouter(HwConfig("bench", **values)), "lutern.sim.tb_router", seed=51,
              parameters={"config": values, "pause": pause})


@pytest.mark.parametrize("values", [{"rows": 4, "columns": 4}, {"rows": 4, "columns": 16}, {"rows": 20, "columns": 16}])
def test_router(values: dict[str, int]) -> None:
    run_router(values, "none")


@pytest.mark.parametrize("pause", PAUSES[1:])
def test_router_with_pauses(pause: str) -> None:
    run_router({"rows": 4, "columns": 4}, pause)


def run_unpacker(shape: int, pause: str) -> None:
    values, item_bits, choices = UNPACKERS[shape]
    run_bench(GroupUnpacker(HwConfig("bench", **values), item_bits, choices), "lutern.sim.tb_unpacker", seed=52,
              parameters={"config": values, "item_bits": item_bits, "choices": choices, "pause": pause})


@pytest.mark.parametrize("shape", range(len(UNPACKERS)))
def test_unpacker(shape: int) -> None:
    run_unpacker(shape, "none")


@pytest.mark.parametrize(("shape", "pause"), [*((0, pause) for pause in PAUSES[1:]), (2, "random")])
def test_unpacker_with_pauses(shape: int, pause: str) -> None:
    run_unpacker(shape, pause)
