"""Loads a laid-out program into a machine's memory, and verifies the memory.

    over the link       spans whose CHECKSUM is right already ─► skipped
                        all other spans ─► WRITEs of up to 512 bytes, many in flight
                        then the CHECKSUM of every block ─► equal, or an error
    by the back door    words that differ ─► poke ─► peek ─► equal, or an error
                        then the CHECKSUM of both ends of every section, as the chip reads them ─► equal, or an error

CHECKSUM and WRITE are commands of the link (docs/protocol.md). A chunk is the words of one WRITE, a block is 128
chunks, and a span is a part of a block. The words are written in order. So if a host was killed during a load, the next
host continues the load, and an image that is in the memory already is not sent again. A span whose first chunk is wrong
is sent whole. After a wrong block, the chip sums only the first chunk of the next block, so an empty memory costs 512
cycles per block instead of 65,536. A wrong block whose first chunk is right is halved until the wrong part has at most
``SPAN_BYTES``.

On a bad line the frames are shorter (``line_quality.py``), and the progress shows the measured error rate.

A CHECKSUM takes one cycle per byte, which is 1.6 s for 118 MB at 75 MHz, but minutes if the chip is simulated. So the
image of a simulated board is written by the back door, and the host compares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client, LinkError
from lutern.hw.protocol import CHECKSUM, CHECKSUM_DONE, CHUNK_BYTES, INFO, WRITE, WRITE_DONE, Opcode, crc32c
from lutern.model_ref.errors import LuternError

Words = NDArray[np.uint8]
"""Words as an array [count, word_bytes]."""
Progress = Callable[[str, int, int], None]
"""A function that is called with the present action, the bytes done and all bytes: (COMPARING, done, total).

