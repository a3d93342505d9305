"""ECPIX-5, an ECP5-5G 45F or 85F; its DDR3 is not used, weights are on the chip.

Pins: amaranth_boards.ecpix5, checked against litex_boards.platforms.lambdaconcept_ecpix5; the two number the lamps in
opposite order. DDR3: MT41K256M16 (4 Gb) in litex_boards.targets.lambdaconcept_ecpix5; the 15 pins of its row address
in amaranth_boards.ecpix5 say the same.
"""

from __future__ import annotations

from typing import Any

from lutern.boards.board import FPGAS, Board, ExternalMemory
from lutern.boards.serial_link import FT2232H, SerialLink

_DDR3 = ExternalMemory("DDR3", 512 << 20, 16, "MT41K256M16 in LiteX's target lambdaconcept_ecpix5")


def _board(size: str, preset: str) -> Board:
    def platform() -> Any:
        from amaranth_boards import ecpix5

        return getattr(ecpix5, f"ECPIX5{size.removesuffix('F')}Platform")()

    return Board(
        name=f"ecpix5-{size.lower()}",
        title=f"ECPIX-5 {size}",
        fpga=FPGAS[f"LFE5UM5G-{size}"],
        package="CABGA554",
        speed="8",
        platform=platform,
        clock="clk100",
        clock_hz=100_000_000,
        link=SerialLink(FT2232H, "FT2232H, port B of the micro-USB connector"),
        leds=tuple(("rgb_led", number, "g") for number in range(4)),
        preset=preset,
        loader=("--board", "ecpix5"),
        not_driven=(_DDR3,),
    )


BOARDS = (_board("45F", "resident-25f"), _board("85F", "resident-85f"))
