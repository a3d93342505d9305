"""Designs of known activity, for fitting energy coefficients to a meter's readings: `lutern power calibrate`.

    idle                a clock that drives nothing
    registers n         n flip-flops that are clocked and never change
    nets n              n flip-flops in a shift register of alternating bits; each net changes in every cycle
    block_rams n        n block RAMs that read a word in every cycle; all words are equal, so no net changes

Each design has one output, so that nothing is optimised away, and runs at ``CLOCK_HZ``. Its activity per second
follows from n.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from lutern.measure.calibration import EVENTS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import write_whole
from lutern.sim.convert import convert_rtlil, convert_verilog

CLOCK_HZ = 25_000_000
"""Frequency of the board's oscillator. For another oscillator, scale the columns of activity."""
RAM_WORDS, RAM_BITS = 512, 36


@dataclass(frozen=True)
class Design:
    """A design: its ``kind`` and the number of its elements."""

    kind: str
    count: int

    @property
    def name(self) -> str:
        """Name of the file of the design, without ending."""
        return f"{self.kind}_{self.count}"

    @property
    def activity(self) -> dict[str, float]:
        """Events per second."""
        found = dict.fromkeys(EVENTS, 0.0)
        registers = {"registers": self.count, "nets": self.count, "block_rams": 1}
        found["register_clock"] = float(CLOCK_HZ * registers.get(self.kind, 0))
        found["net_toggle"] = CLOCK_HZ * self.count if self.kind == "nets" else 0.0
        found["block_ram_access"] = CLOCK_HZ * self.count if self.kind == "block_rams" else 0.0
        return found


DESIGNS = (
    Design("idle", 0),
    Design("registers", 4000),
    Design("registers", 12000),
    Design("nets", 4000),
    Design("nets", 12000),
    Design("block_rams", 16),
    Design("block_rams", 48),
)
"""These designs fit an LFE5U-12F. The coefficients of the memory come from readings of a board with a
whole machine, first idle and then decoding.
"""


class KnownDesign(wiring.Component):
    """One design. Members: ``enable``, a button that must be 1, which the synthesis cannot assume; ``o``, a pin."""

    def __init__(self, design: Design) -> None:
        self.design = design
        super().__init__({"enable": In(1), "o": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        count = self.design.count
        if self.design.kind == "registers":
            held = Signal(count)  # all registers copy the pin ``enable``, which stays 1
            m.d.sync += held.eq(Cat(self.enable, held))
            m.d.comb += self.o.eq(held[-1])
        elif self.design.kind == "nets":
            ring = Signal(count)
            m.d.sync += ring.eq(Cat(~ring[0] & self.enable, ring))
            m.d.comb += self.o.eq(ring[-1])
        elif self.design.kind == "block_rams":
            address, outputs = Signal(range(RAM_WORDS)), []
            m.d.sync += address[0].eq(self.enable)
            for _ in range(count):
                store: Any = memory.Memory(shape=RAM_BITS, depth=RAM_WORDS, init=[])
                m.submodules += store
                write, read = store.write_port(), store.read_port()
                m.d.comb += [
                    write.en.eq(~self.enable),
                    write.addr.eq(address),
                    write.data.eq(address),
                    read.addr.eq(address),
                    read.en.eq(1),
                ]
                outputs.append(read.data[0])
            m.d.comb += self.o.eq(Cat(*outputs).xor())
        else:
            m.d.comb += self.o.eq(self.enable)
        return m


def write_designs(folder: Path) -> None:
    """Write Verilog of each design, and ``activity.csv``, in which the user fills in the watts.

    Raises ``LuternError`` if the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LuternError(f"{folder} cannot be made ({error.strerror}); give a folder that can be written.") from None
    for design in DESIGNS:
        write_whole(folder / f"{design.name}.v", convert_verilog(convert_rtlil(KnownDesign(design))))
    rows = [",".join([design.name, "", *(f"{design.activity[name]:.6g}" for name in EVENTS)]) for design in DESIGNS]
    write_whole(folder / "activity.csv", "\n".join([",".join(["design", "watts", *EVENTS]), *rows]) + "\n")
