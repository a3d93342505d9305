"""The ECP5-5G evaluation board of Lattice (LFE5UM5G-85F-EVN). It has no memory, so weights are on the chip.

Pins: amaranth_boards.ecp5_5g_evn, checked against litex_boards.platforms.lattice_ecp5_evn. As delivered, the serial
line is not connected to port B of the FT2232H (user guide FPGA-EB-02017, section 6.2). Remove R22 and R23, put 0 ohms
at R34 and R35, and set port B to a serial port in the FTDI's EEPROM.
"""

from __future__ import annotations

from typing import Any

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.serial_link import FT2232H, SerialLink


def _platform() -> Any:
    from amaranth_boards.ecp5_5g_evn import ECP55GEVNPlatform

    return ECP55GEVNPlatform()


BOARDS = (
    Board(
        name="ecp5-evn",
        title="ECP5-5G evaluation board",
        fpga=FPGAS["LFE5UM5G-85F"],
        package="CABGA381",
        speed="8",
        platform=_platform,
        clock="clk12",
        clock_hz=12_000_000,
        link=SerialLink(FT2232H, "FT2232H, port B, after two resistors have moved"),
        leds=leds(0, 1, 2, 3),
        preset="resident-85f",
        loader=("--board", "ecp5_evn"),
    ),
)
