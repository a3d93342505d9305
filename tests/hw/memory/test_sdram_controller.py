"""The SDRAM controller against the memory model (words, rules, refreshes, slots), and the data of the parts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from lutern.boards.sdram_parts import SDRAM_PARTS, sdram_part
from lutern.hw.memory import SdramTimings
from lutern.model_ref.errors import LuternError
from lutern.sim.runner import run_bench
from lutern.sim.sdram import SOURCE, SdramBench

CLOCK_HZ = 100e6
SMALL = {
    "bank_bits": 2,
    "row_bits": 5,
    "column_bits": 5,
    "power_up": 60,
    "refresh_interval": 197,
    "refresh_limit": 6400,
}
"""A part with few rows, so that a bench refreshes each row several times. The controller uses its whole refresh
limit."""


def timings(name: str = "MT48LC16M16A2-7E", group: int = 1, clock_hz: float = CLOCK_HZ, **changes: int) -> SdramTimings:
    return sdram_part(name).timings(clock_hz, group).with_(**{**SMALL, **changes})


def run_sdram(
    ours: SdramTimings,
    theirs: SdramTimings | None = None,
    testcase: Any = None,
    pause: str = "none",
    seed: int = 61,
    **options: int,
) -> None:
    options = {"jobs": 1500, "words": 8192, "resets": 12, **options}
    run_bench(
        SdramBench(ours, theirs),
        "lutern.sim.benches.sdram",
        seed=seed,
        testcase=testcase,
        sources=[SOURCE],
        parameters={"timings": asdict(ours), "pause": pause, **options},
    )


@pytest.mark.parametrize("pause", ["none", "random"])
@pytest.mark.parametrize(
    ("name", "group", "clock_hz"),
    [("MT48LC16M16A2-7E", 1, CLOCK_HZ), ("AS4C32M16SB-7", 8, 133e6), ("EM638325-6", 1, 66e6)],
)
def test_sdram(name: str, group: int, clock_hz: float, pause: str) -> None:
    cases = None if pause == "none" else ["reads_what_was_written", "refreshes_are_on_time", "reset_in_mid_burst"]
    run_sdram(timings(name, group, clock_hz), testcase=cases, pause=pause)


# The rule that the model must report as broken if the controller's time is one cycle shorter than the part's time.
BROKEN: dict[str, tuple[str, str]] = {
    "rp": ("RP", "reads_what_was_written"),
    "rcd": ("RCD", "reads_what_was_written"),
    "rrd": ("RRD", "no_slot_is_lost"),
    "wr": ("WR", "reads_what_was_written"),
    "rfc": ("RFC", "reads_what_was_written"),
    "mrd": ("MRD", "reads_what_was_written"),
    "power_up": ("INIT", "reads_what_was_written"),
}
SLOW_PART = {"rc": 20, "ras": 12, "rp": 6, "rcd": 6, "rrd": 9, "wr": 6, "rfc": 20, "mrd": 4}


QUICK = ("rcd", "refresh_interval")


@pytest.mark.parametrize(
    "field",
    [
        field if field in QUICK else pytest.param(field, marks=pytest.mark.slow)
        for field in (*BROKEN, "rc", "ras", "refresh_interval", "cas_latency")
    ],
)
def test_broken_rule_is_seen(field: str) -> None:
    ours = timings(**SLOW_PART)
    theirs = ours
    rule, case = BROKEN.get(field, ("", "reads_what_was_written"))
    if field in BROKEN:
        less = 8 if field == "power_up" else 1  # 8, because registers and the reset take some cycles anyway
        ours = ours.with_(**{field: getattr(ours, field) - less})
    elif field == "rc":
        rule, ours = "RC", ours.with_(rc=19)
    elif field == "ras":
        rule, ours, theirs = "RAS", ours.with_(ras=11, rc=2), ours.with_(rc=2)
    elif field == "refresh_interval":
        rule, case, ours = "DECAYED", "refreshes_are_on_time", ours.with_(refresh_interval=210)
    else:
        rule, ours = "UNKNOWN", ours.with_(cas_latency=3 if ours.cas_latency == 2 else 2)
    with pytest.raises(AssertionError, match=f"rule {rule} is broken"):
        run_sdram(ours, theirs, case, jobs=3000)


@pytest.mark.slow
def test_controller_with_the_slow_part() -> None:
    run_sdram(timings(**SLOW_PART), testcase=["reads_what_was_written", "latency", "refreshes_are_on_time"])


@pytest.mark.parametrize(("group", "wanted"), [(1, 0.983), (8, 0.988)])
@pytest.mark.parametrize("name", SDRAM_PARTS)
def test_share_of_the_peak(name: str, group: int, wanted: float) -> None:
    t = sdram_part(name).timings(CLOCK_HZ, group)
    lost = t.rp + group * t.rfc + t.rcd
    assert 1 - t.refresh_loss == pytest.approx(1 - lost / (group * t.refresh_interval))
    assert 1 - t.refresh_loss >= wanted


@pytest.mark.parametrize("name", SDRAM_PARTS)
@pytest.mark.parametrize("clock_hz", [66e6, 100e6, 133e6])
def test_cycles_last_long_enough(name: str, clock_hz: float) -> None:
    p = sdram_part(name)
    t = p.timings(clock_hz)
    period = 1e9 / clock_hz
    for field in ("rc", "ras", "rp", "rcd", "rrd", "rfc", "wr"):
        ns, cycles = getattr(p, f"{field}_ns"), getattr(t, field)
        assert cycles * period >= ns - 1e-3
        assert (cycles - 1) * period < ns or cycles == 2, field
    assert period >= p.period_ns[t.cas_latency]
    assert t.refresh_interval * period * p.refresh_count < 0.995 * 64e6 < t.refresh_limit * period
    assert p.words == t.words and p.byte_count == t.words * t.data_bits // 8


def test_geometry_by_the_data_sheets() -> None:
    assert {name: (p.byte_count >> 20, p.data_bits) for name, p in SDRAM_PARTS.items()} == {
        "MT48LC16M16A2-7E": (32, 16),
        "MT48LC16M16A2-6A": (32, 16),
        "AS4C32M16SB-7": (64, 16),
        "W9825G6KH-6": (32, 16),
        "IS42S16160-6": (32, 16),
        "IS42S16160-7": (32, 16),
        "EM638325-6": (8, 32),
    }


def test_bad_input() -> None:
    with pytest.raises(LuternError, match="there is no memory part X; choose one of MT48LC16M16A2-7E"):
        sdram_part("X")
    with pytest.raises(LuternError, match=r"is asked to run at 200 MHz, but its data sheet ends at 142.857 MHz; ch"):
        sdram_part("MT48LC16M16A2-7E").timings(200e6)
