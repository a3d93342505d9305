"""The link of a machine with AXI4-Lite control (hw/link/axi_lite.py): frames byte by byte through its registers.

    Client ─► AxiLink.write ─► DATA ─► gateware ─► DATA ─► AxiLink.read ─► Client
                                 ▲ STATUS: room and bytes that wait ▲

``Registers`` is a page of a processor's memory (``MappedRegisters``: a UIO device of Linux), or a simulated bus.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lutern.hw.link.axi_lite import (
    BASE_AT,
    BUS_ERRORS_AT,
    CONTROL_ADDRESS_BITS,
    DATA_AT,
    HAS_BYTE,
    NAME,
    NAME_AT,
    STATUS_AT,
)
from lutern.hw.memory.axi import AXI_ADDRESS_BITS, BOUNDARY
from lutern.model_ref.errors import LuternError

POLL_S = 20e-6
"""Between two looks at STATUS."""
_ROOM_BITS = 16


class Registers(Protocol):
    """32-bit registers by byte offset."""

    def peek(self, offset: int) -> int:
        """The register."""

    def poke(self, offset: int, value: int) -> None:
        """Write it."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""


class MappedRegisters:
    """The registers of a UIO device (``/dev/uio0``), whose first map is the page of the AXI4-Lite slave."""

    def __init__(self, path: str | Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_SYNC)
        except OSError as error:
            raise LuternError(
                f"{path} cannot be opened ({error.strerror}); give the UIO device of the machine, as /dev/uio0, and see "
                "that you may write it."
            ) from None
        try:
            self._page = mmap.mmap(descriptor, 1 << CONTROL_ADDRESS_BITS)
        except (OSError, ValueError) as error:
            raise LuternError(f"{path} cannot be mapped ({error}); give the UIO device of the machine.") from None
        finally:
            os.close(descriptor)

    def peek(self, offset: int) -> int:
        """See ``Registers``."""
        return int(struct.unpack_from("<I", self._page, offset)[0])

    def poke(self, offset: int, value: int) -> None:
        """See ``Registers``."""
        struct.pack_into("<I", self._page, offset, value)

    def wait(self, seconds: float) -> None:
        """See ``Registers``."""
        time.sleep(seconds)


class AxiLink:
    """A ``Link`` through ``registers``.

    Parameters: ``bases``, the bus addresses at which the words of each AXI4 port begin, and ``port_bytes``, the bytes
    that each port has there; an image needs ``needed_bytes`` of each. Raises ``LuternError`` when no machine answers,
    when a base is no multiple of 4 KiB, or when a port has too few bytes.
    """

    def __init__(
        self, registers: Registers, bases: Sequence[int], port_bytes: Sequence[int] | None = None, needed_bytes: int = 0
    ) -> None:
        self.registers = registers
        name = registers.peek(NAME_AT)
        if name != NAME:
            raise LuternError(
                f"register 0 is {name:#010x}, that of a Lutern machine {NAME:#010x}; give the address of its AXI4-Lite slave."
            )
        for index, base in enumerate(bases):
            if base % BOUNDARY or not 0 <= base < 1 << AXI_ADDRESS_BITS:
                raise LuternError(
                    f"the words of port {index} begin at {base:#x}; give a multiple of {BOUNDARY} below "
                    f"2^{AXI_ADDRESS_BITS}."
                )
        for index, size in enumerate(port_bytes or ()):
            if size < needed_bytes:
                raise LuternError(
                    f"port {index} has {size:,} bytes of memory, and its share of the image is {needed_bytes:,}; give "
                    "every port as much, for a word is striped over all of them."
                )
        for index, base in enumerate(bases):
            registers.poke(BASE_AT + 8 * index, base & 0xFFFFFFFF)
            registers.poke(BASE_AT + 8 * index + 4, base >> 32)

    @property
    def bus_errors(self) -> int:
        """Transactions that the bus has refused since reset."""
        return self.registers.peek(BUS_ERRORS_AT)

    def write(self, data: bytes) -> None:
        """See ``Link``."""
        at = 0
        while at < len(data):
            room = self.registers.peek(STATUS_AT) & (1 << _ROOM_BITS) - 1
            for byte in data[at : at + room]:
                self.registers.poke(DATA_AT, byte)
            at += room
            if not room:
                self.registers.wait(POLL_S)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """See ``Link``."""
        waited = 0.0
        while not (count := self.registers.peek(STATUS_AT) >> _ROOM_BITS):
            if waited >= timeout_s:
                return b""
            self.registers.wait(POLL_S)
            waited += POLL_S
        found = (self.registers.peek(DATA_AT) for _ in range(min(limit, count)))
        return bytes(word & 0xFF for word in found if word & HAS_BYTE)


__all__ = ["AxiLink", "MappedRegisters", "Registers"]
