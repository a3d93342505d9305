"""Describes the chip for which machines are searched: the chip of a board, or a device given by its limits.

    board ──────────────────► Target: limits, kinds of memory, the clock and line of the board
    LUT, block RAMs, ... ───► Target: limits, kinds of memory

The clock is not searched, because a faster clock is better in every objective. The target clock of a machine depends on
its lanes, as in the presets that were routed. A route shows the clock that is reached.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lutern.boards.board import FPGAS, Board
from lutern.boards.catalog import find_board
from lutern.boards.sdram_parts import sdram_part
from lutern.boards.system import plan_clocks
from lutern.firmware.serial_port import BAUD
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.dram import DRAMS
from lutern.model_ref.errors import LuternError

MEMORIES = ("block", "sdram", "ddr3", "host", "port")
"""Kinds of memory for the words. With "block", trits and words are in block RAM."""
CLOCKS = (
    *((preset(name).lanes, preset(name).clock_hz) for name in ("resident-25f", "resident-85f")),
    (1024, 50_000_000),
)
"""Lanes and clocks of machines that were routed; clocks between them are interpolated over the logarithm of lanes. With
1,024 lanes, only a machine that keeps the floor plan of a routed machine is faster."""
CLOCK_STEP_HZ = 5_000_000
WORDS = {"block": (2, 4, 8, 9, 16, 18), "sdram": (2, 4), "ddr3": (16,), "host": (2,), "port": (2, 4, 8, 16, 32, 64)}
"""Bytes of a word that each kind of memory may have."""


@dataclass(frozen=True)
class Target:
    """A chip for which machines are searched.

    ``board`` is the name of a board, or empty. ``part`` is the ECP5 whose static power is used. ``words`` lists
    bytes of a word by kind of memory. ``clock_hz`` is the clock of every machine, or 0 if it depends on the lanes.
    ``dram`` is the kind of memory at a port.
    """

    name: str
    board: str
    part: str
    luts: int
    block_rams: int
    multipliers: int
    words: tuple[tuple[str, tuple[int, ...]], ...]
    clock_hz: int = 0
    dram: str = ""

    @property
    def memories(self) -> tuple[str, ...]:
        """The kinds of memory that the chip has."""
        return tuple(kind for kind, _ in self.words)

    def clock_for(self, lanes: int) -> int:
        """Return the target clock of a machine with this number of lanes."""
        return self.clock_hz or clock_of(lanes)

    def fitted(self, config: HwConfig) -> HwConfig:
        """Return the machine as it is built for the board; raise ``LuternError`` if the board lacks the machine's
        memory, or cannot make its clocks.
        """
        if not self.board:
            return config.with_(debug_tap=False, cells="ecp5")
        board = find_board(self.board)
        found = board.config(config)
        plan_clocks(board, found)
        return found

    def baud(self, config: HwConfig) -> int:
        """Return the baud rate of the link."""
        return find_board(self.board).baud(config) if self.board else BAUD


def clock_of(lanes: int) -> int:
    """Return the clock for a number of lanes, by the machines that were routed."""
    known = [count for count, _ in CLOCKS]
    place = bisect.bisect_left(known, lanes)
    if place in (0, len(CLOCKS)):
        return CLOCKS[min(place, len(CLOCKS) - 1)][1]
    (below, slow), (above, fast) = CLOCKS[place - 1], CLOCKS[place]
    share = math.log(lanes / below) / math.log(above / below)
    return round((slow + share * (fast - slow)) / CLOCK_STEP_HZ) * CLOCK_STEP_HZ


def board_target(
    board: Board,
    memories: Sequence[str] = (),
    clock_hz: int = 0,
    limits: tuple[int | None, int | None, int | None] = (None, None, None),
) -> Target:
    """Return the target of a board.

    ``memories`` selects kinds of memory of the board, by default all except the host's. ``limits`` are the largest
    numbers of LUTs, block RAMs and multipliers of a machine; None means all that the chip has.

    Raises
    ------
    LuternError
        The board does not have that memory, or a limit is larger than the chip's number.
    """
    words: dict[str, tuple[int, ...]] = {"block": WORDS["block"]}
    if board.ddr3:
        words["ddr3"] = WORDS["ddr3"]
    elif board.memory:
        words["sdram"] = (sdram_part(board.memory[0]).data_bits // 8,)
    words["host"] = WORDS["host"]
    for kind in memories:
        if kind not in words:
            raise LuternError(f"--memory is {kind}, but {board.name} has {', '.join(words)}; choose one of these.")
    chosen = tuple((kind, words[kind]) for kind in memories or [kind for kind in words if kind != "host"])
    fpga = board.fpga
    counts = fpga.luts, fpga.block_rams, fpga.multipliers
    for option, limit, count in zip(("--lut", "--block-rams", "--multipliers"), limits, counts, strict=True):
        if limit is not None and limit > count:
            raise LuternError(
                f"{option} is {limit:,}, but the {fpga.name} of {board.name} has {count:,}; give at most this number."
            )
    luts, block_rams, multipliers = (
        count if limit is None else limit for limit, count in zip(limits, counts, strict=True)
    )
    return Target(board.name, board.name, fpga.name, luts, block_rams, multipliers, chosen, clock_hz)


def device_target(
    luts: int, block_rams: int, multipliers: int, memories: Sequence[str] = (), clock_hz: int = 0, dram: str = ""
) -> Target:
    """Return the target of a device with these limits.

    The device's static power is the static power of the smallest ECP5 that is at least as large. If ``multipliers`` is
    0, the device has as many multipliers as this ECP5.
    """
    for kind in memories:
        if kind not in MEMORIES:
            raise LuternError(f"there is no memory {kind}; choose one of {', '.join(MEMORIES)}.")
    if ("port" in memories) != bool(dram) or (dram and dram not in DRAMS):
        raise LuternError(
            f"--dram says what the memory at a port is ({', '.join(DRAMS)}), so it is for --memory port; give both, or "
            "neither."
        )
    parts = sorted(FPGAS.values(), key=lambda part: part.luts)
    part = next((part for part in parts if part.luts >= luts and part.block_rams >= block_rams), parts[-1])
    multipliers = multipliers or part.multipliers
    name = f"a device of {luts:,} LUT, {block_rams:,} block RAMs and {multipliers:,} multipliers"
    words = tuple((kind, WORDS[kind]) for kind in dict.fromkeys(memories or ("block",)))
    return Target(name, "", part.name, luts, block_rams, multipliers, words, clock_hz, dram)


__all__ = ["MEMORIES", "Target", "board_target", "clock_of", "device_target"]
