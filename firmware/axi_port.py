"""The link to a machine with AXI4 next to the processor that runs this program, and direct access to its memory.

    axi:/dev/uio0@0x70000000,0x74000000+0x4000000 ─► AxiPlace ─► AxiPort ─► registers of /dev/uio0
        device    base of port 0, base and bytes of port 1          │
                                                                    └─► reach ─► MappedWords ─► /dev/mem at the bases

If each port stores p bytes of every word, byte b of word w is at port b // p, at the address base + p w + b % p.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.axi_control import AxiLink, MappedRegisters
from lutern.firmware.limits import state_slots
from lutern.firmware.program import Program
from lutern.firmware.recording import Recording
from lutern.hw.axi_registers import AXI_ADDRESS_BITS
from lutern.hw.config import HwConfig
from lutern.model_ref.errors import LuternError

SCHEME = "axi:"
_NUMBER = "(?:0x[0-9a-f]{1,16}|[0-9]{1,20})"
_RANGE = f"{_NUMBER}(?:[+]{_NUMBER})?"
_PLACE = re.compile(f"{SCHEME}(.+)@({_RANGE}(?:,{_RANGE})*)", re.IGNORECASE | re.ASCII)
_ACCESS = np.dtype(np.uint64)
"""The type of one load or store. Memory that is not cached may refuse unaligned accesses, and accesses to single bytes
are slow.
"""


@dataclass(frozen=True)
class AxiPlace:
    """The place of a machine.

    device
        The UIO device of the registers.
    bases
        For each AXI4 port, the bus address at which its words begin.
    port_bytes
        Bytes of memory at each base. A base without bytes counts as all bytes that the bus can address.
    """

    device: str
    bases: tuple[int, ...]
    port_bytes: tuple[int, ...]


def axi_place(text: str) -> AxiPlace:
    """Return the place that the text ``axi:DEVICE@BASE,...`` describes. BASE+BYTES also
    gives the bytes of memory at a base."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise LuternError(
            f"{text} is no place of a machine with AXI4; give axi:DEVICE@BASE,... with a base for each AXI4 port, as "
            "axi:/dev/uio0@0x70000000,0x74000000, or BASE+BYTES where the memory ends."
        )
    ranges = [part.partition("+") for part in found[2].split(",")]
    return AxiPlace(
        found[1],
        tuple(_number(base) for base, _, _ in ranges),
        tuple(_number(size) if size else 1 << AXI_ADDRESS_BITS for _, _, size in ranges),
    )


def _number(text: str) -> int:
    return int(text, 16 if text[:2].lower() == "0x" else 10)


class MappedWords:
    """The back door to words [count, word_bytes] in a file that maps the memory, such as /dev/mem.

    Each base has ``share_bytes`` bytes of each word. See ``loader.BackDoor``.
    """

    def __init__(self, path: Path, descriptor: int, bases: Sequence[int], share_bytes: int, words: int) -> None:
        self._shares = [_mapped(path, descriptor, base, share_bytes, words) for base in bases]

    def poke(self, address: int, words: NDArray[np.uint8]) -> None:
        """See ``BackDoor``."""
        parts = np.split(np.ascontiguousarray(words).view(_ACCESS), len(self._shares), axis=1)
        for share, part in zip(self._shares, parts, strict=True):
            share[address : address + len(words)] = part

    def peek(self, address: int, count: int) -> NDArray[np.uint8]:
        """See ``BackDoor``."""
        parts = [share[address : address + count] for share in self._shares]
        return np.concatenate(parts, axis=1).view(np.uint8)


def _mapped(path: Path, descriptor: int, base: int, share_bytes: int, words: int) -> NDArray[np.uint64]:
    before = base % mmap.ALLOCATIONGRANULARITY
    count = words * share_bytes
    try:
        page = mmap.mmap(descriptor, before + count, offset=base - before)
    except (OSError, ValueError, OverflowError) as error:
        raise LuternError(
            f"{path} cannot be mapped: {count:,} bytes at {base:#x} ({error}); give a file that has the memory of the "
            "machine at its bases, as /dev/mem, or leave --memory out."
        ) from None
    return np.frombuffer(page, _ACCESS, count // _ACCESS.itemsize, before).reshape(words, -1)


class AxiPort(AxiLink):
    """The link of a machine at ``place``.

    ``memory`` is a file that maps the machine's memory. ``record`` is a file that records all bytes of the link. A
    ``LuternError`` is raised if there is no such machine, or if the parameters cannot be right.
    """

    def __init__(self, place: AxiPlace, memory: Path | None = None, record: TextIO | None = None) -> None:
        self._bases, self._path = place.bases, memory
        self._recording = None if record is None else Recording(record)
        super().__init__(MappedRegisters(place.device), place.bases, place.port_bytes)
        self._descriptor = None if memory is None else _opened(memory)

    def write(self, data: bytes) -> None:
        """See ``Link``."""
        if self._recording is not None:
            self._recording.note(">", data.hex())
        super().write(data)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """See ``Link``."""
        data = super().read(limit, timeout_s)
        if self._recording is not None:
            self._recording.note("<", data.hex())
        return data

    def require_words(self, config: HwConfig, words: int) -> None:
        """Raise ``LuternError`` if the memory of an AXI4 port is too small for the port's bytes of ``words`` words."""
        self.require(words * (config.word_bytes // config.memory_ports))

    def reach(self, program: Program) -> MappedWords | None:
        """Return the back door to all words that a program uses, or None if the link has no ``memory``.

        Raise ``LuternError`` if the ports have no room for the words.
        """
        config = program.hw_config
        words = program.sizes.words
        if config.state == "memory":
            slots = state_slots(program.model_config, config, program.embedding_bits)
            words += slots * program.state_stride
        self.require_words(config, words)
        if self._path is None or self._descriptor is None:
            return None
        share_bytes = config.word_bytes // config.memory_ports
        return MappedWords(self._path, self._descriptor, self._bases, share_bytes, words)

    def close(self) -> None:
        """Close the file that maps the memory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_SYNC)
    except OSError as error:
        raise LuternError(
            f"{path} cannot be opened ({error.strerror}); give a file that has the memory of the machine at its bases, "
            "as /dev/mem, and make sure that you may write to it, or leave --memory out."
        ) from None


__all__ = ["SCHEME", "AxiPlace", "AxiPort", "MappedWords", "axi_place"]
