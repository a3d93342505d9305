"""Bench of the beat assembler: words come out as beats, in order, and a waiting beat holds no word up."""

import random
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.hw.config import HwConfig
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, start


class Bench:
    """Drives one BeatAssembler."""

    def __init__(self, dut: Any, pause: str | None = None) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        config = HwConfig("bench", **parameters["config"])
        self.words, self.bits = config.beat_bytes // config.word_bytes, config.word_bits
        self.draw = random.Random(self.seed)
        self.source = StreamSource(dut, "i", pause=self.pause, seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=pause or self.pause, seed=self.seed + 1)
        self.board = Scoreboard("beats", seed=self.seed, bits=config.beat_bits)
        self.entered, self.left = StreamMonitor(dut, "i"), StreamMonitor(dut, "o", on_item=self.board.check)

    def queue(self, beats: int) -> None:
        for index in range(beats):
            words = [self.draw.getrandbits(self.bits) for _ in range(self.words)]
            self.source.queue(words)
            self.board.expect(sum(word << self.bits * place for place, word in enumerate(words)), index=index)


@cocotb.test()
async def words_become_beats(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    bench.queue(100)
    await bench.sink.receive(100, 500)
    bench.board.finish()
    if bench.pause == "none":
        entered, left = ([cycle for cycle, _ in monitor.items] for monitor in (bench.entered, bench.left))
        assert all(b == a + 1 for a, b in pairwise(entered)), "a word waited"
        assert left == [cycle + 1 for cycle in entered[bench.words - 1 :: bench.words]], "latency 1 after the last word"


@cocotb.test()
async def a_waiting_beat_holds_no_word_up(dut: Any) -> None:
    """Every beat is taken a cycle after it shows."""
    bench = Bench(dut, "after_valid")
    await start(dut)
    bench.queue(50)
    await bench.sink.receive(50, 500)
    bench.board.finish()
    if bench.pause == "none" and bench.words > 1:
        entered = [cycle for cycle, _ in bench.entered.items]
        assert all(b == a + 1 for a, b in pairwise(entered)), "a word waited"


@cocotb.test()
async def reset_in_mid_beat(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for cycles in (1, 2, 3, 4, 5):
        bench.queue(3)
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        bench.source.clear()
        await ClockCycles(dut.clk, 2)
        bench.board.pending.clear()
        bench.sink.received.clear()
        bench.queue(7)
        dut.rst.value = 0
        await bench.sink.receive(7, 500)
        await ClockCycles(dut.clk, 3)
        bench.board.finish()
