"""Controller of one part of DDR3 SDRAM, made for reading in order. Each cycle is two clocks of the part.

    port.job ─► job ─► check ─► decide ─► slots of both DFI phases ─► DFI ─► PHY, part
    port.ahead ► page ► check ──┘                                              │ read latency
    port.word ◄─ register ◄───────────────────────────────── rddata ◄──────────┘

*Phase* means the DFI phase here. A *word* is a burst of 8 beats of DDR3, and occupies the data pins for two cycles. A
*page* is a row of one bank. A *job* reads 1 to 8 words of an aligned block of 8, or writes one word. READ uses every
second slot of its phase, so the other phase has 256 free slots while a page is read. In these slots the controller
closes the bank of the next page and opens the next page. The table shows CL 6 and CWL 5 with tRP = 2 and tRCD = 2
cycles, at the change from page A (bank 0, its last two words) to page B (bank 1, already open). Page C (bank 2) is the
new ``ahead``, and D is the page that was open in bank 2:

    cycle    0    1    2    3    4      5    6      7    8    ..   0 + rd      2 + rd     4 + rd
    phase 0  RD A .    RD A .    RD B   .    RD B   .    RD B      A126        A127       B0
    phase 1  .    .    .    .    PRE D  .    ACT C  .    .         .           .          .

The table shows commands and words at DFI. A command reaches DFI one register after its decision. rd is the read
latency, and A126 is word 126 of page A. The table shows that a change of pages loses no cycle. With these latencies
WRITE is sent in phase 1, so row commands wait in the cycle of a WRITE. After a WRITE, reads wait for CWL + 4 + tWTR
clocks, which are 7 cycles.

A sequential read loses cycles only to refreshes. When refreshes are due, no new job starts, and the group of refreshes
begins as soon as all banks may be closed (tRAS, tRTP, tWR). The table shows a group of n refreshes, which are all sent
in phase 1. PREA is a PRECHARGE of all banks, and "n intervals" are n refresh intervals:

    cycle    0     1  2     ..  2 + tRP  ..  2 + tRP + n tRFC  ..  + tRCD
    phase 0  RD A  .  .     .   .            .                     RD A     lost: tRP + n tRFC + tRCD in n intervals
    phase 1  .     .  PREA  .   REF  ..      ACT A                 .

The controller satisfies tFAW, because it waits at least a quarter of tFAW between two ACTIVATE. At these clocks tRRD is
longer than a quarter of tFAW. The controller satisfies tRC, because it leaves a page open for at least max(tRAS, tRC -
tRP). The reader must send a job only if it has room for every word of the job, because the controller cannot hold words
back. `Ddr3Init` initialises the part, and the controller accepts no job before `Ddr3Init` is done.

Cost (x16 of 4 Gb, with `Ddr3Init`, yosys): 1,061 LUT4, 24 CCU2C, 635 flip-flops and no block RAM. Of the flip-flops, a
job takes 160, a word 128 and the open rows 128. The controller alone routes at 119 MHz (speed grade 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.ddr3_init import Ddr3Init
from lutern.hw.memory.ddr3_part import BURST, Ddr3Timings
from lutern.hw.memory.ddr3_waits import Waits, row_cycles
from lutern.hw.memory.dfi import CommandSlot, Dfi
from lutern.hw.memory.dram_rows import ACTIVATE, PRECHARGE, READ, REFRESH, WRITE, OpenRows
from lutern.hw.memory.word_source import WordPort

REFRESH_WAIT = 2 * BURST
"""Largest number of cycles that a due refresh waits for the words of a job, for open rows and for writes.

