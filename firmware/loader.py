"""Puts a laid-out program into a machine's memory and proves that it arrived.

    over the link       blocks that are right already, by CHECKSUM ─► skipped
                        all others ─► WRITE of up to 512 bytes, many under way at once
                        every block by CHECKSUM, read back ─► equal, or refused
    by the back door    of a simulated memory: words that differ ─► poke ─► peek ─► equal, or refused
                        the ends of every section by CHECKSUM: the chip reads the same

Writes go in order, so a host that was killed in the middle leaves a beginning, and the next one goes on from there; an
image that is there already is not sent again. A block whose first chunk is wrong is wrong: after a wrong block only
that chunk is summed first, so that an empty memory costs 512 cycles a block instead of 65,536.

A CHECKSUM takes a cycle a byte: 1.6 s for 118 MB at 75 MHz, minutes where the chip is simulated. So a simulated board
gets its image by the back door, which the host compares by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client, LinkError
from lutern.hw.protocol import CHECKSUM, CHECKSUM_DONE, CHUNK_BYTES, INFO, WRITE, WRITE_DONE, Opcode, crc32c
from lutern.model_ref.errors import LuternError

Words = NDArray[np.uint8]
"""[count, word_bytes]."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, and bytes of it: (COMPARING, done, total)."""
COMPARING, SENDING, VERIFYING, COPYING = "comparing", "sending", "verifying", "copying"
BLOCK_BYTES = 128 * CHUNK_BYTES
"""What one CHECKSUM is over: a fifth of a second at 3 Mbaud, a millisecond of the chip's."""
COPIED_BYTES = 1 << 20
"""What is compared and copied at a time by the back door."""
END_BYTES = 1 << 12
"""What the chip sums at each end of a section that came by the back door."""


class Section(NamedTuple):
    """Words at an address."""

    address: int
    words: Words


class BackDoor(Protocol):
    """A memory that the host reaches without the chip: that of a simulated board."""

    def poke(self, address: int, words: Words) -> None:
        """Put words there."""

    def peek(self, address: int, count: int) -> Words:
        """The words that are there."""


def load_sections(
    client: Client,
    sections: Sequence[tuple[int, Words]],
    *,
    progress: Progress | None = None,
    door: BackDoor | None = None,
) -> None:
    """Put every section where the memory holds something else, then compare all of it; through ``door`` if it is given.

    That a program fits the machine is ``program.check_fit``'s to say; an address that the board does not have is
    refused by the board.
    """
    known_bytes = INFO.unpack(client.transact(Opcode.INFO))["word_bytes"]
    for _, words in sections:
        if words.shape[1] != known_bytes:
            raise LuternError(
                f"Words of {words.shape[1]} bytes were laid out, but this board's have {known_bytes}; "
                "lay the model out for this board's configuration."
            )
    wanted = [Section(address, np.ascontiguousarray(words)) for address, words in sections]
    report = progress or (lambda what, done, total: None)
    if door is not None:
        put_sections(client, door, wanted, progress)
        return
    blocks = [block for section in wanted for block in _parts(section, BLOCK_BYTES)]
    wrong = list(_wrong_blocks(client, blocks, report))
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
    """Put every section through ``door`` and read all of it back there; the chip sums the ends of each, which stops the
    machine as a WRITE would."""
    total, done = sum(words.size for _, words in sections), 0
    for section in sections:
        for address, words in _parts(Section(*section), COPIED_BYTES):
            if not np.array_equal(door.peek(address, len(words)), words):
                door.poke(address, words)
                if not np.array_equal(door.peek(address, len(words)), words):
                    raise LuternError(
                        f"The simulated memory does not keep the {len(words):,} words at word {address:,}; "
                        "lay the model out for this board's configuration."
                    )
            done += words.size
            if progress is not None:
                progress(COPYING, done, total)
        address, words = section
        end_words = min(len(words), max(1, END_BYTES // words.shape[1]))
        _verify(client, Section(address, words[:end_words]))
        _verify(client, Section(address + len(words) - end_words, words[-end_words:]))


def write_words(client: Client, sections: Sequence[Section], advance: Callable[[int], None]) -> None:
    """Write, many frames under way at once, and compare nothing; `advance` is told the bytes that are answered for."""
    ends: dict[int, tuple[int, int]] = {}  # of the commands under way: address after the last word, bytes

    def commands() -> Iterator[bytes]:
        numbers = count()
        for section in sections:
            for address, words in _parts(section, CHUNK_BYTES):
                ends[next(numbers)] = address + len(words), words.size
                yield WRITE.pack(address=address) + words.tobytes()

    written = 0
    for index, answer in client.transact_all(Opcode.WRITE, commands()):
        end, size = ends.pop(index)
        next_address = WRITE_DONE.unpack(answer)["next_address"]
        if next_address != end:
            raise LinkError(
                f"The board went on at address {next_address} after a WRITE that ends at {end}; "
                "use gateware and program of the same release."
            )
        written += size
        advance(written)


def checksum(client: Client, address: int, count: int) -> int:
    """CRC-32C of words as the chip reads them."""
    answer = client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=address, count=count))
    return int(CHECKSUM_DONE.unpack(answer)["crc"])


def _parts(section: Section, byte_count: int) -> Iterator[Section]:
    """A section in parts of at most so many bytes, but a word at least."""
    address, words = section
    step = max(1, byte_count // words.shape[1])
    for first in range(0, len(words), step):
        yield Section(address + first, words[first : first + step])


def _wrong_blocks(client: Client, blocks: Sequence[Section], report: Progress) -> Iterator[Section]:
    """The blocks of which the memory holds something else."""
    total, done, was_right = sum(block.words.size for block in blocks), 0, False
    for block in blocks:
        first = next(_parts(block, CHUNK_BYTES))
        was_right = (was_right or _is_there(client, first)) and _is_there(client, block)
        done += block.words.size
        report(COMPARING, done, total)
        if not was_right:
            yield block


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
