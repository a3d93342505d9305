"""ULX3S, with an ECP5 of one of four sizes and 32 MB of SDRAM x16.

Pins: amaranth_boards.ulx3s, checked against litex_boards.platforms.radiona_ulx3s. The SDRAM is an MT48LC16M16 on older
boards and an AS4C32M16 on newer boards. GPIO0 of the ESP32 is held high, because the module otherwise takes control
of the board (manual of ULX3S, "ESP32").
"""

from __future__ import annotations

from typing import Any

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.serial_link import FT231X, SerialLink


def _board(size: str, preset: str) -> Board:
    def platform() -> Any:
        from amaranth_boards import ulx3s

        return getattr(ulx3s, f"ULX3S_{size}_Platform")()

    return Board(
        name=f"ulx3s-{size.lower()}",
        title=f"ULX3S {size}",
        fpga=FPGAS[f"LFE5U-{size}"],
        package="CABGA381",
        speed="6",
        platform=platform,
        clock="clk25",
        clock_hz=25_000_000,
        link=SerialLink(FT231X, "FT231X, connector US1"),
        leds=leds(0, 1, 2, 3),
        held=(("esp32", 0, "gpio0", 1),),
        preset=preset,
        loader=("--board", "ulx3s"),
        memory=("MT48LC16M16A2-7E", "MT48LC16M16A2-6A", "AS4C32M16SB-7", "W9825G6KH-6", "IS42S16160-7"),
    )


BOARDS = (
    _board("12F", "resident-25f"),
    _board("25F", "resident-25f"),
    _board("45F", "resident-25f"),
    _board("85F", "resident-1024"),
)
