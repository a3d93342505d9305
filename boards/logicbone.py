"""Logicbone, an ECP5-5G 45F or 85F in the shape of a BeagleBone, with DDR3L x16.

Pins: amaranth_boards.logicbone, checked against litex_boards.platforms.logicbone. Both sources agree in the pins of the
DDR3L except `dm`, for which amaranth-boards has L4 and J5. LiteX, whose author designed the board, says that these pins
do not work as masks, and uses pins that are not connected. Here L4 and J5 are tied to 0. The standards of clock and
strobes also differ: LiteX has SSTL135D_I, as here, and amaranth-boards has LVDS.

The board has no USB bridge, because the USB connectors are wired to the ECP5 itself. The serial line is on header P9:
pin 26 (B6) is the input and pin 24 (A7) the output, as in LiteX, for an adapter of 3.3 V. In amaranth-boards' list of
that header, the number of each pin is one too high.

DDR3L: 16 address pins are wired, as many as a part of 8 Gb has. LiteX's target uses MT41K512M16.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Pins, Resource, Subsignal

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.ddr3_wiring import Ddr3Wiring, ddram
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink

_DDRAM = ddram(
    ck="M4",
    cke="K4",
    reset_n="P1",
    odt="C5",
    cs_n="M3",
    ras_n="L1",
    cas_n="M1",
    we_n="E4",
    ba="B4 H5 N2",
    a="D5 F4 B3 F3 E5 C3 C4 A5 A3 B5 G3 F5 D2 A4 D3 E3",
    dm="L4 J5",
    dq="G2 K1 F1 K3 H2 J3 G1 H1 B1 E1 A2 F2 C1 E2 C2 D1",
    dqs="K2 H4",
    standard="SSTL135",
)


def _board(size: str, platform_name: str, preset: str) -> Board:
    def platform() -> Any:
        from amaranth_boards import logicbone

        made = getattr(logicbone, platform_name)()
        line = Resource(
            "uart",
            0,
            Subsignal("rx", Pins("B6", dir="i")),
            Subsignal("tx", Pins("A7", dir="o")),
            Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"),
        )
        made.add_resources([_DDRAM, line])
        return made

    return Board(
        name=f"logicbone-{size.lower()}",
        title=f"Logicbone {size}",
        fpga=FPGAS[f"LFE5UM5G-{size}"],
        package="CABGA381",
        speed="8",
        platform=platform,
        clock="refclk",
        clock_hz=25_000_000,
        link=SerialLink(ONE_MEGABAUD, "none: an adapter of 3.3 V on header P9, its TX to pin 26 and its RX to pin 24"),
        leds=leds(0, 1, 2, 3),
        preset=preset,
        loader=(),
        memory=("MT41K512M16",),
        memory_source="MT41K512M16 in LiteX's target logicbone",
        ddr3=Ddr3Wiring(kind="DDR3L", memory_hz=75_000_000, machine_hz=75_000_000),
    )


BOARDS = (_board("45F", "LogicbonePlatform", "resident-25f"), _board("85F", "Logicbone85FPlatform", "resident-85f"))
