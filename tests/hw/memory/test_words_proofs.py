"""Proofs by induction for the memory of words, with any requests and any delays of its source.

They hold at the widths and depths of real machines:

    no request without room              Every word enters a FIFO that has room for it.
    exactly the requested words          The jobs of a request contain its words in order, each word once.
    the row goes first                   The source accepts the job of the row next, and then the job of the state.
    no client waits for another          A reader offers its job if its own FIFO has room, even if other FIFOs are full.
    host only at rest                    No word of a run reaches the host, and no word of the host reaches a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Assert, Assume, Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.hdl._ast import AnyConst

from lutern.hw.config import HwConfig
from lutern.hw.memory import BlockSource, Client, PortSource, SourceShape, any_part, machine_side, source_side
from lutern.hw.memory.burst_reader import BurstReader
from lutern.hw.memory.machine_side import MachineSide
from lutern.hw.memory.sdram_controller import sdram_shape
from lutern.hw.memory.source_side import SourceSide
from proofs import prove

SHAPES = {
    "sdram-x16": sdram_shape(any_part(16)),
    "port": SourceShape(64, 32, in_flight=256, client_bits=2, is_trusted=True),
}
"""Shapes of presets, without the queue of the watch. This queue is only one more reason for the source to wait."""
ADDRESS_BITS = 8


class Around(Elaboratable):
    """``SourceSide`` between FIFOs with late levels, and a source that answers late, but sends only the words that it
    owes.

    Free inputs are the requests, ``going``, the times at which the source accepts and answers, the times at which words
    are taken, and the delay of the levels.
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
        for client in self.shape.clients:
            self._add_client(m, client)
        m.d.comb += Assume(~self.answers | (self.whose < len(self.shape.clients)))
        self._claim_order(m)
        return m

    def _add_client(self, m: Module, client: Client) -> None:
        """Add the FIFO of a client, the words that the source owes to the client, and the claims for these words."""
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
            level.eq(held + unseen),  # as in AsyncFIFO, whose level counts words for some cycles after they were read
            owes.eq(owes + Mux(accepted, job.p.length, 0) - enters),
        ]
        whole = held + unseen + owes
        m.d.comb += [
            Assert((held <= depth) & (unseen <= depth) & (owes <= depth)),
            Assert(whole <= depth),
            Assert(~enters | (held < depth)),
            Assert(~reader.o.valid | (whole + burst <= depth)),
            # claims about single cycles, which the induction needs
            Assert(credit.owed + Mux(credit.promised, side.given, 0) == owes + credit.arrived),
            Assert(~credit.promised | ((side.given <= burst) & ~reader.o.valid)),
            Assert(held + unseen <= level + credit.arrived),
        ]
        # ``owed`` is ``owes`` of the last cycle; ``before`` and ``earlier`` are ``whole`` one and two cycles before
        owed, before, earlier = Signal(bits), Signal(bits), Signal(bits)
        lately = Signal(range(burst + 1))  # number of words in the job that was accepted two cycles before
        given = Mux(credit.promised, side.given, 0)
        m.d.sync += [owed.eq(owes), before.eq(whole), earlier.eq(before), lately.eq(given)]
        m.d.comb += [
            Assert((credit.owed == owed) & (level + owed == before) & (credit.used == earlier)),
            Assert((whole <= before + given) & (before <= earlier + lately)),
            Assert((given == 0) | (lately == 0)),
        ]
        self._claim_no_wait(m, client, whole, before, earlier)
        m.d.comb += [Assert(~side.still[0] | reader.i.ready), Assert(~(side.still[1] | side.rests) | (whole == 0))]

    def _claim_no_wait(self, m: Module, client: Client, whole: Value, before: Value, earlier: Value) -> None:
        """Claim that a reader whose FIFO has room offers its job within three cycles."""
        reader = self.side.readers[client]
        waits = Signal(3, name=f"{client.name}_waits")
        has_job = ~reader.i.ready & ~reader.o.valid
        counts = has_job & self.going if client is Client.STREAM else has_job
        most = self.side.depth - 2 * self.shape.burst
        m.d.sync += waits.eq(Mux(counts & (whole <= most), waits + 1, 0))
        m.d.comb += [
            Assert((waits < 1) | (before <= most)),
            Assert((waits < 2) | (earlier <= most)),
            Assert((waits < 3) | ((waits == 3) & ~has_job)),
        ]

    def _claim_order(self, m: Module) -> None:
        """Claim that the most urgent job is accepted first, in the order FETCH, STATE, STREAM."""
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


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_room_order_and_rest(name: str, tmp_path: Path) -> None:
    proved, log = prove(Around(SHAPES[name]), tmp_path, 3)
    assert proved, log[-3000:]


