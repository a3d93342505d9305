"""Bench of the AXI4 word source against the memory model of cocotbext-axi, at each port of its own.

    jobs (random, by the rules of WordPort) ─► AxiSource ─► m_axi0_* ... ─► AxiSlave ─► Region (bytes)
    words in order, of the right client ◄──────┘            └─► Rules: what a slave may rely on

Each test runs with ports of its own memory; the parameters ``ports`` and ``port_bytes`` say how many and how wide.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiSlave

from lutern.hw.memory.axi import AXI_ADDRESS_BITS, BOUNDARY, BURST, MOST_WRITES, AxiSource, axi_shape
from lutern.hw.memory.word_source import Client
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import cycle_now, pack, start, to_int

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
        "ar": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
        "aw": ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"),
        "w": ("data", "strb", "last"),
    }

    def __init__(self, dut: Any, index: int, port_bytes: int, seed: int) -> None:
        self.dut, self.index, self.port_bytes, self.seed = dut, index, port_bytes, seed
        self.bursts = self.writes = self.data = self.answers = 0
        self.in_reset = False  # and the cycle before, too
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
        """Writes whose address was accepted."""
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
    """The slave's ends of the channels."""
    write, read = slave.write_if, slave.read_if
    writes = {"aw": write.aw_channel, "w": write.w_channel, "b": write.b_channel}
    return {**writes, "ar": read.ar_channel, "r": read.r_channel}


class Bench:
    """Jobs in, words out, and what they must be."""

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
        self.came: list[int] = []  # cycles
        self.ignores = False
        cocotb.start_soon(self._check())

    @property
    def cycle(self) -> int:
        """Rising edges so far."""
        return cycle_now()

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
            for number, channel in enumerate(channels_of(slave).values()):
                channel.set_pause_generator(generator(self.seed + 10 * index + number))

    def hold(self, names: str, held: bool = True, port: int | None = None) -> None:
        """Stop channels of all ports or of one, or let them go on."""
        for index, slave in enumerate(self.slaves):
            for name in names.split() if port in (None, index) else ():
                channels_of(slave)[name].pause = held

    def valid(self, channel: str) -> list[int]:
        """VALID of the channel at each port."""
        return [to_int(getattr(self.dut, f"m_axi{index}_{channel}valid")) for index in range(self.ports)]

    def require(self, holds: object, what: str) -> None:
        assert holds, f"{what}, cycle {self.cycle}, seed {self.seed}"

    @property
    def is_busy(self) -> bool:
        """Words are awaited, or answers to writes."""
        return bool(self.expected) or any(rules.unanswered for rules in self.rules)

    async def _check(self) -> None:
        was_busy = False
        while True:
            await RisingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            wrongly_idle = was_busy and self.is_busy and to_int(self.dut.port__idle)
            self.require(not wrongly_idle, "idle, though a job is under way")
            if to_int(self.dut.port__valid):
                self._look_at_word()
            was_busy = self.is_busy

    def _look_at_word(self) -> None:
        self.require(self.expected, "a word that nobody asked for")
        client, word = self.expected.popleft()
        found = to_int(self.dut.port__client), to_int(self.dut.port__word)
        self.require(found[0] == client, f"word {len(self.came)} is for client {found[0]}, not {client}")
        self.require(self.ignores or found[1] == word, f"word {len(self.came)} is {found[1]:#x}, not {word:#x}")
        self.came.append(self.cycle)

    async def job(self, address: int, length: int, client: int = Client.STREAM, word: int | None = None) -> None:
        """A read, or a write of ``word``, until it is accepted."""
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
        """Until ``holds()``, at the end of a cycle."""
        for _ in range(SETTLED):
            await RisingEdge(self.dut.clk)
            if holds():
                return
        raise AssertionError(f"{what}, after {SETTLED} cycles, seed {self.seed}")

    async def settle(self) -> None:
        """Until all words have come and the source is idle."""
        await self.until(
            lambda: not self.expected and to_int(self.dut.port__idle), "words did not come, or it is not idle"
        )

    async def wake(self) -> None:
        """Until it takes jobs after a reset."""
        await self.until(lambda: to_int(self.dut.port__job__ready), "no job is taken after reset")


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
    bench.require(took == bursts * BURST, f"{bursts * BURST} words took {took} cycles")


@cocotb.test()
async def latency(dut: Any) -> None:
    """From a job to ARVALID, and from RVALID to the word."""
    bench = Bench(dut)
    await start(dut)
    await bench.job(5, 1)
    accepted = bench.cycle
    await bench.until(lambda: all(bench.valid("ar")), "no ARVALID")
    bench.require(bench.cycle - accepted == 2, f"ARVALID {bench.cycle - accepted} cycles after the job")
    await bench.until(lambda: all(bench.valid("r")), "no RVALID")
    answered, wanted = bench.cycle, 3 if bench.ports > 1 else 1
    await bench.settle()
    bench.require(bench.came[0] - answered == wanted, f"the word came {bench.came[0] - answered} cycles after RVALID")


@cocotb.test()
async def valid_waits_for_no_ready(dut: Any) -> None:
    """All VALIDs of a job are there though no READY was, and stay; AW and W wait for each other neither."""
    bench = Bench(dut)
    await start(dut)
    for names, held in (("ar", "ar"), ("aw w", "aw w"), ("w", "w"), ("aw", "aw")):
        bench.hold(held)
        await ClockCycles(dut.clk, 2)
        await bench.job(1, 1, Client.FETCH, None if "ar" in names else 77)
        await ClockCycles(dut.clk, 20)
        for name in names.split():
            bench.require(all(bench.valid(name)), f"{name.upper()}VALID waits for a READY, {held} held")
        bench.require(not to_int(dut.port__job__ready), "a job is accepted while another one is offered")
        bench.hold(held, False)
        await bench.settle()


