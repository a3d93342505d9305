"""Bench of the AXI4 word source against the memory model of cocotbext-axi, at each port of its own.

jobs (random, by the rules of WordPort) ─► AxiSource ─► m_axi0_* ... ─► AxiSlave ─► Region (bytes)
words in order, of the right client ◄──────┘            └─► Rules: what a slave may rely on
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiSlave

from lutern.hw.memory.axi import AXI_ADDRESS_BITS, BOUNDARY, BURST, axi_shape
from lutern.hw.memory.word_source import Client
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import pack, start, to_int

SPACING = 1 << 20
WORDS = 512
SETTLED = 4000
"""Cycles in which everything under way has ended, whatever pauses."""


class Region:
    """The bytes at a port; refuses addresses at which something is ``broken``."""

    def __init__(self, first: int, size: int) -> None:
        self.first, self.bytes = first, bytearray(size)
        self.broken: set[int] = set()

    def _at(self, address: int, length: int) -> slice:
        offset = address - self.first
        if offset < 0 or offset + length > len(self.bytes) or offset in self.broken:
            raise ValueError(f"no memory at {address:#x}")
        return slice(offset, offset + length)

    async def read(self, address: int, length: int) -> bytes:
        """As AxiSlave calls it."""
        return bytes(self.bytes[self._at(address, length)])

    async def write(self, address: int, data: bytes) -> None:
        """As AxiSlave calls it."""
        self.bytes[self._at(address, len(data))] = data


class Rules:
    """What a slave may rely on, looked at in every cycle."""

    PAYLOADS = {
        "ar": ("id", "addr", "len", "size", "burst"),
        "aw": ("id", "addr", "len", "size", "burst"),
        "w": ("data", "strb", "last"),
    }

    def __init__(self, dut: Any, index: int, port_bytes: int, seed: int) -> None:
        self.dut, self.index, self.port_bytes, self.seed = dut, index, port_bytes, seed
        self.bursts = self.writes = 0
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
                held.clear()
                continue
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

    def _look(self, channel: str, payload: dict[str, int]) -> None:
        if channel == "w":
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


class Bench:
    """Jobs in, words out, and what they must be."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.seed, self.parameters = dut, bench_seed(), bench_parameters()
        self.draw = random.Random(self.seed)
        self.ports, self.port_bytes = self.parameters["ports"], self.parameters["port_bytes"]
        self.word_bytes = self.ports * self.port_bytes
        self.shape = axi_shape(8 * self.word_bytes, self.parameters["address_bits"], self.parameters["in_flight"], 2)
        self.layout = self.shape.job
        bases = [BOUNDARY * (1 + index) + index * SPACING for index in range(self.ports)]
        self.regions = [Region(base, WORDS * self.port_bytes) for base in bases]
        dut.bases.value = sum(base << AXI_ADDRESS_BITS * index for index, base in enumerate(bases))
        dut.port__job__valid.value = 0
        dut.port__job__payload.value = 0
        dut.port__ahead.value = 0
        self.slaves = [
            AxiSlave(AxiBus.from_prefix(dut, f"m_axi{index}"), dut.clk, dut.rst, target=region)
            for index, region in enumerate(self.regions)
        ]
        self.rules = [Rules(dut, index, self.port_bytes, self.seed) for index in range(self.ports)]
        self.words = [self.draw.getrandbits(8 * self.word_bytes) for _ in range(WORDS)]
        for address, word in enumerate(self.words):
            self.put(address, word)
        self.expected: deque[tuple[int, int]] = deque()
        self.came: list[int] = []  # cycles
        self.cycle = 0
        self.ignores = False
        cocotb.start_soon(self._check())

    def put(self, address: int, word: int) -> None:
        """A word straight into the memories."""
        raw = word.to_bytes(self.word_bytes, "little")
        for index, region in enumerate(self.regions):
            at = address * self.port_bytes
            region.bytes[at : at + self.port_bytes] = raw[index * self.port_bytes : (index + 1) * self.port_bytes]

    def pause(self, share: float) -> None:
        """Pauses at random, on all channels of all ports."""

        def generator(seed: int) -> Iterator[bool]:
            draw = random.Random(seed)
            while True:
                yield draw.random() < share

        for index, slave in enumerate(self.slaves):
            write, read = slave.write_if, slave.read_if
            channels = (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel)
            for number, channel in enumerate(channels):
                channel.set_pause_generator(generator(self.seed + 10 * index + number))

    async def _check(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.cycle += 1
            if to_int(self.dut.rst) or not to_int(self.dut.port__valid):
                continue
            assert self.expected, f"a word that nobody asked for, cycle {self.cycle}, seed {self.seed}"
            client, word = self.expected.popleft()
            found = to_int(self.dut.port__client), to_int(self.dut.port__word)
            assert found[0] == client, f"word {len(self.came)} is for client {found[0]}, not {client}, seed {self.seed}"
            wrong = f"word {len(self.came)} is {found[1]:#x}, not {word:#x}, cycle {self.cycle}, seed {self.seed}"
            assert self.ignores or found[1] == word, wrong
            self.came.append(self.cycle)

    async def job(self, address: int, length: int, client: int = Client.STREAM, word: int | None = None) -> None:
        """A read, or a write of ``word``, until it is accepted."""
        fields = {"write": word is not None, "length": length, "client": client, "address": address, "word": word or 0}
        self.dut.port__job__payload.value = pack(self.layout, fields)
        self.dut.port__job__valid.value = 1
        while True:
            await RisingEdge(self.dut.clk)
            if to_int(self.dut.port__job__ready):
                break
        self.dut.port__job__valid.value = 0
        if word is not None:
            self.words[address] = word
            return
        self.expected.extend((client, self.words[at]) for at in range(address, address + length))

    async def settle(self) -> None:
        """Until all words have come and the source is idle."""
        for _ in range(SETTLED):
            await RisingEdge(self.dut.clk)
            if not self.expected and to_int(self.dut.port__idle):
                return
        raise AssertionError(f"{len(self.expected)} words did not come, or it is not idle, seed {self.seed}")


@cocotb.test()
async def words_come_in_order(dut: Any) -> None:
    """Reads of all clients and writes, with pauses; what a client wrote is what it reads."""
    bench = Bench(dut)
    bench.pause(bench.parameters["pause"])
    await start(dut)
    for _ in range(bench.parameters["jobs"]):
        client = bench.draw.choice(list(Client))
        address = bench.draw.randrange(WORDS)
        if client is Client.STREAM:  # it reads what is written at rest only: the lower half
            address //= 2
            length = bench.draw.randrange(1, BURST - address % BURST + 1)
            await bench.job(address, length, client)
        elif bench.draw.random() < 0.5:
            address = WORDS // 2 + address // 2
            await bench.job(address, 1, client, bench.draw.getrandbits(8 * bench.word_bytes))
        else:
            address = WORDS // 2 + address // 2
            length = bench.draw.randrange(1, BURST - address % BURST + 1)
            await bench.job(address, length, client)
        if bench.draw.random() < 0.1:
            await ClockCycles(dut.clk, bench.draw.randrange(30))
    await bench.settle()
    assert min(rules.bursts for rules in bench.rules) > 0 and min(rules.writes for rules in bench.rules) > 0
    assert not to_int(dut.bus_error) and not to_int(dut.bus_errors), f"seed {bench.seed}"
    for index, region in enumerate(bench.regions):
        wanted = b"".join(
            word.to_bytes(bench.word_bytes, "little")[index * bench.port_bytes : (index + 1) * bench.port_bytes]
            for word in bench.words
        )
        assert bytes(region.bytes) == wanted, f"port {index} holds other words, seed {bench.seed}"


@cocotb.test()
async def a_word_a_cycle(dut: Any) -> None:
    """A memory without pauses is never waited for, but for its latency at the beginning."""
    bench = Bench(dut)
    await start(dut)
    bursts = 24
    for burst in range(bursts):
        await bench.job(burst * BURST % WORDS, BURST)
    await bench.settle()
    took = bench.came[-1] - bench.came[0] + 1
    assert took == bursts * BURST, f"{bursts * BURST} words took {took} cycles, seed {bench.seed}"


@cocotb.test()
async def a_refused_transaction_is_named(dut: Any) -> None:
    """SLVERR of one port, of a read and of a write: the fault stays, and each is counted."""
    bench = Bench(dut)
    await start(dut)
    bench.ignores = True
    bench.regions[-1].broken.add(3 * bench.port_bytes)
    await bench.job(0, 2)
    await bench.settle()
    assert not to_int(dut.bus_error), f"too early, seed {bench.seed}"
    await bench.job(3, 1, Client.FETCH, 5)
    await bench.settle()
    await ClockCycles(dut.clk, 3)
    assert to_int(dut.bus_error) and to_int(dut.bus_errors) == 1, f"{to_int(dut.bus_errors)}, seed {bench.seed}"
    await bench.job(3, 1, Client.FETCH)
    await bench.settle()
    await ClockCycles(dut.clk, 3)
    assert to_int(dut.bus_error) and to_int(dut.bus_errors) == 2, f"{to_int(dut.bus_errors)}, seed {bench.seed}"