@pytest.mark.slow
def test_proof_fails_with_less_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(source_side, "ROOM_BURSTS", 1)
    around = Around(SHAPES["sdram-x16"])
    proved, _ = prove(around, tmp_path, 3)
    assert not proved


class Requested(Elaboratable):
    """A reader whose jobs follow its requests: for any n, the n-th requested word is the n-th word of the jobs."""

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
        asked, given, left = Signal(bits + 8), Signal(bits + 8), Signal(bits + 8)  # words of all requests; of all jobs
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
def test_jobs_contain_exactly_the_requested_words(name: str, tmp_path: Path) -> None:
    proved, log = prove(Requested(SHAPES[name]), tmp_path, 4)
    assert proved, log[-3000:]


class Held(Elaboratable):
    """The port of the top level: an offered job is stable until it is accepted, even if the reader offers another
    job."""

    def __init__(self, hasty: bool) -> None:
        self.hasty = hasty
        self.offers, self.accepts = Signal(), Signal()
        self.job = Signal(SHAPES["port"].job.size)
        self.ports = [self.offers, self.accepts, self.job]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.source = source = PortSource(SHAPES["port"])
        job, words = source.port.job, source.words.job
        offered = words.valid & self.offers if self.hasty else words.valid
        m.d.comb += [job.valid.eq(self.offers), Cat(job.payload.as_value()).eq(self.job), words.ready.eq(self.accepts)]
        waited, before = Signal(), Signal.like(self.job)
        m.d.sync += [waited.eq(offered & ~self.accepts), before.eq(words.payload.as_value())]
        m.d.comb += Assert(~waited | (offered & (words.payload.as_value() == before)))
        return m


@pytest.mark.slow
@pytest.mark.parametrize("hasty", [False, True])
def test_proof_of_jobs_that_wait_at_the_port(hasty: bool, tmp_path: Path) -> None:
    proved, log = prove(Held(hasty), tmp_path, 4)
    assert proved is not hasty, log[-3000:]


class BothSides(Elaboratable):
    """``MachineSide`` with a source's side that answers its requests late, and rests only when it owes no words.

    Bit 0 of every word is 1 if the machine requested the word, and 0 if the host requested it.
    """

    def __init__(self) -> None:
        values = {"columns": 8, "rows": 5, "source": "streamed", "memory": "port", "word_bytes": 2, "state": "memory"}
        self.config = HwConfig("proof", **values)  # type: ignore[arg-type]
        self.shape = SourceShape(16, self.config.address_bits, in_flight=16, client_bits=2)
        self.side = MachineSide(self.config, self.shape)
        self.free = {name: Signal(bits, name=name) for name, bits in self._free_bits().items()}
        self.ports = [*self.free.values()]

    def _free_bits(self) -> dict[str, int]:
        streams = (
            "i_write",
            "i_read",
            "i_start",
            "i_state",
            "i_test",
            "o_test",
            "o_read",
            "o_row",
            "o_words",
            "o_state",
        )
        others = {"running": 1, "asked_none": 1, "accepts": 2, "comes": 3, "ends": 3, "rests": 1, "words": 48}
        return {**dict.fromkeys(streams, 1), **others}

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.side = side = self.side
        free = self.free
        for name, signal in free.items():
            if name.startswith("i_"):
                m.d.comb += getattr(side, name).valid.eq(signal)
            elif name.startswith("o_"):
                m.d.comb += getattr(side, name).ready.eq(signal)
        going, rests, fresh = Signal(2), Signal(2), Signal(5)  # two clock crossings; the cycles until a request is seen
        asks = Cat(request.valid for request in side.requests).any()
        m.d.sync += [going.eq(Cat(side.go, going)), rests.eq(Cat(free["rests"], rests)), fresh.eq(Cat(asks, fresh))]
        m.d.comb += [
            side.running.eq(free["running"]),
            side.asked_none.eq(free["asked_none"]),
            side.rested.eq(rests[1]),
            Assume(~free["rests"] | ~going[1]),
            Assert(~side.serves | ~(side.go | going.any())),
            Assert(~side.o_read.valid | ~side.o_read.payload[0]),
            Assert(~side.o_row.valid | side.o_row.payload[0]),
            Assert(~side.o_state.valid | side.o_state.payload[0]),
            Assert(~(side.serves & side.runs)),
            Assert(side.go == ~(side.serves | side.drops)),
        ]
        for client in self.shape.clients:
            self._add_client(m, client, going[1], asks | fresh.any())
        return m

    def _add_client(self, m: Module, client: Client, goes: Value, fresh: Value) -> None:
        """Add the words in flight of a client: the words that the host requested and the words that the run
        requested."""
        side, free, starts = self.side, self.free, self.side.go & ~self.side.runs
        of_host, of_run = Signal(name=f"{client.name}_of_host"), Signal(name=f"{client.name}_of_run")
        came, word = side.came[client], free["words"].word_select(client, 16)
        m.d.comb += [
            came.valid.eq(free["comes"][client]),
            came.payload.eq(word),
            Assume(~came.valid | Mux(word[0], of_run, of_host)),
            Assume(~free["rests"] | ~(of_host | of_run) | fresh),
        ]
        with m.If(free["ends"][client] & ~fresh):
            m.d.sync += [of_host.eq(0), of_run.eq(0)]
        if client is Client.STREAM:
            with m.If(goes):
                m.d.sync += of_run.eq(1)
        else:
            request = side.requests[client - 1]
            m.d.comb += [request.ready.eq(free["accepts"][client - 1]), Assert(~starts | ~(of_host | of_run))]
            with m.If(request.valid):
                m.d.sync += [of_host.eq(of_host | side.serves), of_run.eq(of_run | side.runs)]
        register, skid = side.waiting[client], side.skids[client]
        for tag, phase, others in ((0, side.serves, of_run), (1, side.runs | starts, of_host)):
            m.d.comb += [
                Assert(~(phase & others)),
                Assert(~(phase & register.valid) | (register.word[0] == tag)),
                Assert(~(phase & skid.o.valid) | (skid.o.payload[0] == tag)),
            ]


