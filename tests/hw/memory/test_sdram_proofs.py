"""Proofs by induction, for any jobs: the refresh deadline and the words of a job for the SDRAM controller, and the
contract of a stream for the reader of bursts."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Assert, Elaboratable, Module, Signal, Value

from lutern.boards.sdram_parts import SDRAM_PARTS, sdram_part
from lutern.hw.memory import SdramTimings, any_part
from lutern.hw.memory import sdram_controller as sdram
from lutern.hw.memory.burst_reader import BurstReader
from lutern.hw.memory.sdram_controller import REFRESH_WAIT, SdramController, sdram_shape
from lutern.hw.memory.word_source import Client
from proofs import prove

SMALL = SdramTimings(
    clock_hz=1e6,
    data_bits=8,
    bank_bits=1,
    row_bits=2,
    column_bits=3,
    cas_latency=2,
    rc=5,
    ras=3,
    rp=2,
    rcd=2,
    rrd=2,
    rfc=4,
    wr=2,
    mrd=2,
    refresh_interval=60,
    refresh_limit=1000,
    power_up=3,
)


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 2])
def test_refreshes_and_words(group: int, tmp_path: Path) -> None:
    proved, log = prove(SdramController(SMALL.with_(refresh_group=group)), tmp_path, REFRESH_WAIT + 4)
    assert proved, log[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("data_bits", [16, 32])
def test_refreshes_and_words_of_the_presets(data_bits: int, tmp_path: Path) -> None:
    """The proof also holds with the timings that are safe for every part of a board."""
    proved, log = prove(SdramController(any_part(data_bits)), tmp_path, REFRESH_WAIT + 4)
    assert proved, log[-3000:]


@pytest.mark.slow
def test_a_tighter_deadline_does_not_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sdram, "REFRESH_WAIT", 6)
    proved, _ = prove(SdramController(SMALL), tmp_path, 30)
    assert not proved


class Contract(Elaboratable):
    """A burst reader whose source keeps the stream contract and whose sink is free. Its jobs must keep the contract."""

    def __init__(self, hasty: bool = False) -> None:
        self.hasty = hasty
        self.valid, self.ready, self.room = Signal(), Signal(), Signal()
        self.request = Signal(13)
        self.ports = [self.valid, self.ready, self.room, self.request]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.reader = reader = BurstReader(sdram_shape(SMALL), Client.FETCH, 7)
        m.d.comb += [
            reader.i.valid.eq(self.valid),
            Value.cast(reader.i.payload).eq(self.request),
            reader.o.ready.eq(self.ready),
            reader.room.eq(self.room),
        ]
        job = Value.cast(reader.o.payload)
        valid = reader.o.valid & self.room if self.hasty else reader.o.valid
        waited, held = Signal(), Signal(len(job))
        m.d.sync += [waited.eq(valid & ~self.ready), held.eq(job)]
        with m.If(waited):
            m.d.comb += [Assert(valid), Assert(job == held)]
        return m


@pytest.mark.slow
@pytest.mark.parametrize("hasty", [False, True])
def test_jobs_of_a_request(hasty: bool, tmp_path: Path) -> None:
    """Valid and payload are stable. No job crosses a block of 8 or the end of the request, and the last job ends the
    request."""
    contract = Contract(hasty)
    proved, log = prove(contract, tmp_path, 8)
    assert proved is not hasty, log[-3000:]


@pytest.mark.parametrize("name", SDRAM_PARTS)
@pytest.mark.parametrize("group", [1, 8])
def test_each_row_is_refreshed_in_time(name: str, group: int) -> None:
    """By calculation, all rows are refreshed within the limit, even if the last refresh is as late as possible and a
    reset with its pause comes between two refreshes."""
    p = sdram_part(name)
    t = p.timings(100e6, group)
    late = REFRESH_WAIT + t.rp + group * t.rfc
    round_cycles = (p.refresh_count + group) * t.refresh_interval + late
    assert round_cycles <= t.refresh_limit
    assert round_cycles + t.power_up + 10 * t.rfc <= t.refresh_limit
    assert max(t.ras, t.rc - t.rp, t.wr, t.rp, t.rcd) <= 8
