"""Colorlight i5 (ECP5 25F) and i9 (45F) on Muse Lab's extension board, with 8 MB of SDRAM x32.

The definition is our own, in the style of amaranth-boards. Pins: README.md (i5 v7.0) and colorlight_i9_v7.2.md of
wuxx/Colorlight-FPGA-Projects, checked against litex_boards.platforms.colorlight_i5. That platform has the same pins,
with the bits of DQ in another order. Any order works, because words are written and read in the same order.
The two Markdown files do not give the pins of the serial line. These pins are J17 and H18 in LiteX's platform and in
constraints of other projects. CKE, CS and DQM of the SDRAM are tied on the board. BA1 is on C8 from v7.0 on. The serial
port of the extension board's DAPLink is not specified above 1 Mbaud.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
from amaranth.vendor import LatticeECP5Platform

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink

_LVCMOS33 = Attrs(IO_TYPE="LVCMOS33")


def _resources(led: str) -> list[Any]:
    return [
        Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), _LVCMOS33),
        Resource("led", 0, PinsN(led, dir="o"), _LVCMOS33),
        Resource(
            "uart",
            0,
            Subsignal("rx", Pins("H18", dir="i")),
            Subsignal("tx", Pins("J17", dir="o")),
            Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"),
        ),
        Resource(
            "sdram",
            0,
            Subsignal("clk", Pins("B9", dir="o")),
            Subsignal("we", PinsN("A10", dir="o")),
            Subsignal("ras", PinsN("B10", dir="o")),
            Subsignal("cas", PinsN("A9", dir="o")),
            Subsignal("ba", Pins("B11 C8", dir="o")),
            Subsignal("a", Pins("B13 C14 A16 A17 B16 B15 A14 A13 A12 A11 B12", dir="o")),
            Subsignal(
                "dq",
                Pins(
                    "B6 A5 A6 A7 C7 B8 B5 A8 D8 D7 E8 D6 C6 D5 E7 C5 "
                    "C10 D9 E11 D11 C11 D12 E9 C12 E14 C15 E13 D15 E12 B17 D14 D13",
                    dir="io",
                ),
            ),
            Attrs(IO_TYPE="LVCMOS33", PULLMODE="NONE", DRIVE="4", SLEWRATE="FAST"),
        ),
    ]


class ColorlightI5Platform(LatticeECP5Platform):
    """The i5, v7.0."""

    device: Any = "LFE5U-25F"
    package: Any = "BG381"
    speed: Any = "6"
    default_clk: Any = "clk25"
    resources: Any = _resources("U16")
    connectors: Any = []


class ColorlightI9Platform(LatticeECP5Platform):
    """The i9, v7.2."""

    device: Any = "LFE5U-45F"
    package: Any = "BG381"
    speed: Any = "6"
    default_clk: Any = "clk25"
    resources: Any = _resources("L2")
    connectors: Any = []


def _board(name: str, size: str, platform: type[LatticeECP5Platform]) -> Board:
    return Board(
        name=f"colorlight-{name}",
        title=f"Colorlight {name}",
        fpga=FPGAS[f"LFE5U-{size}"],
        package="CABGA381",
        speed="6",
        platform=platform,
        clock="clk25",
        clock_hz=25_000_000,
        link=SerialLink(ONE_MEGABAUD, "DAPLink, the extension board's USB-C"),
        leds=leds(0),
        preset="resident-25f",
        loader=("--board", f"colorlight-{name}"),
        memory=("EM638325-6",),
    )


BOARDS = (_board("i5", "25F", ColorlightI5Platform), _board("i9", "45F", ColorlightI9Platform))
