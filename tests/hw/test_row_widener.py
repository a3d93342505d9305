"""The row widener, with rows of 12 and of 16 bits per element."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Const

from lutern.hw.config import HwConfig
from lutern.hw.layouts import takes_narrow_rows
from lutern.hw.row_widener import RowWidener
from lutern.sim.runner import run_bench

SEED = 57
MACHINES: dict[str, dict[str, Any]] = {
    "16": {"word_bytes": 2},
    "16, two results": {"word_bytes": 2, "results_per_cycle": 2},  # two words per group
    "40": {"word_bytes": 5, "results_per_cycle": 2},  # one unused byte per word
    "64, two results": {"word_bytes": 8, "results_per_cycle": 2},
}


def config_of(name: str) -> dict[str, Any]:
    return {"rows": 50, "columns": 16, "source": "streamed", **MACHINES[name]}


def run(name: str, pause: str) -> None:
    values = config_of(name)
    block = RowWidener(HwConfig("bench", **values))
    assert block.latency == 0
    run_bench(block, "lutern.sim.benches.row_widener", seed=SEED, parameters={"config": values, "pause": pause})


@pytest.mark.parametrize("name", MACHINES)
def test_rows(name: str) -> None:
    run(name, "none")


@pytest.mark.parametrize("name", ["16", "64, two results"])
def test_rows_with_pauses(name: str) -> None:
    run(name, "random")


@pytest.mark.parametrize("lost", ["flush", "narrow"])
def test_mutation_is_found(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = RowWidener.elaborate

    def wrong(self: RowWidener, platform: object) -> Any:
        setattr(self, lost, Const(lost == "narrow", 1))
        return right(self, platform)

    monkeypatch.setattr(RowWidener, "elaborate", wrong)
    with pytest.raises(AssertionError, match="seed"):
        run("16", "none")


@pytest.mark.parametrize(
    ("machine", "takes"),
    [
        ({"word_bytes": 2}, True),
        ({"word_bytes": 2, "rows": 20, "results_per_cycle": 4, "columns": 4}, True),
        ({"word_bytes": 64, "rows": 20, "columns": 32, "results_per_cycle": 4}, True),
        ({"word_bytes": 8, "source": "resident"}, False),
        ({"word_bytes": 13, "rows": 4, "columns": 16, "results_per_cycle": 4}, True),
        ({"word_bytes": 3, "rows": 30, "columns": 16, "results_per_cycle": 2}, False),  # an item crosses two words
    ],
)
def test_machines_that_take_rows_of_12_bits(machine: dict[str, Any], takes: bool) -> None:
    config = HwConfig("bench", **{"rows": 5, "columns": 4, "source": "streamed", **machine})
    assert takes_narrow_rows(config) == takes
