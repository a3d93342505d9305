"""The data of the boards about DDR3: pins against a second source, known errors of the first source, clocks and sizes.

``SECOND`` contains pins copied from litex-boards. Our pins of ULX4M-LD come from LiteX, so their second source is the
LPF file of the board's designers.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("amaranth_boards", reason='needs the extra "build"')

from lutern.boards.catalog import BOARDS
from lutern.boards.ddr3_parts import ddr3_part
from lutern.boards.ddr3_wiring import HIGHEST_HZ, LOWEST_HZ, RESOURCE, check_memory_clock
from lutern.boards.system import board_timings, plan_clocks
from lutern.hw.memory import Ddr3Timings
from lutern.model_ref.errors import LuternError

DDR3_BOARDS = [name for name, board in BOARDS.items() if board.ddr3]
ORANGECRAB = {
    "a": "C4 D2 D3 A3 A4 D4 C3 B2 B1 D1 A7 C2 B6 C1 A2 C7",
    "ba": "D6 B7 A6",
    "ras_n": "C12",
    "cas_n": "D13",
    "we_n": "B12",
    "cs_n": "A12",
    "dm": "D16 G16",
    "dq": "C17 D15 B17 C16 A15 B13 A17 A13 F17 F16 G15 F15 J16 C18 H16 F18",
    "dqs": "B15 G18",
    "ck": "J18",
    "cke": "D18",
    "odt": "C13",
    "reset_n": "L18",
    "vccio": "K16 D17 K15 K17 B18 C6",
    "gnd": "L15 L16",
}
ECPIX5 = {
    "a": "T5 M3 L3 V6 K2 W6 K3 L1 H2 L2 N1 J1 M1 K1 H1",
    "ba": "U6 N3 N4",
    "ras_n": "T3",
    "cas_n": "P2",
    "we_n": "R3",
    "dm": "U4 U1",
    "dq": "T4 W4 R4 W5 R6 P6 P5 P4 R1 W3 T2 V3 U3 W1 T1 W2",
    "dqs": "V4 V1",
    "ck": "H3",
    "cke": "P1",
    "odt": "P3",
}
LOGICBONE = {
    "a": "D5 F4 B3 F3 E5 C3 C4 A5 A3 B5 G3 F5 D2 A4 D3 E3",
    "ba": "B4 H5 N2",
    "ras_n": "L1",
    "cas_n": "M1",
    "we_n": "E4",
    "cs_n": "M3",
    "dm": "L4 J5",  # from a comment in LiteX, which says that these pins do not work
    "dq": "G2 K1 F1 K3 H2 J3 G1 H1 B1 E1 A2 F2 C1 E2 C2 D1",
    "dqs": "K2 H4",
    "ck": "M4",
    "cke": "K4",
    "odt": "C5",
    "reset_n": "P1",
}
SECOND = {
    "orangecrab-25f": ORANGECRAB,
    "orangecrab-85f": ORANGECRAB,
    "ecpix5-45f": ECPIX5,
    "ecpix5-85f": ECPIX5,
    "versa-ecp5-5g": {
        "a": "P2 C4 E5 F5 B3 F4 B5 E4 C5 E3 D5 B4 C3",
        "ba": "P5 N3 M3",
        "ras_n": "P1",
        "cas_n": "L1",
        "we_n": "M1",
        "cs_n": "K1",
        "dm": "J4 H5",
        "dq": "L5 F1 K4 G1 L4 H1 G2 J3 D1 C1 E2 C2 F3 A2 E1 B1",
        "dqs": "K2 H4",
        "ck": "M4",
        "cke": "N2",
        "odt": "L2",
        "reset_n": "N4",
    },
    "butterstick": {
        "a": "G16 E19 E20 F16 F19 E16 F17 L20 M20 E18 G18 D18 H18 C18 D17 G20",
        "ba": "H16 F20 H20",
        "ras_n": "K18",
        "cas_n": "J17",
        "we_n": "G19",
        "cs_n": "J20 J16",
        "dm": "U20 L18",
        "dq": "U19 T18 U18 R20 P18 P19 P20 N20 L19 L17 L16 R16 N18 R17 N17 P17",
        "dqs": "T19 N16",
        "ck": "C20 J19",
        "cke": "F18 J18",
        "odt": "K20 H17",
        "reset_n": "E17",
    },
    "logicbone-45f": LOGICBONE,
    "logicbone-85f": LOGICBONE,
    "ulx4m-ld": {
        "a": "F18 L17 D19 E18 H16 T20 U17 T17 E16 U19 J17 J16 P17 U20 N20 P18",
        "ba": "P19 G16 P20",
        "ras_n": "R20",
        "cas_n": "F20",
        "we_n": "H17",
        "cs_n": "H18",
        "dm": "F16 U16",
        "dq": "R17 L19 R16 L16 M18 M19 N18 N17 J19 C20 F19 E20 J18 K19 E19 G20",
        "dqs": "N16 G19",
        "ck": "L20",
        "cke": "N19",
        "odt": "T19",
        "reset_n": "T18",
    },
}
AMARANTH_NAMES = {
    "rst": "reset_n",
    "clk": "ck",
    "clk_en": "cke",
    "cs": "cs_n",
    "we": "we_n",
    "ras": "ras_n",
    "cas": "cas_n",
}
WRONG = {
    "orangecrab-25f": {"ba": "P5 N3 M3", "dqs": "G18 H17", "dm": "G16 D16"},
    "orangecrab-85f": {"ba": "P5 N3 M3", "dqs": "G18 H17", "dm": "G16 D16"},
}
"""Pins that are wrong in amaranth-boards 0.0.21. The docstring of the board's file gives the reasons."""


