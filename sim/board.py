# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""The simulated board: the compiled top level with the same `Link` as a serial port.

    Client ─► SimulatedBoard.write ─► rx queue ─► gateware ─► tx queue ─► SimulatedBoard.read ─► Client
                                                     └─► taps ─► board.taps("codes")

Time passes only inside `read`. One second of a reader's timeout is `cycles_per_second` cycles, so the result does not
depend on how fast this computer simulates.
"""

import ctypes
import functools
import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from amaranth.lib import wiring
from numpy.typing import NDArray

from lutern.firmware.serial_port import CYCLES_PER_SECOND
from lutern.hw.config import HwConfig
from lutern.hw.top import SerialTop, Top
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import open_plain
from lutern.model_ref.output_files import atomic_file
from lutern.sim.dram import DramTop
from lutern.sim.port_memory import WordCounts, WordTiming
from lutern.sim.verilate import Memory, list_taps, memory_of, verilate

_BLOCK_WORDS = 1 << 12  # number of words of a memory that are saved as one block
_SLICE_CYCLES = 500_000  # cycles of one call into the library; Ctrl-C takes effect between two calls


@dataclass(frozen=True)
class TapLog:
    """The record of a tap: `cycles` [n] and `payloads` [n, bytes] in little-endian order."""

    cycles: NDArray[np.uint64]
    payloads: NDArray[np.uint8]
    bits: int
    is_signed: bool

    def __len__(self) -> int:
        return len(self.cycles)

    def integers(self) -> NDArray[Any]:
        """Return the payloads as numbers: int64 up to 63 bits (64 if signed), Python integers for wider payloads."""
        if self.bits + (not self.is_signed) > 64:
            return np.array([self._integer(row.tobytes()) for row in self.payloads], dtype=object)
        padded = np.zeros((len(self), 8), np.uint8)
        padded[:, : self.payloads.shape[1]] = self.payloads
        values = padded.view("<i8")[:, 0]
        return values << (64 - self.bits) >> (64 - self.bits) if self.is_signed else values

    def lanes(self, bits: int, is_signed: bool = True) -> NDArray[np.int64]:
        """Split each payload into numbers of `bits` bits, lowest first, and return them as int64 [n, parts]."""
        parts = self.bits // bits
        columns = np.unpackbits(self.payloads, axis=1, bitorder="little")[:, : parts * bits].reshape(-1, parts, bits)
        weights = np.left_shift(np.int64(1), np.arange(bits, dtype=np.int64))
        if is_signed:
            weights[-1] = -weights[-1]
        return np.asarray(columns.astype(np.int64) @ weights)

    def _integer(self, raw: bytes) -> int:
        value = int.from_bytes(raw, "little")
        return value - (1 << self.bits) if self.is_signed and value >> (self.bits - 1) else value


def _load(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    board, size, u32, u64, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p
    for name, result, arguments in (
        ("create", board, ()),
        ("destroy", None, (board,)),
        ("reset", None, (board, u64)),
        ("pause", None, (board, u64, u32, u32)),
        ("write", None, (board, text, size)),
        ("run", size, (board, u64)),
        ("read", size, (board, text, size)),
        ("cycle", u64, (board,)),
        ("record", None, (board, u32, ctypes.c_bool)),
        ("tap_count", size, (board, u32)),
        ("tap_cycles", board, (board, u32)),
        ("tap_payloads", board, (board, u32)),
        ("tap_clear", None, (board, u32)),
    ):
        function = getattr(library, f"lutern_{name}")
        function.restype, function.argtypes = result, arguments
    of_some: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("memory_clock", None, (board, u32, u32)),
        ("memory_error", u64, (board,)),
        ("wires", None, (board, u64)),
        ("memory_write", ctypes.c_bool, (board, u64, board, u64)),
        ("memory_read", ctypes.c_bool, (board, u64, board, u64)),
        ("word_timing", None, (board, board)),
        ("word_counts", ctypes.POINTER(u64), (board,)),
        ("word_error", u32, (board,)),
        ("upset_register", None, (board, u64)),
        ("upset_memory", None, (board, u32, u32, text, size)),
        ("axi_bases", None, (board, board)),
        ("axi_counts", ctypes.POINTER(u64), (board, u32)),
        ("register_write", u64, (board, u32, u32)),
        ("register_read", u64, (board, u32)),
        ("trace", None, (board, board, size, text)),
        ("trace_signals", None, (board, text, u64, u64)),
        ("trace_header", None, (board, text)),
        ("save", board, (board, ctypes.POINTER(u64))),
        ("restore", None, (board, board, u64)),
    )
    for name, result, arguments in of_some:
        if hasattr(library, f"lutern_{name}"):
            function = getattr(library, f"lutern_{name}")
            function.restype, function.argtypes = result, arguments
    return library


class SimulatedBoard:
    """The gateware of `component` (byte streams rx and tx, taps) as a link.

    Parameters
    ----------
    component: the component to simulate, with or without its memory part.
    pause_share: fraction of the cycles in which rx pauses, and in which tx pauses. `seed` seeds the pauses.
    cycles_per_second: number of cycles that count as one second of a reader's timeout.
    library: a compiled simulation to use instead of the simulation of `component`, for example a simulated netlist.
    memory_clock: (a, b) if the memory's clock makes a cycles while the machine makes b cycles. The default is the ratio
        of the clocks in the config for DDR3, and (1, 1) for other memories.
    word_timing: times in which the memory at the port `words` answers. The default is a DRAM at the machine's clock.

    Each call of `run` or `read` raises AssertionError if the machine has broken a rule of its memory.
    """

    def __init__(
        self,
        component: wiring.Component,
        *,
        pause_share: float = 0.0,
        seed: int = 0,
        cycles_per_second: int = CYCLES_PER_SECOND,
        library: Path | None = None,
        memory_clock: tuple[int, int] | None = None,
        word_timing: WordTiming | None = None,
    ) -> None:
        self._taps = {tap.name: (index, tap) for index, tap in enumerate(list_taps(component))}
        self._path = library or verilate(component)
        self._library = _load(str(self._path))
        self._board: int | None = self._library.lutern_create()
        has_door = hasattr(self._library, "lutern_memory_write")  # the memories of a netlist have other names
        self._memory = memory_of(component) if has_door else None
        if self._memory is not None:
            config: Any = component.config
            if memory_clock is None:
                ratio = Fraction(config.memory_hz, config.clock_hz) if config.memory == "ddr3" else Fraction(1)
                memory_clock = ratio.numerator, ratio.denominator
            if self._memory.part or (self._memory.is_port and not self._memory.axi_ports):
                self._library.lutern_memory_clock(self._board, *memory_clock)
            if self._memory.is_port:
                self.set_word_timing(word_timing or WordTiming.dram(config.clock_hz))
        self.cycles_per_second = cycles_per_second
        self.was_traced = False
        """Whether waves were recorded, see waves.py."""
        share = round(65536 * pause_share)
        self._library.lutern_pause(self._board, seed, share, share)
        self.reset()

    def write(self, data: bytes) -> None:
        """Queue bytes. The gateware receives them while `read` simulates."""
        self._require_open()
        self._library.lutern_write(self._board, data, len(data))

    def read(self, limit: int, timeout_s: float) -> bytes:
        """Simulate until a frame has arrived, or until `timeout_s` seconds have passed, counted in cycles."""
        budget = round(timeout_s * self.cycles_per_second)
        waiting = self.run(0)
        while not waiting and budget > 0:
            step = min(budget, _SLICE_CYCLES)
            waiting = self.run(step)
            budget -= step
        if not waiting:
            return b""
        buffer = ctypes.create_string_buffer(min(limit, waiting))
        count = self._library.lutern_read(self._board, buffer, len(buffer))
        return buffer.raw[:count]

    def run(self, cycles: int) -> int:
        """Simulate `cycles` cycles, or fewer if a frame leaves. Return the number of bytes that can be read."""
        self._require_open()
        waiting = int(self._library.lutern_run(self._board, cycles))
        if self._memory is not None:
            self._check_memory()
        return waiting

    def _check_memory(self) -> None:
        """Raise AssertionError if the machine has broken a rule of its memory."""
        if self.memory.blocks:
            return
        if self.memory.is_port:
            if error := self._library.lutern_word_error(self._board):
                what = "is invalid, or beyond the end of the memory" if error & 1 else "changed before it was accepted"
                raise AssertionError(f"a job at the port of the memory {what}, in or before cycle {self.cycles}")
        elif error := self._library.lutern_memory_error(self._board):
            model = self.memory.part.files[0] if self.memory.part else ""
            raise AssertionError(
                f"the memory part's rule {error & 255} of {model} is broken at {{bank, row}} "
                f"{error >> 8:#x}, in or before cycle {self.cycles}"
            )

    def poke(self, address: int, words: NDArray[np.uint8]) -> None:
        """Write words [count, word_bytes] directly into the machine's memory, without the link."""
        data = np.ascontiguousarray(words)
        self._reach(self._library.lutern_memory_write, address, data)

    def peek(self, address: int, count: int) -> NDArray[np.uint8]:
        """Return words [count, word_bytes] read directly from the machine's memory, without the link."""
        data = np.zeros((count, self.memory.word_bytes), np.uint8)
        self._reach(self._library.lutern_memory_read, address, data)
        return data

    def _reach(self, function: Any, address: int, data: NDArray[np.uint8]) -> None:
        memory, (count, word_bytes) = self.memory, data.shape
        fits = word_bytes == memory.word_bytes and memory.has(address, count)
        if not fits or not function(self._board, address, data.ctypes.data, count):
            raise LuternError(
                f"{count:,} words of {word_bytes} bytes at word {address:,} do not fit the simulated memory of "
                f"{memory.words:,} words of {memory.word_bytes} bytes; lay the model out for it."
            )

    @property
    def has_waves(self) -> bool:
        """Whether `trace` writes waves."""
        return hasattr(self._library, "lutern_trace_signals")

    @property
    def has_back_door(self) -> bool:
        """Whether `poke` and `peek` can access the words."""
        return self._memory is not None

    @property
    def memory(self) -> Memory:
        """The memory that `poke` and `peek` access. Raises LuternError if there is no such memory."""
        if self._memory is None:
            raise LuternError(
                "This machine's words are with the host, or share block RAM with its state, so they cannot be reached; "
                "load the model over the link."
            )
        return self._memory

    def set_word_timing(self, timing: WordTiming) -> None:
        """Set the times in which the memory at the port `words` answers from now on. The counts restart at 0."""
        self._library.lutern_word_timing(self._board, timing.numbers())

    def set_wires(self, wires: int) -> None:
        """Set the delays and faults of the wires between the chip and its DDR3 part from now on. ``wires`` is a value
        of ``ddr3_pins.wires_layout``."""
        self._library.lutern_wires(self._board, wires)

    def word_counts(self) -> WordCounts:
        """Return the cycles of the memory at the port `words` for each cause, counted since the memory's timing was
        set."""
        return WordCounts(*self._library.lutern_word_counts(self._board)[: len(fields(WordCounts))])

    def upset_register(self, bit: int) -> None:
        """Simulate one cycle in which a bit of a register changes. The library must have upsets, see ``upsets.py``."""
        self._library.lutern_upset_register(self._board, bit)

    def upset_memory(self, memory: int, address: int, mask: int) -> None:
        """Simulate one cycle in which the bits of ``mask`` change in a word of a memory of the chip."""
        raw = mask.to_bytes(-(-mask.bit_length() // 8), "little")
        self._library.lutern_upset_memory(self._board, memory, address, raw, len(raw))

    def reset(self, cycles: int = 2) -> None:
        """Activate the reset pin. Bytes in flight in either direction are lost."""
        self._library.lutern_reset(self._board, cycles)

    def pause(self, share: float, seed: int) -> None:
        """From now on, pause rx and tx in a fraction ``share`` of the cycles."""
        self._library.lutern_pause(self._board, seed, round(65536 * share), round(65536 * share))

    def trace(
        self, path: Path, cycles: Sequence[int], signals: Sequence[str] = (), zero: int = 0, ticks: int = 2
    ) -> None:
        """Write toggles, or waves of ``signals``, to the files ``path``.0, ``path``.1 and so on. Each file begins at
        one of ``cycles`` and ends at the next of ``cycles``.

        The library must support toggles or waves, see `verilate`. A cycle of waves lasts ``ticks`` ns, and cycle
        ``zero`` is time 0.
        """
        self._require_open()
        if signals:
            self._library.lutern_trace_signals(self._board, "\n".join(signals).encode(), zero, ticks)
        edges = np.array(cycles, np.uint64)
        self._library.lutern_trace(self._board, edges.ctypes.data, len(edges), os.fsencode(path))

    def end_trace(self) -> None:
        """End the file that is being written."""
        if self._board is not None:
            self.trace(Path(), [])

    def trace_header(self, path: Path) -> None:
        """Write a VCD file that declares all signals and contains no waves."""
        self._require_open()
        self._library.lutern_trace_header(self._board, os.fsencode(path))

    def save(self, path: Path, **others: NDArray[Any]) -> None:
        """Write the state of chip and memory to a file for `restore`. The records of the taps are not saved.

        `others` are arrays of the caller, which are stored in the file, too. Raises LuternError if the file cannot be
        written, and for a library that was not compiled with `savable` (see `verilate`).
        """
        if not hasattr(self._library, "lutern_save"):
            raise LuternError(
                "This simulation was not compiled so that its state can be saved; see verilate(savable=True)."
            )
        count = ctypes.c_uint64()
        chip = ctypes.string_at(self._library.lutern_save(self._board, ctypes.byref(count)), count.value)
        blocks = list(self._blocks()) if self._has_words else []
        arrays: dict[str, Any] = {
            "key": self._key,
            "chip": np.frombuffer(chip, np.uint8),
            "places": np.array([place for place, _ in blocks], np.int64),
            "words": np.concatenate([words for _, words in blocks]) if blocks else np.zeros((0, 1), np.uint8),
        }
        with atomic_file(path) as file:
            np.savez(file, **{**arrays, **others})

    def restore(self, path: Path) -> dict[str, NDArray[Any]]:
        """Continue from a state that a board with the same library saved. Return the arrays that were stored with the
        state.

        Raises LuternError for a file that is damaged or belongs to another simulation. In this case the board is
        unchanged.
        """
        try:
            with open_plain(path, "saved state") as file, np.load(file, allow_pickle=False) as saved:
                kept = dict(saved)
            key, chip, places, words = (kept.pop(name) for name in ("key", "chip", "places", "words"))
        except FileNotFoundError:
            raise LuternError(f"{path} is not there; run the simulation from its beginning.") from None
        except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
            raise LuternError(f"{path} is damaged, or no saved state; run the simulation from its beginning.") from None
        if not np.array_equal(key, self._key):
            raise LuternError(f"{path} holds the state of another simulation; run this one from its beginning.")
        for place, block in self._blocks() if self._has_words else ():
            self.poke(place, np.zeros_like(block))
        at = 0
        for place in places.tolist():
            count = min(_BLOCK_WORDS, self.memory.words - place)
            self.poke(place, words[at : at + count])
            at += count
        self._library.lutern_restore(self._board, chip.ctypes.data, len(chip))
        return kept

    @property
    def _has_words(self) -> bool:
        """Whether words must be saved. The words of a memory part need not be saved, because they are in the model that
        is saved with the chip."""
        return self._memory is not None and self._memory.is_port

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (place, words) of the blocks of memory that are not zero."""
        for place in range(0, self.memory.words, _BLOCK_WORDS):
            words = self.peek(place, min(_BLOCK_WORDS, self.memory.words - place))
            if words.any():
                yield place, words

    @functools.cached_property
    def _key(self) -> NDArray[np.uint8]:
        """A digest of the simulation to which a saved state belongs."""
        return np.frombuffer(hashlib.sha256(self._path.read_bytes()).digest(), np.uint8)

    @property
    def cycles(self) -> int:
        """Cycles since power-up."""
        return int(self._library.lutern_cycle(self._board))

    @property
    def tap_names(self) -> list[str]:
        return list(self._taps)

    def record(self, *names: str, on: bool = True) -> None:
        """Start to record the named taps, or stop if ``on`` is false. If no names are given, this applies to all
        taps."""
        for name in names or self._taps:
            self._library.lutern_record(self._board, self._index(name), on)

    def taps(self, name: str, *, clear: bool = False) -> TapLog:
        """Return the tap's record so far. If `clear` is true, also empty the record."""
        index, tap = self._index(name), self._taps[name][1]
        count = self._library.lutern_tap_count(self._board, index)
        cycles = np.zeros(count, np.uint64)
        payloads = np.zeros((count, tap.byte_count), np.uint8)
        if count:
            ctypes.memmove(cycles.ctypes.data, self._library.lutern_tap_cycles(self._board, index), cycles.nbytes)
            ctypes.memmove(payloads.ctypes.data, self._library.lutern_tap_payloads(self._board, index), payloads.nbytes)
        if clear:
            self._library.lutern_tap_clear(self._board, index)
        return TapLog(cycles, payloads, tap.bits, tap.is_signed)

    def _index(self, name: str) -> int:
        if name not in self._taps:
            raise LuternError(f"The simulated board has no tap {name!r}; it has {', '.join(self._taps) or 'none'}.")
        return self._taps[name][0]

    def _require_open(self) -> None:
        if self._board is None:
            raise LuternError("The simulated board was closed; simulate it again.")

    def close(self) -> None:
        """Free the simulation."""
        board, self._board = self._board, None
        if board is not None:
            self._library.lutern_destroy(board)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_board", None) is not None:
            self.close()


def simulated(config: HwConfig, divisor: int | None = None) -> wiring.Component:
    """Return the component that simulates a board of this machine. If ``divisor`` is given, the link is a serial
    line."""
    if config.memory in ("sdram", "ddr3"):
        return DramTop(config, divisor)
    return Top(config) if divisor is None else SerialTop(config, divisor)
