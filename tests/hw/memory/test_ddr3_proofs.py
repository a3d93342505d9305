"""Proofs by induction for the DDR3 controller and any jobs: the refresh deadline, and the words of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from lutern.hw.memory import Ddr3Controller, Ddr3Timings, ddr3_controller
from lutern.hw.memory.ddr3_controller import REFRESH_WAIT
from proofs import prove

SMALL = Ddr3Timings(
    clock_hz=1e6,
    data_bits=1,
    bank_bits=1,
    row_bits=1,
    column_bits=6,
    cl=6,
    cwl=5,
    mode_registers=(0, 0, 0, 0),
    rc=6,
    ras=4,
    rp=3,
    rcd=3,
    rrd=4,
    faw=8,
    ccd=4,
    rtp=4,
    wtr=4,
    wr=3,
    rfc=8,
    mrd=4,
    mod=4,
    xpr=4,
    zq_init=4,
    dll_lock=4,
    reset_low=4,
    wake=4,
    refi=100,
    refresh_interval=50,
    refresh_limit=1000,
    phy_read_cycles=1,
)
DEPTH = REFRESH_WAIT + 4


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 2])
def test_refreshes_and_words(group: int, tmp_path: Path) -> None:
    proved, log = prove(Ddr3Controller(SMALL.with_(refresh_group=group)), tmp_path, DEPTH)
    assert proved, log[-3000:]


@pytest.mark.slow
def test_a_tighter_deadline_does_not_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ddr3_controller, "REFRESH_WAIT", 8)
    proved, _ = prove(Ddr3Controller(SMALL), tmp_path, DEPTH)
    assert not proved
