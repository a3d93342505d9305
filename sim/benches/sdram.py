"""Bench of the SDRAM controller: it compares words with a dictionary, and checks the rules of the part, the refreshes
and the slots."""

import random
from itertools import pairwise
from statistics import mode
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.memory import SdramTimings
from lutern.hw.memory.sdram_controller import BURST, sdram_shape
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.sdram import Rule
from lutern.sim.streams import StreamMonitor, StreamSource, cycle_now, pack, reset, start, to_int

WORDS: dict[int, int] = {}
"""The contents of the part, which stay from one test to the next test."""


class Bench:
    """Sends jobs, and compares the words that come with the words that were written."""

    def __init__(self, dut: Any) -> None:
        self.parameters = bench_parameters()
        self.dut, self.seed, self.draw = dut, bench_seed(), random.Random(bench_seed())
        self.timings = SdramTimings(**self.parameters["timings"])
        self.layout = sdram_shape(self.timings).job
        self.words = WORDS
        self.source = StreamSource(dut, "port__job", pause=self.parameters["pause"], seed=self.seed)
        self.entered = StreamMonitor(dut, "port__job")
        self.expected: list[tuple[int, int, int]] = []
        self.came: list[int] = []
        dut.port__ahead.value = 0
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            self.check_rules()
            if to_int(self.dut.port__valid) and not to_int(self.dut.rst):
                assert self.expected, self.text("a word came that was not requested")
                client, address, word = self.expected.pop(0)
                assert to_int(self.dut.port__client) == client, self.text(f"word {address} came for the wrong client")
                got = to_int(self.dut.port__word)
                assert got == word, self.text(f"word {address:#x} is {got:#x}, {word:#x} was written")
                self.came.append(cycle_now())

    def text(self, what: str) -> str:
        return f"{what}; cycle {cycle_now()}, seed {self.seed}"

    def check_rules(self) -> None:
        error = Rule(to_int(self.dut.error))
        assert error == Rule.NONE, self.text(f"rule {error.name} is broken at {to_int(self.dut.error_address):#x}")

    def write(self, address: int) -> None:
        word = self.draw.getrandbits(self.timings.data_bits)
        self.words[address] = word
        self.job(write=1, length=0, client=0, address=address, word=word)

    def read(self, address: int, length: int, client: int = 0) -> None:
        self.job(write=0, length=length, client=client, address=address, word=0)
        self.expected += [(client, at, self.words.get(at, 0)) for at in range(address, address + length)]

    def job(self, **fields: int) -> None:
        self.source.queue([pack(self.layout, fields)])

    async def rest(self, limit: int = 100_000) -> None:
        """Wait until all requested words have come."""
        await self.source.drained()
        for _ in range(limit):
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.port__idle):
                break
        assert not self.expected, self.text(f"{len(self.expected)} words did not come")
        await RisingEdge(self.dut.clk)

    async def sequence(self, first: int, count: int) -> None:
        """Request aligned bursts in order. ``ahead`` is in the page after the page of the waiting burst."""
        for address in range(first, first + count, BURST):
            self.read(address % self.timings.words, BURST)
        page, before = -1, self.source.sent_count
        while self.expected:
            await RisingEdge(self.dut.clk)
            done = first + (self.source.sent_count - before) * BURST
            if done >> self.timings.column_bits != page:
                page = done >> self.timings.column_bits
                pages = self.timings.words >> self.timings.column_bits
                self.dut.port__ahead.value = (page + 1) % pages << self.timings.column_bits


@cocotb.test()
async def reads_what_was_written(dut: Any) -> None:
    """Reads return the words that were written, for random writes and reads of any length in any page."""
    bench = Bench(dut)
    await start(dut)
    t, draw = bench.timings, bench.draw
    places = [draw.randrange(t.words) for _ in range(6)]
    for _ in range(bench.parameters["jobs"]):
        if draw.random() < 0.1:
            places[draw.randrange(6)] = draw.randrange(t.words)
        address = (draw.choice(places) + draw.randrange(3)) % t.words
        if draw.random() < 0.4:
            bench.write(address)
        else:
            bench.read(address, draw.randrange(1, BURST + 1 - address % BURST), draw.randrange(2))
        if draw.random() < 0.02:
            dut.port__ahead.value = draw.randrange(t.words)
        if draw.random() < 0.01:
            await bench.source.drained()
            await ClockCycles(dut.clk, draw.randrange(60))
    await bench.rest(1000)


