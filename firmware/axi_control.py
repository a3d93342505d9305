"""The link of a machine with AXI4-Lite control (hw/link/axi_lite.py): frames byte by byte through its registers.

    Client ─► AxiLink.write ─► DATA ─► gateware ─► DATA ─► AxiLink.read ─► Client
                                 ▲ STATUS: room and bytes that wait ▲

``Registers`` is a page of a processor's memory (``MappedRegisters``: a UIO device of Linux), or a simulated bus.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from lutern.firmware.link_errors import LinkError
from lutern.hw.axi_registers import (
    AXI_ADDRESS_BITS,
    BASE_AT,
    BOUNDARY,
    BUS_ERRORS_AT,
    CONTROL_ADDRESS_BITS,
    DATA_AT,
    HAS_BYTE,
    NAME,
    NAME_AT,
    PORTS_AT,
    STATUS_AT,
)
from lutern.model_ref.errors import LuternError

POLL_S = 20e-6
"""Seconds between two reads of STATUS."""
WRITE_TIMEOUT_S = 20.0
"""A machine that takes no byte for this time counts as stopped."""
_ROOM_BITS = 16


class Registers(Protocol):
    """Gives access to 32-bit registers by byte offset."""

    def peek(self, offset: int) -> int:
        """Return a register."""

    def poke(self, offset: int, value: int) -> None:
        """Write a register."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""

    def seconds(self) -> float:
        """Return the time of the clock that measures time-outs."""


class MappedRegisters:
    """The registers of a UIO device (``/dev/uio0``), whose first map is the page of the AXI4-Lite slave.

    An access is one load or store of 32 bits, as of a NumPy array. Byte accesses would each be a transaction.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_SYNC)
        except OSError as error:
            raise LuternError(
                f"{path} cannot be opened ({error.strerror}); give the UIO device of the machine, as /dev/uio0, and "
                "make sure that you may write to it."
            ) from None
        try:
            if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
                raise LuternError(f"{path} is no device; give the UIO device of the machine, as /dev/uio0.")
            page = mmap.mmap(descriptor, 1 << CONTROL_ADDRESS_BITS)
        except (OSError, ValueError) as error:
            raise LuternError(
                f"{path} cannot be mapped ({error}); give the UIO device of the machine, as /dev/uio0."
            ) from None
        finally:
            os.close(descriptor)
        self._words = np.frombuffer(page, np.uint32)

    def peek(self, offset: int) -> int:
        """See ``Registers``."""
        return int(self._words[offset // 4])

    def poke(self, offset: int, value: int) -> None:
        """See ``Registers``."""
        self._words[offset // 4] = value

    def wait(self, seconds: float) -> None:
        """See ``Registers``."""
        time.sleep(seconds)

    def seconds(self) -> float:
        """See ``Registers``."""
        return time.monotonic()


class AxiLink:
    """A ``Link`` through ``registers``.

    A ``LuternError`` is raised if no machine answers, or if the parameters cannot be right; nothing is written then.

    Parameters
    ----------
    registers
        The registers of the AXI4-Lite slave.
    bases
        Bus addresses at which the words of each AXI4 port begin.
    port_bytes
        Bytes of memory that each port has there.
    needed_bytes
        Bytes that an image takes of each port's memory.
    """

    def __init__(
        self, registers: Registers, bases: Sequence[int], port_bytes: Sequence[int] | None = None, needed_bytes: int = 0
    ) -> None:
        self.registers = registers
        self._heard = bytearray()  # bytes that came while ``write`` waited
        name = registers.peek(NAME_AT)
        if name != NAME:
            raise LuternError(
                f"register 0 is {name:#010x}, but that of a Lutern machine is {NAME:#010x}; give the address of "
                "its AXI4-Lite slave."
            )
        self._places = registers.peek(PORTS_AT), bases, port_bytes
        self.require(needed_bytes)
        for index, base in enumerate(bases):
            registers.poke(BASE_AT + 8 * index, base & 0xFFFFFFFF)
            registers.poke(BASE_AT + 8 * index + 4, base >> 32)

    def require(self, needed_bytes: int) -> None:
        """Raise ``LuternError`` if a port has too few bytes of memory, according to the parameters."""
        _check_ports(*self._places, needed_bytes)

    @property
    def bus_errors(self) -> int:
        """Return the number of transactions that the bus has refused since reset."""
        return self.registers.peek(BUS_ERRORS_AT)

    def write(self, data: bytes) -> None:
        """See ``Link``.

        Bytes that arrive in the meantime are kept, because a machine whose answers are not taken accepts no commands.
        """
        at, moved = 0, self.registers.seconds()
        while at < len(data):
            room = self.registers.peek(STATUS_AT) & (1 << _ROOM_BITS) - 1
            for byte in data[at : at + room]:
                self.registers.poke(DATA_AT, byte)
            at += room
            heard = b"" if room else self._take(None)
            self._heard += heard
            if room or heard:
                moved = self.registers.seconds()
            elif self.registers.seconds() - moved >= WRITE_TIMEOUT_S:
                raise LinkError(
                    f"The machine has taken no byte for {WRITE_TIMEOUT_S:.3g} s; reset it and repeat the command."
                )
            else:
                self.registers.wait(POLL_S)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """See ``Link``."""
        began = self.registers.seconds()
        while not self._heard:
            self._heard += self._take(limit)
            if self._heard or self.registers.seconds() - began >= timeout_s:
                break
            self.registers.wait(POLL_S)
        data = bytes(self._heard[:limit])
        del self._heard[:limit]
        return data

    def _take(self, limit: int | None) -> bytes:
        """Return the bytes that wait in the machine, at most ``limit``."""
        count = self.registers.peek(STATUS_AT) >> _ROOM_BITS
        found = (self.registers.peek(DATA_AT) for _ in range(count if limit is None else min(limit, count)))
        return bytes(word & 0xFF for word in found if word & HAS_BYTE)


def _check_ports(ports: int, bases: Sequence[int], port_bytes: Sequence[int] | None, needed_bytes: int) -> None:
    """Refuse places at which a machine with this number of AXI4 ports cannot have its words."""
    for what, given in (("bases", bases), ("sizes of memory", port_bytes)):
        if given is not None and len(given) != ports:
            raise LuternError(
                f"{len(given)} {what} were given, but the machine has {ports} AXI4 ports; give one for each."
            )
    for index, base in enumerate(bases):
        if base % BOUNDARY or not 0 <= base <= (1 << AXI_ADDRESS_BITS) - max(needed_bytes, 1):
            raise LuternError(
                f"the words of port {index} begin at {base:#x}; give a multiple of {BOUNDARY:,} so that they end "
                f"below 2^{AXI_ADDRESS_BITS}."
            )
    for index, size in enumerate(port_bytes or ()):
        if size < needed_bytes:
            raise LuternError(
                f"port {index} has {size:,} bytes of memory, but its share of the image is {needed_bytes:,}; give "
                f"every port as much, because each word is striped over all ports."
            )
    for (base, index), (next_base, other) in pairwise(sorted(zip(bases, range(len(bases)), strict=True))):
        if base + max(needed_bytes, 1) > next_base:
            raise LuternError(
                f"the words of port {index} begin at {base:#x}, those of port {other} at {next_base:#x}, and each "
                f"takes {needed_bytes:,} bytes; give places that do not overlap."
            )


__all__ = ["AxiLink", "MappedRegisters", "Registers"]
