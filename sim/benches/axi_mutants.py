"""Wrong versions of ``AxiSource``, one for each property that a slave or the machine may rely on.

text of hw/memory/axi.py ─► one passage is replaced ─► a separate module ─► AxiSource
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from pathlib import Path

from lutern.hw.memory import axi
from lutern.hw.memory.axi import AxiSource


@dataclass(frozen=True)
class Mutant:
    """A change of the source text: ``old`` is replaced by ``new``.

    With this change, ``testcase`` of lutern.sim.benches.axi must fail with a message that the regular expression
    ``complaint`` matches. If ``is_proved``, the mutant also breaks a claim of the proof.
    """

    old: str
    new: str
    testcase: str
    complaint: str
    is_proved: bool = True

    def block(self) -> type[AxiSource]:
        """Return the wrong version. It uses the constants of hw/memory/axi.py that a test may have changed."""
        text = Path(axi.__file__).read_text()
        if text.count(self.old) != 1:
            raise AssertionError(f"found {text.count(self.old)} times in hw/memory/axi.py, not once: {self.old}")
        module = types.ModuleType("lutern.hw.memory.axi_mutant")
        exec(compile(text.replace(self.old, self.new), axi.__file__, "exec"), module.__dict__)
        module.__dict__["QUIET_CYCLES"] = axi.QUIET_CYCLES
        block: type[AxiSource] = module.__dict__["AxiSource"]
        return block


JOBS = "words_come_in_order"
_READY = 'with m.Elif(self._axi(index, f"{channel}ready")):'
_BEGINS = "with m.If(begins):"

MUTANTS: dict[str, Mutant] = {
    "valid falls": Mutant(_READY, "with m.Else():", JOBS, "VALID fell"),
    "valid waits for ready": Mutant(
        _BEGINS,
        'late = Signal()\n            m.d.sync += late.eq(begins | late & ~self._axi(index, f"{channel}ready"))\n'
        '            with m.If((begins | late) & self._axi(index, f"{channel}ready")):',
        "valid_waits_for_no_ready",
        "VALID waits for a READY",
    ),
    "w waits for aw": Mutant(
        '("w", writes)',
        '("w", self._axi(index, "awvalid") & self._axi(index, "awready"))',
        "valid_waits_for_no_ready",
        "VALID waits for a READY",
    ),
    "ar changes": Mutant(
        'self._axi(index, "arlen").eq(held.length - 1)]',
        'self._axi(index, "arlen").eq(held.length - 1)]\n'
        '        m.d.comb += self._axi(index, "arqos").eq(self.port.job.valid)',
        JOBS,
        "AR changed",
    ),
    "w changes": Mutant(
        'm.d.sync += self._axi(index, "wdata").eq(',
        'pass\n        with m.If(self.port.job.valid):\n            m.d.sync += self._axi(index, "wdata").eq(',
        JOBS,
        "W changed|is 0x|holds other words",
    ),
    "a beat too many": Mutant(
        'self._axi(index, "arlen").eq(held.length - 1)',
        'self._axi(index, "arlen").eq(held.length)',
        JOBS,
        "4 KiB|17 beats|not requested|is 0x|is for client",
    ),
    "over 4 KiB": Mutant(
        "m.d.comb += address.eq(self.bases.word_select(index, AXI_ADDRESS_BITS) + ",
        "m.d.comb += address.eq(self.bases.word_select(index, AXI_ADDRESS_BITS) + self.port_bits // 8 + ",
        JOBS,
        "4 KiB|is 0x",
    ),
    "not aligned": Mutant(
        "Cat(Const(0, size), held.address)", "Cat(Const(1, size), held.address)", JOBS, "not aligned"
    ),
    "fixed burst": Mutant('f"{channel}burst").eq(INCR)', 'f"{channel}burst").eq(0)', JOBS, "no INCR burst"),
    "narrow beats": Mutant('f"{channel}size").eq(size)', 'f"{channel}size").eq(size - 1)', JOBS, "no INCR burst"),
    "another id": Mutant(
        'self._axi(index, f"{channel}cache").eq(CACHE),',
        'self._axi(index, f"{channel}cache").eq(CACHE),\n'
        '                self._axi(index, f"{channel}id").eq(self._axi(index, f"{channel}addr")[8]),',
        JOBS,
        "ID is not 0",
    ),
    "half a write": Mutant('"wstrb").eq(~Const(0,', '"wstrb").eq(~Const(1,', JOBS, "one whole beat"),
    "no last beat": Mutant('self._axi(index, "wlast").eq(1),', "", JOBS, "one whole beat"),
    "w before aw": Mutant(
        'for channel in ("aw", "w", "ar")).any()',
        'for channel in ("w", "ar")).any()',
        "valid_waits_for_no_ready",
        "AW changed|accepted while another",
    ),
    "not ready for words": Mutant(
        'self._axi(index, "rready").eq(1),', 'self._axi(index, "rready").eq(~self.port.job.valid),', JOBS, "RREADY"
    ),
    "no credit": Mutant(
        "self.promised <= self.depth - 2 * BURST",
        "self.promised <= self.depth",
        "a_slow_port",
        "idle, though|words asked",
    ),
    "credit of a late level": Mutant(
        "room.eq(self.promised <= self.depth - 2 * BURST)", "room.eq(1)", "a_slow_port", "idle, though|words asked"
    ),
    "any number of writes": Mutant(
        "may_write & (self.ordered == 0)", "(self.ordered == 0)", "reads_wait_for_writes", "16 writes|read of"
    ),
    "reads overtake writes": Mutant(
        "is_stream | ~self.unanswered)", "1)", "reads_wait_for_writes", "a read of FETCH is accepted before"
    ),
    "one port's answers": Mutant(
        "for writes in self.open_writes).any()\n        m.d.comb",
        "for writes in self.open_writes[:1]).any()\n        m.d.comb",
        "reads_wait_for_writes",
        "idle, though|a read of FETCH is accepted before",
    ),
    "writes overtake reads": Mutant(
        "may_write & (self.ordered == 0)", "may_write", "a_write_waits_for_reads", "a write is accepted", False
    ),
    "state may be overtaken": Mutant(
        "is_stream, gives_stream = job.client == Client.STREAM, self.port.client == Client.STREAM",
        "is_stream, gives_stream = job.client != Client.FETCH, self.port.client != Client.FETCH",
        "a_write_waits_for_reads",
        "a write is accepted",
    ),
    "idle too early": Mutant(
        " & ~self.unanswered & (self.promised == 0))", " & (self.promised == 0))", JOBS, "idle, though"
    ),
    "another's words": Mutant("port.client.eq(oldest.client)", "port.client.eq(entry.client)", JOBS, "is for", False),
    "late beats": Mutant(
        "m.d.comb += self.awake.eq(quiet[-1])",
        "m.d.comb += self.awake.eq(1)",
        "beats_of_before_a_reset",
        "not requested|is for|is 0x",
        False,
    ),
    "late beats after a while": Mutant(
        "Mux(beats.any(), 0, quiet + 1)", "quiet + 1", "beats_of_before_a_reset", "not wait|not requested|is 0x", False
    ),
    "errors of reads alone": Mutant(
        'for channel in "rb"]\n        found',
        'for channel in "r"]\n        found',
        "a_refused_transaction_is_named",
        r"not \(True, 1\)",
        False,
    ),
    "errors of a port alone": Mutant(
        "        for index in range(self.ports):\n            bad +=",
        "        for index in range(1):\n            bad +=",
        "a_refused_transaction_is_named",
        r"not \(True, 3\)",
        False,
    ),
    "errors counted twice": Mutant(
        "self.bus_errors + found\n",
        "self.bus_errors + 2 * found\n",
        "a_refused_transaction_is_named",
        r"not \(True, 1\)",
        False,
    ),
}