@cocotb.test()
async def latency(dut: Any) -> None:
    """The latencies of a job to an open page, to a closed bank and to a bank with another open page equal the
    documented latencies."""
    bench = Bench(dut)
    await start(dut)
    t = bench.timings
    row = 1 << t.bank_bits + t.column_bits
    base = 6 + t.cas_latency
    places = {0: base + t.rp + t.rcd, 1: base, row: base + t.rp + t.rcd, row + 1: base}
    waits: dict[int, list[int]] = {address: [] for address in places}
    for _ in range(100):
        for address, seen in waits.items():
            bench.read(address, 1)
            await bench.rest()
            await ClockCycles(dut.clk, t.ras + bench.draw.randrange(20))
            seen.append(bench.came[-1] - bench.entered.items[-1][0])
    usual = {address: mode(seen) for address, seen in waits.items()}  # some jobs wait for a refresh
    assert usual == places, bench.text(f"the latencies are {usual}, but must be {places}")
    before = to_int(dut.refreshes)
    while to_int(dut.refreshes) == before:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, t.refresh_group * t.rfc + t.rp)
    bench.read(2, 1)
    await bench.rest()
    shut = bench.came[-1] - bench.entered.items[-1][0]
    assert shut == base + t.rcd, bench.text(f"a job to a closed bank took {shut} cycles")


@cocotb.test()
async def no_slot_is_lost(dut: Any) -> None:
    """A sequential read over many pages delivers a word in every slot. Only refreshes interrupt it, for the computed
    number of slots."""
    bench = Bench(dut)
    await start(dut)
    t = bench.timings
    for address in range(0, 64):
        bench.write(address)
    await bench.rest()
    begun = to_int(dut.refreshes)
    await bench.sequence(0, bench.parameters["words"])
    gaps = [b - a - 1 for a, b in pairwise(bench.came) if b - a != 1]
    groups = (to_int(dut.refreshes) - begun) // t.refresh_group
    lost = t.rp + t.refresh_group * t.rfc + t.rcd
    assert set(gaps) == {lost} and abs(len(gaps) - groups) <= 2, bench.text(
        f"each of {groups} groups of refreshes must lose {lost} slots, but the gaps are {gaps}"
    )
    share = len(bench.came) / (bench.came[-1] - bench.came[0] + 1)
    dut._log.info(f"{share:.4%} of the slots, {1 - t.refresh_loss:.4%} by the formula, {len(gaps)} refreshes")


@cocotb.test()
async def refreshes_are_on_time(dut: Any) -> None:
    """The number of refreshes is right for the elapsed time: while there are no jobs, during reads and during writes.
    No row loses its data."""
    bench = Bench(dut)
    await start(dut)
    t, draw = bench.timings, bench.draw
    bench.read(0, 1)
    await bench.rest()
    begun, since = to_int(dut.refreshes), cycle_now()
    for load in (0, 1, 2):
        until = cycle_now() + 20 * t.refresh_interval * t.refresh_group
        while cycle_now() < until:
            address = draw.randrange(t.words)
            if load == 1:
                bench.read(address, draw.randrange(1, BURST + 1 - address % BURST))
            elif load == 2:
                bench.write(address)
            await bench.source.drained()
            await ClockCycles(dut.clk, draw.randrange(30) if load else 50)
            passed = (cycle_now() - since) // t.refresh_interval
            made = to_int(dut.refreshes) - begun
            assert passed - 2 * t.refresh_group <= made <= passed + t.refresh_group, bench.text(
                f"{made} refreshes were made, but {passed} were due"
            )
    for bank in range(1 << t.bank_bits):  # read every row once more
        for row in range(1 << t.row_bits):
            bench.read((row << t.bank_bits | bank) << t.column_bits, 1)
    await bench.rest()


@cocotb.test()
async def reset_in_mid_burst(dut: Any) -> None:
    """A reset at any time breaks no rule, and words that were written before the reset stay."""
    bench = Bench(dut)
    await start(dut)
    t, draw = bench.timings, bench.draw
    for address in range(0, 256):
        bench.write(address * 37 % t.words)
    await bench.rest()
    written = sorted(bench.words)
    for _ in range(bench.parameters["resets"]):
        for _ in range(30):
            address = draw.choice(written)
            bench.read(address, draw.randrange(1, BURST + 1 - address % BURST))
        await ClockCycles(dut.clk, draw.randrange(3 * BURST, 12 * BURST))
        dut.rst.value = 1
        bench.source.clear()
        bench.expected.clear()
        await reset(dut, draw.randrange(1, 4))
        for address in draw.sample(written, 20):
            bench.read(address, 1)
        await bench.rest()
    for address in written:
        bench.read(address, 1)
    await bench.rest()
