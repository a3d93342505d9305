"""Describes each board, and each ECP5 on a board, by a frozen object.

    Board ─┬─ Fpga       resources of the chip, its names for the tools, its IDCODE
           ├─ platform   pins, by amaranth-boards or in its style
           └─ SerialLink the serial line to the host

boards/catalog.py lists all boards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from lutern.boards.ddr3_parts import ddr3_part
from lutern.boards.ddr3_wiring import Ddr3Wiring, check_memory_clock
from lutern.boards.sdram_parts import sdram_part
from lutern.boards.serial_link import SerialLink
from lutern.hw.config import OUTSIDE, HwConfig
from lutern.hw.presets import preset
from lutern.model_ref.errors import LuternError


@dataclass(frozen=True)
class Fpga:
    """An ECP5.

    name
        Name of the FPGA.
    option
        The option of nextpnr that selects this FPGA.
    idcode
        The IDCODE that the FPGA reports over JTAG, from Project Trellis.
    luts
        Number of TRELLIS_COMB that the open tools place. There are as many TRELLIS_FF.
    block_rams
        Number of DP16KD that the open tools place.
    multipliers
        Number of MULT18X18D that the open tools place.
    block_ram_rows
        Rows of tiles in which block RAMs can be placed; empty if Lutern places no block RAMs of this FPGA.
    block_ram_columns
        First column of each group of four block RAMs. Neighbours in a group are two columns apart.
    """

    name: str
    option: str
    idcode: int
    luts: int
    block_rams: int
    multipliers: int
    block_ram_rows: tuple[int, ...] = ()
    block_ram_columns: tuple[int, ...] = ()


_ROWS_85F = (22, 46, 70, 82)
_COLUMNS_85F = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)

FPGAS = {
    part.name: part
    for part in (
        Fpga("LFE5U-12F", "--12k", 0x21111043, 24_288, 56, 28),  # a 25F's die, sold as half a 25F
        Fpga("LFE5U-25F", "--25k", 0x41111043, 24_288, 56, 28),
        Fpga("LFE5U-45F", "--45k", 0x41112043, 43_848, 108, 72),
        Fpga("LFE5U-85F", "--85k", 0x41113043, 83_640, 208, 156, _ROWS_85F, _COLUMNS_85F),
        Fpga("LFE5UM-85F", "--um-85k", 0x01113043, 83_640, 208, 156, _ROWS_85F, _COLUMNS_85F),
        Fpga("LFE5UM5G-45F", "--um5g-45k", 0x81112043, 43_848, 108, 72),
        Fpga("LFE5UM5G-85F", "--um5g-85k", 0x81113043, 83_640, 208, 156, _ROWS_85F, _COLUMNS_85F),
    )
}


HOST_BLOCK_RAMS = {"host": 38, "host-45f": 87, "host-85f": 162}
"""Numbers of block RAMs of the machines whose weights the host sends: `lutern cost chip --preset host`."""

DDR3_PRESETS = ("ddr3-x16", "ddr3-x16-25f")
"""Machines whose words are in DDR3, the machine with the largest memory first."""


@dataclass(frozen=True)
class ExternalMemory:
    """A memory on the board.

    byte_count
        Capacity of this memory on every board of this kind.
    source
        The document that states the capacity.
    note
        Which boards of this kind have a larger memory.
    driven
        Whether Lutern has a controller for this memory.
    """

    kind: str
    byte_count: int
    data_bits: int
    source: str
    note: str = ""
    driven: bool = False

    @property
    def title(self) -> str:
        """Kind, width and size: ``DDR3L x16 of 128 MiB``."""
        return f"{self.kind} x{self.data_bits} of {self.byte_count >> 20} MiB"


@dataclass(frozen=True)
class Board:
    """One board.

    name
        Name on the command line.
    title
        Name of the product.
    fpga, package, speed
        The chip, the name of its package in nextpnr, and its speed grade.
    platform
        Makes Amaranth's platform.
    clock, clock_hz
        Resource of the oscillator, and its frequency.
    link
        How the host is connected.
    leds
        Resources and subsignals of up to four LEDs: alive, receiving, answering, overrun.
    held
        Resources, subsignals and values of outputs that must not float.
    memory
        Names of the parts of which the board has one: from ``sdram_parts.py``, or from ``ddr3_parts.py`` if ``ddr3`` is
        given. The tuple is empty if everything must be on the chip.
    ddr3
        How the DDR3 part is wired.
    memory_source
        The document that says which parts the board has. If this text is empty, the data sheet of a part is named
        instead.
    not_driven
        Memories of the board for which Lutern has no controller.
    preset
        The machine that is built by default.
    loader
        Arguments of openFPGALoader that select the board. They are empty if only a bootloader can load the board.
    """

    name: str
    title: str
    fpga: Fpga
    package: str
    speed: str
    platform: Callable[[], Any]
    clock: str
    clock_hz: int
    link: SerialLink
    leds: tuple[tuple[str, int, str], ...]
    preset: str
    loader: tuple[str, ...]
    held: tuple[tuple[str, int, str, int], ...] = ()
    memory: tuple[str, ...] = ()
    ddr3: Ddr3Wiring | None = None
    memory_source: str = ""
    not_driven: tuple[ExternalMemory, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the description.

        The digest leaves out the platform's pins, which are in the constraints of a build, and memories that no build
        uses.
        """
        fields = {name: value for name, value in asdict(self).items() if name not in ("platform", "not_driven")}
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def memories(self) -> tuple[ExternalMemory, ...]:
        """All memories of the board. The memory that Lutern drives comes first.

        If the board may have parts of several sizes, the capacity is the smallest size.
        """
        if not self.memory:
            return self.not_driven
        find = ddr3_part if self.ddr3 else sdram_part
        parts = sorted((find(name) for name in self.memory), key=lambda part: part.byte_count)
        smallest, largest = parts[0], parts[-1]
        note = ""
        if largest.byte_count > smallest.byte_count:
            note = f"{largest.byte_count >> 20} MiB with {largest.name}"
        source = self.memory_source or f"data sheet of {smallest.name}"
        kind = self.ddr3.kind if self.ddr3 else "SDR SDRAM"
        driven = ExternalMemory(kind, smallest.byte_count, smallest.data_bits, source, note, driven=True)
        return (driven, *self.not_driven)

    @property
    def presets(self) -> tuple[str, ...]:
        """Machines to try for a model: the default, machines for the memory, machines with weights from the host."""
        if self.ddr3:
            words = self.memories[0].byte_count // 16
            memory = tuple(name for name in DDR3_PRESETS if preset(name).memory_words <= words)
        else:
            memory = (f"sdram-x{sdram_part(self.memory[0]).data_bits}",) if self.memory else ()
        host = (name for name, block_rams in HOST_BLOCK_RAMS.items() if block_rams <= self.fpga.block_rams)
        return tuple(dict.fromkeys((self.preset, *memory, *host)))

    def config(self, machine: str | HwConfig = "", clock_hz: int = 0, memory_hz: int = 0) -> HwConfig:
        """Return a preset or another machine as this board builds it: without debug taps, with lanes of ECP5 cells.

        ``clock_hz`` and ``memory_hz`` are the clocks of the machine and of the DDR3's controller. If they are 0, a
        machine with DDR3 has the clocks of the board, but its clock is no faster than the controller's, because the PLL
        makes both clocks. Any other machine has the clock of its preset.
        """
        config = machine if isinstance(machine, HwConfig) else preset(machine or self.preset)
        config = config.with_(debug_tap=False, cells="ecp5")
        if config.memory in OUTSIDE:
            self._check_memory(config)
        if config.memory == "ddr3" and self.ddr3:
            memory_hz = memory_hz or self.ddr3.memory_hz
            check_memory_clock(memory_hz)
            config = config.with_(clock_hz=min(self.ddr3.machine_hz, memory_hz), memory_hz=memory_hz)
        elif memory_hz:
            raise LuternError(
                f"a memory clock of {memory_hz / 1e6:g} MHz is given, but preset {config.name} has no DDR3; leave "
                "--memory-frequency out."
            )
        return config.with_(clock_hz=clock_hz) if clock_hz else config

    def baud(self, config: HwConfig) -> int:
        """Return the baud rate of the link of a machine."""
        return self.link.rate_at(config.clock_hz)[0]

    def _check_memory(self, config: HwConfig) -> None:
        """Refuse a machine whose words come from a memory that the board does not have."""
        wanted = f"preset {config.name} reads words of {config.word_bits} bits"
        if config.memory == "port":
            raise LuternError(
                f"{wanted} at a port, to which your own design connects a memory, but {self.title} has no such port; "
                f"choose one of {', '.join(self.presets)}."
            )
        kind = "DDR3" if config.memory == "ddr3" else "SDR SDRAM"
        others = f"choose one of {', '.join(self.presets)}."
        if bool(self.ddr3) != (kind == "DDR3") or not self.memory:
            has = " and ".join(memory.title for memory in self.memories)
            raise LuternError(f"{wanted} from {kind}, but {self.title} has {has or 'no memory'}; {others}")
        if self.ddr3:
            self._check_size(config, others)
            return
        bits = sdram_part(self.memory[0]).data_bits
        if bits != config.word_bits:
            raise LuternError(f"{wanted}, but the SDR SDRAM of {self.title} has words of {bits}; choose sdram-x{bits}.")

    def _check_size(self, config: HwConfig, others: str) -> None:
        """Refuse a machine with more words of DDR3 than the board has."""
        memory = self.memories[0]
        wanted_bytes = config.memory_words * config.word_bytes
        if wanted_bytes > memory.byte_count:
            raise LuternError(
                f"preset {config.name} uses {wanted_bytes >> 20} MiB, but {self.title} has a {memory.title}; {others}"
            )


def leds(*numbers: int) -> tuple[tuple[str, int, str], ...]:
    """Return LEDs, each of which is a separate resource."""
    return tuple(("led", number, "") for number in numbers)


def colours(number: int = 0) -> tuple[tuple[str, int, str], ...]:
    """Return the colours of an RGB LED: green is alive, blue receiving, red answering."""
    return tuple(("rgb_led", number, colour) for colour in "gbr")
