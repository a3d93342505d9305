"""Controller of one part of SDR SDRAM, made for reading in order. The controller is a word source (word_source.py).

    port.job ─► job ─► check ─► decide ─► pins ─► [I/O register] ─► part
    port.ahead► page ► check ──┘                                      │ CAS latency
    port.word ◄─ register ◄──────────────────── [I/O register] ◄──────┘

A *page* is a row of one bank. A job is a burst of 1 to 8 words that are read, or one word that is written. A slot is a
cycle of the command bus. Bursts of 8 words leave seven of eight slots free. In the free slots the controller opens the
next page while the present page is read. The table shows the slots at the change from page A (bank 0, its last two
bursts) to page B (bank 1, already open), with tRCD = tRP = 2. Page C (bank 2) is the new ``ahead``, and D is the page
that was open in bank 2:

    slot     0    1   2   3   4   5   6   7    8    9  10  11  ...  15    16    17   18   19   20
    command  RD A .   .   .   .   .   .   .   RD A  .   .   .   ..   .   RD B  PRE D .   ACT C .
    data     A0   A1  A2  A3  A4  A5  A6  A7   A8   A9  ..                B0    B1   ..

The data are shown in the slots in which they would come with a CAS latency of 0. A0 to A15 are the words of the two
bursts. The table shows that a change of pages loses no slot. Only refreshes lose slots. When refreshes are due, the
controller opens no more pages, and the group of refreshes replaces the next READ, as soon as all banks may be closed
(tRAS, tWR). The table shows a group of n refreshes. PREA is a PRECHARGE of all banks, and "n intervals" are n refresh
intervals:

    slot     0     ..  tRP  ..  tRP + tRFC  ..  tRP + n tRFC  ..  + tRCD
    command  PREA  .   REF  .   REF         .   ACT           .   RD        lost: tRP + n tRFC + tRCD in n intervals

Each READ starts a burst of 8 words. If a job is shorter, the next READ or PRECHARGE ends the burst early, and the
controller drops the words beyond the end of the job. Each WRITE writes one word, because the mode register selects BL
8, sequential, single-location write. The controller satisfies tRC, because it leaves a page open for at least max(tRAS,
tRC - tRP).

Each output passes exactly one register before its pin, and each data input passes exactly one register before ``dq_i``.

Cost (x16): some 500 LUT4, 280 FF, no block RAM. The controller alone routes at 143 MHz (speed grade 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.dram_rows import READ, WRITE
from lutern.hw.memory.sdram_banks import BURST, Banks, Commands
from lutern.hw.memory.sdram_part import SdramTimings
from lutern.hw.memory.word_source import SourceShape, WordPort

REFRESH_WAIT = 3 * BURST
"""Largest number of cycles that a due refresh waits for bursts, open rows and writes.

