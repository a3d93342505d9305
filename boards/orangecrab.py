"""OrangeCrab r0.2, an ECP5 25F or 85F in the shape of a Feather; its DDR3L is not used, weights are on the chip.

Pins: amaranth_boards.orangecrab_r0_2, checked against litex_boards.platforms.gsd_orangecrab (revision 0.2). There is no
bridge: the USB connector is the ECP5's own. The line is on the header, 0 (N17) in and 1 (M18) out, for an adapter of
3.3 V; these are the Feather's RX and TX, as in LiteX's `feather_serial`.

DDR3L: the README of orangecrab-fpga/orangecrab-hardware says 128 MB (1 Gb) or 512 MB (4 Gb), x16. LiteX's target
takes MT41K64M16 (1 Gb) unless another part is named. The boards sold with an 85F have the larger one, its author wrote
in antonblanchard/microwatt#294; prototypes and others differ, so read the part on the board.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Pins, Resource, Subsignal

from lutern.boards.board import FPGAS, Board, ExternalMemory, colours
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink

_SOURCE = "README of orangecrab-fpga/orangecrab-hardware"
_DDR3 = {
    "25F": ExternalMemory("DDR3L", 128 << 20, 16, f"{_SOURCE}; MT41K64M16 in LiteX's target", "some may have 512 MiB"),
    "85F": ExternalMemory("DDR3L", 512 << 20, 16, f"{_SOURCE}; antonblanchard/microwatt#294", "some may have 128 MiB"),
}


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
                )
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
        not_driven=(_DDR3[size],),
    )


BOARDS = (_board("25F", "resident-25f"), _board("85F", "resident-85f"))
