"""What holds for the memory of words whatever is asked of it and however late its source is.

By induction, at the widths and depths of real machines:

    nothing is asked for without room    every word enters a FIFO that has room for it
    exactly what was asked for           the jobs of a request are its words, in order, each once
    the row goes first                   its job is the next one that the source accepts, then the state's
    nobody waits for a stream            a reader with room of its own offers its job, whatever the others' FIFOs hold
    host only at rest                    ``rests`` says that no word is on its way or in a FIFO
"""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.hdl._ast import AnyConst
from proofs import prove

from lutern.hw.memory import Client, SourceShape, any_part, source_side
from lutern.hw.memory.burst_reader import BurstReader
from lutern.hw.memory.sdram_controller import sdram_shape
from lutern.hw.memory.source_side import SourceSide

SHAPES = {
    "sdram-x16": sdram_shape(any_part(16)),
    "port": SourceShape(64, 32, in_flight=256, client_bits=2, is_trusted=True),
}
"""Of the presets; what a queue of the watch adds is one more reason for the source to wait."""


class Around(Elaboratable):
    """``SourceSide`` between FIFOs that show their levels late and a source that answers late, but only what it owes.

    Free: requests, ``going``, when the source accepts and answers, when words are taken and how late that is seen.
    """

    def __init__(self, shape: SourceShape) -> None:
        self.shape = shape
        clients = len(shape.clients)
        self.side = SourceSide(shape, shape.address_bits)
        self.accepts, self.answers, self.whose = Signal(), Signal(), Signal(shape.client_bits)
        self.takes, self.sees = Signal(clients), Signal(clients)
        self.going, self.idle = Signal(), Signal()
        self.requests = [Signal(len(self.side.i[0].payload.as_value()) + 1) for _ in range(clients - 1)]
        self.record_words = Signal(self.side.count_bits)
        self.ports = [self.accepts, self.answers, self.whose, self.takes, self.sees, self.going, self.idle]
        self.ports += [self.record_words, *self.requests]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.side = side = self.side
        port = side.port
        m.d.comb += [
            side.going.eq(self.going),
            side.record_words.eq(self.record_words),
            port.job.ready.eq(self.accepts),
            port.valid.eq(self.answers),
            port.client.eq(self.whose),
            port.idle.eq(self.idle),
        ]
        for i, request in zip(side.i, self.requests, strict=True):
            m.d.comb += Cat(i.payload.as_value(), i.valid).eq(request)
        promised = [self._add_client(m, client) for client in self.shape.clients]
        m.d.comb += Assume(~self.answers | (self.whose < len(self.shape.clients)))
        self._claim_order(m)
        self._claim_rest(m, promised)
        return m

    def _add_client(self, m: Module, client: Client) -> Value:
        """One FIFO, and what the source owes it; the words that either of them holds."""
        side, depth, burst = self.side, self.side.depth, self.shape.burst
        credit, reader = side.credits[client], side.readers[client]
        bits = range(2 * depth)
        names = [f"{client.name}_{what}" for what in ("held", "unseen", "level", "owes")]
        held, unseen, level, owes = (Signal(bits, name=name) for name in names)
        job = side.port.job
        enters, takes = side.enters[client], self.takes[client] & (held != 0)
        sees = self.sees[client] & (unseen != 0)
        accepted = job.valid & job.ready & ~job.p.write & (job.p.client == client)
        m.d.comb += [Assume(~(self.answers & (self.whose == client)) | (owes != 0)), side.levels[client].eq(level)]
        m.d.sync += [
            held.eq(held + enters - takes),
            unseen.eq(unseen + takes - sees),
            level.eq(held + unseen),  # as AsyncFIFO: in a register, with reads that are seen late
            owes.eq(owes + Mux(accepted, job.p.length, 0) - enters),
        ]
        whole = held + unseen + owes
        m.d.comb += [
            Assert(whole <= depth),
            Assert(~enters | (held < depth)),
            Assert(~reader.o.valid | (whole + burst <= depth)),
            Assert((held <= depth) & (unseen <= depth) & (owes <= depth) & (level <= depth)),
            Assert(credit.owed + Mux(credit.promised, side.given, 0) == owes + credit.arrived),
            Assert(~credit.promised | (side.given <= burst)),
        ]
        self._claim_no_wait(m, client, whole)
        return held + unseen + owes

    def _claim_no_wait(self, m: Module, client: Client, whole: Value) -> None:
        """With room of its own a reader offers its job in four cycles."""
        reader = self.side.readers[client]
        waits = Signal(3, name=f"{client.name}_waits")
        ready_to_offer = ~reader.i.ready & ~reader.o.valid
        if client is Client.STREAM:
            ready_to_offer &= self.going
        has_room = whole <= self.side.depth - 2 * self.shape.burst
        m.d.sync += waits.eq(Mux(ready_to_offer & has_room, waits + 1, 0))
        m.d.comb += Assert(waits <= 4)

    def _claim_order(self, m: Module) -> None:
        """FETCH, STATE, STREAM; a job that is offered is accepted as soon as the source accepts any."""
        side, before = self.side, Signal()
        job = side.port.job
        urgent: Value = before
        for client in (*self.shape.clients[1:], Client.STREAM):
            offers = side.readers[client].o
            with m.If(offers.valid & ~urgent):
                m.d.comb += Assert(job.valid & (job.p.client == client) & ~job.p.write)
                m.d.comb += Assert((job.payload == offers.payload) & (offers.ready == job.ready))
            if client is not Client.STREAM:
                request = side.i[client - 1]
                urgent = urgent | offers.valid | (request.valid & request.p.write & side.readers[client].i.ready)

    def _claim_rest(self, m: Module, promised: list[Value]) -> None:
        """Nothing is promised or held when it rests, but what was asked for since."""
        for words in promised:
            m.d.comb += Assert(~self.side.rests | (words == 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_room_order_and_rest(name: str, tmp_path: Path) -> None:
    proved, log = prove(Around(SHAPES[name]), tmp_path, 8)
    assert proved, log[-3000:]


@pytest.mark.slow
def test_less_room_does_not_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(source_side, "ROOM_BURSTS", 1)
    around = Around(SHAPES["sdram-x16"])
    proved, _ = prove(around, tmp_path, 8)
    assert not proved


class Requested(Elaboratable):
    """The jobs of a reader follow its requests: any word, the n-th of all, is asked for at its place."""

    def __init__(self, shape: SourceShape) -> None:
        self.shape = shape
        self.valid, self.ready, self.room = Signal(), Signal(), Signal()
        self.request = Signal(2 * shape.address_bits + 1)
        self.ports = [self.valid, self.ready, self.room, self.request]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        bits = self.shape.address_bits
        m.submodules.reader = reader = BurstReader(self.shape, Client.FETCH, bits + 1)
        m.d.comb += [
            reader.i.valid.eq(self.valid),
            reader.i.payload.as_value().eq(self.request),
            reader.o.ready.eq(self.ready),
            reader.room.eq(self.room),
        ]
        asked, given, left = Signal(bits + 8), Signal(bits + 8), Signal(bits + 8)  # words of all requests, of all jobs
        number, wanted, known = AnyConst(bits + 8), Signal(bits), Signal()
        request, job = reader.i.p, reader.o.p
        m.d.comb += [Assume(asked < 1 << bits + 6), left.eq(asked - given)]
        with m.If(reader.i.valid & reader.i.ready):
            m.d.sync += asked.eq(asked + request.count)
            with m.If((asked <= number) & (number < asked + request.count)):
                m.d.sync += [wanted.eq(request.address + (number - asked)), known.eq(1)]
        with m.If(reader.o.valid & reader.o.ready):
            m.d.sync += given.eq(given + job.length)
            with m.If((given <= number) & (number < given + job.length)):
                m.d.comb += Assert(known & ((job.address + (number - given))[:bits] == wanted))
        is_asked = (given <= number) & (number < asked)
        m.d.comb += [
            Assert(given <= asked),
            Assert(Mux(reader.i.ready, left == 0, (left == reader.left) & (left != 0))),
            Assert(~is_asked | (known & ((reader.o.p.address + (number - given))[:bits] == wanted))),
        ]
        return m


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_exactly_what_was_asked_for(name: str, tmp_path: Path) -> None:
    proved, log = prove(Requested(SHAPES[name]), tmp_path, 4)
    assert proved, log[-3000:]
