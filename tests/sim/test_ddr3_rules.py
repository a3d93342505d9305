"""Every rule of the DDR3 model finds a mutant: a controller with a time that is too short, or a damaged command."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from amaranth.hdl import Module

from lutern.boards.ddr3_parts import ddr3_part
from lutern.sim.ddr3 import SOURCE, Rule
from lutern.sim.ddr3_mutants import Ddr3Mutants, Pair
from lutern.sim.runner import run_bench

CYCLES = 30_000
SLOW = (
    ddr3_part("MT41K256M16")
    .timings(75e6)
    .with_(
        data_bits=4,
        bank_bits=2,
        row_bits=3,
        column_bits=6,
        rc=48,
        ras=34,
        rp=8,
        rcd=8,
        rrd=14,
        faw=20,
        rtp=8,
        wtr=12,
        wr=14,
        rfc=50,
        mrd=8,
        mod=24,
        xpr=30,
        zq_init=100,
        dll_lock=20,
        reset_low=60,
        wake=80,
        refi=396,
        refresh_interval=196,
        refresh_limit=40 * 396,
    )
)
"""A part whose times are all longer than the controller's own delays, so that each time matters in some case."""


def shorter(name: str, less: int = 2, **both: int) -> Pair:
    """Return a controller with a time that is ``less`` clocks too short. ``both`` sets times of controller and part."""
    theirs = SLOW.with_(**both)
    return Pair(theirs.with_(**{name: getattr(theirs, name) - less}), theirs)


def without(ours: dict[str, int], **theirs: int) -> Pair:
    """Return a controller and a part whose values differ."""
    return Pair(SLOW.with_(**ours), SLOW.with_(**theirs))


def damaged(happens: Callable[[Any], Any], does: Callable[[Any, Any], Any]) -> Pair:
    """Return a pair whose commands are damaged: if ``happens`` is true for a command, ``does`` changes the command."""

    def damage(m: Module, sent: Any, arrives: Any) -> None:
        with m.If(~sent.cs_n & happens(sent)):
            m.d.comb += does(sent, arrives)

    return Pair(SLOW, SLOW, damage)


def is_close(sent: Any) -> Any:
    return ~sent.ras_n & sent.cas_n & ~sent.we_n


def is_read(sent: Any) -> Any:
    return sent.ras_n & ~sent.cas_n & sent.we_n


def is_mode(sent: Any) -> Any:
    return ~sent.ras_n & ~sent.cas_n & ~sent.we_n


MUTANTS: dict[str, tuple[str, Pair]] = {
    "reset_low": ("POWER", shorter("reset_low", 20)),  # the bench's own reset is part of the time
    "wake": ("POWER", shorter("wake")),
    "xpr": ("XPR", shorter("xpr")),
    "mrd": ("MRD", shorter("mrd")),
    "mod": ("MOD", shorter("mod")),
    "zq_init": ("ZQ", shorter("zq_init", 20)),
    "dll_lock": ("DLLK", shorter("dll_lock", 90, dll_lock=200)),
    "rc": ("RC", shorter("rc")),
    "ras": ("RAS", shorter("ras", rc=36)),
    "rp": ("RP", shorter("rp")),
    "rcd": ("RCD", shorter("rcd")),
    "rrd": ("RRD", shorter("rrd")),
    "faw": ("FAW", shorter("faw", 8, faw=128, rrd=4)),
    "ccd": ("CCD", shorter("ccd")),
    "rtp": ("RTP", shorter("rtp", ras=10, rc=18)),
    # The minimum from READ to WRITE is CL + tCCD + 2 - CWL. The controller waits one cycle more.
    "read to write": ("RTW", without({"cl": 2, "phy_read_cycles": 12})),
    "wtr": ("WTR", shorter("wtr")),
    "wr": ("WR", shorter("wr")),
    "rfc": ("RFC", shorter("rfc")),
    "rfc of a group": ("RFC", shorter("rfc", refresh_group=8)),
    "refresh_interval": ("POSTPONED", without({"refresh_interval": 240})),
    "refreshes too often": ("POSTPONED", without({"refresh_interval": 30}, refi=1200, refresh_limit=40 * 1200)),
    "refresh_limit": ("DECAYED", without({"refresh_interval": 900}, refi=1800, refresh_limit=8 * 1700)),
    "no PRECHARGE": ("STATE", damaged(is_close, lambda sent, arrives: arrives.cs_n.eq(1))),
    "no MR3": ("INIT", damaged(lambda sent: is_mode(sent) & (sent.ba == 3), lambda sent, arrives: arrives.cs_n.eq(1))),
    "another phase": ("PHASE", without({}, cl=5)),
    "another mode": ("UNKNOWN", without({}, mode_registers=(0x330, 6, 0x200, 0))),
    "auto-precharge": ("UNKNOWN", damaged(is_read, lambda sent, arrives: arrives.a.eq(sent.a | 1 << 10))),
}
HEALTHY: dict[str, Pair] = {
    "the slow part": Pair(SLOW, SLOW),
    "eight refreshes together": shorter("rfc", 0, refresh_group=8),
    "tFAW": shorter("faw", 0, faw=128, rrd=4),
    "tRAS": shorter("ras", 0, rc=36),
    "tRTP": shorter("rtp", 0, ras=10, rc=18),
    "tDLLK": shorter("dll_lock", 0, dll_lock=200),
    "few refreshes": without({"refresh_interval": 900}, refi=1800, refresh_limit=40 * 1800),
}


@pytest.fixture(scope="module")
def rules() -> dict[str, str]:
    """Return the first rule that each pair breaks. One bench contains all pairs."""
    pairs = {name: pair for name, (_, pair) in MUTANTS.items()} | HEALTHY
    folder = run_bench(
        Ddr3Mutants(list(pairs.values())),
        "lutern.sim.benches.ddr3_mutants",
        sources=[SOURCE],
        parameters={"cycles": CYCLES, "pairs": len(pairs)},
    )
    return dict(zip(pairs, json.loads((folder / "rules.json").read_text()), strict=True))


def test_every_rule_has_a_mutant() -> None:
    assert {rule for rule, _ in MUTANTS.values()} == {rule.name for rule in Rule} - {"NONE"}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_broken_rule_is_seen(name: str, rules: dict[str, str]) -> None:
    assert rules[name] == MUTANTS[name][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_pairs_without_a_fault_pass(name: str, rules: dict[str, str]) -> None:
    assert rules[name] == "NONE"
