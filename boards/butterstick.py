"""ButterStick r1.0, an ECP5-5G 85F with two ranks of DDR3L x16, of which the first is used.

Pins: amaranth_boards.butterstick, checked against litex_boards.platforms.gsd_butterstick. Both sources agree in all
pins that are used here, also for the DDR3L. The board has seven LEDs that share three pins for their colour. The two
sources list green and blue in opposite order, and both have blue on R1.

The board has no USB bridge, and no header with a fixed voltage. The serial line is in the slot of the SD card, for an
adapter of 3.3 V on a card with contacts: CMD (A13) is the input, DAT0 (C12) the output.

DDR3L: litex_boards.targets.gsd_butterstick uses MT41K64M16 (1 Gb) unless one of three larger parts is selected.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs, Pins, Resource, Subsignal

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.ddr3_wiring import RANK_1_HELD, Ddr3Wiring, ddram
from lutern.boards.serial_link import ONE_MEGABAUD, SerialLink

_LVCMOS33 = Attrs(IO_TYPE="LVCMOS33")


def _platform() -> Any:
    from amaranth_boards.butterstick import ButterStickPlatform

    made = ButterStickPlatform()
    made.add_resources(
        [
            _DDRAM,
            *(Resource("led", n, Pins(pin, dir="o"), _LVCMOS33) for n, pin in enumerate("C13 D12 U2 T3".split())),
            Resource("led_colour", 0, Subsignal("blue", Pins("R1", dir="o")), _LVCMOS33),
            Resource(
                "uart",
                0,
                Subsignal("rx", Pins("A13", dir="i")),
                Subsignal("tx", Pins("C12", dir="o")),
                Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"),
            ),
        ]
    )
    return made


_DDRAM = ddram(
    ck="C20",
    cke="F18",
    reset_n="E17",
    odt="K20",
    cs_n="J20",
    ras_n="K18",
    cas_n="J17",
    we_n="G19",
    ba="H16 F20 H20",
    a="G16 E19 E20 F16 F19 E16 F17 L20 M20 E18 G18 D18 H18 C18 D17 G20",
    dm="U20 L18",
    dq="U19 T18 U18 R20 P18 P19 P20 N20 L19 L17 L16 R16 N18 R17 N17 P17",
    dqs="T19 N16",
    standard="SSTL135",
    rank_1="J19 J18 H17 J16",
)
BOARDS = (
    Board(
        name="butterstick",
        title="ButterStick r1.0",
        fpga=FPGAS["LFE5UM5G-85F"],
        package="CABGA381",
        speed="8",
        platform=_platform,
        clock="clk30",
        clock_hz=30_000_000,
        link=SerialLink(ONE_MEGABAUD, "none: an adapter of 3.3 V in the SD card's slot, its TX to CMD, its RX to DAT0"),
        leds=leds(0, 1, 2, 3),
        held=(("led_colour", 0, "blue", 1),),
        preset="resident-85f",
        loader=(),
        memory=("MT41K64M16", "MT41K128M16", "MT41K256M16", "MT41K512M16"),
        memory_source="LiteX's target gsd_butterstick",
        ddr3=Ddr3Wiring(kind="DDR3L", memory_hz=75_000_000, machine_hz=75_000_000, held=(("dm", 0), *RANK_1_HELD)),
    ),
)
