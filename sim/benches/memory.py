"""Bench of ResidentMemory and StreamedMemory: written words are read, readers repeat and lose no words, rows have
priority."""

import random
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.layouts import full_parts
from lutern.hw.protocol import SETUP
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, start, to_int


class _Stopped:
    """A reset for streams of the memory that is also active while the memory does not run."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut

    def __len__(self) -> int:
        return 1

    @property
    def value(self) -> int:
        return to_int(self._dut.rst) | 1 - to_int(self._dut.running)


class _Running:
    """Stands for the component: it has all signals of the component, but its reset is a `_Stopped`."""

    def __init__(self, dut: Any) -> None:
        self._dut, self.rst = dut, _Stopped(dut)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dut, name)


class Bench:
    """Drives one memory. The lists ``words`` and ``beats`` are the reference."""

    patience = 500
    """The waiting time: largest number of cycles from the writes of a test case until a word comes."""

    def __init__(self, dut: Any, pause: str | None = None) -> None:
        self.parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), pause or self.parameters["pause"]
        self.config = HwConfig("bench", **self.parameters["config"])
        self.resident = self.config.source == "resident"
        self.draw = random.Random(self.seed)
        self.words = [0] * self.config.memory_words
        self.beats = [[0] * self.config.parts for _ in range(self.config.trit_beats)]
        dut.running.value, dut.setup.value = 0, 0
        self.sources = {
            name: StreamSource(dut, name, pause=self.pause, seed=self.seed + index)
            for index, name in enumerate(("i_write", "i_read", "i_start"))
        }
        self.entered = {name: StreamMonitor(_Running(dut) if name == "i_start" else dut, name) for name in self.sources}
        self.endless = {"o_words": self.config.word_bits}
        if self.resident:
            self.endless["o_trits"] = self.config.beat_bits
        self.sinks, self.boards, self.left = {}, {}, {}
        bits = {"o_read": self.config.word_bits, "o_row": self.config.word_bits, **self.endless}
        for index, (name, width) in enumerate(bits.items()):
            seen = dut if name == "o_read" else _Running(dut)
            self.sinks[name] = StreamSink(seen, name, pause=self.pause, seed=self.seed + 5 + index)
            self.boards[name] = Scoreboard(f"memory.{name}", seed=self.seed, bits=width)
            self.left[name] = StreamMonitor(seen, name, on_item=self._checker(name))
        self.place = dict.fromkeys(self.endless, 0)
        self.setup: dict[str, int] = {}

    def _checker(self, name: str) -> Any:
        """Return a function that compares an item of the output ``name``. For an endless stream, the function computes
        the expected item."""

        def check(cycle: int, value: int) -> None:
            if name in self.endless:
                place = self.place[name]
                self.boards[name].expect(self.item(name, place), index=place)
                self.place[name] = (place + 1) % self.setup["record_words" if name == "o_words" else "trit_beats"]
            self.boards[name].check(cycle, value)

        return check

    def item(self, name: str, place: int) -> int:
        """Return the item with number ``place`` of an endless stream."""
        if name == "o_words":
            return self.words[place]
        return sum(part << self.config.word_bits * index for index, part in enumerate(self.beats[place]))

    # ------------------------------------------------------------------------------------------ the host

    def stored(self, address: int) -> int:
        """Return the word that the host reads at an address."""
        if address < TRIT_MEMORY:
            return self.words[address]
        beat, part = divmod(address - TRIT_MEMORY, 1 << self.config.part_bits)
        return self.beats[beat][part] if part < self.config.parts else 0

    def write(self, address: int) -> None:
        """Write a random word. The last part of a beat stores only the bits that the beat has. Parts that a beat does
        not have store no bits."""
        word = self.draw.getrandbits(self.config.word_bits)
        self.sources["i_write"].queue([address | word << self.config.address_bits])
        if address < TRIT_MEMORY:
            self.words[address] = word
            return
        beat, part = divmod(address - TRIT_MEMORY, 1 << self.config.part_bits)
        if part < self.config.parts:
            bits = min(self.config.word_bits, self.config.beat_bits - part * self.config.word_bits)
            self.beats[beat][part] = word & (1 << bits) - 1

    @property
    def addresses(self) -> list[int]:
        """All addresses that the host can write, including parts that a beat does not have."""
        trits = range(TRIT_MEMORY, TRIT_MEMORY + (len(self.beats) << self.config.part_bits))
        return [*range(len(self.words)), *(trits if self.resident else ())]

    async def fill(self) -> None:
        """Write every word in random order, parts of beats first, so that writes to the wrong memory are found."""
        words = len(self.words)
        for address in (
            *self.draw.sample(self.addresses[words:], len(self.addresses) - words),
            *self.draw.sample(range(words), words),
        ):
            self.write(address)
        await self.sources["i_write"].drained()
        await ClockCycles(self.dut.clk, self.config.word_bytes + 2)  # a word is written in chunks

    def read(self, address: int, count: int) -> None:
        self.sources["i_read"].queue([address | count << self.config.address_bits])
        for index in range(address, address + count):
            self.boards["o_read"].expect(self.stored(index), index=index)

    async def finish(self) -> None:
        """Check that all requested words have come."""
        for name in ("o_read", "o_row"):
            await self.sinks[name].receive(
                len(self.boards[name].pending) + len(self.sinks[name].received), self.patience
            )
        for name in ("i_write", "i_read", "i_start"):
            await self.sources[name].drained()
        await ClockCycles(self.dut.clk, 8)
        for board in self.boards.values():
            assert not board.pending

    # ------------------------------------------------------------------------------------------ the readers

    async def run(self, **values: int) -> None:
        """Set up and start the readers, which begin with the first item."""
        self.setup = dict.fromkeys(SETUP.names, 0) | values
        self.dut.setup.value = int.from_bytes(SETUP.pack(**self.setup), "little")
        await ClockCycles(self.dut.clk, 1)
        self.place = dict.fromkeys(self.endless, 0)
        for monitor in (*self.left.values(), *self.entered.values()):
            monitor.items.clear()
        self.dut.running.value = 1
        self.since = cycle_now()

    async def stop(self, cycles: int | None = None) -> None:
        """Stop for ``cycles`` cycles. Items in flight are dropped. The next ``run`` adds one more cycle."""
        self.dut.running.value = 0
        for name in ("o_row", *self.endless):
            self.boards[name].pending.clear()
        cycles = self.draw.randrange(1, 4) if cycles is None else cycles
        if cycles:
            await ClockCycles(self.dut.clk, cycles)
        for sink in self.sinks.values():
            sink.received.clear()

    def row(self, token: int) -> list[int]:
        """Return the words of a token's row in the reference."""
        s, config = self.setup, self.config
        at, count = s["embedding_base"] + token * s["embedding_stride"], s["embedding_row_words"]
        if not self.resident:
            return [self.words[(at + index) % len(self.words)] for index in range(count)]
        parts = full_parts(config)
        return [self.beats[(at + index // parts) % len(self.beats)][index % parts] for index in range(count)]

    def token(self, token: int) -> None:
        """Request the row of a token, for a random stream."""
        stream = self.draw.randrange(self.config.streams)
        self.sources["i_start"].queue([token | stream << 16])
        for index, word in enumerate(self.row(token)):
            self.boards["o_row"].expect(word, token=token, index=index)

    def shape(self, record_words: int = 40, row_words: int = 6, vocab: int = 9) -> dict[str, int]:
        """Return a setup that fits into the small memories, with the embedding table at the end."""
        if not self.resident:
            base = len(self.words) - vocab * row_words
            return {
                "record_words": record_words,
                "embedding_base": base,
                "embedding_row_words": row_words,
                "embedding_stride": row_words,
                "vocab": vocab,
            }
        stride = -(-row_words // full_parts(self.config))
        base = len(self.beats) - vocab * stride
        return {
            "record_words": record_words,
            "trit_beats": base - 1,
            "embedding_base": base,
            "embedding_row_words": row_words,
            "embedding_stride": stride,
            "vocab": vocab,
        }

    def cycles(self, name: str) -> list[int]:
        return [cycle for cycle, _ in self.left[name].items]


def consecutive(cycles: list[int]) -> bool:
    return all(b == a + 1 for a, b in pairwise(cycles))


@cocotb.test()
async def host_reads_what_it_wrote(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    words = len(bench.words)
    requests = [(0, words), (5, 0), (words - 1, 1), (0, 1), (3, 2), (0, 0), (7, 9)]
    if bench.resident:
        parts = len(bench.addresses) - words
        requests += [(TRIT_MEMORY, parts), (TRIT_MEMORY + parts - 1, 1), (3, 4), (TRIT_MEMORY + 1, 5)]
    requests += [(address, bench.draw.randrange(6)) for address in bench.draw.sample(range(words - 6), 20)]
    for address, count in requests:
        bench.read(address, count)
    await bench.finish()
    if bench.pause == "none":
        asked = [cycle for cycle, _ in bench.entered["i_read"].items]
        expected = [
            cycle + bench.parameters["read_latency"] + bench.parameters["steps"] * beat
            for cycle, (_, count) in zip(asked, requests, strict=True)
            for beat in range(count)
        ]
        assert bench.cycles("o_read") == expected
        waits = [b - a for a, b in pairwise(asked)]
        assert waits == [bench.parameters["steps"] * count + 1 for _, count in requests[:-1]], (
            f"the cycles between requests are wrong: {waits}"
        )
    assert not any(bench.left[name].items for name in ("o_row", *bench.endless)), (
        "readers must not run while the host reads"
    )


@cocotb.test()
async def readers_repeat(dut: Any) -> None:
    """After each start the readers begin with the first item and repeat all items, for setups of several lengths."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for record_words in (2, 7, 40):
        await bench.run(**bench.shape(record_words))
        await ClockCycles(dut.clk, bench.draw.randrange(80, 160))
        for name in bench.endless:
            cycles = bench.cycles(name)
            if bench.pause == "none":
                latency = bench.parameters["trit_latency" if name == "o_trits" else "latency"]
                assert cycles[0] == bench.since + latency, f"{name} began in cycle {cycles[0]}, which is wrong"
                assert consecutive(cycles), f"{name} must not pause"
            assert len(cycles) > 20, f"{name}: only {len(cycles)} items came"
        await bench.stop()
        bench.write(bench.draw.randrange(record_words))
        await bench.finish()
        bench.read(0, 5)
        await bench.finish()


@cocotb.test()
async def a_start_right_after_a_stop(dut: Any) -> None:
    """If ``running`` falls for one cycle or a few cycles, no word of the previous run leaves after the restart."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for cycles in (0, 0, 1, 2, 0):
        await bench.run(**bench.shape(7))
        await ClockCycles(dut.clk, 60)
        await bench.stop(cycles)


@cocotb.test()
async def rows_go_first(dut: Any) -> None:
    """Rows that are requested at any time are right and have priority, while the endless streams lose no item."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for row_words in (1, 5, 6):
        await bench.run(**bench.shape(30, row_words))
        for _ in range(12):
            for _ in range(bench.draw.choice((1, 1, bench.config.streams))):
                bench.token(bench.draw.randrange(9))
            await bench.sources["i_start"].drained()
            await ClockCycles(dut.clk, bench.draw.choice((1, 2, 3, 20, 21)))
        await bench.finish()
        if bench.pause == "none":
            rows, asked = bench.cycles("o_row"), [cycle for cycle, _ in bench.entered["i_start"].items]
            expected = [
                cycle + bench.parameters["row_latency"] + bench.parameters["steps"] * beat
                for cycle in asked
                for beat in range(row_words)
            ]
            assert rows == expected, "the latency of a row is wrong, or a row paused"
            if bench.resident:
                assert consecutive(bench.cycles("o_words")), "words must come in every cycle"
                assert consecutive(bench.cycles("o_trits")), "trits must come in every cycle"
            else:
                shared = sorted(bench.cycles("o_words") + rows)
                assert consecutive(shared), "the port must deliver a word in every cycle"
        await bench.stop()


@cocotb.test()
async def rows_pass_what_waits(dut: Any) -> None:
    """A stream whose words are not accepted delays no other stream, and loses no word."""
    bench = Bench(dut, "none")
    await start(dut)
    await bench.fill()
    await bench.run(**bench.shape(11, 5))
    for wait in (0, 1, 2, 3, 9):
        for name in bench.endless:
            bench.sinks[name].pause = _held(bench.draw.randrange(20, 30))
        await ClockCycles(dut.clk, wait)
        begun = len(bench.left["o_row"].items)
        bench.token(bench.draw.randrange(9))
        bench.token(bench.draw.randrange(9))
        await bench.sources["i_start"].drained()
        await ClockCycles(dut.clk, 27)
        asked = [cycle for cycle, _ in bench.entered["i_start"].items[-2:]]
        expected = [
            cycle + bench.parameters["row_latency"] + bench.parameters["steps"] * beat
            for cycle in asked
            for beat in range(5)
        ]
        assert bench.cycles("o_row")[begun:] == expected
        await ClockCycles(dut.clk, 40)
    assert all(len(bench.left[name].items) > 80 for name in bench.endless)
    await bench.finish()


def _held(cycles: int) -> Any:
    """Yield a pause of ``cycles`` cycles, then no further pauses."""
    for _ in range(cycles):
        yield True
    while True:
        yield False


@cocotb.test()
async def a_large_table(dut: Any) -> None:
    """Rows are right if token and stride are numbers of up to 16 bits. Memory and reference compute addresses modulo
    the memory's size."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for token, stride, base in ((65535, 65535, 12345), (257, 40001, 0), (40000, 100, (1 << 20) + 3), (1, 32768, 5)):
        shape = bench.shape(10, 5) | {"embedding_base": base, "embedding_stride": stride}
        if bench.resident:
            shape["trit_beats"] = 7
        await bench.run(**shape)
        bench.token(token)
        bench.token(token >> 1)
        await bench.finish()
        await bench.stop()


@cocotb.test()
async def writes_while_reading(dut: Any) -> None:
    """Words that are written while other words are read are stored correctly."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for _ in range(3):
        bench.read(2, 20)
        for address in bench.draw.sample(bench.addresses[60:], 40):
            bench.write(address)
        await bench.finish()
    for first in range(0, len(bench.words), 16):
        bench.read(first, 16)
    for first in range(len(bench.words), len(bench.addresses), 16):
        bench.read(bench.addresses[first], min(16, len(bench.addresses) - first))
    await bench.finish()


@cocotb.test()
async def stops_and_resets_in_mid_row(dut: Any) -> None:
    """A stop or a reset in the middle of a row drops requests and the words in the readers, but keeps the words of the
    memory."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for reset in (False, True):
        for cycles in (*range(1, 8), 12, 14):
            await bench.run(**bench.shape(9, 6))
            bench.token(3)
            await ClockCycles(dut.clk, cycles)
            if reset:
                dut.rst.value = 1
            dut.running.value = 0
            await RisingEdge(dut.clk)  # from here on no request is accepted
            for source in bench.sources.values():
                source.clear()
            await bench.stop()
            dut.rst.value = 0
            bench.read(bench.draw.randrange(20), 3)
            await bench.finish()
            await bench.run(**bench.shape(13, 4))
            await ClockCycles(dut.clk, bench.draw.randrange(3))
            bench.token(5)
            bench.token(6)
            await bench.finish()
            await bench.stop()
