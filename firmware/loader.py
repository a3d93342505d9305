"""Puts a laid-out program into the board's memory and proves that it arrived.

    each section ─► spans that are there already, by CHECKSUM ─► skipped, up to the first that is not
                 ─► WRITE of up to 512 bytes, many under way at once
                 ─► CHECKSUM of every span, read back ─► equal, or refused

Writes go in order, so a host that was killed in the middle leaves a beginning, and the next one goes on from there; an
image that is there already is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client, LinkError
from lutern.hw.protocol import CHECKSUM, CHECKSUM_DONE, CHUNK_BYTES, INFO, WRITE, WRITE_DONE, Opcode, crc32c
from lutern.model_ref.errors import LuternError

Section = tuple[int, NDArray[np.uint8]]
"""Address, words [count, word_bytes]."""
SPAN_CHUNKS = 128
"""Chunks that one CHECKSUM is over: 64 KiB, a fifth of a second at 3 Mbaud."""


def load_sections(
    client: Client, sections: Sequence[Section], *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write every section where the memory holds something else, then compare the checksums of all of it.

    `progress(done, total)` is called in bytes. That a program fits the machine is `program.check_fit`'s to say; an
    address that the board does not have is refused by the board.
    """
    known_bytes = INFO.unpack(client.transact(Opcode.INFO))["word_bytes"]
    total = sum(words.size for _, words in sections)
    done = 0
    for address, words in sections:
        if words.shape[1] != known_bytes:
            raise LuternError(
                f"Words of {words.shape[1]} bytes were laid out, but this board's have {known_bytes}; "
                "lay the model out for this board's configuration."
            )

        def advance(written: int, before: int = done) -> None:
            if progress is not None:
                progress(before + written, total)

        _load(client, address, words, advance)
        done += words.size


def write_words(client: Client, address: int, words: NDArray[np.uint8], advance: Callable[[int], None]) -> None:
    """Write, many frames under way at once, and compare nothing; `advance` is told the bytes that are answered for."""
    count, word_bytes = words.shape
    image = np.ascontiguousarray(words).tobytes()
    step = CHUNK_BYTES // word_bytes
    firsts = range(0, count, step)
    commands = (
        WRITE.pack(address=address + first) + image[first * word_bytes : (first + step) * word_bytes]
        for first in firsts
    )
    written = 0
    for index, answer in client.transact_all(Opcode.WRITE, commands):
        end = min(firsts[index] + step, count)
        next_address = WRITE_DONE.unpack(answer)["next_address"]
        if next_address != address + end:
            raise LinkError(
                f"The board went on at address {next_address} after a WRITE that ends at {address + end}; "
                "use gateware and program of the same release."
            )
        written += end - firsts[index]
        advance(written * word_bytes)


def _load(client: Client, base_address: int, words: NDArray[np.uint8], advance: Callable[[int], None]) -> None:
    """Write and verify one section; `advance` is told the bytes that are there."""
    count, word_bytes = words.shape
    image = np.ascontiguousarray(words).tobytes()
    step = CHUNK_BYTES // word_bytes
    starts = [0, *range(step, count, SPAN_CHUNKS * step)]  # the first chunk tells an empty memory
    spans = [(first, end - first) for first, end in zip(starts, [*starts[1:], count], strict=True)]

    def checksums(first: int, length: int) -> tuple[int, int]:
        """Of what the memory holds, and of what it should."""
        answer = client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=base_address + first, count=length))
        return CHECKSUM_DONE.unpack(answer)["crc"], crc32c(image[first * word_bytes : (first + length) * word_bytes])

    begin = 0
    for first, length in spans:
        found, wanted = checksums(first, length)
        if found != wanted:
            break
        begin = first + length
        advance(begin * word_bytes)

    write_words(client, base_address + begin, words[begin:], lambda written: advance(begin * word_bytes + written))
    for first, length in spans if begin < count else ():
        found, wanted = checksums(first, length)
        if found != wanted:
            raise LinkError(
                f"The board's memory holds something else than was sent: checksum {found:08x} over {length} words from "
                f"address {base_address + first}, {wanted:08x} wanted; load again, and if it stays so the memory is "
                "faulty."
            )
