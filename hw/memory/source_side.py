"""The side of the memory of words in the clock domain of its source. It decides which client sends the next job, and
when.

    i[fetch] ─► BurstReader ──┬──────────── first      ┌─► port (word source)
    i[state] ─► BurstReader ──┤             second ────┤
    going ────► BurstReader ──┘ (record     third      └── word ─► enters[client]: into the FIFO of the client
                    ▲            stream)                                │
                    └── room ◄── credit: depth - level - owed ◄─────────┘

"first", "second" and "third" are the priorities of the clients.

*Credit.* Every client has a FIFO of ``depth`` words. ``owed`` counts the words that were promised and are not in the
FIFO yet. A job is offered only while level + owed leaves room for two bursts: one for this job, and one for the
previous job, which ``room`` may not include yet. So no word is requested without room, whatever the latency of the
source is.

*Cycles.* A client offers its next job 2 cycles after its previous job was accepted (states MEASURE and OFFER), or 3
cycles at the end of a request. A source that takes 8 cycles for a burst never waits for a job while ``in_flight`` words
are promised. ``depth`` is at least in_flight + 2 bursts + CROSSING. A level may be late by at most CROSSING words. A
register makes the level late by one word, and the crossing by two and a half words. The source idles only if the record
stream is shorter than a burst (3 cycles for its words), or if a client does not accept its words.

A write is sent only when the reader of its client has no job left, so reads and writes of a client stay in order.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.burst_reader import BurstReader
from lutern.hw.memory.source_watch import Fault, SourceWatch
from lutern.hw.memory.word_source import Client, SourceShape, WordPort

CROSSING = 8
"""Largest number of words by which a level may be late, because the level crosses from the other clock domain."""
ROOM_BURSTS = 2
"""Bursts that must have room: one for the job, and one for the previous job, which ``room`` may not include yet."""


def fifo_depth(shape: SourceShape) -> int:
    """Return how many words a client's FIFO holds. The number is a power of two, for example 64 for SDRAM."""
    return 1 << (shape.in_flight + ROOM_BURSTS * shape.burst + CROSSING - 1).bit_length()


def request_layout(shape: SourceShape, address_bits: int) -> data.StructLayout:
    """Return the layout of a request: to write the word ``payload``, or to read ``payload`` words.

    A count has one bit more than an address.

    Parameters
    ----------
    shape : SourceShape
        Shape of the source.
    address_bits : int
        Width of an address of the machine.
    """
    payload_bits = max(shape.word_bits, address_bits + 1)
    return data.StructLayout({"write": 1, "address": shape.address_bits, "payload": payload_bits})


class Credit:
    """Counts the words that the source owes to one client.

    A word that comes in cycle t is counted in the level, and no longer in ``owed``, from cycle t + 2 on. A job that is
    accepted in cycle t is counted in ``owed`` from t + 2 on, and in ``used`` from t + 3 on.

    Parameters
    ----------
    client : Client
        The client, whose name is a prefix of the registers' names.
    depth : int
        Words that the client's FIFO holds.

    Members
    -------
    owed : register
        Words that were promised and are not in the level yet.
    used : register
        Words that are in the FIFO or owed.
    promised : 1 bit, register
        A job was accepted in the previous cycle.
    arrived : 1 bit, register
        A word came in the previous cycle.
    """

    def __init__(self, client: Client, depth: int) -> None:
        name = client.name.lower()
        self.owed = Signal(range(depth + 1), name=f"{name}_owed")
        self.used = Signal(range(depth + 1), name=f"{name}_used")
        self.promised, self.arrived = Signal(name=f"{name}_promised"), Signal(name=f"{name}_arrived")