def pins_of(platform: Any, resource: tuple[str, int], names: dict[str, str]) -> dict[str, str]:
    """Return the pins of each part of a resource. A pair counts with its positive pin, and a second rank follows the
    first."""
    found: dict[str, list[str]] = {}
    for part in platform.lookup(*resource).ios:
        if not hasattr(part, "ios"):
            continue
        pins = part.ios[0]
        name = names.get(part.name, part.name).removesuffix("_1")
        found.setdefault(name, []).extend(getattr(pins, "p", pins).names)
    return {name: " ".join(pins) for name, pins in found.items()}


@pytest.mark.parametrize("name", DDR3_BOARDS)
def test_pins_are_those_of_the_second_source(name: str) -> None:
    assert pins_of(BOARDS[name].platform(), RESOURCE, {}) == SECOND[name]


@pytest.mark.parametrize("name", [name for name in DDR3_BOARDS if name != "ulx4m-ld"])
def test_pins_are_those_of_amaranth_boards_where_they_are_right(name: str) -> None:
    platform = BOARDS[name].platform()
    ours, theirs = pins_of(platform, RESOURCE, {}), pins_of(platform, ("ddr3", 0), AMARANTH_NAMES)
    assert {part: pins for part, pins in theirs.items() if ours[part] != pins} == WRONG.get(name, {})
    assert set(ours) - set(theirs) <= {"vccio", "gnd"}  # amaranth-boards has these pins in another resource


@pytest.mark.parametrize("name", DDR3_BOARDS)
def test_enough_pins_for_every_part(name: str) -> None:
    """The board has enough address pins for the machine's rows, and a pin for each data bit."""
    board = BOARDS[name]
    pins = pins_of(board.platform(), RESOURCE, {})
    for preset in (preset for preset in board.presets if preset.startswith("ddr3")):
        timings = board_timings(board, board.config(preset))
        assert isinstance(timings, Ddr3Timings)
        assert len(pins["a"].split()) >= timings.row_bits and len(pins["ba"].split()) == timings.bank_bits
        assert len(pins["dq"].split()) == timings.data_bits == 8 * len(pins["dqs"].split())


def test_a_refresh_of_the_largest_part() -> None:
    """The machine uses 1 Gb, but OrangeCrab 25F may carry a part of 4 Gb, whose refresh takes 260 ns."""
    board = BOARDS["orangecrab-25f"]
    timings = board_timings(board, board.config("ddr3-x16-25f", memory_hz=75_000_000))
    assert isinstance(timings, Ddr3Timings)
    assert (timings.rfc, timings.row_bits) == (39, 13)  # 39 clocks of 6.67 ns
    only = board_timings(BOARDS["versa-ecp5-5g"], BOARDS["versa-ecp5-5g"].config("ddr3-x16-25f"))
    assert isinstance(only, Ddr3Timings) and only.rfc == 17


@pytest.mark.parametrize("name", DDR3_BOARDS)
def test_timings_suit_every_part_of_a_board(name: str) -> None:
    board = BOARDS[name]
    for preset in (preset for preset in board.presets if preset.startswith("ddr3")):
        ours = board_timings(board, board.config(preset))
        assert isinstance(ours, Ddr3Timings) and board.ddr3
        for part in board.memory:
            own = ddr3_part(part).timings(ours.clock_hz, ours.refresh_group, board.ddr3.modes)
            assert all(getattr(ours, time) >= getattr(own, time) for time in TIMES), part
            assert ours.refresh_interval <= own.refresh_interval and ours.words <= own.words


