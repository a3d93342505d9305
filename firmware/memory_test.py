"""Tests the DRAM by marches that the chip runs, finds the size of the DRAM, and sets the phase of an SDRAM's clock.

    range ─► MEMORY_TESTs of up to 256 K words ─► errors, and the first wrong word ─► Result for the whole range
    WRITE 2^k, ..., 4, 2, 1, 0 ─► CHECKSUM of each ─► the lowest 2^k that reads as word 0 is the part's size
    PHASE +1, test, PHASE +1, test, ... fails ─► back, PHASE -1, test, ... fails ─► the middle

Words in capitals are commands of the link (docs/protocol.md). A march writes and reads every word of a range several
times (hw/memory/march_test.py). A test overwrites its range, so test before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lutern.firmware.link import Client
from lutern.firmware.loader import Section, checksum, write_words
from lutern.hw.config import HwConfig
from lutern.hw.protocol import MEMORY_TEST, MEMORY_TEST_DONE, PHASE, PHASE_DONE, Opcode, crc32c
from lutern.model_ref.errors import LuternError

STEP_WORDS = 1 << 18
SWEEP_WORDS = 4096
SWEEP_STEPS = 64
"""Largest number of steps in each direction: a period of 10 ns has 32 to 64 steps."""
WORDS_PER_S = 10_000
"""The lowest speed of a march, on a simulated board. A real board is about 500 times as fast."""


@dataclass(frozen=True)
class Result:
    """The result of a march over ``words`` words: ``errors`` reads were wrong. The first wrong word is at ``address``:
    ``wanted`` was written, and ``got`` was read.

    ``wrong_bytes`` has a bit for each byte of the words, modulo ``WRONG_BYTES``, that was wrong in any word.
    """

    words: int
    errors: int
    address: int
    wanted: int
    got: int
    cycles: int
    wrong_bytes: int = 0

    def text(self, word_bytes: int) -> str:
        """Return a sentence about the result, with the wrong bits of the first wrong word."""
        if not self.errors:
            return f"memory: {self.words:,} words, no error, {self.cycles:,} cycles"
        wrong = self.wanted ^ self.got
        bits = ", ".join(str(bit) for bit in range(8 * word_bytes) if wrong >> bit & 1)
        digits = 2 * word_bytes
        return (
            f"memory: {self.errors:,} of the words read from {self.words:,} were wrong, the first at word "
            f"{self.address:#x}: {self.wanted:0{digits}x} was written, {self.got:0{digits}x} came back (bits {bits}); "
            "check the memory's clock, its supply and its solder joints."
        )


def march(
    client: Client,
    config: HwConfig,
    first: int = 0,
    count: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """March over ``count`` words from ``first`` on, by default up to the end of the memory.

    ``progress`` is called with (words done, all words).
    """
    total = config.memory_words - first if count is None else count
    errors = cycles = done = wrong_bytes = 0
    address = wanted = got = 0
    while True:
        step = min(STEP_WORDS, total - done)
        answer = MEMORY_TEST_DONE.unpack(
            client.transact(
                Opcode.MEMORY_TEST,
                MEMORY_TEST.pack(first=first + done, count=step),
                timeout_s=client.timeout_s + step / WORDS_PER_S,
            )
        )
        if answer["errors"] and not errors:
            address, wanted, got = answer["address"], answer["wanted"], answer["got"]
        errors, cycles, done = errors + answer["errors"], cycles + answer["cycles"], done + step
        wrong_bytes |= answer["wrong_bytes"]
        if progress is not None:
            progress(done, total)
        if done >= total:
            return Result(total, errors, address, wanted, got, cycles, wrong_bytes)


def check_size(client: Client, config: HwConfig) -> None:
    """Raise ``LuternError`` if the memory part is smaller than the machine's memory.

    Such a part ignores the highest bits of an address, so a higher address reads the word of a lower address. The check
    overwrites the word at each power of two, and word 0.
    """
    words = {1 << bit: np.full((1, config.word_bytes), bit, np.uint8) for bit in range(config.address_bits)}
    words = {address: word for address, word in words.items() if address < config.memory_words}
    zero = np.full((1, config.word_bytes), 0xA5, np.uint8)
    for address in sorted(words, reverse=True):
        write_words(client, [Section(address, words[address])], lambda written: None)
    write_words(client, [Section(0, zero)], lambda written: None)
    size = config.memory_words
    for address in sorted(words, reverse=True):
        if checksum(client, address, 1) != crc32c(zero.tobytes()):
            break
        size = address
    if size < config.memory_words:
        mib = [count * config.word_bytes / (1 << 20) for count in (size, config.memory_words)]
        raise LuternError(
            f"the memory part repeats after {mib[0]:,g} MiB, but the machine {config.name} needs {mib[1]:,g} MiB; "
            f"use a board with the larger part, or build a machine with memory_words of at most {size:,}."
        )


@dataclass(frozen=True)
class Window:
    """The range of steps of the clock's phase at which the memory passes, relative to the initial phase.

    After the search, the phase is ``middle``.
    """

    first: int
    last: int

    @property
    def middle(self) -> int:
        return (self.first + self.last) // 2


def centre_phase(client: Client, config: HwConfig, words: int = SWEEP_WORDS, most: int = SWEEP_STEPS) -> Window:
    """Find the phases of the SDRAM's clock, around the present phase, at which the memory passes. Move the phase to the
    middle of these phases.

    The memory must pass at the present phase. Only the last test in each direction can run at a phase at which the
    part misreads commands.
    """

    def passes() -> bool:
        return march(client, config, 0, min(words, config.memory_words)).errors == 0

    def move(steps: int) -> int:
        return int(PHASE_DONE.unpack(client.transact(Opcode.PHASE, PHASE.pack(steps=steps)))["place"])

    start = move(0)
    if not passes():
        raise LuternError(
            f"the memory fails its test at the phase {start} of its clock, where it should be safe; check the part, "
            "its solder joints and its supply."
        )
    ends = []
    for direction in (1, -1):
        reached = 0
        while reached < most:
            move(direction)
            if not passes():
                move(-direction)
                break
            reached += 1
        move(-direction * reached)
        ends.append(direction * reached)
    window = Window(ends[1], ends[0])
    move(window.middle)
    if not passes():
        raise LuternError(
            f"the memory passes at {window.last - window.first + 1} phases of its clock, but no longer in their "
            f"middle: a command was misread at the last phase; reset the board and try again."
        )
    return window


__all__ = ["Result", "Window", "centre_phase", "check_size", "march"]
