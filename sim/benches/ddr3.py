"""Bench of the DDR3 controller: it compares words with a dictionary, and checks the rules of the part, the refreshes
and the cycles."""

import random
from itertools import pairwise
from statistics import mode
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.memory import Ddr3Timings
from lutern.sim.ddr3 import Rule
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamMonitor, StreamSource, cycle_now, pack, start, to_int

WORDS: dict[int, int] = {}
"""The contents of the part, which stay from one test to the next test."""


class Bench:
    """Sends jobs, and compares the words that come with the words that were written."""

    def __init__(self, dut: Any) -> None:
        self.parameters = bench_parameters()
        self.dut, self.seed, self.draw = dut, bench_seed(), random.Random(bench_seed())
        self.timings = Ddr3Timings(**self.parameters["timings"])
        self.shape = self.timings.source_shape()
        self.layout = self.shape.job
        self.burst = self.shape.burst
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
            error = Rule(to_int(self.dut.error))
            assert error == Rule.NONE, self.text(f"rule {error.name} is broken at {to_int(self.dut.error_address):#x}")
            if to_int(self.dut.port__valid) and not to_int(self.dut.rst):
                assert self.expected, self.text("a word came that was not requested")
                client, address, word = self.expected.pop(0)
                assert to_int(self.dut.port__client) == client, self.text(f"word {address} came for the wrong client")
                got = to_int(self.dut.port__word)
                assert got == word, self.text(f"word {address:#x} is {got:#x}, {word:#x} was written")
                self.came.append(cycle_now())

    def text(self, what: str) -> str:
        return f"{what}; cycle {cycle_now()}, seed {self.seed}"

    def write(self, address: int) -> None:
        word = self.draw.getrandbits(self.timings.word_bits)
        self.words[address] = word
        self.job(write=1, length=0, client=0, address=address, word=word)

    def read(self, address: int, length: int, client: int = 0) -> None:
        self.job(write=0, length=length, client=client, address=address, word=0)
        self.expected += [(client, at, self.words.get(at, 0)) for at in range(address, address + length)]

    def job(self, **fields: int) -> None:
        self.source.queue([pack(self.layout, fields)])

    async def begin(self) -> None:
        """Start the clock, reset, and wait for a first word, which comes when the part has been initialised."""
        await start(self.dut)
        self.read(0, 1)
        await self.rest()

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
        t, before = self.timings, self.source.sent_count
        for address in range(first, first + count, self.burst):
            self.read(address % t.words, self.burst)
        while self.expected:
            await RisingEdge(self.dut.clk)
            done = first + (self.source.sent_count - before) * self.burst
            self.dut.port__ahead.value = ((done >> t.page_bits) + 1 << t.page_bits) % t.words

    def page(self, row: int, bank: int) -> int:
        """Return the address of the first word of a page."""
        return (row << self.timings.bank_bits | bank) << self.timings.page_bits


@cocotb.test()
async def reads_what_was_written(dut: Any) -> None:
    """Reads return the words that were written, for random writes and reads of any length in any page."""
    bench = Bench(dut)
    await bench.begin()
    t, draw, burst = bench.timings, bench.draw, bench.burst
    places = [draw.randrange(t.words) for _ in range(6)]
    for _ in range(bench.parameters["jobs"]):
        if draw.random() < 0.1:
            places[draw.randrange(6)] = draw.randrange(t.words)
        address = (draw.choice(places) + draw.randrange(3)) % t.words
        if draw.random() < 0.4:
            bench.write(address)
        else:
            bench.read(address, draw.randrange(1, burst + 1 - address % burst), draw.randrange(2))
        if draw.random() < 0.02:
            dut.port__ahead.value = draw.randrange(t.words)
        if draw.random() < 0.01:
            await bench.source.drained()
            await ClockCycles(dut.clk, draw.randrange(60))
    await bench.rest(1000)