TIMES = (
    *("rc", "ras", "rp", "rcd", "rrd", "faw", "rtp", "wtr", "wr", "rfc", "mrd", "mod", "xpr"),
    *("zq_init", "dll_lock", "reset_low", "wake"),
)


def test_modes_and_delays() -> None:
    """OrangeCrab has RTT_NOM off, and delays commands at slow clocks."""
    orangecrab, ecpix5 = BOARDS["orangecrab-85f"], BOARDS["ecpix5-85f"]
    assert orangecrab.ddr3 and ecpix5.ddr3
    found = []
    for board in (orangecrab, ecpix5):
        timings = board_timings(board, board.config("ddr3-x16"))
        assert isinstance(timings, Ddr3Timings)
        found.append(timings.mode_registers[1])
    assert found == [0x2, 0x6]
    assert [orangecrab.ddr3.command_delay(mhz * 1e6) for mhz in (48, 64, 75)] == [100, 100, 0]
    assert [ecpix5.ddr3.command_delay(mhz * 1e6) for mhz in (48, 75)] == [0, 0]


@pytest.mark.parametrize("name", DDR3_BOARDS)
@pytest.mark.parametrize("memory_mhz", [50, 75, 100])
def test_clocks_of_every_board(name: str, memory_mhz: int) -> None:
    """The PLL generates the edge clock, which is twice as fast as the memory's clock, and a clock of about 25 MHz."""
    board = BOARDS[name]
    config = board.config(next(preset for preset in board.presets if preset.startswith("ddr3")), 0, memory_mhz * 10**6)
    plan = plan_clocks(board, config)[0]
    edge, sync, init = (float(plan.output_hz(index)) for index in range(3))
    assert edge == pytest.approx(2e6 * memory_mhz, rel=0.005) and sync == pytest.approx(config.clock_hz, rel=0.005)
    assert init == pytest.approx(25e6, rel=0.04)


@pytest.mark.parametrize("memory_hz", [LOWEST_HZ - 1_000_000, HIGHEST_HZ + 1_000_000])
def test_clock_out_of_range(memory_hz: int) -> None:
    with pytest.raises(LuternError) as error:
        BOARDS["ecpix5-85f"].config("ddr3-x16", memory_hz=memory_hz)
    assert str(error.value) == (
        f"a memory clock of {memory_hz / 1e6:g} MHz is asked for, but the DDR3 interface of ECP5 takes 48 to 200 MHz "
        "(half of the part's clock); choose a --memory-frequency in that range."
    )
    check_memory_clock(LOWEST_HZ)
    check_memory_clock(HIGHEST_HZ)


def test_memory_clock_without_ddr3() -> None:
    with pytest.raises(LuternError) as error:
        BOARDS["ecpix5-85f"].config("host", memory_hz=75_000_000)
    assert str(error.value) == (
        "a memory clock of 75 MHz is given, but preset host has no DDR3; leave --memory-frequency out."
    )


def test_ddr3_preset_without_ddr3() -> None:
    with pytest.raises(LuternError) as error:
        BOARDS["ulx3s-85f"].config("ddr3-x16")
    assert str(error.value) == (
        "preset ddr3-x16 reads words of 128 bits from DDR3, but ULX3S 85F has SDR SDRAM x16 of 32 MiB; choose one of "
        "resident-1024, sdram-x16, host, host-45f, host-85f."
    )


def test_preset_of_a_larger_memory() -> None:
    with pytest.raises(LuternError) as error:
        BOARDS["orangecrab-25f"].config("ddr3-x16")
    assert str(error.value) == (
        "preset ddr3-x16 uses 512 MiB, but OrangeCrab r0.2 25F has a DDR3L x16 of 128 MiB; choose one of resident-25f, "
        "ddr3-x16-25f, host."
    )


def test_memory_clock_of_a_board_and_of_the_user() -> None:
    board = BOARDS["ecpix5-85f"]
    assert board.ddr3
    config = board.config("ddr3-x16")
    assert (config.clock_hz, config.memory_hz) == (board.ddr3.machine_hz, board.ddr3.memory_hz)
    config = board.config("ddr3-x16", 0, 64_000_000)
    assert (config.clock_hz, config.memory_hz) == (64_000_000, 64_000_000)
    config = board.config("ddr3-x16", 50_000_000, 64_000_000)
    assert (config.clock_hz, config.memory_hz, config.debug_tap) == (50_000_000, 64_000_000, False)
