"""iCESugar-pro, an ECP5 25F on a SODIMM module with 32 MB of SDRAM x16 (IS42S16160B).

Pins: amaranth_boards.icesugar_pro, checked against litex_boards.platforms.muselab_icesugar_pro and the README of
wuxx/icesugar-pro. The sources differ in the colours of the RGB LED's pins A11, A12 and B11, and in whether 0 or 1
lights them. So identify an LED by what it does, not by its colour.

The serial port of iCELink is not specified above 1 Mbaud. The probe of iCELink is the USB device 1d50:602b.
"""

from __future__ import annotations

from typing import Any

from lutern.boards.board import FPGAS, Board
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink


def _platform() -> Any:
    from amaranth_boards.icesugar_pro import ICESugarProPlatform

    return ICESugarProPlatform()


BOARDS = (
    Board(
        name="icesugar-pro",
        title="iCESugar-pro",
        fpga=FPGAS["LFE5U-25F"],
        package="CABGA256",
        speed="6",
        platform=_platform,
        clock="clk25",
        clock_hz=25_000_000,
        link=SerialLink(ONE_MEGABAUD, "iCELink, the module's USB-C"),
        leds=tuple(("rgb_led", 0, colour) for colour in "rgb"),
        preset="resident-25f",
        loader=("--cable", "cmsisdap", "--vid", "0x1d50", "--pid", "0x602b"),  # else openFPGALoader looks for 0d28:0204
        memory=("IS42S16160-7",),
    ),
)
