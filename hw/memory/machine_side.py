"""The side of the memory of words that lies in the machine's clock domain: who may ask, and who gets the words.

    i_write, i_read, march test ─► (at rest)  ─┐
    i_start ─► row's address ────► (running) ──┴─► requests[fetch]        fetched ─► o_read, march test │ o_row
    i_state ─────────────────────► (running) ────► requests[state]        state ───► o_state
                                                                          stream ──► o_words

    HOST ── running rises ──► STOP ─► START ─► RUN ── running falls ──► STOP ─► HOST
    (host's requests)         (words are dropped until the source's side rests)

``go`` lets the record stream run. When it falls, words are dropped until ``rested`` says that nothing is on its way on
the other side; a new run begins only when ``rested`` has fallen. So each crossing is one bit that waits for its answer.
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
"""A level that says "empty" may be as old as that, as long as neither clock is 4 times as fast as the other."""


def march_members(config: HwConfig) -> dict[str, Any]:
    """Members of a memory that can be tested."""
    return {
        "i_test": In(stream.Signature(range_layout(config))),
        "o_test": Out(stream.Signature(MEMORY_TEST_DONE.layout)),
    }


class MachineSide(wiring.Component):
    """See above.

    Members: those of ``WordMemory`` towards the machine; ``requests`` of FETCH and STATE, ``asked_none``: none of them
    waits in its FIFO; ``came``, the words of all clients out of their FIFOs; ``go``, ``rested``.
    """

    def __init__(self, config: HwConfig, shape: SourceShape) -> None:
        self.config, self.shape = config, shape
        clients = len(shape.clients)
        self.serves, self.runs, self.drops = Signal(), Signal(), Signal()  # the host; the machine; words
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
        again = Signal()  # running fell while nobody looked
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
        """The client's words after a register and a skid buffer, emptied while ``drops``: no ready reaches the FIFO."""
        name, came = client.name.lower(), self.came[client]
        register, skid = self.waiting[client], self.skids[client]
        valid, word = register.valid, register.word
        m.submodules[f"{name}_skid"] = ResetInserter(drops)(skid)
        m.d.comb += [came.ready.eq(~valid | skid.i.ready | drops), skid.i.valid.eq(valid), skid.i.payload.eq(word)]
        with m.If(came.ready):
            m.d.sync += [valid.eq(came.valid & ~drops), word.eq(came.payload)]
        return skid.o

    def _hand_out(self, m: Module, outputs: list[Any], test: Any, serves: Value, runs: Value) -> None:
        """The words to those who asked for them."""
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
        """The row's address, a register behind the product and one behind the sum; what stands in each of them."""
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