Induction proves this limit for a small part, for groups of one refresh and of two refreshes
(tests/hw/memory/test_ddr3_proofs.py). No real part has longer times than this small part.
"""
ALL_BANKS = 1 << 10


@dataclass(frozen=True)
class _Page:
    """A page that is wanted, and the state of its bank one cycle ago: ``hit`` (this page is open), ``wrong`` (another
    page is open) or ``shut`` (no page is open)."""

    bank: Value
    row: Value
    hit: Signal
    wrong: Signal
    shut: Signal


@dataclass(frozen=True)
class _Refreshes:
    """The refreshes that are owed: ``owed`` is their number.

    ``due`` is 1 if ``owed`` is at least the number of refreshes in a group. ``begins`` is 1 if a group starts in this
    cycle.
    """

    owed: Signal
    due: Signal
    begins: Signal


class Ddr3Controller(wiring.Component):
    """Executes jobs on one part of DDR3 SDRAM.

    Parameters
    ----------
    timings : Ddr3Timings
        The part at its clock.
    client_bits : int
        Width of ``client`` in the port.

    Members
    -------
    port : ``WordPort``, input
        Jobs and their words.
    dfi : ``Dfi``, output
        Commands and data, to the PHY.

    Numerics
    --------
    None.

    Latency
    -------
    4 + read latency cycles from the acceptance of a job whose page is open to its first word at ``port``. A closed bank
    adds tRCD, and a bank with another open page adds tRP + tRCD. Then a word follows every two cycles. A job of one
    word takes 3 cycles.

    Reference
    ---------
    JEDEC JESD79-3F; data sheets in boards/ddr3_parts.py.
    """

    def __init__(self, timings: Ddr3Timings, client_bits: int = 1) -> None:
        self.timings, self.shape = timings, timings.source_shape(client_bits)
        super().__init__(
            {
                "port": In(WordPort(self.shape)),
                "dfi": Out(Dfi(timings.bank_bits, timings.pin_address_bits, timings.word_bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t, port, dfi = self.timings, self.port, self.dfi
        m.submodules.init = init = Ddr3Init(t)
        slots = [CommandSlot(m, dfi.p0, "p0"), CommandSlot(m, dfi.p1, "p1")]
        m.d.comb += [dfi.reset_n.eq(init.reset_n), dfi.cke.eq(init.cke)]
        m.d.sync += dfi.odt.eq(init.done)

        job, there, checked, starts = Signal(self.shape.job), Signal(), Signal(), Signal()
        sent = Signal(t.write_latency + 1)  # a WRITE whose word is not sent yet
        m.d.comb += [port.job.ready.eq(~there & init.done), dfi.wrdata.eq(job.word), dfi.wrdata_en.eq(sent[0])]
        m.d.sync += [sent.eq(Cat(starts & job.write, sent)), checked.eq(there & ~starts & (sent == 0))]
        with m.If(~there):
            m.d.sync += [there.eq(port.job.valid & init.done), job.eq(port.job.payload)]
        with m.Elif((starts & ~job.write) | sent[-1]):
            m.d.sync += there.eq(0)

        rows = OpenRows(m, row_cycles(t))
        waits = Waits(m, t, self.shape.client_bits)
        page, ahead = self._look_up(m, rows, job.address)
        refreshes = self._owe_refreshes(m, init.done)
        calm = checked & rows.settled(page.bank)
        begins = Signal()
        m.d.comb += begins.eq(calm & page.hit & (waits.left == 0) & ~refreshes.due)

        pause, left = Signal(range(t.cycles(t.rfc))), Signal(range(t.refresh_group))
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.FSM() as fsm:
            with m.State("INIT"):
                with m.If(init.gives):
                    slots[t.row_phase].give(init.code, init.ba, init.a)
                with m.If(init.done):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += starts.eq(begins & Mux(job.write, waits.write.over, waits.may_turn(page.bank)))
                with m.If(refreshes.due & waits.rest() & rows.all_held()):
                    m.d.comb += refreshes.begins.eq(1)
                    slots[t.row_phase].give(PRECHARGE, 0, ALL_BANKS)
                    rows.close_all()
                    m.d.sync += [pause.eq(max(2, t.cycles(t.rp)) - 1), left.eq(t.refresh_group - 1)]
                    m.next = "REFRESH"
                with m.Elif(~refreshes.due):
                    self._open_pages(m, slots[t.row_phase], rows, waits, calm, there, starts & job.write, page, ahead)
            self._add_refresh_states(m, slots[t.row_phase], pause, left)
        reads = self._send(m, slots, waits, starts, job)
        comes = self._take_words(m, reads, Mux(starts, job.client, waits.client))
        m.d.comb += port.idle.eq(~there & (waits.left == 0) & (comes == 0) & ~port.valid)
        if platform == "formal":
            self._claim(m, refreshes, fsm.ongoing("RUN"))
            at_rest = ~there & (waits.left == 0) & (comes == 0) & ~port.valid & (refreshes.owed == 0)
            self._claim_states(m, fsm, init, pause, left, waits, at_rest)
            self._claim_words(m, waits, starts & ~job.write, job.length, comes)
        return m

    def _look_up(self, m: Module, rows: OpenRows, address: Value) -> tuple[_Page, _Page]:
        """Look up the job's page and the next page, one cycle before the commands for these pages are decided.

        The result is wrong if PRECHARGE or ACTIVATE is sent to the page's bank in this cycle. In the next cycle this
        bank is not settled, so the controller does not use the result.
        """
        t = self.timings

        def look_up(number: Value, acted_on: Value, name: str) -> _Page:
            hit, wrong, shut = (Signal(name=f"{name}_{what}") for what in ("hit", "wrong", "shut"))
            opened, same = rows.page_state(number[: t.bank_bits], number[t.bank_bits :])
            m.d.sync += [hit.eq(opened & same), wrong.eq(opened & ~same), shut.eq(~opened)]
            return _Page(acted_on[: t.bank_bits], acted_on[t.bank_bits :], hit, wrong, shut)

        page = address[t.page_bits :]
        ahead, ahead_acted_on = Signal.like(page, name="ahead"), Signal.like(page, name="ahead_acted_on")
        m.d.sync += [ahead.eq(self.port.ahead[t.page_bits :]), ahead_acted_on.eq(ahead)]
        return look_up(page, page, "page"), look_up(ahead, ahead_acted_on, "ahead")

    def _owe_refreshes(self, m: Module, done: Value) -> _Refreshes:
        """Count the refreshes that are owed."""
        t = self.timings
        tick = Signal(range(t.refresh_interval), init=t.refresh_interval - 1)
        owed, due, begins = Signal(range(2 * t.refresh_group + 1)), Signal(), Signal()
        m.d.comb += due.eq(owed >= t.refresh_group)
        with m.If(done):
            m.d.sync += tick.eq(Mux(tick == 0, t.refresh_interval - 1, tick - 1))
            m.d.sync += owed.eq(owed + (tick == 0) - Mux(begins, t.refresh_group, 0))
        return _Refreshes(owed, due, begins)

    def _open_pages(
        self,
        m: Module,
        slot: CommandSlot,
        rows: OpenRows,
        waits: Waits,
        calm: Value,
        there: Value,
        writes: Value,
        page: _Page,
        ahead: _Page,
    ) -> None:
        """Send PRECHARGE or ACTIVATE for the job's page, otherwise for the next page, unless a WRITE uses the slot."""
        t = self.timings
        free = ~writes if t.write_phase == t.row_phase else Const(1)
        may_look = there & (ahead.bank != page.bank) & rows.settled(ahead.bank) & free
        for wanted, may in ((page, calm), (ahead, may_look)):
            wrong = may & wanted.wrong & rows.held(wanted.bank) & waits.may_close(wanted.bank)
            shut = may & wanted.shut & rows.next_activate.over
            with m.If(wrong) if wanted is page else m.Elif(wrong):
                slot.give(PRECHARGE, wanted.bank)
                rows.close(wanted.bank)
            with m.Elif(shut):
                slot.give(ACTIVATE, wanted.bank, wanted.row)
                rows.activate(wanted.bank, wanted.row)

    def _add_refresh_states(self, m: Module, slot: CommandSlot, pause: Signal, left: Signal) -> None:
        """Send the refreshes of a group, and wait for tRFC of the last refresh."""
        t = self.timings
        with m.State("REFRESH"):
            with m.If(pause == 0):
                slot.give(REFRESH)
                m.d.sync += [pause.eq(t.cycles(t.rfc) - 1), left.eq(left - 1)]
                with m.If(left == 0):
                    m.next = "END"
        with m.State("END"):
            with m.If(pause == 1):
                m.next = "RUN"

    def _send(self, m: Module, slots: list[CommandSlot], waits: Waits, starts: Signal, job: Any) -> Signal:
        """Send READ and WRITE for the job that starts, and READ for the words that are left of the previous job."""
        t = self.timings
        reads, more = Signal(), Signal()
        bank, column = Signal(t.bank_bits), Signal(t.page_bits)
        m.d.comb += [
            more.eq((waits.left != 0) & waits.read.over),
            reads.eq((starts & ~job.write) | more),
            bank.eq(Mux(more, waits.bank, job.address[t.page_bits :])),
            column.eq(Mux(more, waits.column, job.address)),
        ]
        columns = Cat(Const(0, t.column_bits - t.page_bits), column)
        with m.If(reads):
            slots[t.read_phase].give(READ, bank, columns)
            waits.start_read()
            in_block = BURST.bit_length() - 1
            m.d.sync += [
                waits.left.eq(Mux(more, waits.left, job.length) - 1),
                waits.bank.eq(bank),
                waits.column.eq(Cat((column + 1)[:in_block], column[in_block:])),
            ]
        with m.If(starts & job.write):
            slots[t.write_phase].give(WRITE, job.address[t.page_bits :][: t.bank_bits], columns)
            waits.start_write()
        with m.If(starts & ~job.write):
            m.d.sync += waits.client.eq(job.client)
        return reads

    def _take_words(self, m: Module, reads: Value, client: Value) -> Signal:
        """Register each word. A word comes two cycles (command register and word register) plus the read latency after
        the decision to read it."""
        delay, bits = self.timings.read_latency + 1, self.shape.client_bits
        comes, whose = Signal(delay), Signal(delay * bits)
        m.d.comb += self.dfi.rddata_en.eq(comes[0])
        m.d.sync += [
            comes.eq(Cat(reads, comes)),
            whose.eq(Cat(client, whose)),
            self.port.valid.eq(comes[-1]),
            self.port.client.eq(whose[-bits:]),
            self.port.word.eq(self.dfi.rddata),
        ]
        return comes

    def _claim(self, m: Module, refreshes: _Refreshes, running: Value) -> None:
        """Assert that no refresh is lost, and that a due refresh never waits longer than the limit."""
        age = Signal(range(2 * REFRESH_WAIT))
        with m.If(refreshes.due & running & ~refreshes.begins):
            m.d.sync += age.eq(age + 1)
        with m.Else():
            m.d.sync += age.eq(0)
        m.d.comb += [Assert(age <= REFRESH_WAIT), Assert(refreshes.owed < 2 * self.timings.refresh_group)]

    def _claim_states(
        self, m: Module, fsm: Any, init: Any, pause: Signal, left: Signal, waits: Waits, at_rest: Value
    ) -> None:
        """Assert that unreachable states are not reached, for the induction."""
        t = self.timings
        reading = fsm.ongoing("RUN") & (waits.read.left() <= waits.read_to_read)
        m.d.comb += [
            Assert(~(fsm.ongoing("END") & (pause == 0))),
            Assert(init.done | fsm.ongoing("INIT")),
            Assert(init.done | at_rest),
            Assert(pause < max(t.cycles(t.rfc), t.cycles(t.rp), 2)),
            Assert((left < t.refresh_group) | ~fsm.ongoing("REFRESH")),
            Assert((waits.left == 0) | reading),
        ]

    def _claim_words(self, m: Module, waits: Waits, reads: Value, length: Value, comes: Signal) -> None:
        """Assert that exactly the requested words are in flight."""
        wanted = Signal(8)
        m.d.sync += wanted.eq(wanted + Mux(reads, length, 0) - self.port.valid)
        on_way = sum((bit for bit in comes), start=Const(0, 5)) + waits.left + self.port.valid
        m.d.comb += [Assert(wanted == on_way), Assume(~reads | ((length > 0) & (length <= BURST)))]


__all__ = ["REFRESH_WAIT", "Ddr3Controller"]
