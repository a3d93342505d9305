"""ECPIX-5, an ECP5-5G 45F or 85F with DDR3 x16.

Pins: amaranth_boards.ecpix5, checked against litex_boards.platforms.lambdaconcept_ecpix5. The two sources number the
LEDs in opposite order. DDR3: MT41K256M16 (4 Gb) in litex_boards.targets.lambdaconcept_ecpix5. The 15 pins of the row
address in amaranth_boards.ecpix5 agree with this part.

Both sources agree in all pins of the DDR3, in the termination and in the standard (SSTL15). Neither source has CS_N or
RESET_N, so these pins are not connected to the chip, and a new bitstream cannot reset the part. LiteX also uses the
part without them, and `Ddr3Init` closes all banks before it sets the modes. The level of RESET_N at power-up is not
known here, because the schematic was not read.
"""

from __future__ import annotations

from typing import Any

from lutern.boards.board import FPGAS, Board
from lutern.boards.ddr3_wiring import Ddr3Wiring, ddram
from lutern.boards.serial_link import FT2232H, SerialLink

_DDRAM = ddram(
    ck="H3",
    cke="P1",
    odt="P3",
    ras_n="T3",
    cas_n="P2",
    we_n="R3",
    ba="U6 N3 N4",
    a="T5 M3 L3 V6 K2 W6 K3 L1 H2 L2 N1 J1 M1 K1 H1",
    dm="U4 U1",
    dq="T4 W4 R4 W5 R6 P6 P5 P4 R1 W3 T2 V3 U3 W1 T1 W2",
    dqs="V4 V1",
    standard="SSTL15",
)
_WIRING = Ddr3Wiring(kind="DDR3", memory_hz=100_000_000, machine_hz=80_000_000)


def _board(size: str, preset: str) -> Board:
    def platform() -> Any:
        from amaranth_boards import ecpix5

        made = getattr(ecpix5, f"ECPIX5{size.removesuffix('F')}Platform")()
        made.add_resources([_DDRAM])
        return made

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
        memory=("MT41K256M16",),
        memory_source="MT41K256M16 in LiteX's target lambdaconcept_ecpix5",
        ddr3=_WIRING,
    )


BOARDS = (_board("45F", "resident-25f"), _board("85F", "resident-85f"))
