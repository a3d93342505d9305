"""OrangeCrab r0.2, an ECP5 25F or 85F in the shape of a Feather, with DDR3L x16.

Pins: amaranth_boards.orangecrab_r0_2, checked against litex_boards.platforms.gsd_orangecrab (revision 0.2). The board
has no USB bridge, because the USB connector is wired to the ECP5 itself. The serial line is on the header: pin 0 (N17)
is the input and pin 1 (M18) the output, for an adapter of 3.3 V. They are the Feather's RX and TX, as in LiteX's
`feather_serial`.

DDR3L: the README of orangecrab-fpga/orangecrab-hardware says 128 MB (1 Gb) or 512 MB (4 Gb), x16. LiteX's target uses
MT41K64M16 (1 Gb) unless another part is named. Boards sold with an 85F have the larger part, as the board's author
wrote in antonblanchard/microwatt#294. Prototypes and other boards differ, so read the name on the part.

Pins of the DDR3L: litex_boards.platforms.gsd_orangecrab. amaranth_boards.orangecrab_r0_2 agrees, except that two
of its entries are wrong. Its `ba` is P5 N3 M3, which are pins of the Versa board (on the OrangeCrab, M3 is the green
LED). Its `dqs` has the positive pins of byte 1 and the negative pins of byte 0. The order of `dm` also differs: each
`dm` is in the group of pins of the other byte (orangecrab-fpga/orangecrab-examples#40). This does not matter while both
`dm` are tied to 0.

The electrical settings are from LiteX: dq has no termination, to keep the chip cool (amaranth-boards has 75 ohm),
RTT_NOM is off, and commands are delayed by 100 steps of DELAYG at 64 MHz or less.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Pins, Resource, Subsignal

from lutern.boards.board import FPGAS, Board, colours
from lutern.boards.ddr3_wiring import SUPPLY_HELD, Ddr3Wiring, ddram
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink
from lutern.hw.memory import Ddr3Modes

_SOURCE = "README of orangecrab-fpga/orangecrab-hardware"
_PARTS = {
    "25F": (("MT41K64M16", "MT41K256M16"), f"{_SOURCE}; MT41K64M16 in LiteX's target"),
    "85F": (("MT41K256M16",), f"{_SOURCE}; antonblanchard/microwatt#294; prototypes may have 128 MiB"),
}
_DDRAM = ddram(
    ck="J18",
    cke="D18",
    reset_n="L18",
    odt="C13",
    cs_n="A12",
    ras_n="C12",
    cas_n="D13",
    we_n="B12",
    ba="D6 B7 A6",
    a="C4 D2 D3 A3 A4 D4 C3 B2 B1 D1 A7 C2 B6 C1 A2 C7",
    dm="D16 G16",
    dq="C17 D15 B17 C16 A15 B13 A17 A13 F17 F16 G15 F15 J16 C18 H16 F18",
    dqs="B15 G18",
    standard="SSTL135",
    termination="OFF",
    supply=("K16 D17 K15 K17 B18 C6", "L15 L16"),
)
_WIRING = Ddr3Wiring(
    kind="DDR3L",
    memory_hz=100_000_000,
    machine_hz=80_000_000,
    modes=Ddr3Modes(rtt_nom=0),
    slow_delay=100,
    both_edges=True,
    held=(("dm", 0), *SUPPLY_HELD),
)


def _board(size: str, preset: str) -> Board:
    def platform() -> Any:
        from amaranth_boards import orangecrab_r0_2

        made = getattr(orangecrab_r0_2, f"OrangeCrabR0_2_{size}Platform")()
        made.add_resources(
            [
                Resource(
                    "uart",
                    0,
                    Subsignal("rx", Pins("0", dir="i", conn=("io", 0))),
                    Subsignal("tx", Pins("1", dir="o", conn=("io", 0))),
                    Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"),
                ),
                _DDRAM,
            ]
        )
        return made

    return Board(
        name=f"orangecrab-{size.lower()}",
        title=f"OrangeCrab r0.2 {size}",
        fpga=FPGAS[f"LFE5U-{size}"],
        package="CSFBGA285",
        speed="8",
        platform=platform,
        clock="clk",
        clock_hz=48_000_000,
        link=SerialLink(ONE_MEGABAUD, "none: an adapter of 3.3 V on the header, its TX to pin 0 and its RX to pin 1"),
        leds=colours(),
        preset=preset,
        loader=(),
        memory=_PARTS[size][0],
        memory_source=_PARTS[size][1],
        ddr3=_WIRING,
    )


BOARDS = (_board("25F", "resident-25f"), _board("85F", "resident-85f"))
