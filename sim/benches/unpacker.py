"""Bench of the group unpacker: operations of every tuple size and length, with random bits after the last group."""

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, group_shape
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, start, to_int


class Bench:
    """Drives one GroupUnpacker as an operation does: `items` is constant, and `flush` is 1 for the last group."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.choices = parameters["choices"]
        self.draw = random.Random(self.seed)
        self.source = StreamSource(dut, "i", pause=self.pause, seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=self.pause, seed=self.seed + 1)
        self.entered = StreamMonitor(dut, "i")
        self.left = StreamMonitor(dut, "o", on_item=self.on_group)
        self.board = Scoreboard("unpacker.group", seed=self.seed, bits=4 * ITEM_BITS * 16)
        self.items = 0

    def bits(self, items: int) -> int:
        return self.config.results_per_cycle * items * ITEM_BITS

    def on_group(self, cycle: int, payload: int) -> None:
        self.board.check(cycle, payload & (1 << self.bits(self.items)) - 1)

    def words(self, items: int, count: int, layer: int) -> list[int]:
        """Return the words of `count` groups, with random bits between the groups, and expect the groups."""
        width, (groups, words) = self.config.word_bits, group_shape(self.config, items)
        values = [self.draw.getrandbits(self.bits(items)) for _ in range(count)]
        for index, value in enumerate(values):
            self.board.expect(value, layer=layer, index=index)
        packed = []
        for left in range(0, count, groups):
            some = values[left : left + groups]
            used = self.bits(items) * len(some)
            junk = self.draw.getrandbits(width * words) >> used << used
            whole = junk | sum(value << self.bits(items) * place for place, value in enumerate(some))
            packed += [whole >> width * part & (1 << width) - 1 for part in range(words)]
        return packed

    async def operation(self, items: int, count: int) -> None:
        """Drive `items` until `count` groups have left. Returns directly after the rising edge that transfers the last
        group."""
        self.items = items
        for index in range(count):
            self.dut.items.value = items
            self.dut.flush.value = int(index == count - 1)
            while True:
                await FallingEdge(self.dut.clk)
                fires = to_int(self.dut.o__valid) and to_int(self.dut.o__ready)
                await RisingEdge(self.dut.clk)
                if fires:
                    break

    async def idle(self, cycles: int) -> None:
        """Drive no operation for some cycles. The block must not accept a word then."""
        self.dut.items.value = 0
        for _ in range(cycles):
            self.dut.flush.value = self.draw.randrange(2)
            await FallingEdge(self.dut.clk)
            moves = to_int(self.dut.i__ready), to_int(self.dut.o__valid)
            assert moves == (0, 0), f"(i.ready, o.valid) is {moves} without an operation"
            await RisingEdge(self.dut.clk)
        self.dut.flush.value = 0


@cocotb.test()
async def groups_of_operations(dut: Any) -> None:
    bench = Bench(dut)
    dut.items.value = 0
    dut.flush.value = 0
    await start(dut)
    program = [(items, count) for items in bench.choices for count in (1, 2, 3, 7, 24)] * 2
    program += [(bench.draw.choice(bench.choices), bench.draw.randrange(1, 20)) for _ in range(40)]
    bench.draw.shuffle(program)
    for layer, (items, count) in enumerate(program):
        bench.source.queue(bench.words(items, count, layer))
    await RisingEdge(dut.clk)
    for items, count in program:
        begun, taken = len(bench.left.items), len(bench.entered.items)
        await bench.operation(items, count)
        if bench.pause == "none":
            left = [cycle for cycle, _ in bench.left.items[begun:]]
            groups, words = group_shape(bench.config, items)
            cycles = [left[0] + index * words for index in range(count)]
            assert left == cycles, f"{count} groups of {items} items, {groups} in {words} words, left in cycles {left}"
            assert left[0] == bench.entered.items[taken + words - 1][0] + 1, "a group must leave a cycle after its word"
        if bench.draw.random() < 0.3:
            await bench.idle(bench.draw.randrange(1, 6))
    await ClockCycles(dut.clk, 10)
    assert not bench.source.pending
    bench.board.finish()


@cocotb.test()
async def reset_in_mid_group(dut: Any) -> None:
    bench = Bench(dut)
    dut.flush.value = 0
    await start(dut)
    for items in bench.choices:
        for cycles in (1, 2, 3, 4):
            bench.source.queue(bench.words(items, 6, 0))
            bench.items = items
            dut.items.value = items
            await ClockCycles(dut.clk, cycles)
            dut.rst.value = 1
            bench.source.clear()
            bench.board.pending.clear()
            other = bench.draw.choice(bench.choices)
            bench.source.queue(bench.words(other, 5, 1))
            bench.items = other
            await ClockCycles(dut.clk, 2)
            dut.rst.value = 0
            await bench.operation(other, 5)
            await bench.idle(3)
            bench.board.finish()