@cocotb.test()
async def pages_in_turn(dut: Any) -> None:
    """No rule is broken and all words are right if each job is in another page, so that rows change as fast as
    possible. The bank changes after each job, after every second job, or at random."""
    bench = Bench(dut)
    await bench.begin()
    t, draw = bench.timings, bench.draw
    banks, rows = 1 << t.bank_bits, 1 << t.row_bits
    pages = []
    for turn in range(bench.parameters["jobs"]):
        # Each choice of the bank is used for 20 successive jobs, because mixed choices would hide broken rules.
        bank = {0: turn, 1: turn // 2, 2: draw.randrange(banks)}[turn // 20 % 3] % banks
        pages.append(bench.page(draw.randrange(rows), bank))
    for turn, address in enumerate(pages):
        if draw.random() < 0.2 and turn // 60 % 2:
            bench.write(address)
        else:
            bench.read(address, 1 if draw.random() < 0.7 else draw.randrange(1, bench.burst + 1))
    before = bench.source.sent_count
    while bench.expected:
        await RisingEdge(dut.clk)
        dut.port__ahead.value = pages[(bench.source.sent_count - before) % len(pages)]
    await bench.rest()


@cocotb.test()
async def latency(dut: Any) -> None:
    """The latencies of a job to an open page, to a closed bank and to a bank with another open page equal the
    documented latencies."""
    bench = Bench(dut)
    await bench.begin()
    t = bench.timings
    base = 4 + t.read_latency
    rp, rcd = max(2, t.cycles(t.rp)), max(2, t.cycles(t.rcd, t.row_phase, t.read_phase))
    places = {0: base + rp + rcd, 1: base, bench.page(1, 0): base + rp + rcd, bench.page(1, 0) + 1: base}
    waits: dict[int, list[int]] = {address: [] for address in places}
    for _ in range(bench.parameters["latencies"]):
        for address, seen in waits.items():
            bench.read(address, 1)
            await bench.rest()
            await ClockCycles(dut.clk, t.cycles(t.ras) + bench.draw.randrange(20))
            seen.append(bench.came[-1] - bench.entered.items[-1][0])
    usual = {address: mode(seen) for address, seen in waits.items()}  # some jobs wait for a refresh
    assert usual == places, bench.text(f"the latencies are {usual}, but must be {places}")
    before = to_int(dut.refreshes)
    while to_int(dut.refreshes) == before:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, t.refresh_cycles)
    bench.read(2, 1)
    await bench.rest()
    shut = bench.came[-1] - bench.entered.items[-1][0]
    assert shut == base + rcd, bench.text(f"a job to a closed bank took {shut} cycles")


@cocotb.test()
async def no_cycle_is_lost(dut: Any) -> None:
    """A sequential read over many pages delivers a word every two cycles. Only refreshes interrupt it, for the number
    of cycles in ``refresh_cycles``."""
    bench = Bench(dut)
    await bench.begin()
    t = bench.timings
    begun = to_int(dut.refreshes)
    came = len(bench.came)
    await bench.sequence(0, bench.parameters["words"])
    times = bench.came[came:]
    gaps = [b - a - 2 for a, b in pairwise(times) if b - a != 2]
    groups = (to_int(dut.refreshes) - begun) // t.refresh_group
    lost = t.refresh_cycles
    assert set(gaps) == {lost} and abs(len(gaps) - groups) <= 2, bench.text(
        f"each of {groups} groups of refreshes must lose {lost} cycles, but the gaps are {gaps}"
    )
    share = 2 * len(times) / (times[-1] - times[0] + 2)
    dut._log.info(f"{share:.4%} of the cycles, {1 - t.refresh_loss:.4%} by the formula, {len(gaps)} refreshes")


@cocotb.test()
async def refreshes_are_on_time(dut: Any) -> None:
    """The number of refreshes is right for the elapsed time: while there are no jobs, during reads and during writes.
    No row loses its data."""
    bench = Bench(dut)
    await bench.begin()
    t, draw, burst = bench.timings, bench.draw, bench.burst
    begun, since = to_int(dut.refreshes), cycle_now()
    for load in (0, 1, 2):
        until = cycle_now() + bench.parameters["groups"] * t.refresh_interval * t.refresh_group
        while cycle_now() < until:
            address = draw.randrange(t.words)
            if load == 1:
                bench.read(address, draw.randrange(1, burst + 1 - address % burst))
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
            bench.read(bench.page(row, bank), 1)
    await bench.rest()


@cocotb.test()
async def a_reset_wakes_it_up_anew(dut: Any) -> None:
    """A reset at any time breaks no rule, and words that are written after the reset are read correctly."""
    bench = Bench(dut)
    await bench.begin()
    t, draw, burst = bench.timings, bench.draw, bench.burst
    for _ in range(bench.parameters["resets"]):
        for _ in range(30):
            address = draw.randrange(t.words)
            bench.read(address, draw.randrange(1, burst + 1 - address % burst))
        await ClockCycles(dut.clk, draw.randrange(3 * burst, 12 * burst))
        dut.rst.value = 1
        bench.source.clear()
        bench.expected.clear()
        await RisingEdge(dut.clk)
        bench.expected.clear()
        await ClockCycles(dut.clk, draw.randrange(1, 4))
        dut.rst.value = 0
        places = draw.sample(range(t.words), 20)
        for address in places:
            bench.write(address)
        for address in places:
            bench.read(address, 1)
        await bench.rest()
