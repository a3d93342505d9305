"""Asks the chip for a march test of its SDRAM, range by range.

    range ─► MEMORY_TEST of up to 1 M words ─► errors, and the first of them ─► Result, the sum

What the range held is lost: test before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lutern.firmware.link import Client
from lutern.hw.config import HwConfig
from lutern.hw.protocol import MEMORY_TEST, MEMORY_TEST_DONE, Opcode

STEP_WORDS = 1 << 20
WORDS_PER_S = 100_000
"""Slowest: a simulated board; a real one is some hundred times as fast."""


@dataclass(frozen=True)
class Result:
    """``errors`` words of ``words`` were wrong, the first of them at ``address``: ``wanted`` and ``got``."""

    words: int
    errors: int
    address: int
    wanted: int
    got: int
    cycles: int

    def text(self, word_bytes: int) -> str:
        """One sentence, with the bits that were wrong at the first address."""
        if not self.errors:
            return f"memory: {self.words:,} words, no error, {self.cycles:,} cycles"
        wrong = self.wanted ^ self.got
        bits = ", ".join(str(bit) for bit in range(8 * word_bytes) if wrong >> bit & 1)
        digits = 2 * word_bytes
        return (
            f"memory: {self.errors:,} of the words read from {self.words:,} were wrong, the first at word "
            f"{self.address:#x}: {self.wanted:0{digits}x} was written, {self.got:0{digits}x} came back (bits {bits}); "
            "check the phase of the memory's clock and its solder joints."
        )


def march(
    client: Client, config: HwConfig, first: int = 0, count: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """March over ``count`` words from ``first`` on, all of the memory by default; ``progress`` is told words."""
    total = config.memory_words - first if count is None else count
    errors = cycles = done = 0
    address = wanted = got = 0
    while True:
        step = min(STEP_WORDS, total - done)
        answer = MEMORY_TEST_DONE.unpack(client.transact(
            Opcode.MEMORY_TEST, MEMORY_TEST.pack(first=first + done, count=step),
            timeout_s=client.timeout_s + step / WORDS_PER_S,
        ))
        if answer["errors"] and not errors:
            address, wanted, got = answer["address"], answer["wanted"], answer["got"]
        errors, cycles, done = errors + answer["errors"], cycles + answer["cycles"], done + step
        if progress is not None:
            progress(done, total)
        if done >= total:
            return Result(total, errors, address, wanted, got, cycles)


__all__ = ["Result", "march"]
