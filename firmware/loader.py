"""Puts laid-out words into the board's memory and proves that they arrived.

    words ─► WRITE of up to 512 bytes, one after another ─► CHECKSUM over all of them, read back ─► equal, or refused
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client, LinkError
from lutern.hw.protocol import CHECKSUM, CHECKSUM_DONE, CHUNK_BYTES, INFO, WRITE, WRITE_DONE, Opcode, crc32c
from lutern.model_ref.errors import LuternError


def load_words(
    client: Client,
    words: NDArray[np.uint8],
    memory_words: int,
    *,
    base_address: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `words` [count, word_bytes] from `base_address` on, then compare the checksum of what the memory holds.

    `progress(done, total)` is called in bytes. Refuses, before anything is sent, what does not fit into `memory_words`.
    """
    count, word_bytes = words.shape
    if base_address + count > memory_words:
        raise LuternError(
            f"{count} words at address {base_address} do not fit into a memory of {memory_words} words; "
            "choose a smaller model or a larger memory."
        )
    known_bytes = INFO.unpack(client.transact(Opcode.INFO))["word_bytes"]
    if known_bytes != word_bytes:
        raise LuternError(
            f"Words of {word_bytes} bytes were laid out, but this board's have {known_bytes}; "
            "lay the model out for this board's configuration."
        )
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
        if progress is not None:
            progress(first * word_bytes + len(chunk), len(image))
    answer = CHECKSUM_DONE.unpack(client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=base_address, count=count)))
    if answer["crc"] != crc32c(image):
        raise LinkError(
            f"The board's memory holds something else than was sent: checksum {answer['crc']:08x} over {count} words, "
            f"{crc32c(image):08x} wanted; load again, and if it stays so the memory is faulty."
        )
