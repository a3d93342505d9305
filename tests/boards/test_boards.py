"""Every board fits its default machine, and its pins, clock, link and LEDs equal those of a second source.

``SECOND`` contains pins copied from the second source that each board's file names, not from the tested files.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("amaranth_boards", reason='needs the extra "build"')

from lutern.boards import board as descriptions
from lutern.boards.board import FPGAS, HOST_BLOCK_RAMS, Board, ExternalMemory
from lutern.boards.catalog import BOARDS, find_board
from lutern.boards.sdram_parts import sdram_part
from lutern.boards.serial_link import BAUD_TOLERANCE, FT231X, FT2232H, ONE_MEGABAUD, SerialLink
from lutern.boards.system import System
from lutern.firmware.limits import check_fit
from lutern.hw.memory import any_part
from lutern.hw.presets import PRESETS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED

SDRAM_ULX3S = {
    "a": "M20 M19 L20 L19 K20 K19 K18 J20 J19 H20 N19 G20 G19",
    "ba": "P19 N20",
    "dqm": "U19 E20",
    "clk": "F19",
    "dq": "J16 L18 M18 N18 P18 T18 T17 U20 E19 D20 D19 C20 E18 F18 J18 J17",
    "we": "T20",
    "ras": "R20",
    "cas": "T19",
    "cs": "P20",
    "clk_en": "F20",
}
SDRAM_ICEPI = {
    "a": "B10 A9 B9 A8 B8 A7 B7 A6 B6 A5 A10 B5 A4",
    "ba": "A11 B11",
    "dqm": "B14 B3",
    "clk": "A3",
    "dq": "B16 C14 C16 C15 D16 A15 B15 A14 A2 B2 E2 D1 C2 C1 C3 B1",
    "we": "A13",
    "ras": "A12",
    "cas": "B13",
    "cs": "B12",
    "clk_en": "B4",
}
SDRAM_ICESUGAR = {
    "a": "H15 B13 B12 J16 J15 R12 K16 R13 T13 K15 A13 R14 T14",
    "ba": "G15 B14",
    "dqm": "C16 T15",
    "clk": "R15",
    "dq": "F16 E15 F15 D14 E16 C15 D16 B15 R16 P16 P15 N16 N14 M16 M15 L15",
    "we": "A15",
    "ras": "B16",
    "cas": "G16",
    "cs": "A14",
    "clk_en": "L16",
}
SDRAM_COLORLIGHT = {  # without DQ, which LiteX lists in another order
    "a": "B13 C14 A16 A17 B16 B15 A14 A13 A12 A11 B12",
    "ba": "B11 C8",
    "clk": "B9",
    "we": "A10",
    "ras": "B10",
    "cas": "A9",
}
ULX3S = {"clk": "G2", "rx": "M1", "tx": "L4", "leds": "B2 C2 C1 D2", "held": "L2", "sdram": SDRAM_ULX3S}
COLORLIGHT = {"clk": "P3", "rx": "H18", "tx": "J17", "sdram": SDRAM_COLORLIGHT}
ORANGECRAB = {"clk": "A9", "rx": "N17", "tx": "M18", "leds": "M3 J3 K4"}
ECPIX5 = {"clk": "K23", "rx": "R26", "tx": "R24", "leds": "R23 K24 W21 R21"}
LOGICBONE = {"clk": "M19", "rx": "B6", "tx": "A7", "leds": "D16 C15 C13 B13"}
SECOND: dict[str, dict[str, Any]] = {
    **{f"ulx3s-{size}f": ULX3S for size in (12, 25, 45, 85)},
    "icepi-zero": {"clk": "M1", "rx": "K16", "tx": "K15", "leds": "E13 D14 E12 C13", "sdram": SDRAM_ICEPI},
    "icesugar-pro": {"clk": "P6", "rx": "A9", "tx": "B9", "leds": "A11 A12 B11", "sdram": SDRAM_ICESUGAR},
    "colorlight-i5": {**COLORLIGHT, "leds": "U16"},
    "colorlight-i9": {**COLORLIGHT, "leds": "L2"},
    "orangecrab-25f": ORANGECRAB,
    "orangecrab-85f": ORANGECRAB,
    "ecpix5-45f": ECPIX5,
    "ecpix5-85f": ECPIX5,
    "versa-ecp5-5g": {"clk": "P3", "rx": "C11", "tx": "A11", "leds": "E16 D17 D18 E18"},
    "butterstick": {"clk": "B12", "rx": "A13", "tx": "C12", "leds": "C13 D12 U2 T3", "held": "R1"},
    "logicbone-45f": LOGICBONE,
    "logicbone-85f": LOGICBONE,
    "ulx4m-ld": {"clk": "G2", "rx": "N4", "tx": "N3", "leds": "A3 B3 B2 C3"},
    "ecp5-evn": {"clk": "A10", "rx": "P2", "tx": "P3", "leds": "A13 A12 B19 A18"},
}
COLORLIGHT_DQ = (
    "D15 E14 E13 D12 E12 D11 C10 B17 B8 A8 C7 A7 A6 B6 A5 B5 D5 C5 D6 C6 E7 D7 E8 D8 E9 D9 E11 C11 C12 D13 D14 C15"
)


def elaborated(board: Board, preset: str = "") -> tuple[Any, System]:
    """Elaborate the whole chip, and return the platform and the chip. No RTLIL is written, because this takes
    longest."""
    platform, system = board.platform(), System(board, board.config(preset))
    platform.toolchain_prepare = lambda design, name, **options: None
    platform.prepare(system, "top")
    return platform, system


def pins_of(platform: Any) -> dict[str, str]:
    """Return the sites that the chip uses, by the names of the ports."""
    return {name: site for name, site, _ in platform.iter_port_constraints_bits()}


@pytest.mark.parametrize("name", BOARDS)
def test_default_machine(name: str) -> None:
    board = BOARDS[name]
    platform, system = elaborated(board)
    pins, second = pins_of(platform), SECOND[name]
    assert pins.pop(f"{board.clock}_0__{'p' if name.startswith('versa') else 'io'}") == second["clk"]
    pins.pop(f"{board.clock}_0__n", None)
    resource = "{}_{}".format(*board.link.resource)
    assert (pins.pop(f"{resource}__rx__io"), pins.pop(f"{resource}__tx__io")) == (second["rx"], second["tx"])
    leds = [
        pins.pop("_".join([f"{led}_{number}", *([f"_{part}"] if part else []), "_io"]))
        for led, number, part in board.leds
    ]
    if name.startswith("ecpix5"):  # the two sources number the LEDs in opposite order
        assert sorted(leds) == sorted(second["leds"].split())
    else:
        assert leds == second["leds"].split()
    held = [pins.pop(f"{thing}_{number}__{part}__io") for thing, number, part, _ in board.held]
    assert " ".join(held) == second.get("held", "")
    assert not pins
    assert platform.default_clk == board.clock
    assert platform.default_clk_constraint.frequency == board.clock_hz
    assert (platform.device, platform.speed) == (board.fpga.name, board.speed)
    assert platform._nextpnr_package_options[platform.package].lower() == board.package.lower()
    assert platform._nextpnr_device_options[platform.device] == board.fpga.option
    assert system.baud == board.baud(system.config) >= 1_000_000
    assert abs(system.clock_hz / system.divisor / system.baud - 1) <= BAUD_TOLERANCE


@pytest.mark.parametrize("name", [name for name in BOARDS if "sdram" in SECOND[name]])
def test_sdram_pins(name: str) -> None:
    platform = BOARDS[name].platform()
    resource = platform.lookup("sdram", 0)
    found = {part.name: " ".join(part.ios[0].names) for part in resource.ios if hasattr(part, "ios")}
    dq = found["dq"]
    assert {part: found[part] for part in SECOND[name]["sdram"]} == SECOND[name]["sdram"]
    if name.startswith("colorlight"):
        assert sorted(dq.split()) == sorted(COLORLIGHT_DQ.split())


@pytest.mark.parametrize(
    ("name", "preset"),
    [(name, preset) for name, board in BOARDS.items() for preset in board.presets if preset in HOST_BLOCK_RAMS],
)
def test_weights_from_the_host(name: str, preset: str) -> None:
    """A machine without weights uses only the link of a board, and block RAM for state and vectors."""
    platform, system = elaborated(BOARDS[name], preset)
    assert system.config.memory == "host" and not any(pin.startswith("sdram") for pin in pins_of(platform))
    assert abs(system.clock_hz / system.divisor / system.baud - 1) <= BAUD_TOLERANCE


def test_boards_of_the_released_models() -> None:
    fits: dict[str, set[str]] = {}
    for shape, config in PUBLISHED.items():
        for name, board in BOARDS.items():
            for preset in board.presets:
                with contextlib.suppress(LuternError):
                    check_fit(config, board.config(preset))
                    fits.setdefault(shape, set()).add(name)
    large = {"ulx3s-85f", "orangecrab-85f", "ecpix5-85f", "butterstick", "logicbone-85f", "ulx4m-ld", "ecp5-evn"}
    medium = {"ulx3s-45f", "colorlight-i9", "ecpix5-45f", "versa-ecp5-5g", "logicbone-45f"}
    assert fits == {"370m": large | medium, "1.3b": large}


def test_every_board_has_its_own_name_and_digest() -> None:
    assert set(SECOND) == set(BOARDS)
    assert all(name == board.name for name, board in BOARDS.items())
    assert len({board.digest for board in BOARDS.values()}) == len(BOARDS)
    assert all(board.preset in PRESETS and board.fpga is FPGAS[board.fpga.name] for board in BOARDS.values())
    assert descriptions.FPGAS is FPGAS


def test_machine_of_a_board() -> None:
    config = BOARDS["ulx3s-25f"].config("tiny", 80_000_000)
    assert (config.name, config.debug_tap, config.cells, config.clock_hz) == ("tiny", False, "ecp5", 80_000_000)


def test_unknown_board() -> None:
    with pytest.raises(LuternError, match=r"^there is no board ulx4s; choose one of ulx3s-12f, .*ecp5-evn\.$"):
        find_board("ulx4s")


def test_sdram_preset_without_sdram() -> None:
    sdram = PRESETS["stream-x16"].with_(name="s", memory="sdram")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "s", sdram)
        with pytest.raises(
            LuternError, match="preset s reads words of 16 bits from SDR SDRAM, but ECP5-5G evaluation board has no m"
        ):
            BOARDS["ecp5-evn"].config("s")


def test_sdram_preset_with_ddr3() -> None:
    with pytest.raises(LuternError) as error:
        BOARDS["ecpix5-85f"].config("sdram-x32")
    assert str(error.value) == (
        "preset sdram-x32 reads words of 32 bits from SDR SDRAM, but ECPIX-5 85F has DDR3 x16 of 512 MiB; choose one "
        "of resident-85f, ddr3-x16, ddr3-x16-25f, host, host-45f, host-85f."
    )


def test_memory_ports_are_refused() -> None:
    wide = PRESETS["stream-x16"].with_(name="p", memory="port", word_bytes=8, rows=5, columns=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "p", wide)
        with pytest.raises(LuternError, match="preset p reads words of 64 bits at a port, to which your own design"):
            BOARDS["ulx3s-85f"].config("p")


def test_memories_beside_the_chip() -> None:
    found = {
        name: [(memory.title, memory.driven) for memory in board.memories]
        for name, board in BOARDS.items()
        if not name.startswith("ulx3s")
    }
    assert found == {
        "icepi-zero": [("SDR SDRAM x16 of 32 MiB", True)],
        "icesugar-pro": [("SDR SDRAM x16 of 32 MiB", True)],
        "colorlight-i5": [("SDR SDRAM x32 of 8 MiB", True)],
        "colorlight-i9": [("SDR SDRAM x32 of 8 MiB", True)],
        "orangecrab-25f": [("DDR3L x16 of 128 MiB", True)],
        "orangecrab-85f": [("DDR3L x16 of 512 MiB", True)],
        "ecpix5-45f": [("DDR3 x16 of 512 MiB", True)],
        "ecpix5-85f": [("DDR3 x16 of 512 MiB", True)],
        "versa-ecp5-5g": [("DDR3L x16 of 128 MiB", True)],
        "butterstick": [("DDR3L x16 of 128 MiB", True)],
        "logicbone-45f": [("DDR3L x16 of 1024 MiB", True)],
        "logicbone-85f": [("DDR3L x16 of 1024 MiB", True)],
        "ulx4m-ld": [("DDR3L x16 of 512 MiB", True)],
        "ecp5-evn": [],
    }
    (memory,) = BOARDS["ulx3s-85f"].memories
    assert (memory.byte_count, memory.note) == (32 << 20, "64 MiB with AS4C32M16SB-7")


def test_memories_that_are_not_driven_change_no_build() -> None:
    board = BOARDS["ecpix5-85f"]
    other = ExternalMemory("HyperRAM", 8 << 20, 8, "a data sheet")
    with_other = replace(board, not_driven=(other,))
    assert with_other.digest == board.digest and with_other.memories[1] == other


@pytest.mark.parametrize(
    ("rates", "clock_hz", "baud", "divisor"),
    [
        (FT2232H, 96e6, 12_000_000, 8),
        (FT2232H, 95.9e6, 12_000_000, 8),
        (FT2232H, 65e6, 8_000_000, 8),  # 1.6 % off
        (FT2232H, 75e6, 5_333_333, 14),
        (FT2232H, 24e6, 3_000_000, 8),
        (FT231X, 75e6, 3_000_000, 25),
        (FT231X, 65e6, 3_000_000, 22),
        (FT231X, 40e6, 2_000_000, 20),  # 13 cycles per bit would differ by 2.6 % from 3 Mbaud
        (FT231X, 18e6, 2_000_000, 9),
        (ONE_MEGABAUD, 75e6, 1_000_000, 75),
    ],
)
def test_the_rate_of_a_link(rates: tuple[int, ...], clock_hz: float, baud: int, divisor: int) -> None:
    assert SerialLink(rates, "").rate_at(clock_hz) == (baud, divisor)


@pytest.mark.parametrize("rates", [FT2232H, FT231X, ONE_MEGABAUD], ids=["FT2232H", "FT231X", "1 Mbaud"])
def test_no_faster_rate_exists(rates: tuple[int, ...]) -> None:
    """The rate is the highest rate that an exhaustive search finds, at every clock from 12 to 100 MHz."""
    assert list(rates) == sorted(set(rates), reverse=True)
    for clock_hz in range(12_000_000, 100_000_000, 250_000):
        fits = [
            baud for baud in rates for divisor in range(8, 200) if abs(clock_hz / divisor / baud - 1) <= BAUD_TOLERANCE
        ]
        found = 0
        with contextlib.suppress(LuternError):
            found = SerialLink(rates, "").rate_at(clock_hz)[0]
        assert found == max(fits, default=0), clock_hz


def test_rates_of_ftdi() -> None:
    """AN_120 has no divisors between 1, 1.5 and 2. Linux's driver rounds to 1/8, and can set each rate of the list."""
    assert FT2232H[:5] == (12_000_000, 8_000_000, 6_000_000, 5_647_059, 5_333_333)
    assert FT231X[:4] == (3_000_000, 2_000_000, 1_500_000, 1_411_765)
    for highest, rates in ((12_000_000, FT2232H), (3_000_000, FT231X)):
        for baud in rates:
            made = highest / (round(8 * highest / baud) / 8)
            assert abs(made / baud - 1) < 1e-5


