"""The memory of words in an SDRAM: two clock domains, and three FIFOs between them.

    sync                                              memory
    i_write, i_read ─┐                           ┌─ writes ─┐
    i_start (rows) ──┼─► requests ──────────────►│─ rows ───┼─► SdramController ─► pins
    memory test ─────┘                           │  stream ─┘          │
    o_row, o_read ◄───── fetched ◄───────────────┼─────────────────────┤
    o_words ◄─────────── words ◄─────────────────┴─────────────────────┘

The record stream repeats endlessly, in bursts; rows go first, at the next burst. A reader gives a burst only when its
FIFO has room for it, so nothing waits in the controller but for its turn: a stream that nobody takes holds no row up.

*Stopping.* ``go`` (sync) lets the record stream run; when it falls, its reader is reset, both FIFOs are emptied on
this side, and ``rests`` (memory) rises when nothing is on its way on that one. Only then the host is served, or a new
run begins; and a run begins only when ``rests`` has fallen. So each crossing is one bit that waits for its answer.

Reset: both domains together; on a board there is none, and the domains begin in any order. Then the controller
initialises the part, whose words stay, and requests wait meanwhile.

Row latency, one clock for both: 21 + CAS latency cycles to an open page, at most 2 bursts, a refresh and tRP + tRCD
more. Cost (x16): 1,480 LUT4 and 45 distributed RAMs, of which the controller is 500, the march test some 400.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, DomainRenamer, Elaboratable, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.memory.march_test import MemoryTest
from lutern.hw.memory.ports import memory_members
from lutern.hw.memory.sdram_controller import SdramController, SdramPins
from lutern.hw.memory.sdram_part import SdramTimings
from lutern.hw.memory.sdram_reader import PIPELINE_WORDS, BurstReader
from lutern.hw.pipeline import Skid, join_streams
from lutern.hw.protocol import ADDRESS_BITS, MEMORY_TEST_DONE, RANGE_LAYOUT
from lutern.model_ref.errors import LuternError

DEPTH = 64
"""Words of a FIFO: PIPELINE_WORDS, and as many for the time that levels take from clock to clock."""
REQUESTS = 8
REST_CYCLES = 8
"""A level that says "empty" may be as old as that, as long as neither clock is 4 times as fast as the other."""
STREAM, FETCH = 0, 1  # clients of the controller


class SdramMemory(wiring.Component):
    """Ports of ``StreamedMemory``, and the pins of the part.

    Parameters: ``config``; ``timings`` of the part at the clock of domain ``memory``, whose words are as wide as
    ``config``'s.

    Members: as ``StreamedMemory``; ``pins``; ``i_test`` a range, ``o_test`` its march test's result (see
    ``march_test.py``), only while ``running`` is 0.
    """

    def __init__(self, config: HwConfig, timings: SdramTimings) -> None:
        if timings.data_bits != config.word_bits:
            raise LuternError(
                f"HwConfig {config.name} has words of {config.word_bytes} bytes, the memory part is "
                f"{timings.data_bits} bits wide; choose a preset of {timings.data_bits // 8}-byte words."
            )
        if timings.words < config.memory_words:
            raise LuternError(
                f"HwConfig {config.name} has {config.memory_words:,} words of memory, the memory part has "
                f"{timings.words:,}; choose a smaller memory_words or a larger part."
            )
        self.config, self.timings = config, timings
        super().__init__(
            {
                **memory_members(config),
                "i_test": In(stream.Signature(RANGE_LAYOUT)),
                "o_test": Out(stream.Signature(MEMORY_TEST_DONE.layout)),
                "pins": Out(SdramPins(timings)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word_bits = self.config.word_bits
        payload_bits = max(ADDRESS_BITS, word_bits)  # a word, or how many
        request = data.StructLayout({"write": 1, "address": ADDRESS_BITS, "payload": payload_bits})
        to_memory: dict[str, Any] = {"w_domain": "sync", "r_domain": "memory"}
        from_memory: dict[str, Any] = {"w_domain": "memory", "r_domain": "sync"}
        m.submodules.requests = requests = AsyncFIFO(width=request.size, depth=REQUESTS, **to_memory)
        m.submodules.fetched = fetched = AsyncFIFO(width=word_bits, depth=DEPTH, **from_memory)
        m.submodules.words = words = AsyncFIFO(width=word_bits, depth=DEPTH, **from_memory)
        go, going, rests, rested = Signal(), Signal(), Signal(), Signal()
        m.submodules.go_cdc = FFSynchronizer(go, going, o_domain="memory")
        m.submodules.rests_cdc = FFSynchronizer(rests, rested)
        self._add_machine_side(m, (requests, fetched, words), data.View(request, requests.w_data), go, rested)
        self._add_memory_side(m, (requests, fetched, words), data.View(request, requests.r_data), going, rests)
        return m

    def _add_machine_side(
        self, m: Module, fifos: tuple[AsyncFIFO, ...], request: Any, go: Signal, rested: Signal
    ) -> None:
        """Domain sync: who may ask, and who gets the words."""
        requests, fetched, words = fifos
        m.submodules.test = test = MemoryTest(self.config.word_bits)
        join_streams(m, self.i_test, test.i)
        join_streams(m, test.o, self.o_test)
        setup = self.setup
        quiet = Signal(range(REST_CYCLES + 1))
        again = Signal()  # running fell while nobody looked
        serves, runs, drops = Signal(), Signal(), Signal()

        # Behind each FIFO a register and a skid buffer, emptied while `drops`: no ready reaches the FIFO's port.
        outputs = []
        for name, fifo in (("fetched", fetched), ("words", words)):
            valid, word = Signal(name=f"{name}_valid"), Signal(len(fifo.r_data), name=f"{name}_word")
            skid = Skid(self.config.word_bits)
            m.submodules[f"{name}_skid"] = ResetInserter(drops)(skid)
            m.d.comb += [fifo.r_en.eq(~valid | skid.i.ready | drops), skid.i.valid.eq(valid), skid.i.payload.eq(word)]
            with m.If(fifo.r_en):
                m.d.sync += [valid.eq(fifo.r_rdy & ~drops), word.eq(fifo.r_data)]
            outputs.append(skid.o)
        found, streamed = outputs
        for o, takes in ((self.o_read, serves & ~test.busy), (self.o_row, runs), (test.i_read, serves & test.busy)):
            m.d.comb += [o.valid.eq(found.valid & takes), o.payload.eq(found.payload)]
        m.d.comb += [
            found.ready.eq(Mux(runs, self.o_row.ready, Mux(test.busy, test.i_read.ready, self.o_read.ready))),
            self.o_words.valid.eq(streamed.valid & runs),
            self.o_words.payload.eq(streamed.payload),
            streamed.ready.eq(self.o_words.ready & runs),
        ]

        # Rows: a register behind the product, one behind the sum.
        product, asked, row_asked = Signal(ADDRESS_BITS, reset_less=True), Signal(), Signal()
        row = Signal(ADDRESS_BITS, reset_less=True)
        m.d.sync += [
            product.eq(self.i_start.payload.token * setup.embedding_stride),
            asked.eq(self.i_start.valid & self.i_start.ready),
        ]
        with m.If(asked):
            m.d.sync += [row.eq(setup.embedding_base + product), row_asked.eq(1)]
        with m.If(~runs):
            m.d.sync += [asked.eq(0), row_asked.eq(0)]

        def ask(who: Any, write: int, payload: Value) -> None:
            m.d.comb += [
                requests.w_en.eq(who.valid),
                who.ready.eq(requests.w_rdy),
                request.write.eq(write),
                request.address.eq(who.p.address),
                request.payload.eq(payload),
            ]

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
                with m.If(requests.w_level != 0):
                    m.d.sync += quiet.eq(REST_CYCLES)
                with m.Elif(quiet != 0):
                    m.d.sync += quiet.eq(quiet - 1)
                with m.Elif(rested):
                    m.next = "HOST"
                    with m.If(self.running):
                        m.d.sync += [go.eq(1), again.eq(0)]
                        m.next = "START"
            with m.State("START"):
                with m.If(~self.running):
                    m.d.sync += again.eq(1)
                with m.If(~rested):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [runs.eq(1), self.i_start.ready.eq(~asked & ~row_asked)]
                with m.If(row_asked):
                    m.d.comb += [
                        requests.w_en.eq(1),
                        request.address.eq(row),
                        request.payload.eq(setup.embedding_row_words),
                    ]
                    with m.If(requests.w_rdy):
                        m.d.sync += row_asked.eq(0)
                m.d.sync += quiet.eq(REST_CYCLES)
                with m.If(again | ~self.running):
                    m.d.sync += go.eq(0)
                    m.next = "STOP"

    def _add_memory_side(
        self, m: Module, fifos: tuple[AsyncFIFO, ...], request: Any, going: Signal, rests: Signal
    ) -> None:
        """Domain memory: three who want bursts, one controller."""
        requests, fetched, words = fifos
        t = self.timings
        in_memory = DomainRenamer("memory")
        m.submodules.controller = controller = in_memory(SdramController(t))
        wiring.connect(m, wiring.flipped(self.pins), controller.pins)
        rows = BurstReader(t, FETCH)
        m.submodules.rows = in_memory(rows)
        endless = BurstReader(t, STREAM)
        m.submodules.endless = ResetInserter({"memory": ~going})(in_memory(endless))

        most = DEPTH - PIPELINE_WORDS - t.cas_latency
        for reader, fifo, client in ((rows, fetched, FETCH), (endless, words, STREAM)):
            m.d.memory += reader.room.eq(fifo.w_level <= most)
            m.d.comb += [
                fifo.w_en.eq(controller.o_valid & (controller.o_client == client)),
                fifo.w_data.eq(controller.o_word),
            ]

        # The host's words and rows in the order in which they were asked for.
        writes = requests.r_rdy & request.write & rows.i.ready
        m.d.comb += [
            rows.i.valid.eq(requests.r_rdy & ~request.write),
            rows.i.p.address.eq(request.address),
            rows.i.p.count.eq(request.payload),
            endless.i.valid.eq(going),
            endless.i.p.address.eq(0),
            endless.i.p.count.eq(self.setup.record_words),  # stands still since before `go` rose
            controller.ahead.eq(endless.ahead),
        ]
        with m.If(rows.o.valid):
            join_streams(m, rows.o, controller.i)
        with m.Elif(writes):
            m.d.comb += [
                controller.i.valid.eq(1),
                controller.i.p.write.eq(1),
                controller.i.p.address.eq(request.address),
                controller.i.p.word.eq(request.payload),
            ]
        with m.Else():
            join_streams(m, endless.o, controller.i)
        m.d.comb += requests.r_en.eq(Mux(request.write, writes & controller.i.ready, rows.i.ready))

        # Levels are some cycles old: nothing may have moved for as long.
        still = Signal(4)
        empty = (words.w_level == 0) & (fetched.w_level == 0)
        nothing = ~going & ~requests.r_rdy & rows.i.ready & controller.idle & empty
        m.d.memory += [still.eq(Mux(nothing, Cat(1, still), 0)), rests.eq(still.all())]


__all__ = ["SdramMemory"]
