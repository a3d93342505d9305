# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, AxiTop is created but never elaborated, because only its ports are read.
"""The simulated board of a machine in a system with a processor: AXI4-Lite control, and memory models at the AXI4
masters.

AxiLink ─► peek, poke ─► s_axi_* ─► AxiTop ─► m_axi0_* ... ─► AxiMemory (axi_memory.h)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from lutern.firmware.axi_control import AxiLink
from lutern.hw.axi_registers import BOUNDARY
from lutern.hw.config import HwConfig
from lutern.hw.top import AxiTop
from lutern.sim.board import SimulatedBoard
from lutern.sim.port_memory import WordCounts, WordTiming

SPACING = 1 << 34
"""Distance between the default base addresses of two ports."""
POLL_CYCLES = 2000
"""Cycles between two reads of the status register."""
REGISTER_ERRORS = {2: "SLVERR", 3: "DECERR", 4: "no answer"}
RULES = (
    "VALID fell or a payload changed before READY",
    "a burst crosses 4 KiB",
    "a burst is not an INCR burst of at most 16 whole beats",
    "an address is not aligned, or is not the address of a word",
    "an ID is not 0",
    "a write is not one whole beat",
    "RREADY or BREADY is 0",
)


class _Bus:
    """The registers of a simulated board. Each access is a transaction on the board's bus."""

    def __init__(self, board: AxiBoard) -> None:
        self._board = board

    def peek(self, offset: int) -> int:
        return self._board.register_read(offset)

    def poke(self, offset: int, value: int) -> None:
        self._board.register_write(offset, value)

    def wait(self, seconds: float) -> None:
        self._board.pass_cycles(POLL_CYCLES)

    def seconds(self) -> float:
        return self._board.cycles / self._board.cycles_per_second


class AxiBoard(SimulatedBoard):
    """A simulated board with ``AxiTop``. The board is a ``Link`` like other boards.

    ``bases`` are the bus addresses at which the words of the ports begin.
    """

    def __init__(
        self, config: HwConfig, *, bases: Sequence[int] = (), timing: WordTiming | None = None, **others: Any
    ) -> None:
        self.config = config
        self._bases = list(bases) or [BOUNDARY + index * SPACING for index in range(config.memory_ports)]
        super().__init__(AxiTop(config), word_timing=timing, **others)

    def reset(self, cycles: int = 2) -> None:
        """Activate the reset pin, then set the base addresses again."""
        super().reset(cycles)
        numbers = np.array(self._bases, np.uint64)
        self._library.lutern_axi_bases(self._board, numbers.ctypes.data)
        self._link = AxiLink(_Bus(self), self._bases)

    def write(self, data: bytes) -> None:
        """See ``Link.write``."""
        self._link.write(data)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """See ``Link.read``."""
        return self._link.read(limit, timeout_s)

    def pass_cycles(self, cycles: int) -> None:
        """Simulate ``cycles`` cycles."""
        self.run(cycles)

    def register_read(self, offset: int) -> int:
        """Read a register of the AXI4-Lite slave."""
        answer = int(self._library.lutern_register_read(self._board, offset))
        self._require(answer, f"a read of register {offset:#x}")
        return answer & 0xFFFFFFFF

    def register_write(self, offset: int, value: int) -> None:
        """Write a register of the AXI4-Lite slave."""
        answer = int(self._library.lutern_register_write(self._board, offset, value))
        self._require(answer, f"a write of {value:#x} to register {offset:#x}")

    def _require(self, answer: int, what: str) -> None:
        if error := REGISTER_ERRORS.get(answer >> 32):
            raise AssertionError(f"{what} was answered with {error}, in cycle {self.cycles}")

    @property
    def bus_errors(self) -> int:
        """See ``AxiLink.bus_errors``."""
        return self._link.bus_errors

    def port_counts(self, index: int) -> WordCounts:
        """Return the cycles of a port for each cause, counted since the timing of the port was set."""
        return WordCounts(*self._library.lutern_axi_counts(self._board, index)[: len(fields(WordCounts))])

    def _check_memory(self) -> None:
        if error := self._library.lutern_word_error(self._board):
            broken = [rule for bit, rule in enumerate(RULES) if error >> bit & 1]
            raise AssertionError(f"rules of AXI4 are broken, in or before cycle {self.cycles}: {'; '.join(broken)}")
