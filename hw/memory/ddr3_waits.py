"""Times between the commands of a DDR3 part, in cycles. `Waits` counts these times for `Ddr3Controller`.

    READ or WRITE is sent ─► Waits ─► may the next READ, WRITE or PRECHARGE be sent? how many words are left to read?

`OpenRows` counts the times between row commands.
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value

from lutern.hw.memory.ddr3_part import BEATS, BURST, Ddr3Timings
from lutern.hw.memory.dram_rows import Countdown, RowCycles


def row_cycles(timings: Ddr3Timings) -> RowCycles:
    """Return the times between row commands, and from ACTIVATE to READ and WRITE. All row commands are in one DFI
    phase, but READ and WRITE may be in the other DFI phase."""
    t = timings
    rp = max(2, t.cycles(t.rp))
    rcd = max(2, *(t.cycles(t.rcd, t.row_phase, phase) for phase in (t.read_phase, t.write_phase)))
    hold = max(t.cycles(t.ras), t.cycles(t.rc) - rp)
    return RowCycles(t.bank_bits, t.row_bits, rp, rcd, hold, max(t.cycles(t.rrd), -(-t.cycles(t.faw) // 4)))


class Waits:
    """Counts the times from READ and WRITE to the next READ, WRITE or PRECHARGE.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    timings : Ddr3Timings
        The part at its clock.
    client_bits : int
        Width of ``client``.

    Members
    -------
    left : register
        Number of words that the present job still has to read.
    bank, column : registers
        Bank of the job's words, and column of the next word.
    client : register
        Client of the job.
    read : Countdown
        Cycles from a READ or WRITE until the next READ.
    write : Countdown
        Cycles from a READ until the next WRITE.
    close : Countdown
        Cycles from a READ until a PRECHARGE.
    recover : Countdown
        Cycles from a WRITE until a PRECHARGE.
    """

    def __init__(self, m: Module, timings: Ddr3Timings, client_bits: int) -> None:
        t = timings
        reads, writes, rows = t.read_phase, t.write_phase, t.row_phase
        burst = BEATS // 2
        self.read_to_read = t.cycles(t.ccd, reads, reads)
        self.read_to_close = t.cycles(t.rtp, reads, rows)
        # There are two clocks from the last DDR3 beat that is read to the first DDR3 beat that is written.
        # One more cycle reverses the direction of the pins.
        self.read_to_write = t.cycles(t.cl + burst + 2 - t.cwl, reads, writes) + 1
        self.write_to_read = t.cycles(t.cwl + burst + t.wtr, writes, reads)
        self.write_to_close = t.cycles(t.cwl + burst + t.wr, writes, rows)
        self.read = Countdown(m, "read", max(self.read_to_read, self.write_to_read))
        self.write = Countdown(m, "write", self.read_to_write)
        self.close = Countdown(m, "close", self.read_to_close)
        self.recover = Countdown(m, "recover", self.write_to_close)
        self.left = Signal(range(BURST))
        self.bank, self.column = Signal(t.bank_bits), Signal(t.page_bits)
        self.client = Signal(client_bits)

    def start_read(self) -> None:
        """Start the countdowns of a READ."""
        self.read.start(self.read_to_read)
        self.write.start(self.read_to_write)
        self.close.start(self.read_to_close)

    def start_write(self) -> None:
        """Start the countdowns of a WRITE."""
        self.read.start(self.write_to_read)
        self.recover.start(self.write_to_close)

    def may_close(self, bank: Value) -> Value:
        """Return whether earlier READ and WRITE commands allow a PRECHARGE of the bank."""
        return self.recover.over & ((self.bank != bank) | ((self.left == 0) & self.close.over))

    def may_turn(self, bank: Value) -> Value:
        """Return whether the next READ may be in this bank.

        `may_close` checks only the bank of the last READ. So before reads move to another bank, ``close`` must be over,
        or a PRECHARGE of the previous bank could follow its last READ too soon.
        """
        if self.read_to_close <= self.read_to_read + 1:
            return self.read.over
        return self.read.over & (self.close.over | (self.bank == bank))

    def rest(self) -> Value:
        """Return whether earlier READ and WRITE commands allow a PRECHARGE of all banks, and no word is left to
        read."""
        return self.recover.over & (self.left == 0) & self.close.over


__all__ = ["Waits", "row_cycles"]
