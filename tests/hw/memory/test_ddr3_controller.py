"""The DDR3 controller against the memory model (words, refreshes, cycles), and the data of the parts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from lutern.boards.ddr3_parts import DDR3_PARTS, ddr3_part
from lutern.hw.memory import Ddr3Modes, Ddr3Timings
from lutern.hw.memory.ddr3_controller import REFRESH_WAIT
from lutern.hw.memory.ddr3_part import MOST_POSTPONED
from lutern.model_ref.errors import LuternError
from lutern.sim.ddr3 import SOURCE, Ddr3Bench, Ddr3Sequences
from lutern.sim.runner import run_bench

SHORT = {"reset_low": 60, "wake": 80, "zq_init": 100, "dll_lock": 120}
SMALL = {"row_bits": 4, "column_bits": 7, "refresh_interval": 197, "refi": 396, "refresh_limit": 26 * 396, **SHORT}
"""A part with few rows, so that a bench refreshes each row several times. Its initialization is short."""
DLL_OFF = Ddr3Modes(cl=6, cwl=6, dll=False, rtt_nom=0, rtt_wr=0)
CLOCKS_HZ = (48e6, 64e6, 75e6, 100e6)


def timings(
    name: str = "MT41K256M16", clock_hz: float = 75e6, group: int = 1, modes: Ddr3Modes | None = None, **changes: int
) -> Ddr3Timings:
    return ddr3_part(name).timings(clock_hz, group, modes).with_(**changes)


def run_ddr3(t: Ddr3Timings, testcase: Any = None, pause: str = "none", seed: int = 71, **options: int) -> None:
    options = {"jobs": 600, "words": 2048, "resets": 3, "latencies": 20, "groups": 8, **options}
    run_bench(
        Ddr3Bench(t),
        "lutern.sim.benches.ddr3",
        seed=seed,
        testcase=testcase,
        sources=[SOURCE],
        parameters={"timings": asdict(t), "pause": pause, **options},
    )


def test_ddr3() -> None:
    run_ddr3(timings(group=2, **SMALL))


@pytest.mark.slow
@pytest.mark.parametrize("pause", ["none", "random"])
@pytest.mark.parametrize(
    ("name", "clock_hz", "group", "modes"),
    [
        ("MT41K256M16", 75e6, 8, Ddr3Modes()),
        ("MT41K64M16", 48e6, 1, DLL_OFF),
        ("MT41K512M16", 100e6, 1, Ddr3Modes(cl=7)),
    ],
    ids=["by-eight", "dll-off", "cl-7"],
)
def test_modes_and_groups(name: str, clock_hz: float, group: int, modes: Ddr3Modes, pause: str) -> None:
    changes = {**SMALL, "dll_lock": 120 if modes.dll else 0}
    run_ddr3(timings(name, clock_hz, group, modes, **changes), pause=pause, jobs=3000, latencies=60, groups=20)


SHARES = [
    ("MT41K256M16", 75e6, 1, 0.945),
    ("MT41K256M16", 75e6, 8, 0.963),
    ("MT41K64M16", 48e6, 8, 0.979),
    ("MT41K256M16", 100e6, 8, 0.963),
]


def sequences(mebibytes: int, **changes: int) -> None:
    """Read ``mebibytes`` MiB in order, compare all words, and compare the fraction of the peak rate with formula and
    goal."""
    parts = [timings(name, clock_hz, group, row_bits=8, **changes) for name, clock_hz, group, _ in SHARES]
    run_bench(
        Ddr3Sequences(parts),
        "lutern.sim.benches.ddr3_sequence",
        sources=[SOURCE],
        parameters={
            "words": mebibytes << 16,
            "wanted": [wanted for *_, wanted in SHARES],
            "formula": [1 - t.refresh_loss for t in parts],
            "group_cycles": [t.refresh_cycles for t in parts],
        },
    )


def test_share_of_the_peak() -> None:
    sequences(1, **SHORT)


@pytest.mark.slow
def test_share_of_the_peak_over_four_mebibytes() -> None:
    sequences(4)


@pytest.mark.parametrize("name", DDR3_PARTS)
@pytest.mark.parametrize("clock_hz", CLOCKS_HZ)
def test_clocks_last_long_enough(name: str, clock_hz: float) -> None:
    p = ddr3_part(name)
    t = p.timings(clock_hz)
    period = 1e9 / clock_hz / 2
    for field in ("rc", "ras", "rp", "rcd", "rrd", "faw", "rtp", "wtr", "wr", "rfc", "mod", "zq_init"):
        ns, clocks = getattr(p, f"{field}_ns"), getattr(t, field)
        assert clocks * period >= ns - 1e-3, field
        assert (clocks - 1) * period < ns or clocks == getattr(p, f"{field}_clocks"), field
    assert t.xpr * period >= p.rfc_ns + 10
    assert t.reset_low * period >= 200e3 and t.wake * period >= 500e3
    assert t.refi * period <= 7812.5 and t.refresh_interval * 2 * period <= 0.995 * 7812.5
    assert p.byte_count == t.words * t.word_bits // 8


@pytest.mark.parametrize("name", DDR3_PARTS)
@pytest.mark.parametrize("clock_hz", CLOCKS_HZ)
@pytest.mark.parametrize("group", [1, 8])
def test_each_row_is_refreshed_in_time(name: str, clock_hz: float, group: int) -> None:
    """By calculation, at most 8 refreshes are postponed, and all rows are refreshed within the limit."""
    p = ddr3_part(name)
    t = p.timings(clock_hz, group)
    late = 2 * (REFRESH_WAIT + t.cycles(t.rp))
    # A group is due when the controller owes all its refreshes. Its first refresh may be ``late`` clocks late.
    assert 2 * group * t.refresh_interval + late <= (MOST_POSTPONED + 1) * t.refi
    round_clocks = 2 * (p.refresh_count + group) * t.refresh_interval + late + group * t.rfc
    assert round_clocks <= t.refresh_limit
    longest = max(t.ras, t.rc, t.cwl + 4 + t.wr, t.rtp, t.rcd) // 2 + 1
    assert longest <= REFRESH_WAIT


def test_commands_in_two_phases() -> None:
    """From DFI phase 1 to phase 0 a wait is half a cycle shorter, and from DFI phase 0 to phase 1 half a cycle
    longer."""
    t = timings()
    assert (t.read_phase, t.write_phase, t.row_phase) == (0, 1, 1)
    assert [t.cycles(clocks) for clocks in range(1, 6)] == [1, 1, 2, 2, 3]
    assert [t.cycles(clocks, 1, 0) for clocks in range(1, 6)] == [1, 2, 2, 3, 3]
    assert [t.cycles(clocks, 0, 1) for clocks in range(1, 6)] == [1, 1, 1, 2, 2]
    for start, end in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for clocks in range(1, 100):
            cycles = t.cycles(clocks, start, end)
            assert 2 * cycles + end - start >= clocks
            assert cycles == 1 or 2 * (cycles - 1) + end - start < clocks


def test_mode_registers() -> None:
    """For CL 6 and CWL 5 the values are the values that LiteDRAM sends. For other modes they follow the standard's
    tables."""
    assert Ddr3Modes().registers(5) == (0x320, 0x006, 0x200, 0)
    assert Ddr3Modes(rtt_nom=0).registers(3) == (0x320, 0x002, 0x200, 0)
    assert DLL_OFF.registers(3) == (0x220, 0x003, 0x008, 0)
    assert Ddr3Modes(cl=7, cwl=6, rtt_nom=40, drive=40).registers(9) == (0xB30, 0x044, 0x208, 0)
    with pytest.raises(LuternError, match="CL of a DDR3 part is given as 4; choose one of 5, 6, 7"):
        Ddr3Modes(cl=4).registers(5)


def test_geometry_by_the_data_sheets() -> None:
    assert {name: p.byte_count >> 20 for name, p in DDR3_PARTS.items()} == {
        "MT41K64M16": 128,
        "MT41K128M16": 256,
        "MT41K256M16": 512,
        "MT41K512M16": 1024,
    }
    assert {p.byte_count * 8 >> 30 for p in DDR3_PARTS.values()} == {p.gigabits for p in DDR3_PARTS.values()}
    assert [p.rfc_ns for p in DDR3_PARTS.values()] == [110, 160, 260, 350]


def test_bad_input() -> None:
    with pytest.raises(LuternError, match="there is no DDR3 part X; choose one of MT41K64M16"):
        ddr3_part("X")
    with pytest.raises(LuternError, match=r"is asked to run at 500 MHz, but its data sheet ends at 400 MHz with CL"):
        ddr3_part("MT41K64M16").timings(250e6)
    with pytest.raises(LuternError, match="MT41K64M16 is asked for 9 refreshes together; DDR3 allows 1 to 8"):
        ddr3_part("MT41K64M16").timings(75e6, 9)