def test_clock_without_a_baud_rate() -> None:
    link = SerialLink(ONE_MEGABAUD, "")
    for clock_hz in (6e6, 8.5e6):
        with pytest.raises(LuternError) as error:
            link.rate_at(clock_hz)
        assert str(error.value) == (
            f"no baud rate of this board's link can be made from a clock of {clock_hz / 1e6:g} MHz within 2% and with "
            "8 or more cycles per bit; choose a frequency near a multiple of 1 MHz, from 8 MHz on."
        )


@pytest.mark.parametrize(
    ("name", "preset", "pin_count", "bits"),
    [("ulx3s-25f", "sdram-x16", 39, 16), ("colorlight-i9", "sdram-x32", 49, 32)],
)
def test_sdram_system(name: str, preset: str, pin_count: int, bits: int) -> None:
    """The chip uses all pins of the part. Each pin has one register in its own cell, and the clock pin has a DDR
    cell."""
    board = BOARDS[name]
    small = board.config(preset).with_(max_state=1024, trit_fifo_words=64, gain_fifo_words=64)
    platform = board.platform()
    plan = platform.build(System(board, small), name="top", do_build=False)
    text = plan.files["top.il"] if isinstance(plan.files["top.il"], str) else plan.files["top.il"].decode()
    cells = [text.count(f"cell \\{cell} ") for cell in ("OFS1P3DX", "IFS1P3DX", "ODDRX1F", "EHXPLLL")]
    pins = {pin: site for pin, site in pins_of(platform).items() if pin.startswith("sdram")}
    assert len(pins) == pin_count
    assert cells == [2 * (pin_count - 1) + 1, bits, 1, 1]  # but the clock, each pin has a register for its enable
    sdram = SECOND[name]["sdram"]
    assert pins["sdram_0__clk__io"] == sdram["clk"]
    assert [pins[f"sdram_0__a__io[{bit}]"] for bit in range(len(sdram["a"].split()))] == sdram["a"].split()


def test_sdram_of_another_width() -> None:
    with pytest.raises(
        LuternError, match=r"sdram-x16 reads words of 16 bits, but the SDR SDRAM of Colorlight i5 has words of 32;"
    ):
        BOARDS["colorlight-i5"].config("sdram-x16")


@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if board.memory and not board.ddr3])
def test_timings_suit_every_part_of_a_board(name: str) -> None:
    board = BOARDS[name]
    for part_name in board.memory:
        mine = sdram_part(part_name)
        slowest, own = any_part(mine.data_bits), mine.timings(any_part(mine.data_bits).clock_hz)
        times = ("rc", "ras", "rp", "rcd", "rrd", "rfc", "wr", "mrd", "power_up", "cas_latency")
        assert all(getattr(slowest, time) >= getattr(own, time) for time in times), part_name
        assert slowest.refresh_interval <= own.refresh_interval
        assert slowest.words <= mine.words
        assert board.config(f"sdram-x{mine.data_bits}").word_bits == mine.data_bits
