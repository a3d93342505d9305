"""The surroundings of the AXI4 word source in its bench: memories at its ports, checks of the rules of AXI4, jobs and
words.

    jobs ─► AxiSource ─► m_axi0_* ... ─► AxiSlave ─► Region (bytes)
    words ◄─────┘            └─► Rules: checks of what a slave may rely on

`parameters` of the bench: ``ports``, ``port_bytes``, ``address_bits`` and ``in_flight`` of the source.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiSlave

from lutern.hw.memory.axi import AXI_ADDRESS_BITS, BOUNDARY, BURST, MOST_WRITES, AxiSource, axi_shape
from lutern.hw.memory.word_source import Client
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import cycle_now, pack, to_int

SPACING = 1 << 20
WORDS = 512
SETTLED = 4000
"""Cycles after which every transaction in flight has ended, with pauses of any length."""


class Region:
    """The bytes of the memory at a port. Accesses at offsets in ``broken`` are refused."""

    def __init__(self, first: int, size: int) -> None:
        self.first, self.bytes = first, bytearray(size)
        self.broken: set[int] = set()

    def _at(self, address: int, length: int) -> slice:
        offset = address - self.first
        if offset < 0 or offset + length > len(self.bytes) or offset in self.broken:
            raise ValueError(f"no memory at {address:#x}")
        return slice(offset, offset + length)

    async def read(self, address: int, length: int) -> bytes:
        """Return bytes. AxiSlave calls this method."""
        return bytes(self.bytes[self._at(address, length)])

    async def write(self, address: int, data: bytes) -> None:
        """Store bytes. AxiSlave calls this method."""
        self.bytes[self._at(address, len(data))] = data


class Rules:
    """Checks in every cycle the rules that a slave may rely on."""

    PAYLOADS = {
        "ar": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
        "aw": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
        "w": ("data", "strb", "last"),
    }

    def __init__(self, dut: Any, index: int, port_bytes: int, seed: int) -> None:
        self.dut, self.index, self.port_bytes, self.seed = dut, index, port_bytes, seed
        self.bursts = self.writes = self.data = self.answers = 0
        self.in_reset = False  # whether the previous cycle was in reset
        cocotb.start_soon(self._watch())

    def read(self, name: str) -> int:
        return to_int(getattr(self.dut, f"m_axi{self.index}_{name}"))

    def require(self, holds: bool, what: str) -> None:
        assert holds, f"port {self.index}: {what}, seed {self.seed}"

    async def _watch(self) -> None:
        held: dict[str, dict[str, int]] = {}
        while True:
            await RisingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                self._look_at_reset()
                held.clear()
                continue
            self.in_reset = False
            self.require(bool(self.read("rready") and self.read("bready")), "RREADY or BREADY is 0")
            for channel, names in self.PAYLOADS.items():
                valid = self.read(f"{channel}valid")
                payload = {name: self.read(channel + name) for name in names} if valid else {}
                if channel in held:
                    self.require(bool(valid), f"{channel.upper()}VALID fell before {channel.upper()}READY")
                    self.require(payload == held[channel], f"{channel.upper()} changed before {channel.upper()}READY")
                held.pop(channel, None)
                if valid and not self.read(f"{channel}ready"):
                    held[channel] = payload
                elif valid:
                    self._look(channel, payload)
            self.answers += self.read("bvalid")
            self.require(self.unanswered <= MOST_WRITES, f"{self.unanswered} writes are not answered")

    def _look_at_reset(self) -> None:
        valid = [channel for channel in self.PAYLOADS if self.read(f"{channel}valid")]
        self.require(not (valid and self.in_reset), f"VALID of {valid} in reset")
        self.in_reset = True
        self.writes = self.data = self.answers = 0

    @property
    def unanswered(self) -> int:
        """Number of writes whose address was accepted and whose answer has not come."""
        return self.writes - self.answers

    def _look(self, channel: str, payload: dict[str, int]) -> None:
        if channel == "w":
            self.data += 1
            self.require(abs(self.writes - self.data) <= 1, "the data of a write came with the address of another")
            whole = (1 << self.port_bytes) - 1
            self.require(payload["strb"] == whole and payload["last"] == 1, "a write is not one whole beat")
            return
        beats = payload["len"] + 1
        last = payload["addr"] + beats * self.port_bytes - 1
        self.require(payload["addr"] // BOUNDARY == last // BOUNDARY, "a burst crosses 4 KiB")
        self.require(payload["addr"] % self.port_bytes == 0, "an address is not aligned")
        self.require(payload["burst"] == 1 and 1 << payload["size"] == self.port_bytes, "no INCR burst of whole beats")
        self.require(payload["id"] == 0, "an ID is not 0")
        self.require(beats <= (BURST if channel == "ar" else 1), f"a burst of {beats} beats")
        self.bursts += channel == "ar"
        self.writes += channel == "aw"


def channels_of(slave: AxiSlave) -> dict[str, Any]:
    """Return the slave's ends of the channels, with the channels' names as keys."""
    write, read = slave.write_if, slave.read_if
    writes = {"aw": write.aw_channel, "w": write.w_channel, "b": write.b_channel}
    return {**writes, "ar": read.ar_channel, "r": read.r_channel}


class Bench:
    """Sends jobs to the source, and checks the words that come."""

    def __init__(self, dut: Any, resets_bus: bool = True) -> None:
        self.dut, self.seed, self.parameters = dut, bench_seed(), bench_parameters()
        self.draw = random.Random(self.seed)
        self.ports, self.port_bytes = self.parameters["ports"], self.parameters["port_bytes"]
        self.word_bytes = self.ports * self.port_bytes
        self.shape = axi_shape(8 * self.word_bytes, self.parameters["address_bits"], self.parameters["in_flight"], 2)
        self.layout = self.shape.job
        self.depth = AxiSource(self.shape, self.ports).depth
        bases = [BOUNDARY * (1 + index) + index * SPACING for index in range(self.ports)]
        self.regions = [Region(base, WORDS * self.port_bytes) for base in bases]
        dut.bases.value = sum(base << AXI_ADDRESS_BITS * index for index, base in enumerate(bases))
        dut.port__job__valid.value = 0
        dut.port__job__payload.value = 0
        dut.port__ahead.value = 0
        reset = dut.rst if resets_bus else None
        self.slaves = [
            AxiSlave(AxiBus.from_prefix(dut, f"m_axi{index}"), dut.clk, reset, target=region)
            for index, region in enumerate(self.regions)
        ]
        for slave in self.slaves:
            slave.write_if.b_channel.queue_occupancy_limit = 2 * MOST_WRITES
            slave.read_if.ar_channel.queue_occupancy_limit = 64
            for side in (slave.write_if, slave.read_if):
                side.log.setLevel(logging.WARNING)
        self.rules = [Rules(dut, index, self.port_bytes, self.seed) for index in range(self.ports)]
        self.words = [self.draw.getrandbits(8 * self.word_bytes) for _ in range(WORDS)]
        for address, word in enumerate(self.words):
            self.put(address, word)
        self.expected: deque[tuple[int, int]] = deque()
        self.came: list[int] = []  # the cycles in which words came
        self.ignores = False
        cocotb.start_soon(self._check())

    @property
    def cycle(self) -> int:
        """Number of rising edges so far."""
        return cycle_now()

    def put(self, address: int, word: int) -> None:
        """Put a word directly into the memories."""
        raw = word.to_bytes(self.word_bytes, "little")
        for index, region in enumerate(self.regions):
            at = address * self.port_bytes
            region.bytes[at : at + self.port_bytes] = raw[index * self.port_bytes : (index + 1) * self.port_bytes]

    def pause(self, share: float) -> None:
        """Pause at random, on all channels of all ports."""

        def generator(seed: int) -> Iterator[bool]:
            draw = random.Random(seed)
            while True:
                yield draw.random() < share

        for index, slave in enumerate(self.slaves):
            for number, channel in enumerate(channels_of(slave).values()):
                channel.set_pause_generator(generator(self.seed + 10 * index + number))

    def hold(self, names: str, held: bool = True, port: int | None = None) -> None:
        """Pause channels of all ports or of one port, or let the channels continue."""
        for index, slave in enumerate(self.slaves):
            for name in names.split() if port in (None, index) else ():
                channels_of(slave)[name].pause = held

    def valid(self, channel: str) -> list[int]:
        """Return VALID of the channel at each port."""
        return [to_int(getattr(self.dut, f"m_axi{index}_{channel}valid")) for index in range(self.ports)]

    def require(self, holds: object, what: str) -> None:
        assert holds, f"{what}, cycle {self.cycle}, seed {self.seed}"

    @property
    def is_busy(self) -> bool:
        """Whether words or answers to writes have not come yet."""
        return bool(self.expected) or any(rules.unanswered for rules in self.rules)

    async def _check(self) -> None:
        was_busy = False
        while True:
            await RisingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            wrongly_idle = was_busy and self.is_busy and to_int(self.dut.port__idle)
            self.require(not wrongly_idle, "idle, though a job is in flight")
            if to_int(self.dut.port__valid):
                self._look_at_word()
            was_busy = self.is_busy

    def _look_at_word(self) -> None:
        self.require(self.expected, "a word that was not requested")
        client, word = self.expected.popleft()
        found = to_int(self.dut.port__client), to_int(self.dut.port__word)
        self.require(found[0] == client, f"word {len(self.came)} is for client {found[0]}, not {client}")
        self.require(self.ignores or found[1] == word, f"word {len(self.came)} is {found[1]:#x}, not {word:#x}")
        self.came.append(self.cycle)

    async def job(self, address: int, length: int, client: int = Client.STREAM, word: int | None = None) -> None:
        """Request a read, or a write of ``word``, and wait until it is accepted."""
        fields = {"write": word is not None, "length": length, "client": client, "address": address, "word": word or 0}
        self.dut.port__job__payload.value = pack(self.layout, fields)
        self.dut.port__job__valid.value = 1
        await self.until(lambda: to_int(self.dut.port__job__ready), "a job is not accepted")
        self.dut.port__job__valid.value = 0
        if word is not None:
            self.words[address] = word
            return
        self.expected.extend((client, self.words[at]) for at in range(address, address + length))

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until ``holds()`` is true at the end of a cycle."""
        for _ in range(SETTLED):
            await RisingEdge(self.dut.clk)
            if holds():
                return
        raise AssertionError(f"{what}, after {SETTLED} cycles, seed {self.seed}")

    async def settle(self) -> None:
        """Wait until all words have come and the source is idle."""
        await self.until(
            lambda: not self.expected and to_int(self.dut.port__idle), "words did not come, or it is not idle"
        )

    async def wake(self) -> None:
        """Wait until the source accepts jobs after a reset."""
        await self.until(lambda: to_int(self.dut.port__job__ready), "no job is accepted after reset")
