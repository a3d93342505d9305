"""The side of the memory of words in the machine's clock domain: it accepts requests and returns the requested words.

    i_write, i_read, march test ─► (stopped)  ─┐
    i_start ─► row's address ────► (running) ──┴─► requests[fetch]        fetched ─► o_read, march test │ o_row
    i_state ─────────────────────► (running) ────► requests[state]        state ───► o_state
                                                                          stream ──► o_words

    HOST ── running rises ──► STOP ─► START ─► RUN ── running falls ──► STOP ─► HOST
    (host's requests)         (STOP: words are dropped until the source's side rests)

``go`` starts the record stream. When ``go`` falls, words are dropped until ``rested`` is 1, which means that the
source's side has no word in flight. A new run begins only when ``rested`` has fallen again. So ``go`` and ``rested``,
which cross between the clock domains, are single bits that form a handshake.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.memory.march_test import MemoryTest
from lutern.hw.memory.ports import memory_members
from lutern.hw.memory.source_side import request_layout
from lutern.hw.memory.word_source import Client, SourceShape
from lutern.hw.pipeline import Skid, join_streams
from lutern.hw.protocol import MEMORY_TEST_DONE, range_layout

REST_CYCLES = 8
"""Largest number of cycles for which a FIFO that is not empty may still show level 0. This holds if no clock is 4 times
as fast as the other clock."""


def march_members(config: HwConfig) -> dict[str, Any]:
    """Return the members of a memory that can be tested."""
    return {
        "i_test": In(stream.Signature(range_layout(config))),
        "o_test": Out(stream.Signature(MEMORY_TEST_DONE.layout)),
    }


class MachineSide(wiring.Component):
    """Accepts the machine's requests, and returns the requested words.

    Parameters
    ----------
    config : HwConfig
        A machine whose memory is a ``WordMemory``.
    shape : SourceShape
        Shape of the word source.

    Members
    -------
    i_write : stream of ``protocol.write_layout``, input
        {address, word}: a word from the host.
    i_read : stream of ``protocol.read_layout``, input
        {address, count}: a request of the host, only while ``running`` is 0.
    o_read : stream of words, output
        Exactly ``count`` words for each request.
    running : 1 bit, input
        The machine runs: rows and the record stream are read.
    setup : ``protocol.SETUP_LAYOUT``, input
        The last SETUP record, constant from the cycle before ``running`` rises.
    i_start : stream of ``layouts.token_payload``, input
        {token, stream}: a request for the row of a token.
    o_row : stream of words, output
        The ``embedding_row_words`` words of the token's row.
    o_words : stream of words, output
        The words 0 to ``record_words`` - 1, repeated endlessly.
    i_state : stream of ``state_request_layout``, input, state "memory"
        {write, address, payload}: a word that is written, or a request for ``payload`` words, in order.
    o_state : stream of words, output, state "memory"
        The words that ``i_state`` requested, in order.
    i_test : stream of ``protocol.range_layout``, input
        A range for a march test, only while ``running`` is 0.
    o_test : stream of ``protocol.MEMORY_TEST_DONE.layout``, output
        The result of the march test.
    requests : array of streams of ``source_side.request_layout``, output
        Requests of the clients FETCH and STATE.
    asked_none : 1 bit, input
        No request waits in a FIFO.
    came : array of streams of words, input
        The words of each client, from its FIFO.
    go : 1 bit, output
        The record stream runs.
    rested : 1 bit, input
        The source's side has no word in flight.

    Numerics
    --------
    None.

    Latency
    -------
    1 cycle from a word at ``came`` to ``o_read``, ``o_row``, ``o_words`` or ``o_state``. A row's request is valid 2
    cycles after its token is accepted at ``i_start``.

    Reference
    ---------
    None.
    """

    def __init__(self, config: HwConfig, shape: SourceShape) -> None:
        self.config, self.shape = config, shape
        clients = len(shape.clients)
        self.serves, self.runs, self.drops = Signal(), Signal(), Signal()  # serving the host, running, dropping words
        self.waiting = [Signal(data.StructLayout({"valid": 1, "word": config.word_bits})) for _ in shape.clients]
        self.skids = [Skid(config.word_bits) for _ in shape.clients]
        super().__init__(
            {
                **memory_members(config),
                **march_members(config),
                "requests": Out(stream.Signature(request_layout(shape, config.address_bits))).array(clients - 1),
                "asked_none": In(1),
                "came": In(stream.Signature(config.word_bits)).array(clients),
                "go": Out(1),
                "rested": In(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.test = test = MemoryTest(self.config)
        join_streams(m, self.i_test, test.i)
        join_streams(m, test.o, self.o_test)
        serves, runs, drops = self.serves, self.runs, self.drops
        outputs = [self._register(m, client, drops) for client in self.shape.clients]
        self._hand_out(m, outputs, test, serves, runs)
        row, asked, row_asked = self._add_row_address(m, runs)

        def ask(who: Any, write: int, payload: Value, client: Client = Client.FETCH) -> None:
            requests = self.requests[client - 1]
            m.d.comb += [
                requests.valid.eq(who.valid),
                who.ready.eq(requests.ready),
                requests.p.write.eq(write),
                requests.p.address.eq(who.p.address),
                requests.p.payload.eq(payload),
            ]

        quiet = Signal(range(REST_CYCLES + 1))
        again = Signal()  # running fell in the state START
        with m.FSM():
            with m.State("HOST"):
                m.d.comb += serves.eq(1)
                with m.If(self.running):
                    m.next = "STOP"
                with m.Elif(test.o_write.valid):
                    ask(test.o_write, 1, test.o_write.p.word)
                with m.Elif(test.o_read.valid):
                    ask(test.o_read, 0, test.o_read.p.count)
                with m.Elif(self.i_write.valid):
                    ask(self.i_write, 1, self.i_write.p.word)
                with m.Elif(self.i_read.valid):
                    ask(self.i_read, 0, self.i_read.p.count)
                m.d.sync += quiet.eq(REST_CYCLES)
            with m.State("STOP"):
                m.d.comb += drops.eq(1)
                with m.If(~self.asked_none):
                    m.d.sync += quiet.eq(REST_CYCLES)
                with m.Elif(quiet != 0):
                    m.d.sync += quiet.eq(quiet - 1)
                with m.Elif(self.rested):
                    m.next = "HOST"
                    with m.If(self.running):
                        m.d.sync += [self.go.eq(1), again.eq(0)]
                        m.next = "START"
            with m.State("START"):
                with m.If(~self.running):
                    m.d.sync += again.eq(1)
                with m.If(~self.rested):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [runs.eq(1), self.i_start.ready.eq(~asked & ~row_asked)]
                fetches = self.requests[Client.FETCH - 1]
                with m.If(row_asked):
                    m.d.comb += [
                        fetches.valid.eq(1),
                        fetches.p.address.eq(row),
                        fetches.p.payload.eq(self.setup.embedding_row_words),
                    ]
                    with m.If(fetches.ready):
                        m.d.sync += row_asked.eq(0)
                if self.config.state == "memory":
                    ask(self.i_state, self.i_state.p.write, self.i_state.p.payload, Client.STATE)
                m.d.sync += quiet.eq(REST_CYCLES)
                with m.If(again | ~self.running):
                    m.d.sync += self.go.eq(0)
                    m.next = "STOP"
        return m

    def _register(self, m: Module, client: Client, drops: Value) -> Any:
        """Add a register and a skid buffer for a client's words. Both are emptied while ``drops`` is 1.

        So no combinational path of ready reaches the FIFO.
        """
        name, came = client.name.lower(), self.came[client]
        register, skid = self.waiting[client], self.skids[client]
        valid, word = register.valid, register.word
        m.submodules[f"{name}_skid"] = ResetInserter(drops)(skid)
        m.d.comb += [came.ready.eq(~valid | skid.i.ready | drops), skid.i.valid.eq(valid), skid.i.payload.eq(word)]
        with m.If(came.ready):
            m.d.sync += [valid.eq(came.valid & ~drops), word.eq(came.payload)]
        return skid.o

    def _hand_out(self, m: Module, outputs: list[Any], test: Any, serves: Value, runs: Value) -> None:
        """Send the words to the outputs that requested them."""
        streamed, found = outputs[Client.STREAM], outputs[Client.FETCH]
        for o, takes in ((self.o_read, serves & ~test.busy), (self.o_row, runs), (test.i_read, serves & test.busy)):
            m.d.comb += [o.valid.eq(found.valid & takes), o.payload.eq(found.payload)]
        m.d.comb += found.ready.eq(Mux(runs, self.o_row.ready, Mux(test.busy, test.i_read.ready, self.o_read.ready)))
        joined = [(streamed, self.o_words)]
        if self.config.state == "memory":
            joined.append((outputs[Client.STATE], self.o_state))
        for words, o in joined:
            m.d.comb += [o.valid.eq(words.valid & runs), o.payload.eq(words.payload), words.ready.eq(o.ready & runs)]

    def _add_row_address(self, m: Module, runs: Value) -> tuple[Signal, Signal, Signal]:
        """Compute the address of a row. There is a register after the product and a register after the sum.

        Return the address, and the valid bits of the two registers.
        """
        bits = self.config.address_bits
        product, row = Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        asked, row_asked = Signal(), Signal()
        m.d.sync += [
            product.eq(self.i_start.payload.token * self.setup.embedding_stride),
            asked.eq(self.i_start.valid & self.i_start.ready),
        ]
        with m.If(asked):
            m.d.sync += [row.eq(self.setup.embedding_base + product), row_asked.eq(1)]
        with m.If(~runs):
            m.d.sync += [asked.eq(0), row_asked.eq(0)]
        return row, asked, row_asked


__all__ = ["REST_CYCLES", "MachineSide", "march_members"]
