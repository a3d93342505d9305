"""Bench of the beat assembler: words leave as beats, in order, and a beat that waits at the output stalls no word.

Some beats have a single word. In these beats, the bench compares only this word.
"""

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
        self.entered, self.left = StreamMonitor(dut, "i"), StreamMonitor(dut, "o", on_item=self.on_beat)
        self.alone: list[bool] = []  # for each queued beat that has not left: whether the beat has a single word
        self.ends: list[bool] = []  # for each word: whether the word is the last of its beat

    def on_beat(self, cycle: int, beat: int) -> None:
        self.board.check(cycle, beat & (1 << self.bits) - 1 if self.alone.pop(0) else beat)

    def queue(self, beats: int, alone_share: float = 0.3) -> None:
        for index in range(beats):
            alone = self.draw.random() < alone_share
            words = [self.draw.getrandbits(self.bits) for _ in range(1 if alone else self.words)]
            self.source.queue([word | alone << self.bits for word in words])
            self.alone.append(alone)
            self.ends += [False] * (len(words) - 1) + [True]
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
        assert all(b == a + 1 for a, b in pairwise(entered)), "a word must not wait"
        ends = [index for index, whole in enumerate(bench.ends) if whole]
        assert left == [entered[index] + 1 for index in ends], "a beat must leave one cycle after its last word"


@cocotb.test()
async def a_waiting_beat_holds_no_word_up(dut: Any) -> None:
    """Words are accepted without a wait if the sink accepts each beat one cycle after the beat becomes valid.

    This cannot hold for beats of a single word, which come in every cycle.
    """
    bench = Bench(dut, "after_valid")
    await start(dut)
    bench.queue(50, alone_share=0.0)
    await bench.sink.receive(50, 500)
    bench.board.finish()
    if bench.pause == "none" and bench.words > 1:
        entered = [cycle for cycle, _ in bench.entered.items]
        assert all(b == a + 1 for a, b in pairwise(entered)), "a word must not wait"


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
        bench.alone.clear()
        bench.sink.received.clear()
        bench.queue(7)
        dut.rst.value = 0
        await bench.sink.receive(7, 500)
        await ClockCycles(dut.clk, 3)
        bench.board.finish()
