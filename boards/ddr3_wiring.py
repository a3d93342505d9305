"""DDR3 on a board: pins, electrical settings and modes, as data.

    ddram(...) ─► Resource `ddram` of a platform        Ddr3Wiring ─► what a board's part requires of PHY and controller

Pins have the names of the part's data sheet, and RAS_N is active when it is low. CK and DQS are differential. Only the
positive pin is named, and its differential IO_TYPE also takes the other pin of the pair. DM is tied to 0, because words
are always written whole.

The range of the part's clock: FPGA-DS-02012 (ECP5 data sheet), "External Switching Characteristics", fMAX_DDR3 of speed
grade 8, and FPGA-TN-02035, table 6.1, both give 400 MHz as the maximum. Neither document gives a minimum. A part is
specified from 300 MHz on with its DLL, and up to 125 MHz without it. LOWEST_HZ is the slowest clock that LiteX uses on
a board (OrangeCrab).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amaranth.build import Attrs, Pins, Resource, Subsignal

from lutern.hw.memory import Ddr3Modes
from lutern.model_ref.errors import LuternError

RESOURCE = ("ddram", 0)
LOWEST_HZ = 48_000_000
HIGHEST_HZ = 200_000_000
"""Highest clock of domain `memory`, which is half of the part's clock."""
SLOW_HZ = 64_000_000
"""Highest clock of `memory` at which commands are delayed by ``slow_delay``."""


@dataclass(frozen=True)
class Ddr3Wiring:
    """How the DDR3 of a board is connected.

    kind
        "DDR3" of 1.5 V or "DDR3L" of 1.35 V.
    memory_hz, machine_hz
        Default clocks of domains `memory` and `sync`.
    modes
        The settings of the part's mode registers.
    slow_delay
        Number of steps of DELAYG by which ck and commands are delayed at SLOW_HZ or less.
    both_edges
        Whether pins are on both sides of the chip, so that the edge clock must come through ECLKBRIDGECS.
    held
        Subsignals of the resource that keep one level, each with its level.
    """

    kind: str
    memory_hz: int
    machine_hz: int
    modes: Ddr3Modes = field(default_factory=Ddr3Modes)
    slow_delay: int = 0
    both_edges: bool = False
    held: tuple[tuple[str, int], ...] = (("dm", 0),)

    def command_delay(self, memory_hz: float) -> int:
        """Return the number of steps of DELAYG by which ck, commands and addresses are delayed."""
        return self.slow_delay if memory_hz <= SLOW_HZ else 0


def ddram(
    *,
    a: str,
    ba: str,
    dq: str,
    dqs: str,
    dm: str,
    standard: str,
    termination: str = "75",
    rank_1: str = "",
    supply: tuple[str, str] | None = None,
    **single: str,
) -> Resource:
    """Return the resource ``ddram`` of a board.

    a, ba, dq, dqs, dm
        The pins.
    standard
        "SSTL15" or "SSTL135".
    termination
        Resistance at the inputs of dq, in ohm.
    rank_1
        ck, cke, odt and cs_n of a second part on the same wires.
    supply
        Pins that are wired to VCCIO and to ground. Driven to these levels, they are an additional supply.
    single
        ck, cke, odt, ras_n, cas_n and we_n; also cs_n and reset_n if they are connected to the chip.
    """
    differential = f"{standard}D_I"
    ck = single.pop("ck")
    parts = [
        Subsignal("ck", Pins(ck, dir="o"), Attrs(IO_TYPE=differential)),
        *(Subsignal(name, Pins(pin, dir="o")) for name, pin in single.items()),
        Subsignal("ba", Pins(ba, dir="o")),
        Subsignal("a", Pins(a, dir="o")),
        Subsignal("dm", Pins(dm, dir="o")),
        Subsignal("dq", Pins(dq, dir="io"), Attrs(TERMINATION=termination)),
        Subsignal("dqs", Pins(dqs, dir="io"), Attrs(IO_TYPE=differential, TERMINATION="OFF", DIFFRESISTOR="100")),
    ]
    if rank_1:
        ck_1, *others = rank_1.split()
        parts.append(Subsignal("ck_1", Pins(ck_1, dir="o"), Attrs(IO_TYPE=differential)))
        parts += [Subsignal(f"{name}_1", Pins(pin, dir="o")) for name, pin in zip(_RANK, others, strict=True)]
    for name, pins in zip(("vccio", "gnd"), supply or (), strict=False):
        parts.append(Subsignal(name, Pins(pins, dir="o"), Attrs(IO_TYPE=f"{standard}_II")))
    return Resource(*RESOURCE, *parts, Attrs(IO_TYPE=f"{standard}_I", SLEWRATE="FAST"))


_RANK = ("cke", "odt", "cs_n")
RANK_1_HELD = (("ck_1", 0), ("cke_1", 0), ("odt_1", 0), ("cs_n_1", 1))
"""Levels at the pins of a second part that is not used. The clock of this part is stopped while its CKE is low."""
SUPPLY_HELD = (("vccio", 1), ("gnd", 0))


def check_memory_clock(memory_hz: float) -> None:
    """Refuse a clock of domain `memory` that the PHY or the pins do not support."""
    if not LOWEST_HZ <= memory_hz <= HIGHEST_HZ:
        raise LuternError(
            f"a memory clock of {memory_hz / 1e6:g} MHz is asked for, but the DDR3 interface of ECP5 takes "
            f"{LOWEST_HZ / 1e6:g} to {HIGHEST_HZ / 1e6:g} MHz (half of the part's clock); choose a "
            "--memory-frequency in that range."
        )


__all__ = [
    "HIGHEST_HZ",
    "LOWEST_HZ",
    "RANK_1_HELD",
    "RESOURCE",
    "SUPPLY_HELD",
    "Ddr3Wiring",
    "check_memory_clock",
    "ddram",
]
