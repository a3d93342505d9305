"""OrangeCrab r0.2, an ECP5 25F or 85F in the shape of a Feather; its DDR3 is not used, weights are on the chip.

Pins: amaranth_boards.orangecrab_r0_2, checked against litex_boards.platforms.gsd_orangecrab (revision 0.2). There is no
bridge: the USB connector is the ECP5's own. The line is on the header, 0 (N17) in and 1 (M18) out, for an adapter of
3.3 V; these are the Feather's RX and TX, as in LiteX's `feather_serial`.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Pins, Resource, Subsignal

from lutern.boards.board import FPGAS, Board, colours
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink


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
    )


BOARDS = (_board("25F", "resident-25f"), _board("85F", "resident-85f"))
