"""Puts a laid-out program into the board's memory and proves that it arrived.

    each section ─► WRITE of up to 512 bytes, one after another ─► CHECKSUM over it, read back ─► equal, or refused
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client, LinkError
from lutern.hw.protocol import CHECKSUM, CHECKSUM_DONE, CHUNK_BYTES, INFO, WRITE, WRITE_DONE, Opcode, crc32c
from lutern.model_ref.errors import LuternError

Section = tuple[int, NDArray[np.uint8]]
"""Address, words [count, word_bytes]."""


def load_sections(
    client: Client, sections: Sequence[Section], *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write every section, then compare the checksum of what the memory holds there.

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


def _load(client: Client, base_address: int, words: NDArray[np.uint8], advance: Callable[[int], None]) -> None:
    """Write and verify one section; `advance` is told the bytes written."""
    count, word_bytes = words.shape
    image = np.ascontiguousarray(words).tobytes()
    step = CHUNK_BYTES // word_bytes
    for first in range(0, count, step):
        chunk = image[first * word_bytes : (first + step) * word_bytes]
        address = base_address + first
        answer = WRITE_DONE.unpack(client.transact(Opcode.WRITE, WRITE.pack(address=address) + chunk))
        wanted = address + len(chunk) // word_bytes
        if answer["next_address"] != wanted:
            raise LinkError(
                f"The board went on at address {answer['next_address']} after a WRITE that ends at {wanted}; "
                "use gateware and program of the same release."
            )
        advance(first * word_bytes + len(chunk))
    answer = CHECKSUM_DONE.unpack(client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=base_address, count=count)))
    if answer["crc"] != crc32c(image):
        raise LinkError(
            f"The board's memory holds something else than was sent: checksum {answer['crc']:08x} over {count} words, "
            f"{crc32c(image):08x} wanted; load again, and if it stays so the memory is faulty."
        )
