"""Bench of the row widener: rows of the two formats and of every length, with leftover bits between rows."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.firmware.packing import pack_groups, pack_narrow_row
from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, NARROW_ITEM_BITS, row_words
from lutern.hw.row_widener import RowWidener
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamSource, cycle_now, reset, start, to_int


class Bench:
    """Drives one RowWidener as the decoder does: it accepts the words of a row, then flushes."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.draw = random.Random(self.seed)
        self.generator = np.random.default_rng(self.seed)
        self.source = StreamSource(dut, "i", pause=self.pause, seed=self.seed)
        self.lanes = self.config.word_bits // ITEM_BITS
        for name in ("narrow", "flush", "o__ready"):
            getattr(dut, name).value = 0

    def row(self, elements: int, narrow: bool) -> tuple[list[int], list[int]]:
        """Return the words of a random row, and the words that must leave for this row."""
        items = self.generator.integers(0, 1 << ITEM_BITS, elements).astype(np.uint16)
        if narrow:
            items &= np.uint16(0xFFF0)
        wide = _numbers(pack_groups(items[:, None], self.config))
        if not narrow:
            return wide, wide
        words = _numbers(pack_narrow_row(items, self.config))
        assert len(words) == row_words(elements, NARROW_ITEM_BITS, self.config)
        assert RowWidener.model(words, len(wide), self.config.word_bits) == wide
        return words, wide

    async def take(self, expected: list[int], where: str) -> list[int]:
        """Accept and compare the expected words. Return their cycles."""
        cycles: list[int] = []
        while len(cycles) < len(expected):
            paused = self.pause != "none" and self.draw.random() < 0.4
            self.dut.o__ready.value = int(not paused)
            await FallingEdge(self.dut.clk)
            valid, got = to_int(self.dut.o__valid), to_int(self.dut.o__payload)
            got &= (1 << ITEM_BITS * self.lanes) - 1  # bits that belong to no item may have any value
            assert valid or not to_int(self.dut.i__valid), "a word must leave with latency 0"
            if valid and not paused:
                wanted = expected[len(cycles)]
                assert got == wanted, f"word {len(cycles)} is {got:#x}, not {wanted:#x}, {where}, seed {self.seed}"
                cycles.append(cycle_now())
            await RisingEdge(self.dut.clk)
        return cycles

    async def end_row(self) -> None:
        """Flush. Before the flush, one more word may be accepted, as by an unpacker that reads ahead."""
        self.dut.o__ready.value = self.draw.getrandbits(1)
        await ClockCycles(self.dut.clk, self.draw.randrange(1, 3))
        self.dut.flush.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.flush.value = 0
        self.dut.o__ready.value = 0


def _numbers(words: Any) -> list[int]:
    return [int.from_bytes(word.tobytes(), "little") for word in words]


@cocotb.test()
async def rows_of_both_formats(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    results = bench.config.results_per_cycle
    for narrow in (1, 0, 1):
        dut.narrow.value = narrow
        lengths = [results * groups for groups in range(1, 4 * max(1, bench.lanes // results) + 3)]
        for elements in bench.draw.sample(lengths, min(len(lengths), 20)):
            where = f"{elements} elements, narrow {narrow}, seed {bench.seed}"
            words, wide = bench.row(elements, bool(narrow))
            bench.source.queue(words)
            cycles = await bench.take(wide, where)
            if bench.pause == "none":
                assert cycles == list(range(cycles[0], cycles[0] + len(wide))), (
                    f"one word must leave per cycle, {where}: {cycles}"
                )
            await bench.end_row()
            assert not bench.source.pending, f"{len(bench.source.pending)} words are left, {where}"


@cocotb.test()
async def reset_in_mid_row(dut: Any) -> None:
    bench = Bench(dut)
    dut.narrow.value = 1
    await start(dut)
    for taken in range(1, 8):
        words, wide = bench.row(8 * max(bench.lanes, bench.config.results_per_cycle), narrow=True)
        bench.source.queue(words)
        await bench.take(wide[:taken], f"{taken} words before a reset")
        bench.source.clear()
        await reset(dut)
        words, wide = bench.row(5 * bench.config.results_per_cycle, narrow=True)
        bench.source.queue(words)
        await bench.take(wide, f"after {taken} words and a reset")
        await bench.end_row()