@cocotb.test()
async def a_slow_port(dut: Any) -> None:
    """A port gives nothing, and the others all that they were asked for: no more than the FIFOs hold."""
    bench = Bench(dut)
    await start(dut)
    await bench.wake()
    for port in range(bench.ports):
        bench.hold("r", port=port)
        jobs = cocotb.start_soon(run_jobs(bench, 30))
        await ClockCycles(dut.clk, 600)
        bench.require(not to_int(dut.port__idle), "idle, though words are awaited")
        held = len(bench.expected)
        bench.require(held == bench.depth - BURST, f"{held} words asked for, the FIFOs hold {bench.depth}")
        bench.hold("r", False, port)
        await jobs
        await bench.settle()


async def run_jobs(bench: Bench, count: int) -> None:
    """Full bursts of the record stream."""
    for burst in range(count):
        await bench.job(burst * BURST % WORDS, BURST)


@cocotb.test()
async def reads_wait_for_writes(dut: Any) -> None:
    """No answer to writes: so many are accepted, and no read of FETCH or STATE; one of the record stream is."""
    bench = Bench(dut)
    await start(dut)
    bench.hold("b", port=bench.ports - 1)
    for place in range(MOST_WRITES):
        await bench.job(WORDS // 2 + place, 1, Client.STATE, bench.draw.getrandbits(8 * bench.word_bytes))
    last = cocotb.start_soon(bench.job(WORDS // 2 + MOST_WRITES, 1, Client.STATE, 5))
    await ClockCycles(dut.clk, 100)
    bench.require(not last.done(), f"{MOST_WRITES + 1} writes are accepted, and none is answered")
    bench.hold("b", False)
    await last
    await bench.settle()
    bench.hold("b", port=bench.ports - 1)
    await bench.job(WORDS // 2, 1, Client.FETCH, 6)
    await bench.job(0, BURST)
    await bench.until(lambda: not bench.expected, "words did not come")
    for client in (Client.FETCH, Client.STATE):
        read = cocotb.start_soon(bench.job(WORDS // 2, 1, client))
        await ClockCycles(dut.clk, 50)
        bench.require(not read.done(), f"a read of {client.name} is accepted before a write is answered")
        bench.hold("b", False)
        await read
        await bench.settle()
        bench.hold("b", port=bench.ports - 1)
        await bench.job(WORDS // 2, 1, Client.FETCH, 7)
    bench.hold("b", False)
    await bench.settle()


@cocotb.test()
async def a_write_waits_for_reads(dut: Any) -> None:
    """A port gives no words: a write is not accepted before they came, but for those of the record stream."""
    bench = Bench(dut)
    await start(dut)
    bench.hold("r", port=bench.ports - 1)
    await bench.job(0, 4)
    await bench.job(WORDS // 2, 1, Client.STATE, 8)
    await bench.job(4, 2)
    await bench.until(lambda: all(rules.writes == rules.answers == 1 for rules in bench.rules), "no answer")
    await bench.job(WORDS // 2, 2, Client.STATE)
    write = cocotb.start_soon(bench.job(WORDS // 2 + 1, 1, Client.STATE, 9))
    await ClockCycles(dut.clk, 50)
    bench.require(not write.done(), "a write is accepted before the words of a read have come")
    bench.hold("r", False)
    await write
    await bench.settle()


@cocotb.test()
async def beats_of_before_a_reset(dut: Any) -> None:
    """The machine is reset in the middle of bursts, the bus is not: late beats are dropped, late errors, too."""
    bench = Bench(dut, resets_bus=False)
    await start(dut)
    bench.regions[0].broken.add(4 * bench.port_bytes)
    await bench.job(8, 1)
    await bench.settle()
    for held in (False, True):
        bench.hold("r")
        bench.ignores = True
        for burst in range(2):
            await bench.job(burst * BURST, BURST)
        await bench.until(lambda: not any(bench.valid("ar")), "a burst is not asked for")
        bench.hold("r", held)
        await ClockCycles(dut.clk, 8)
        dut.rst.value = 1
        await ClockCycles(dut.clk, 3)
        bench.expected.clear()
        bench.ignores = False
        dut.rst.value = 0
        late = cocotb.start_soon(bench.job(9, 7))
        await ClockCycles(dut.clk, bench.parameters["quiet"] // 2)
        bench.hold("r", False)
        await ClockCycles(dut.clk, bench.parameters["quiet"] // 2 + 60)
        bench.require(late.done() != held, "the first job did not wait for so many cycles after the last late beat")
        await late
        await bench.settle()
    bench.require(not to_int(dut.bus_errors), "an error of before the reset is counted")


@cocotb.test()
async def a_refused_transaction_is_named(dut: Any) -> None:
    """SLVERR of one port, of a read and of a write: the fault stays, and each is counted up to the highest number."""
    bench = Bench(dut)
    await start(dut)
    bench.ignores = True
    most = (1 << bench.parameters["error_bits"]) - 1

    def require_errors(errors: int) -> None:
        named, wanted = (to_int(dut.bus_error), to_int(dut.bus_errors)), (errors > 0, min(errors, most))
        bench.require(named == wanted, f"{named}, not {wanted}")

    for count, port in enumerate(bench.regions):
        port.broken.add(3 * bench.port_bytes)
        for errors, word in ((2 * count, 5), (2 * count + 1, None)):
            await bench.job(0, 2)
            await bench.settle()
            require_errors(errors)
            await bench.job(3, 1, Client.FETCH, word)
            await bench.settle()
            await ClockCycles(dut.clk, 3)
            require_errors(errors + 1)
        port.broken.clear()
