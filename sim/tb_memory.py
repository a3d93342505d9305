"""Bench of the image memory: what is written is read, a token reads its three spans, requests stand back to back."""

import random
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.config import HwConfig
from lutern.hw.protocol import ADDRESS_BITS, SETUP
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, start


class Bench:
    """Drives one ImageMemory; a list is the reference."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.bits, self.draw = self.config.word_bits, random.Random(self.seed)
        names = ("i_write", "i_read", "i_start")
        self.sources = {name: StreamSource(dut, name, pause=self.pause, seed=self.seed + index)
                        for index, name in enumerate(names)}
        self.words = [0] * self.config.memory_words
        self.sinks, self.boards, self.left = {}, {}, {}
        for index, name in enumerate(("o_read", "o_words")):
            self.sinks[name] = StreamSink(dut, name, pause=self.pause, seed=self.seed + 5 + index)
            self.boards[name] = Scoreboard(f"memory.{name}", seed=self.seed, bits=self.bits)
            self.left[name] = StreamMonitor(dut, name, on_item=self.boards[name].check)
        self.entered = {name: StreamMonitor(dut, name) for name in names}
        self.setup: dict[str, int] = {}
        dut.setup.value = 0

    def write(self, address: int, word: int) -> None:
        self.words[address] = word
        self.sources["i_write"].queue([address | word << ADDRESS_BITS])

    async def fill(self) -> None:
        """Every word, in any order."""
        for address in self.draw.sample(range(len(self.words)), len(self.words)):
            self.write(address, self.draw.getrandbits(self.bits))
        await self.sources["i_write"].drained()

    def read(self, address: int, count: int) -> None:
        self.sources["i_read"].queue([address | count << ADDRESS_BITS])
        for index in range(address, address + count):
            self.boards["o_read"].expect(self.words[index], index=index)

    def set_up(self, **values: int) -> None:
        self.setup = dict.fromkeys(SETUP.names, 0) | values
        self.dut.setup.value = int.from_bytes(SETUP.pack(**self.setup), "little")

    def token(self, token: int) -> None:
        """Ask for the stream of a token."""
        s = self.setup
        self.sources["i_start"].queue([token])
        row = s["embedding_base"] + token * s["embedding_row_words"]
        spans = ((s["stream_base"], s["head_words"]), (row, s["embedding_row_words"]),
                 (s["stream_base"] + s["head_words"], s["stream_words"] - s["head_words"]))
        for layer, (base, count) in enumerate(spans):
            for address in range(base, base + count):
                self.boards["o_words"].expect(self.words[address], token=token, layer=layer, index=address)

    async def run(self) -> None:
        for name, board in self.boards.items():
            await self.sinks[name].receive(len(board.pending), 500)
        await self.sources["i_write"].drained()
        await ClockCycles(self.dut.clk, 10)
        assert not any(source.pending for source in self.sources.values())
        for board in self.boards.values():
            assert not board.pending


@cocotb.test()
async def host_reads_what_it_wrote(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    size = len(bench.words)
    requests = [(0, size), (5, 0), (size - 1, 1), (0, 1), (3, 2), (0, 0), (7, 9)]
    requests += [(address, bench.draw.randrange(6)) for address in bench.draw.sample(range(size - 6), 20)]
    for address, count in requests:
        bench.read(address, count)
    await bench.run()
    if bench.pause == "none":
        asked = [cycle for cycle, _ in bench.entered["i_read"].items]
        expected = [cycle + bench_parameters()["latency"] + beat
                    for cycle, (_, count) in zip(asked, requests, strict=True) for beat in range(count)]
        assert [cycle for cycle, _ in bench.left["o_read"].items] == expected
        waits = [b - a for a, b in pairwise(asked)]
        assert waits == [count + 2 if count else 1 for _, count in requests[:-1]], f"requests waited {waits}"


@cocotb.test()
async def tokens_read_three_spans(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for shape in ((9, 2, 40, 60, 5, 12), (0, 1, 2, 100, 1, 20), (50, 12, 13, 0, 3, 16)):
        stream_base, head_words, stream_words, embedding_base, row_words, vocab = shape
        bench.set_up(stream_base=stream_base, head_words=head_words, stream_words=stream_words,
                     embedding_base=embedding_base, embedding_row_words=row_words, vocab=vocab)
        for monitor in (bench.left["o_words"], bench.entered["i_start"]):
            monitor.items.clear()
        tokens = [0, vocab - 1, *(bench.draw.randrange(vocab) for _ in range(6))]
        for token in tokens:
            bench.token(token)
        await bench.run()
        if bench.pause == "none":
            counts = head_words, row_words, stream_words - head_words
            expected: list[int] = []
            for cycle, _ in bench.entered["i_start"].items:
                first = cycle + bench_parameters()["latency"]
                for count in counts:
                    expected += range(first, first + count)
                    first += count + 1
            assert [cycle for cycle, _ in bench.left["o_words"].items] == expected


@cocotb.test()
async def a_large_table(dut: Any) -> None:
    """Products of all 16 bits; the address is taken modulo the memory, as the reference does here."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    size = len(bench.words)
    for token, row_words, base in ((65535, 255, 12345), (257, 65535 % 400, 0), (40000, 100, (1 << 24) - 4_000_000)):
        bench.set_up(stream_base=0, head_words=2, stream_words=4, embedding_base=base, embedding_row_words=row_words)
        bench.sources["i_start"].queue([token])
        row = base + token * row_words
        for address in (0, 1, *(address % size for address in range(row, row + row_words)), 2, 3):
            bench.boards["o_words"].expect(bench.words[address], token=token, index=address)
        await bench.run()


@cocotb.test()
async def reads_come_before_tokens_and_writes_go_on(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    bench.set_up(stream_base=4, head_words=3, stream_words=20, embedding_base=40, embedding_row_words=2)
    for _ in range(5):
        bench.token(bench.draw.randrange(8))
        bench.read(bench.draw.randrange(60), 7)
        for address in range(100, len(bench.words)):  # nothing reads there
            bench.write(address, bench.draw.getrandbits(bench.bits))
        await bench.run()
    bench.read(90, len(bench.words) - 90)
    await bench.run()
    if bench.pause == "none":
        starts, reads = ([cycle for cycle, _ in bench.entered[name].items] for name in ("i_start", "i_read"))
        assert all(start_ > read for start_, read in zip(starts, reads, strict=False))


@cocotb.test()
async def reset_in_mid_span(dut: Any) -> None:
    """A reset drops the request, and keeps the words."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    bench.set_up(stream_base=4, head_words=3, stream_words=20, embedding_base=40, embedding_row_words=4)
    for cycles in (2, 4, 6, 7, 9, 12, 14):
        bench.token(3)
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        for source in bench.sources.values():
            source.clear()
        bench.boards["o_words"].pending.clear()
        bench.token(5)
        await ClockCycles(dut.clk, 2)
        bench.sinks["o_words"].received.clear()
        dut.rst.value = 0
        await bench.run()