@pytest.mark.slow
def test_host_and_machine_never_mix(tmp_path: Path) -> None:
    proved, log = prove(BothSides(), tmp_path, 14)
    assert proved, log[-3000:]


@pytest.mark.slow
def test_proof_fails_with_a_shorter_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine_side, "REST_CYCLES", 1)
    proved, _ = prove(BothSides(), tmp_path, 14)
    assert not proved


class Block(Elaboratable):
    """Block RAM: for any n, the n-th word that is read is the word that was written last to its address."""

    def __init__(self, block: type[BlockSource]) -> None:
        self.source = block(8, ADDRESS_BITS, 1 << ADDRESS_BITS)
        self.offers, self.job = Signal(), Signal(self.source.shape.job.size)
        self.ports = [self.offers, self.job]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.source = source = self.source
        port, job, now = source.port, source.port.job, source.job
        place, number = AnyConst(ADDRESS_BITS), AnyConst(32)  # any address, and the number of any word that is read
        asked, came = Signal(32), Signal(32)
        written, known, wanted, is_here = Signal(8), Signal(), Signal(8), Signal()
        m.d.comb += [
            job.valid.eq(self.offers),
            job.payload.as_value().eq(self.job),
            Assume(job.p.write | ((job.p.length > 0) & (job.p.length <= 8))),
            Assume(asked < 1 << 30),
        ]
        with m.If(job.valid & job.ready & job.p.write & (job.p.address == place)):
            m.d.sync += [written.eq(job.p.word), known.eq(1)]
        with m.If(job.valid & job.ready & ~job.p.write):
            m.d.sync += asked.eq(asked + job.p.length)
            with m.If((asked <= number) & (number < asked + job.p.length)):
                its_address = (job.p.address + (number - asked))[:ADDRESS_BITS]
                m.d.sync += [is_here.eq(known & (its_address == place)), wanted.eq(written)]
        m.d.sync += came.eq(came + port.valid)
        m.d.comb += Assert(~(port.valid & is_here & (came == number)) | (port.word == wanted))

        # Claims that the induction needs: about the job in progress, and about the contents of the block RAM.
        reads = source.there & ~now.write
        ahead = (number - came - port.valid)[:32]  # words of the job that come before word ``number``
        is_served = is_here & reads & (ahead < now.length)
        m.d.comb += [
            Assert(asked == came + port.valid + Mux(reads, now.length, 0)),
            Assert(~reads | ((now.length > 0) & (now.length <= 8))),
            Assert(~is_here | (number < asked)),
            Assert(~is_served | (known & (wanted == written) & ((now.address + ahead)[:ADDRESS_BITS] == place))),
        ]
        held = source.memory.read_port(domain="comb")
        is_pending = source.there & now.write & (now.address == place)
        m.d.comb += [held.addr.eq(place), Assert(~known | (Mux(is_pending, now.word, held.data) == written))]
        return m


class Behind(BlockSource):
    """A mutant that answers a read with the word before the requested word."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        m.d.comb += self.read.addr.eq(self.job.address - 1)
        return m


@pytest.mark.slow
@pytest.mark.parametrize("block", [BlockSource, Behind])
def test_words_of_block_ram(block: type[BlockSource], tmp_path: Path) -> None:
    proved, log = prove(Block(block), tmp_path, 4)
    assert proved is (block is BlockSource), log[-3000:]
