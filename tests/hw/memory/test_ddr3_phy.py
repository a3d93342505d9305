"""The DDR3 PHY with models of its cells and a part at its pins: which settings read all written words correctly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lutern.boards.ddr3_parts import ddr3_part
from lutern.hw.memory import Ddr3Modes, Ddr3Timings
from lutern.sim.ddr3_phy import SETTINGS, SOURCES, Ddr3PhyBench
from lutern.sim.runner import run_bench

SMALL = {
    "row_bits": 4,
    "column_bits": 7,
    "refresh_interval": 197,
    "refi": 396,
    "refresh_limit": 26 * 396,
    "reset_low": 60,
    "wake": 80,
    "zq_init": 100,
}
DLL_OFF = Ddr3Modes(cl=6, cwl=6, dll=False, rtt_nom=0, rtt_wr=0)
LEAD = 6
"""Ticks from the time when the gate opens with delay 0 to the first strobe, if ``flight`` is 0."""


def timings(modes: Ddr3Modes | None = None) -> Ddr3Timings:
    modes = modes or Ddr3Modes()
    t = ddr3_part("MT41K256M16").timings(75e6, 1, modes)
    return t.with_(**SMALL, dll_lock=120 if modes.dll else 0)


def mask(settings: list[int]) -> int:
    return sum(1 << setting for setting in settings)


def expected(flight: int, other: int = 0) -> dict[str, int]:
    """Return the masks that follow from the times of the models.

    The gate opens ``before`` ticks before the first strobe. BURSTDET rises if the gate opens during the preamble,
    which lasts four ticks. In this case the words are correct. They are also correct if the gate opens with the
    strobe. From the gate on, the reader takes a pair of beats in each period of ECLK. So with delays of 4 and more,
    words come one period later, which needs a slip of 2 beats.
    """
    before = {setting: LEAD + flight - setting % 8 for setting in range(SETTINGS)}
    bursts = [setting for setting in before if 1 <= before[setting] <= 4]
    right = [s for s in before if 0 <= before[s] <= 4 and s // 8 == (2 if s % 8 >= 4 else 0)]
    return {
        "right_0": mask(right),
        "right_1": mask([setting ^ other for setting in right]),
        "bursts_0": mask(bursts),
        "bursts_1": mask([setting ^ other for setting in bursts]),
    }


def scan(t: Ddr3Timings, sources: list[Path] | None = None, **changes: Any) -> None:
    given: dict[str, Any] = {"flight": 1, "first": 0, "last": SETTINGS - 1, "other": 0, "rounds": 2, **changes}
    run_bench(
        Ddr3PhyBench(t),
        "lutern.sim.benches.ddr3_phy",
        sources=sources or SOURCES,
        parameters={"wanted": expected(given["flight"], given["other"]), **given},
    )


def test_settings_that_read_what_was_written() -> None:
    """The correct settings of the two bytes differ, so the test finds a byte that uses the other byte's setting."""
    scan(timings(), other=0b01101)


@pytest.mark.slow
@pytest.mark.parametrize("flight", [0, 1, 2])
@pytest.mark.parametrize("modes", [Ddr3Modes(), Ddr3Modes(cl=7), DLL_OFF], ids=["cl-6", "cl-7", "cwl-6"])
def test_modes_and_flights(modes: Ddr3Modes, flight: int) -> None:
    scan(timings(modes), flight=flight)


@pytest.mark.slow
def test_many_words_with_a_good_setting() -> None:
    """One good setting reads many words correctly, over several pages and refreshes."""
    good = 2 << 3 | 5
    one = {name: value & 1 << good for name, value in expected(1).items()}
    assert all(one.values())
    scan(timings(), first=good, last=good, rounds=1000, wanted=one)


CHANGES = {
    "data_late": ("ecp5_ddr3_cells.v", "ecp5_gear #(2) gear(SCLK, RST, {D3", "ecp5_gear #(4) gear(SCLK, RST, {D3"),
    "commands_soon": ("ecp5_ddr3_cells.v", "ecp5_gear #(8)", "ecp5_gear #(4)"),
    "no_update": ("ecp5_ddr3_cells.v", "if (LOCK && !UDDCNTLN) DDRDEL <= 1", "if (LOCK && UDDCNTLN) DDRDEL <= 0"),
    "never_paused": ("ecp5_ddr3_cells.v", "if (PAUSE) select", "if (0) select"),
    "later_words": ("ddr3_pins.v", "read_line[4 * CL + 1 + flight[", "read_line[4 * CL + 5 + flight["),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_another_cell_or_part_is_found(name: str, tmp_path: Path) -> None:
    file, was, now = CHANGES[name]
    sources = [tmp_path / path.name if path.name == file else path for path in SOURCES]
    text = next(path for path in SOURCES if path.name == file).read_text()
    assert was in text
    (tmp_path / file).write_text(text.replace(was, now))
    with pytest.raises(AssertionError, match=r"seen|not on time|is broken|has not ended"):
        scan(timings(), sources)
