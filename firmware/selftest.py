"""Tests a board: does the link work, does the memory keep its words, are the tokens right?

    check_memory   patterns over a range, read back by checksum; the first wrong word and its bits are found by halving
    check_decode   a short text and its logits against the integer model

`lutern selftest` runs both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client
from lutern.firmware.loader import Section, checksum, write_words
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.protocol import crc32c
from lutern.model_ref.errors import LuternError

Words = NDArray[np.uint8]
Progress = Callable[[int, int], None]
SPAN_WORDS = 1 << 14


def check_memory(client: Client, config: HwConfig, most_words: int, seed: int, progress: Progress | None = None) -> str:
    """Write random words, then their complements, to the first ``most_words`` of each memory; return a text that
    describes the test.

    A ``LuternError`` is raised at the first wrong word. The test overwrites the memory.
    """
    patterns = [_pattern(config, base, most_words, seed) for base in _bases(config)]
    total = 2 * sum(words.size for _, words, _ in patterns)
    done = 0
    for base, words, flips in patterns:
        for pattern in (words, words ^ flips):

            def advance(written: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + written, total)

            write_words(client, [Section(base, pattern)], advance)
            for first in range(0, len(pattern), SPAN_WORDS):
                _compare(client, base + first, pattern[first : first + SPAN_WORDS])
            done += pattern.size
    count = sum(len(words) for _, words, _ in patterns)
    return f"{count:,} words of {config.word_bytes} bytes, and their complements, written and read back"


def _bases(config: HwConfig) -> list[int]:
    return [0, TRIT_MEMORY] if config.source == "resident" else [0]


def _pattern(config: HwConfig, base: int, most_words: int, seed: int) -> tuple[int, Words, Words]:
    """Return the address, random words, and a mask of the bits that exist: the last part of a beat has only some
    bits."""
    if base == 0:
        exist = np.full((min(most_words, config.memory_words), config.word_bytes), 0xFF, np.uint8)
    else:
        beats = np.zeros(
            (min(most_words >> config.part_bits, config.trit_beats), config.word_bytes << config.part_bits), np.uint8
        )
        beats[:, : config.beat_bytes] = 0xFF
        exist = beats.reshape(-1, config.word_bytes)
    return base, np.random.default_rng(seed).integers(0, 256, exist.shape, dtype=np.uint8) & exist, exist


def _compare(client: Client, address: int, words: Words) -> None:
    """Raise an error for the first word that is wrong."""
    found = checksum(client, address, len(words))
    if found == crc32c(words.tobytes()):
        return
    while len(words) > 1:
        half = len(words) // 2
        found = checksum(client, address, half)
        if found != crc32c(words[:half].tobytes()):
            words = words[:half]
        else:
            address, words = address + half, words[half:]
            found = checksum(client, address, len(words))
    word = words.tobytes()
    bits = [bit for bit in range(8 * len(word)) if crc32c(_flipped(word, bit)) == found]
    what = f"bit {bits[0]}" if bits else "more than one bit"
    raise LuternError(
        f"The memory is faulty: word {address} was written as {word[::-1].hex()} and differs in {what}; "
        "check clock and supply, and have the memory replaced if it stays so."
    )


def _flipped(word: bytes, bit: int) -> bytes:
    return (int.from_bytes(word, "little") ^ 1 << bit).to_bytes(len(word), "little")


def check_decode(session: Session, golden: GoldenSession, count: int) -> str:
    """Choose the likeliest token ``count`` times, beginning with token 0, and compare with the integer model each time.

    A ``LuternError`` is raised if the chip differs, or if its memory has damaged the weights in the meantime.
    """
    token = 0
    for step in range(count):
        feeds = [Feed(token, fresh=step == 0)]
        chosen, wanted = session.run(feeds).tokens[0][0], golden.run(feeds).tokens[0][0]
        got, expected = session.logits(), golden.logits()
        wrong = np.flatnonzero(got.sums != expected.sums[got.tokens])
        if len(wrong) or got.scale != expected.scale:
            at = f"logit {got.tokens[wrong[0]]}" if len(wrong) else "the logits' scale"
            raise LuternError(
                f"The chip computes wrongly: {at} of step {step} is not the integer model's; build the "
                "bitstream with a lower clock, and report it if it stays so."
            )
        if chosen != wanted:
            raise LuternError(
                f"The chip chose token {chosen} where the integer model chose {wanted}, at step {step}; "
                "build the bitstream with a lower clock, and report it if it stays so."
            )
        token = chosen
    if session.repairs:
        raise LuternError(" ".join(session.repairs))
    return f"{count} tokens and their logits equal the integer model's"


__all__ = ["check_decode", "check_memory"]
