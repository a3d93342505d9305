"""ULX4M-LD, an ECP5 85F on a module in the shape of a Raspberry Pi CM4, with DDR3L x16.

The definition is our own, in the style of amaranth-boards. Pins: litex_boards.platforms.radiona_ulx4m_ld_v2, checked
against doc/constraints/prototype/ulx4m-ld_v002.lpf of intergalaktik/ULX4M, which designed the module. Both
sources agree in all pins that are used here, also for the DDR3L. The sources differ in the termination of dq: it is 75
ohm in LiteX, and off in the LPF and here, to keep the chip cool. The LPF uses U16 twice, as dm of byte 1 and as
`n_extrst`. Here U16 is dm, and is driven low.

The serial line is on the GPIO header of the carrier board: GPIO23 (N4, pin 16) is the input and GPIO24 (N3, pin 18) the
output, as in LiteX.

The chip is an LFE5UM-85F-8 in the README of intergalaktik/ulx4m-ld, and an LFE5UM5G-85F in LiteX; this file follows the
README. DDR3L: MT41K256M16 in that README. gojimmypi/Hazard3-Doom found an MT41K512M16 on its module, and runs it at 75
MHz.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Clock, Pins, Resource, Subsignal
from amaranth.vendor import LatticeECP5Platform

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.ddr3_wiring import Ddr3Wiring, ddram
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink

_LVCMOS33 = Attrs(IO_TYPE="LVCMOS33")


class Ulx4mLdPlatform(LatticeECP5Platform):
    """Version 0.0.2 of the module."""

    device: Any = "LFE5UM-85F"
    package: Any = "BG381"
    speed: Any = "8"
    default_clk: Any = "clk25"
    resources: Any = [
        Resource("clk25", 0, Pins("G2", dir="i"), Clock(25e6), _LVCMOS33),
        *(Resource("led", n, Pins(pin, dir="o"), _LVCMOS33) for n, pin in enumerate("A3 B3 B2 C3".split())),
        Resource(
            "uart",
            0,
            Subsignal("rx", Pins("N4", dir="i")),
            Subsignal("tx", Pins("N3", dir="o")),
            Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"),
        ),
        ddram(
            ck="L20",
            cke="N19",
            reset_n="T18",
            odt="T19",
            cs_n="H18",
            ras_n="R20",
            cas_n="F20",
            we_n="H17",
            ba="P19 G16 P20",
            a="F18 L17 D19 E18 H16 T20 U17 T17 E16 U19 J17 J16 P17 U20 N20 P18",
            dm="F16 U16",
            dq="R17 L19 R16 L16 M18 M19 N18 N17 J19 C20 F19 E20 J18 K19 E19 G20",
            dqs="N16 G19",
            standard="SSTL135",
            termination="OFF",
        ),
    ]
    connectors: Any = []


BOARDS = (
    Board(
        name="ulx4m-ld",
        title="ULX4M-LD",
        fpga=FPGAS["LFE5UM-85F"],
        package="CABGA381",
        speed="8",
        platform=Ulx4mLdPlatform,
        clock="clk25",
        clock_hz=25_000_000,
        link=SerialLink(
            ONE_MEGABAUD, "none: an adapter of 3.3 V on the carrier's GPIO header, its TX to pin 16, its RX to pin 18"
        ),
        leds=leds(0, 1, 2, 3),
        preset="resident-85f",
        loader=("--board", "ulx4m_dfu"),
        memory=("MT41K256M16", "MT41K512M16"),
        memory_source="README of intergalaktik/ulx4m-ld",
        ddr3=Ddr3Wiring(kind="DDR3L", memory_hz=75_000_000, machine_hz=75_000_000),
    ),
)
