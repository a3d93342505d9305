"""Controller of one part of SDR SDRAM, made for reading in order.

    i (jobs) ─► job ─► check ─► decide ─► pins ─► [I/O register] ─► part
    ahead ────► page ► check ──┘                                      │ CAS latency
    o (words) ◄─ register ◄──────────────────── [I/O register] ◄──────┘

A *page* is a row of one bank. A *job* is a burst: 1 to 8 words of an aligned block of 8, read, or one word written.
Bursts of 8 leave seven of eight slots of the command bus free, in which the page that comes next is opened while this
one is read. Slots at the change from page A (bank 0, its last two bursts) to page B (bank 1, opened long ago), with
tRCD = tRP = 2; page C (bank 2) is the new ``ahead``, D was the page that bank 2 had:

    slot     0    1   2   3   4   5   6   7    8    9  10  11  ...  15    16    17   18   19   20
    command  RD A .   .   .   .   .   .   .   RD A  .   .   .   ..   .   RD B  PRE D .   ACT C .
    data     A0   A1  A2  A3  A4  A5  A6  A7   A8   A9  ..                B0    B1   ..        (CAS latency later)

so no slot is lost at a change. What is lost is refreshing: it takes the place of the next READ, when no bank holds out
(tRAS, tWR) any more, and from then on no page is opened ahead. With n refreshes together:

    slot     0     ..  tRP  ..  tRP + tRFC  ..  tRP + n tRFC  ..  + tRCD
    command  PREA  .   REF  .   REF         .   ACT           .   RD        lost: (tRP + n tRFC + tRCD) each n intervals

A short burst is cut by the next READ or PRECHARGE; words beyond it are dropped. Words are written one at a time: the
mode register is BL 8, sequential, single-location write. tRC is kept by holding a page for max(tRAS, tRC - tRP).

Who reads must have room for every word of a job when it gives it: words cannot wait here.

Between each output and its pin stands exactly one register, and one between the pin and ``dq_i``. Latency: from a job
whose page is open, accepted, to its first word at ``o``: 6 + CAS latency cycles; tRCD more for a closed bank, tRP +
tRCD for a bank with another page. A word a cycle; a job of fewer than 4 words takes 4 cycles.

Cost (x16): some 500 LUT4, 280 FF, no block RAM; alone it routes at 143 MHz (speed grade 6).
Reference: JEDEC Standard 21-C 3.11.5 (SDR SDRAM); data sheets in boards/sdram_parts.py.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.sdram_part import SdramTimings

BURST = 8
CLIENT_BITS = 1
INIT_REFRESHES = 8
MODE_BURST = 3  # code of BL 8
SINGLE_WRITE = 1 << 9

REFRESH_WAIT = 3 * BURST
"""Most cycles that a refresh which is due waits for bursts, rows and writes (proved for times of up to 8 cycles)."""

# ras_n, cas_n, we_n, from bit 0
NOP, READ, WRITE, ACTIVATE, PRECHARGE, REFRESH, SET_MODE = 0b111, 0b101, 0b001, 0b110, 0b010, 0b100, 0b000


class SdramPins(wiring.Signature):
    """Pins of a part, from the controller; data in two directions and their enable."""

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


def job_layout(timings: SdramTimings) -> data.StructLayout:
    """``length`` words from ``address``, read for ``client``; or ``word`` written."""
    return data.StructLayout(
        {
            "write": 1,
            "length": range(BURST + 1),
            "client": CLIENT_BITS,
            "address": timings.address_bits,
            "word": timings.data_bits,
        }
    )


class _Countdown:
    """Cycles until something is allowed: ``start(n)`` in cycle t, ``over`` from cycle t + n on; a register says it."""

    def __init__(self, m: Module, name: str, most: int) -> None:
        self._m, self._more = m, Signal(range(max(2, most)), name=f"{name}_more")
        self.over = Signal(name=f"{name}_over", init=1)
        with m.If(~self.over):
            m.d.sync += [self._more.eq(self._more - 1), self.over.eq(self._more == 0)]

    def start(self, cycles: int | Value) -> None:
        """Within an If of the cycle that starts it; 1 and more."""
        self._m.d.sync += [self._more.eq(cycles - 2), self.over.eq(cycles == 1)]

    def left(self) -> Value:
        """Cycles until it is over."""
        return Mux(self.over, 0, self._more + 1)


class SdramController(wiring.Component):
    """See above.

    Members: ``i`` jobs; ``ahead`` the page (row above bank) that will be read next, opened when the bank of the present
    job is another; ``o_valid``, ``o_client``, ``o_word`` words read, in order, never waiting; ``idle``: no job and no
    word is on its way; ``pins``.
    """

    def __init__(self, timings: SdramTimings) -> None:
        self.timings = timings
        super().__init__(
            {
                "i": In(stream.Signature(job_layout(timings))),
                "ahead": In(timings.bank_bits + timings.row_bits),
                "o_valid": Out(1),
                "o_client": Out(CLIENT_BITS),
                "o_word": Out(timings.data_bits),
                "idle": Out(1),
                "pins": Out(SdramPins(timings)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t = self.timings
        job, there, checked, starts = Signal(job_layout(t)), Signal(), Signal(), Signal()
        m.d.comb += self.i.ready.eq(~there)
        m.d.sync += checked.eq(there & ~starts)
        with m.If(~there):
            m.d.sync += [there.eq(self.i.valid), job.eq(self.i.payload)]
        with m.Elif(starts):
            m.d.sync += there.eq(0)
        column, job_page = job.address[: t.column_bits], job.address[t.column_bits :]
        job_bank, job_row = job_page[: t.bank_bits], job_page[t.bank_bits :]

        # Banks. `settled`: the command after the last ACTIVATE or PRECHARGE may come.
        banks = range(1 << t.bank_bits)
        is_open = [Signal(name=f"open_{b}") for b in banks]
        rows = [Signal(t.row_bits, name=f"row_{b}") for b in banks]
        settle = [_Countdown(m, f"settle_{b}", max(t.rp, t.rcd)) for b in banks]
        hold_cycles = max(t.ras, t.rc - t.rp)
        hold = [_Countdown(m, f"hold_{b}", hold_cycles) for b in banks]
        next_activate = _Countdown(m, "next_activate", t.rrd)
        recover = _Countdown(m, "recover", t.wr)
        quiet_cycles = BURST + t.cas_latency + 2  # the part has let go of the data pins, and a cycle more
        quiet = _Countdown(m, "quiet", quiet_cycles)
        burst = _Countdown(m, "burst", BURST)
        burst_bank, burst_client = Signal(t.bank_bits), Signal(CLIENT_BITS)

        def of(signals: list[Any], bank: Value) -> Value:
            return Array(signals)[bank]

        def page_state(bank: Value, row: Value) -> tuple[Value, Value]:
            """Whether the bank is open, and with this row."""
            return of(is_open, bank), of(rows, bank) == row

        # Both pages are looked up a cycle before they are acted on. A command to their bank meanwhile unsettles it.
        hit, wrong, shut = Signal(), Signal(), Signal()
        opened, same = page_state(job_bank, job_row)
        m.d.sync += [hit.eq(opened & same), wrong.eq(opened & ~same), shut.eq(~opened)]
        ahead, next_page = Signal.like(self.ahead), Signal.like(self.ahead)
        next_wrong, next_shut = Signal(), Signal()
        opened, same = page_state(ahead[: t.bank_bits], ahead[t.bank_bits :])
        m.d.sync += [ahead.eq(self.ahead), next_page.eq(ahead), next_wrong.eq(opened & ~same), next_shut.eq(~opened)]
        next_bank, next_row = next_page[: t.bank_bits], next_page[t.bank_bits :]

        def can_close(bank: Value) -> Value:
            return of([h.over for h in hold], bank) & recover.over & (burst.over | (burst_bank != bank))

        settled = [s.over for s in settle]
        job_settled, next_settled = of(settled, job_bank), of(settled, next_bank)
        may_look = there & (next_bank != job_bank) & next_settled
        may_act = checked & job_settled

        # Refreshes that are owed.
        tick = Signal(range(t.refresh_interval), init=t.refresh_interval - 1)
        owed, initialised = Signal(range(4 * t.refresh_group)), Signal()
        due, closes = Signal(), Signal()
        m.d.comb += due.eq(owed >= t.refresh_group)
        with m.If(initialised):
            m.d.sync += tick.eq(Mux(tick == 0, t.refresh_interval - 1, tick - 1))
            m.d.sync += owed.eq(owed + (tick == 0) - Mux(closes, t.refresh_group, 0))

        # Commands, in a register behind the decision.
        pins = self.pins
        command = Signal(3, init=NOP)
        m.d.comb += Cat(pins.ras_n, pins.cas_n, pins.we_n).eq(command)
        selected = Signal()
        powered = Signal()
        m.d.comb += [pins.cs_n.eq(~selected), pins.cke.eq(powered), pins.dqm.eq(Mux(initialised, 0, ~0))]
        m.d.sync += [selected.eq(1), powered.eq(1), command.eq(NOP), pins.dq_oe.eq(0), pins.dq_o.eq(job.word)]
        all_banks = Const(1 << 10, len(pins.a))

        def give(code: int, bank: Value | int = 0, address: Value | int = 0) -> None:
            m.d.sync += [command.eq(code), pins.ba.eq(bank), pins.a.eq(address)]

        def close(bank: Value) -> None:
            give(PRECHARGE, bank)
            with m.Switch(bank):
                for b in banks:
                    with m.Case(b):
                        m.d.sync += is_open[b].eq(0)
                        settle[b].start(t.rp)

        def activate(bank: Value, row: Value) -> None:
            give(ACTIVATE, bank, row)
            next_activate.start(t.rrd)
            with m.Switch(bank):
                for b in banks:
                    with m.Case(b):
                        m.d.sync += [is_open[b].eq(1), rows[b].eq(row)]
                        settle[b].start(t.rcd)
                        hold[b].start(hold_cycles)

        pause = Signal(range(max(t.power_up, t.rfc) + 1), init=t.power_up)
        left = Signal(range(max(INIT_REFRESHES, t.refresh_group)))
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)

        def close_all(refreshes: int) -> None:
            give(PRECHARGE, 0, all_banks)
            m.d.sync += [pause.eq(t.rp - 1), left.eq(refreshes - 1), *(o.eq(0) for o in is_open)]
            m.next = "REFRESH"

        with m.FSM() as fsm:
            with m.State("POWER"):
                with m.If(pause == 0):
                    close_all(INIT_REFRESHES)
            with m.State("REFRESH"):
                with m.If(pause == 0):
                    give(REFRESH)
                    m.d.sync += [pause.eq(t.rfc - 1), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.next = "END"
            with m.State("END"):  # the last command's time, less this cycle
                with m.If(initialised & (pause == 1)):
                    m.next = "RUN"
                with m.If(~initialised & (pause == 0)):
                    give(SET_MODE, 0, MODE_BURST | t.cas_latency << 4 | SINGLE_WRITE)
                    m.d.sync += [pause.eq(t.mrd - 1), initialised.eq(1)]
            with m.State("RUN"):
                rested = burst.over & recover.over
                for h in hold:
                    rested = rested & h.over
                with m.If(due & rested):
                    m.d.comb += closes.eq(1)
                    close_all(t.refresh_group)
                with m.Elif(may_act & hit & burst.over & (~job.write | quiet.over)):
                    m.d.comb += starts.eq(1)
                    m.d.sync += pins.dq_oe.eq(job.write)
                    give(READ, job_bank, column)
                    with m.If(job.write):
                        m.d.sync += command.eq(WRITE)
                        recover.start(t.wr)
                    with m.Else():
                        m.d.sync += [burst_bank.eq(job_bank), burst_client.eq(job.client)]
                        burst.start(job.length)
                        quiet.start(quiet_cycles)
                with m.Elif(~due):
                    with m.If(may_act & wrong & can_close(job_bank)):
                        close(job_bank)
                    with m.Elif(may_act & shut & next_activate.over):
                        activate(job_bank, job_row)
                    with m.Elif(may_look & next_wrong & can_close(next_bank)):
                        close(next_bank)
                    with m.Elif(may_look & next_shut & next_activate.over):
                        activate(next_bank, next_row)

        # Words come CAS latency and four registers (command, two at the pins, this one) behind the decision.
        latency = t.cas_latency + 3
        comes = Signal(latency)
        whose = Signal(latency * CLIENT_BITS)
        reads = starts & ~job.write
        m.d.sync += [
            comes.eq(Cat(reads | ~burst.over, comes)),
            whose.eq(Cat(Mux(reads, job.client, burst_client), whose)),
            self.o_valid.eq(comes[-1]),
            self.o_client.eq(whose[-CLIENT_BITS:]),
            self.o_word.eq(pins.dq_i),
        ]
        m.d.comb += self.idle.eq(~there & ~starts & burst.over & (comes == 0) & ~self.o_valid)
        if platform == "formal":
            running = fsm.ongoing("RUN")
            self._claim(m, owed, due & running & ~closes)
            claims = {  # of states that no run reaches, for the induction
                "ended": ~(fsm.ongoing("END") & initialised & (pause == 0)),
                "initialised": initialised | ~running,
                "paused": ~initialised | (pause < max(t.rfc, t.rp, t.mrd)),
                "left": ~initialised | (left < t.refresh_group) | fsm.ongoing("END") | running,
                "at rest": initialised | (burst.over & ~starts & (comes == 0) & ~self.o_valid),
                "not yet": initialised | (owed == 0),
            }
            m.d.comb += [Assert(claim) for claim in claims.values()]
            # Exactly the words that were asked for: what is wanted is on its way, and no more.
            wanted = Signal(8)
            m.d.sync += wanted.eq(wanted + Mux(reads, job.length, 0) - self.o_valid)
            on_way = sum((bit for bit in comes), start=Const(0, 5)) + burst.left() + self.o_valid
            m.d.comb += [Assert(wanted == on_way), Assume(~reads | ((job.length > 0) & (job.length <= BURST)))]
        return m

    def _claim(self, m: Module, owed: Signal, waits: Value) -> None:
        """The refresh deadline: how long one that is due waits, and that none is forgotten."""
        age = Signal(range(2 * REFRESH_WAIT))
        with m.If(waits):
            m.d.sync += age.eq(age + 1)
        with m.Else():
            m.d.sync += age.eq(0)
        m.d.comb += [Assert(age <= REFRESH_WAIT), Assert(owed < 2 * self.timings.refresh_group)]


__all__ = ["BURST", "REFRESH_WAIT", "SdramController", "SdramPins", "job_layout"]
