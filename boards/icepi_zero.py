"""Icepi Zero, an ECP5 25F in the shape of a Raspberry Pi Zero with 32 MB of SDRAM x16.

Pins: amaranth_boards.icepi_zero, checked against LiteX's platform icepi_zero, which the board's author wrote.
"""

from __future__ import annotations

from typing import Any

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.serial_link import FT231X, SerialLink


def _platform() -> Any:
    from amaranth_boards.icepi_zero import IcepiZero1_3Platform

    return IcepiZero1_3Platform()


BOARDS = (
    Board(
        name="icepi-zero",
        title="Icepi Zero v1.3",
        fpga=FPGAS["LFE5U-25F"],
        package="CABGA256",
        speed="6",
        platform=_platform,
        clock="clk50",
        clock_hz=50_000_000,
        link=SerialLink(FT231X, "FT231X, the USB connector in the middle"),
        leds=leds(0, 1, 2, 3),
        preset="resident-25f",
        loader=("--board", "icepi-zero"),
        memory=("W9825G6KH-6",),
    ),
)