Induction proves this limit with the timings of the presets, and for a small part with two refreshes together
(tests/hw/memory/test_sdram_proofs.py).
"""


class SdramPins(wiring.Signature):
    """The pins of a part, with directions as seen from the controller.

    Members
    -------
    cke, cs_n, ras_n, cas_n, we_n : 1 bit, output
        The command.
    ba : ``bank_bits``, output
        Bank.
    a : ``pin_address_bits``, output
        Address.
    dqm : a bit for each byte, output
        Masks.
    dq_o : ``data_bits``, output
        Data to the part.
    dq_oe : 1 bit, output
        The controller drives the data pins.
    dq_i : ``data_bits``, input
        Data from the part.
    """

    def __init__(self, timings: SdramTimings) -> None:
        super().__init__(
            {
                **{name: Out(1) for name in ("cke", "cs_n", "ras_n", "cas_n", "we_n")},
                "ba": Out(timings.bank_bits),
                "a": Out(timings.pin_address_bits),
                "dqm": Out(timings.data_bits // 8),
                "dq_o": Out(timings.data_bits),
                "dq_oe": Out(1),
                "dq_i": In(timings.data_bits),
            }
        )


def sdram_shape(timings: SdramTimings, client_bits: int = 1) -> SourceShape:
    """Return the shape of the controller as a word source.

    The words in flight are the words of the present burst, the words of a burst that waits, and one word for each cycle
    of the way to the pins and back.

    Parameters
    ----------
    timings : SdramTimings
        The part at its clock.
    client_bits : int
        Width of ``client`` in the port.
    """
    return SourceShape(
        timings.data_bits,
        timings.address_bits,
        in_flight=2 * BURST + 6 + timings.cas_latency,
        burst=BURST,
        page_bits=timings.column_bits,
        client_bits=client_bits,
        is_trusted=True,
    )


@dataclass(frozen=True)
class _Page:
    """A page that is wanted, and the state of its bank one cycle ago: ``wrong`` (another page is open) or ``shut`` (no
    page is open)."""

    bank: Value
    row: Value
    wrong: Signal
    shut: Signal


class SdramController(wiring.Component):
    """Executes jobs on one part of SDR SDRAM.

    Parameters
    ----------
    timings : SdramTimings
        The part at its clock.
    client_bits : int
        Width of ``client`` in the port.

    Members
    -------
    port : ``WordPort``, input
        Jobs and their words. The controller opens the page of ``ahead`` if the page is in another bank than the present
        job.
    pins : ``SdramPins``, output
        The pins of the part.

    Numerics
    --------
    None.

    Latency
    -------
    6 + CAS latency cycles from the acceptance of a job whose page is open to its first word. A closed bank adds tRCD,
    and a bank with another open page adds tRP + tRCD. Then a word follows in every cycle. A job of fewer than 4 words
    takes 4 cycles.

    Reference
    ---------
    JEDEC Standard 21-C 3.11.5 (SDR SDRAM); data sheets in boards/sdram_parts.py.
    """

    def __init__(self, timings: SdramTimings, client_bits: int = 1) -> None:
        self.timings, self.shape = timings, sdram_shape(timings, client_bits)
        super().__init__({"port": In(WordPort(self.shape)), "pins": Out(SdramPins(timings))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t, pins, port = self.timings, self.pins, self.port
        job, there, checked, starts = Signal(self.shape.job), Signal(), Signal(), Signal()
        m.d.comb += port.job.ready.eq(~there)
        m.d.sync += checked.eq(there & ~starts)
        with m.If(~there):
            m.d.sync += [there.eq(port.job.valid), job.eq(port.job.payload)]
        with m.Elif(starts):
            m.d.sync += there.eq(0)

        banks = Banks(m, t, self.shape.client_bits)
        page, hit, ahead = self._look_up(m, banks, job.address[t.column_bits :])
        may_look = there & (ahead.bank != page.bank) & banks.settled(ahead.bank)
        may_act = checked & banks.settled(page.bank)
        owed, initialised, due, closes = self._owe_refreshes(m)
        commands = Commands(m, t, pins, banks, initialised, job.word)

        with m.FSM() as fsm:
            commands.start_states(initialised)
            with m.State("RUN"):
                with m.If(due & banks.all_rest()):
                    m.d.comb += closes.eq(1)
                    commands.close_all(t.refresh_group)
                with m.Elif(may_act & hit & banks.burst.over & (~job.write | banks.quiet.over)):
                    m.d.comb += starts.eq(1)
                    self._start(m, banks, commands, job, page.bank)
                with m.Elif(~due):
                    with m.If(may_act & page.wrong & banks.can_close(page.bank)):
                        commands.close(page.bank)
                    with m.Elif(may_act & page.shut & banks.next_activate.over):
                        commands.activate(page.bank, page.row)
                    with m.Elif(may_look & ahead.wrong & banks.can_close(ahead.bank)):
                        commands.close(ahead.bank)
                    with m.Elif(may_look & ahead.shut & banks.next_activate.over):
                        commands.activate(ahead.bank, ahead.row)

        comes = self._take_words(m, banks, starts & ~job.write, job.client)
        m.d.comb += port.idle.eq(~there & ~starts & banks.burst.over & (comes == 0) & ~port.valid)
        if platform == "formal":
            running = fsm.ongoing("RUN")
            self._claim(m, owed, due & running & ~closes)
            at_rest = banks.burst.over & ~starts & (comes == 0) & ~port.valid
            ended = fsm.ongoing("END")
            self._claim_states(m, commands, running, ended, initialised, at_rest & (owed == 0))
            self._claim_words(m, banks, starts & ~job.write, job.length, comes)
        return m

    def _look_up(self, m: Module, banks: Banks, job_page: Value) -> tuple[_Page, Signal, _Page]:
        """Look up the job's page, whether it is open, and the next page, one cycle before the commands for these pages
        are decided.

        The result is wrong if PRECHARGE or ACTIVATE is sent to the page's bank in this cycle. In the next cycle this
        bank is not settled, so the controller does not use the result.
        """
        t = self.timings
        hit, wrong, shut = Signal(), Signal(), Signal()
        job_bank, job_row = job_page[: t.bank_bits], job_page[t.bank_bits :]
        opened, same = banks.page_state(job_bank, job_row)
        m.d.sync += [hit.eq(opened & same), wrong.eq(opened & ~same), shut.eq(~opened)]
        ahead, next_page = Signal.like(job_page), Signal.like(job_page)
        next_wrong, next_shut = Signal(), Signal()
        opened, same = banks.page_state(ahead[: t.bank_bits], ahead[t.bank_bits :])
        m.d.sync += [
            ahead.eq(self.port.ahead[t.column_bits :]),
            next_page.eq(ahead),
            next_wrong.eq(opened & ~same),
            next_shut.eq(~opened),
        ]
        return (
            _Page(job_bank, job_row, wrong, shut),
            hit,
            _Page(next_page[: t.bank_bits], next_page[t.bank_bits :], next_wrong, next_shut),
        )

    def _owe_refreshes(self, m: Module) -> tuple[Signal, Signal, Signal, Signal]:
        """Count the refreshes that are owed. Return ``owed``, ``initialised``, ``due`` and ``closes``. The state RUN
        sets ``closes`` when refreshes begin."""
        t = self.timings
        tick = Signal(range(t.refresh_interval), init=t.refresh_interval - 1)
        owed, initialised = Signal(range(4 * t.refresh_group)), Signal()
        due, closes = Signal(), Signal()
        m.d.comb += due.eq(owed >= t.refresh_group)
        with m.If(initialised):
            m.d.sync += tick.eq(Mux(tick == 0, t.refresh_interval - 1, tick - 1))
            m.d.sync += owed.eq(owed + (tick == 0) - Mux(closes, t.refresh_group, 0))
        return owed, initialised, due, closes

    def _start(self, m: Module, banks: Banks, commands: Commands, job: Any, bank: Value) -> None:
        """Send READ or WRITE of the job."""
        t = self.timings
        m.d.sync += self.pins.dq_oe.eq(job.write)
        commands.give(READ, bank, job.address[: t.column_bits])
        with m.If(job.write):
            m.d.sync += commands.command.eq(WRITE)
            banks.recover.start(t.wr)
        with m.Else():
            m.d.sync += [banks.burst_bank.eq(bank), banks.burst_client.eq(job.client)]
            banks.burst.start(job.length)
            banks.quiet.start(banks.quiet_cycles)

    def _take_words(self, m: Module, banks: Banks, reads: Value, client: Value) -> Signal:
        """Register each word. A word comes four cycles (command register, two registers at the pins, word register)
        plus the CAS latency after the decision to read it."""
        latency = self.timings.cas_latency + 3
        comes = Signal(latency)
        bits = self.shape.client_bits
        whose = Signal(latency * bits)
        m.d.sync += [
            comes.eq(Cat(reads | ~banks.burst.over, comes)),
            whose.eq(Cat(Mux(reads, client, banks.burst_client), whose)),
            self.port.valid.eq(comes[-1]),
            self.port.client.eq(whose[-bits:]),
            self.port.word.eq(self.pins.dq_i),
        ]
        return comes

    def _claim_states(
        self, m: Module, commands: Commands, running: Value, ended: Value, initialised: Value, at_rest: Value
    ) -> None:
        """Assert that unreachable states are not reached, for the induction."""
        t, pause, left = self.timings, commands.pause, commands.left
        m.d.comb += [
            Assert(~(ended & initialised & (pause == 0))),
            Assert(initialised | ~running),
            Assert(~initialised | (pause < max(t.rfc, t.rp, t.mrd))),
            Assert(~initialised | (left < t.refresh_group) | ended | running),
            Assert(initialised | at_rest),
        ]

    def _claim_words(self, m: Module, banks: Banks, reads: Value, length: Value, comes: Signal) -> None:
        """Assert that exactly the requested words are in flight."""
        wanted = Signal(8)
        m.d.sync += wanted.eq(wanted + Mux(reads, length, 0) - self.port.valid)
        on_way = sum((bit for bit in comes), start=Const(0, 5)) + banks.burst.left() + self.port.valid
        m.d.comb += [Assert(wanted == on_way), Assume(~reads | ((length > 0) & (length <= BURST)))]

    def _claim(self, m: Module, owed: Signal, waits: Value) -> None:
        """Assert that no refresh is lost, and that a due refresh never waits longer than the limit."""
        age = Signal(range(2 * REFRESH_WAIT))
        with m.If(waits):
            m.d.sync += age.eq(age + 1)
        with m.Else():
            m.d.sync += age.eq(0)
        m.d.comb += [Assert(age <= REFRESH_WAIT), Assert(owed < 2 * self.timings.refresh_group)]


__all__ = ["BURST", "REFRESH_WAIT", "SdramController", "SdramPins", "sdram_shape"]
