"""The link of a machine with AXI4-Lite control: it moves each byte through the registers of hw/link/axi_lite.py.

    Client ─► AxiLink.write ─► DATA ─► gateware ─► DATA ─► AxiLink.read ─► Client
                                 ▲ STATUS: free room, waiting bytes ▲

A ``Registers`` gives access to the registers: a ``MappedRegisters`` through a UIO device of Linux, or a simulated bus.
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
"""Seconds without a byte sent or received, after which ``write`` treats the machine as stopped."""
_ROOM_BITS = 16


class Registers(Protocol):
    """Access to 32-bit registers by byte offset."""

    def peek(self, offset: int) -> int:
        """Return the value of the register at ``offset``."""

    def poke(self, offset: int, value: int) -> None:
        """Write ``value`` to the register at ``offset``."""

    def wait(self, seconds: float) -> None:
        """Wait for a number of seconds."""

    def seconds(self) -> float:
        """Return the time of the clock that measures time-outs."""


class MappedRegisters:
    """The registers of a UIO device (``/dev/uio0``), whose first map is the page of the AXI4-Lite slave.

    Each access is one load or store of 32 bits, because the page is a NumPy array of 32-bit words. Access byte by byte
    would need one bus transaction for each byte.
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

    If no machine answers, or if the parameters cannot be right, no register is written and ``LuternError`` is raised.

    Parameters
    ----------
    registers
        The registers of the AXI4-Lite slave.
    bases
        For each AXI4 port, the bus address at which its words begin.
    port_bytes
        For each AXI4 port, the bytes of memory from its base on.
    needed_bytes
        Bytes of each port's memory that an image needs.
    """

    def __init__(
        self, registers: Registers, bases: Sequence[int], port_bytes: Sequence[int] | None = None, needed_bytes: int = 0
    ) -> None:
        self.registers = registers
        self._heard = bytearray()  # bytes that arrived while ``write`` waited
        name = registers.peek(NAME_AT)
        if name != NAME:
            raise LuternError(
                f"register 0 is {name:#010x}, but register 0 of a Lutern machine is {NAME:#010x}; give the "
                "address of its AXI4-Lite slave."
            )
        self._places = registers.peek(PORTS_AT), bases, port_bytes
        self.require(needed_bytes)
        for index, base in enumerate(bases):
            registers.poke(BASE_AT + 8 * index, base & 0xFFFFFFFF)
            registers.poke(BASE_AT + 8 * index + 4, base >> 32)

    def require(self, needed_bytes: int) -> None:
        """Raise ``LuternError`` if the ports that the constructor got have no room for ``needed_bytes`` bytes each."""
        _check_ports(*self._places, needed_bytes)

    @property
    def bus_errors(self) -> int:
        """Return the number of transactions that the bus has refused since reset."""
        return self.registers.peek(BUS_ERRORS_AT)

    def write(self, data: bytes) -> None:
        """See ``Link``.

        While the machine has no room, bytes that arrive are kept for ``read``, because a machine whose answers are not
        read accepts no commands.
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
    """Raise ``LuternError`` if a machine with this number of AXI4 ports cannot store its words at these bases."""
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
                f"the words of port {index} begin at {base:#x}, the words of port {other} at {next_base:#x}, and each "
                f"port needs {needed_bytes:,} bytes; give bases whose words do not overlap."
            )


__all__ = ["AxiLink", "MappedRegisters", "Registers"]