On a bad line the error rate follows the action in brackets: "sending (1 byte in 980 is damaged)".
"""
COMPARING, SENDING, VERIFYING, COPYING = "comparing", "sending", "verifying", "copying"
BLOCK_BYTES = 128 * CHUNK_BYTES
"""Number of bytes that one CHECKSUM covers. The link sends so many bytes in a fifth of a second at 3 Mbaud. The chip
sums these bytes in a millisecond.
"""
SPAN_BYTES = 4 * CHUNK_BYTES
"""The wrong part of a block is located to this size. To send so many bytes takes as long as a CHECKSUM through a USB
bridge."""
COPIED_BYTES = 1 << 20
"""Number of bytes that the back door compares and copies at a time."""
END_BYTES = 1 << 9
"""Number of bytes that the chip sums at each end of a section that was written by the back door."""


class Section(NamedTuple):
    """Words at an address."""

    address: int
    words: Words


class BackDoor(Protocol):
    """A memory that the host reaches without the chip, because the board is simulated or is next to a processor."""

    def poke(self, address: int, words: Words) -> None:
        """Write words from ``address`` on."""

    def peek(self, address: int, count: int) -> Words:
        """Return ``count`` words from ``address`` on."""


def load_sections(
    client: Client,
    sections: Sequence[tuple[int, Words]],
    *,
    progress: Progress | None = None,
    door: BackDoor | None = None,
) -> None:
    """Write every section where the memory differs from it, then compare all sections. Use ``door`` if it is given.

    ``limits.check_fit`` checks that a program fits the machine. The board refuses an address that its memory does not
    have.
    """
    known_bytes = INFO.unpack(client.transact(Opcode.INFO))["word_bytes"]
    for _, words in sections:
        if words.shape[1] != known_bytes:
            raise LuternError(
                f"Words of {words.shape[1]} bytes were laid out, but this board's words have {known_bytes}; "
                "lay the model out for this board's configuration."
            )
    wanted = [Section(address, np.ascontiguousarray(words)) for address, words in sections]

    def report(what: str, done: int, total: int) -> None:
        if progress is not None:
            note = client.quality.note()
            progress(f"{what} ({note})" if note else what, done, total)

    if door is not None:
        put_sections(client, door, wanted, progress)
        return
    blocks = [block for section in wanted for block in _parts(section, BLOCK_BYTES)]
    wrong = list(_wrong_spans(client, blocks, report))
    if wrong:
        total = sum(block.words.size for block in wrong)
        write_words(client, wrong, lambda written: report(SENDING, written, total))
        total, done = sum(block.words.size for block in blocks), 0
        for block in blocks:
            _verify(client, block)
            done += block.words.size
            report(VERIFYING, done, total)


def put_sections(
    client: Client, door: BackDoor, sections: Sequence[tuple[int, Words]], progress: Progress | None = None
) -> None:
    """Write every section through ``door`` where the memory differs from it, and read the written words back.

    Then the chip sums the first and the last words of each section. This CHECKSUM stops the machine as a WRITE would.
    """
    total, done = sum(words.size for _, words in sections), 0
    for section in sections:
        for address, words in _parts(Section(*section), COPIED_BYTES):
            if not np.array_equal(door.peek(address, len(words)), words):
                door.poke(address, words)
                if not np.array_equal(door.peek(address, len(words)), words):
                    raise LuternError(
                        f"The memory does not keep the {len(words):,} words that the host puts at word {address:,}; "
                        "check its address in the host, and have the memory replaced if the error stays."
                    )
            done += words.size
            if progress is not None:
                progress(COPYING, done, total)
        address, words = section
        end_words = min(len(words), max(1, END_BYTES // words.shape[1]))
        _verify(client, Section(address, words[:end_words]))
        _verify(client, Section(address + len(words) - end_words, words[-end_words:]))


def write_words(client: Client, sections: Sequence[Section], advance: Callable[[int], None]) -> None:
    """Write words, with many frames in flight, and compare nothing.

    `advance` is called with the number of bytes that are confirmed.
    """

    def commands() -> Iterator[bytes]:
        for section in sections:
            rest = section
            while len(rest.words):
                part, rest = _cut(rest, _words_in(client.quality.chunk_bytes(), rest))
                yield WRITE.pack(address=part.address) + part.words.tobytes()

    written = 0
    word_bytes = sections[0].words.shape[1] if sections else 1
    for command, answer in client.transact_all(Opcode.WRITE, commands(), partial(_split, word_bytes)):
        section = _written(command, word_bytes)
        end, next_address = section.address + len(section.words), WRITE_DONE.unpack(answer)["next_address"]
        if next_address != end:
            raise LinkError(
                f"The board continued at address {next_address} after a WRITE that ends at {end}; "
                "use gateware and program of the same release."
            )
        written += section.words.size
        advance(written)


def _written(command: bytes, word_bytes: int) -> Section:
    """Return the address and the words of a WRITE."""
    words = np.frombuffer(command, np.uint8, offset=WRITE.byte_count).reshape(-1, word_bytes)
    return Section(int(WRITE.unpack(command)["address"]), words)


def _split(word_bytes: int, command: bytes, byte_count: int) -> Iterator[bytes]:
    """Return WRITEs that replace this WRITE, each with at most ``byte_count`` bytes of words, but at least one word."""
    for part in _parts(_written(command, word_bytes), byte_count):
        yield WRITE.pack(address=part.address) + part.words.tobytes()


def checksum(client: Client, address: int, count: int) -> int:
    """Return CRC-32C of words as the chip reads them."""
    answer = client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=address, count=count))
    return int(CHECKSUM_DONE.unpack(answer)["crc"])


def _words_in(byte_count: int, section: Section) -> int:
    """Return the number of words in a part of at most ``byte_count`` bytes, but at least 1."""
    return max(1, byte_count // int(section.words.shape[1]))


def _cut(section: Section, count: int) -> tuple[Section, Section]:
    """Return the first ``count`` words of a section, and the remaining words."""
    return Section(section.address, section.words[:count]), Section(section.address + count, section.words[count:])


def _parts(section: Section, byte_count: int) -> Iterator[Section]:
    """Yield a section in parts of at most ``byte_count`` bytes, but at least one word."""
    while len(section.words):
        part, section = _cut(section, _words_in(byte_count, section))
        yield part


def _wrong_spans(client: Client, blocks: Sequence[Section], report: Progress) -> Iterator[Section]:
    """Yield the spans in which the memory differs from the words, in order."""
    total, done, was_right = sum(block.words.size for block in blocks), 0, False
    for block in blocks:
        begins_right = not was_right and _is_there(client, next(_parts(block, CHUNK_BYTES)))
        if not was_right and not begins_right:
            found = [block]
        elif _is_there(client, block):
            found = []
        else:
            found = list(_narrowed(client, block, begins_right=begins_right))
        was_right = not found
        done += block.words.size
        report(COMPARING, done, total)
        yield from found


def _narrowed(client: Client, span: Section, *, begins_right: bool) -> Iterator[Section]:
    """Yield the wrong parts of a wrong span. If ``begins_right``, the first chunk of the span is right."""
    if span.words.size <= SPAN_BYTES or not (begins_right or _is_there(client, next(_parts(span, CHUNK_BYTES)))):
        yield span
        return
    first, second = _cut(span, max(1, len(span.words) // 2))
    first_is_wrong = not _is_there(client, first)
    if first_is_wrong:
        yield from _narrowed(client, first, begins_right=True)
    if not first_is_wrong or not _is_there(client, second):
        yield from _narrowed(client, second, begins_right=False)


def _is_there(client: Client, section: Section) -> bool:
    address, words = section
    return checksum(client, address, len(words)) == crc32c(words.reshape(-1))


def _verify(client: Client, section: Section) -> None:
    address, words = section
    found, wanted = checksum(client, address, len(words)), crc32c(words.reshape(-1))
    if found != wanted:
        raise LinkError(
            f"The board's memory holds something else than was sent: checksum {found:08x} over {len(words)} words from "
            f"address {address}, {wanted:08x} wanted; load again, and if it stays so the memory is faulty."
        )