class SourceSide(wiring.Component):
    """Sends the jobs of all clients to a word source, and the words of the source to the clients' FIFOs.

    Parameters
    ----------
    shape : SourceShape
        Shape of the source.
    address_bits : int
        Width of an address of the machine. A count has one bit more.

    Members
    -------
    i : array of streams of ``request_layout``, input
        Requests of the clients FETCH and STATE.
    going : 1 bit, input
        The record stream runs: its words are read from address 0 on, again and again.
    record_words : ``address_bits`` + 1 bits, input
        Number of words of the record stream.
    levels : array of ``range(depth + 1)``, input
        Level of each client's FIFO, as seen from the side on which words enter. A word that enters is counted within
        two cycles.
    enters : a bit for each client, output
        ``port.word`` is the next word of this client.
    port : ``WordPort``, output
        The word source.
    rests : 1 bit, output
        No word is requested, in flight or in a FIFO.
    fault : ``Fault``, output
        The first fault of the source.

    Numerics
    --------
    None.

    Latency
    -------
    2 cycles from a request at ``i`` to its job.

    Reference
    ---------
    None.
    """

    def __init__(self, shape: SourceShape, address_bits: int) -> None:
        self.shape, self.count_bits = shape, address_bits + 1
        self.depth = fifo_depth(shape)
        self.readers = {client: BurstReader(shape, client, self.count_bits) for client in shape.clients}
        self.credits = {client: Credit(client, self.depth) for client in shape.clients}
        self.given = Signal(range(shape.burst + 1))
        self.still = Signal(4)
        clients = len(shape.clients)
        request = request_layout(shape, address_bits)
        super().__init__(
            {
                "i": In(stream.Signature(request)).array(clients - 1),
                "going": In(1),
                "record_words": In(self.count_bits),
                "levels": In(range(self.depth + 1)).array(clients),
                "enters": Out(clients),
                "port": Out(WordPort(shape)),
                "rests": Out(1),
                "fault": Out(Fault),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        shape, port = self.shape, self.port
        readers = self.readers
        endless = readers[Client.STREAM]
        m.submodules.stream_reader = ResetInserter(~self.going)(endless)
        m.d.comb += [
            endless.i.valid.eq(self.going),
            endless.i.p.count.eq(self.record_words),
            port.ahead.eq(endless.ahead),
        ]
        m.submodules.watch = watch = SourceWatch(shape)
        at_rest: Value = Const(1, 1)
        granted: dict[Client, Value] = {}
        taken: Value = Const(0, 1)  # a more urgent job is offered
        accepts = Signal()
        m.d.comb += accepts.eq(port.job.ready & watch.room)
        for client in shape.clients[1:]:
            request, reader = self.i[client - 1], readers[client]
            m.submodules[f"{client.name.lower()}_reader"] = reader
            writes = Signal(name=f"{client.name.lower()}_writes")
            m.d.comb += [
                writes.eq(request.valid & request.p.write & reader.i.ready),
                reader.i.valid.eq(request.valid & ~request.p.write),
                reader.i.p.address.eq(request.p.address),
                reader.i.p.count.eq(request.p.payload),
                request.ready.eq(Mux(request.p.write, writes & ~taken & accepts, reader.i.ready)),
            ]
            granted[client] = reader.o.valid & ~taken
            with m.If(granted[client]):
                join_job(m, reader.o, port, accepts)
            with m.Elif(writes & ~taken):
                m.d.comb += [
                    port.job.p.write.eq(1),
                    port.job.p.address.eq(request.p.address),
                    port.job.p.word.eq(request.p.payload),
                ]
            taken = taken | reader.o.valid | writes
            at_rest = at_rest & ~request.valid & reader.i.ready
        granted[Client.STREAM] = endless.o.valid & ~taken
        with m.If(~taken):
            join_job(m, endless.o, port, accepts)
        m.d.comb += port.job.valid.eq((taken | endless.o.valid) & watch.room)
        owed = self._add_credits(m, granted, accepts)
        self._join_watch(m, watch, granted, owed)

        # Levels are some cycles late. So ``rests`` becomes 1 only after several cycles without any activity.
        still = self.still
        empty = ~Cat(self.levels[client] != 0 for client in shape.clients).any()
        nothing = ~self.going & at_rest & port.idle & ~owed & empty
        m.d.sync += [still.eq(Mux(nothing, Cat(1, still), 0)), self.rests.eq(still.all())]
        return m

    def _add_credits(self, m: Module, granted: dict[Client, Value], accepts: Value) -> Value:
        """Count the words that each client is promised, and set ``room`` of each reader. Return whether any words are
        owed."""
        port, any_owed = self.port, []
        m.d.sync += self.given.eq(port.job.p.length)  # words of the job that was accepted in the previous cycle
        for client, credit in self.credits.items():
            enters = port.valid & (port.client == client)
            m.d.sync += [
                credit.promised.eq(granted[client] & accepts),
                credit.arrived.eq(enters),
                credit.owed.eq(credit.owed + Mux(credit.promised, self.given, 0) - credit.arrived),
                credit.used.eq(self.levels[client] + credit.owed),
            ]
            m.d.comb += [
                self.enters[client].eq(enters),
                self.readers[client].room.eq(credit.used <= self.depth - ROOM_BURSTS * self.shape.burst),
            ]
            any_owed += [credit.owed != 0, credit.promised]
        return Cat(any_owed).any()

    def _join_watch(self, m: Module, watch: SourceWatch, granted: dict[Client, Value], owed: Value) -> None:
        port = self.port
        m.d.comb += [
            watch.pending.eq(port.job.valid | ~port.idle),
            watch.accepted.eq(port.job.valid & port.job.ready),
            watch.reads.eq(port.job.valid & port.job.ready & ~port.job.p.write),
            watch.client.eq(port.job.p.client),
            watch.length.eq(port.job.p.length),
            watch.valid.eq(port.valid),
            watch.o_client.eq(port.client),
            watch.owed.eq(owed),
            self.fault.eq(watch.fault),
        ]


def join_job(m: Module, job: Any, port: Any, accepts: Value) -> None:
    """Connect a reader's job to the source, and the source's answer to the reader.

    Parameters
    ----------
    m : Module
        The module to which the connection is added.
    job
        The reader's stream of jobs.
    port
        The ``WordPort``, to the source.
    accepts : Value
        The source accepts a job in this cycle.
    """
    m.d.comb += [port.job.payload.eq(job.payload), job.ready.eq(accepts)]


__all__ = ["CROSSING", "SourceSide", "fifo_depth", "request_layout"]
