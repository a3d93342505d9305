"""Versa ECP5-5G of Lattice (LFE5UM5G-45F-VERSA), an ECP5-5G 45F with DDR3L x16.

Pins: amaranth_boards.versa_ecp5, checked against litex_boards.platforms.lattice_versa_ecp5. Both sources agree
in all pins that are used here, also for the DDR3L. Both sources have 13 address pins, as many as a part of 1 Gb has.

DDR3L: MT41K64M16 in litex_boards.targets.lattice_versa_ecp5. The JTAG chain has a second part, an ispCLOCK, which a
jumper removes from the chain (amaranth-boards says that openOCD cannot use it).
"""

from __future__ import annotations

from typing import Any

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.ddr3_wiring import Ddr3Wiring, ddram
from lutern.boards.serial_link import FT2232H, SerialLink


def _platform() -> Any:
    from amaranth_boards.versa_ecp5_5g import VersaECP55GPlatform

    made = VersaECP55GPlatform()
    made.add_resources([_DDRAM])
    return made


_DDRAM = ddram(
    ck="M4",
    cke="N2",
    reset_n="N4",
    odt="L2",
    cs_n="K1",
    ras_n="P1",
    cas_n="L1",
    we_n="M1",
    ba="P5 N3 M3",
    a="P2 C4 E5 F5 B3 F4 B5 E4 C5 E3 D5 B4 C3",
    dm="J4 H5",
    dq="L5 F1 K4 G1 L4 H1 G2 J3 D1 C1 E2 C2 F3 A2 E1 B1",
    dqs="K2 H4",
    standard="SSTL135",
)
BOARDS = (
    Board(
        name="versa-ecp5-5g",
        title="Versa ECP5-5G",
        fpga=FPGAS["LFE5UM5G-45F"],
        package="CABGA381",
        speed="8",
        platform=_platform,
        clock="clk100",
        clock_hz=100_000_000,
        link=SerialLink(FT2232H, "FT2232H, port B of the USB connector"),
        leds=leds(0, 1, 2, 3),
        preset="resident-25f",
        loader=("--cable", "ft2232"),
        memory=("MT41K64M16",),
        memory_source="MT41K64M16 in LiteX's target lattice_versa_ecp5",
        ddr3=Ddr3Wiring(kind="DDR3L", memory_hz=75_000_000, machine_hz=75_000_000),
    ),
)
