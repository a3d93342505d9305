"""Bench of hw/memory/host.py: words arrive in any order, may be lost or doubled, and leave once and in order. Each WANT
has the right counts.

`parameters`: config (fields of HwConfig), pause (pattern of all streams), frames (number of frames).
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.hw.config import HwConfig
from lutern.hw.protocol import CHUNK_BYTES, SETUP, WANT, WANT_LAYOUT, host_word_layout
from lutern.sim.benches.memory import _Running
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start, to_int, unpack

ROW_WORDS = 7


class Bench:
    """Acts as the host of one chip, and checks the words that the chip takes and the WANTs."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.draw = random.Random(self.seed)
        self.layout = host_word_layout(self.config.word_bytes)
        dut.running.value, dut.setup.value = (
            0,
            int.from_bytes(SETUP.pack(**{**dict.fromkeys(SETUP.names, 0), "embedding_row_words": ROW_WORDS}), "little"),
        )
        self.words = StreamSource(dut, "i_host", pause=pause, seed=self.seed)
        self.starts = StreamSource(dut, "i_start", pause=pause, seed=self.seed + 1)
        seen = _Running(dut)
        self.stream = StreamSink(seen, "o_words", pause=pause, seed=self.seed + 2)
        self.rows = StreamSink(seen, "o_row", pause=pause, seed=self.seed + 3)
        self.want = StreamSink(seen, "o_want", pause=pause, seed=self.seed + 4)
        self.wants: list[tuple[int, dict[str, int]]] = []
        StreamMonitor(seen, "o_want", on_item=self._take_want)
        self.taken = 0
        StreamMonitor(seen, "o_words", on_item=self._take_word)
        self.sequence = 0

    def _take_word(self, cycle: int, payload: int) -> None:
        assert payload == self.word(self.taken), f"word {self.taken} is wrong in cycle {cycle}, seed {self.seed}"
        self.taken += 1

    def _take_want(self, cycle: int, payload: int) -> None:
        fields = unpack(WANT_LAYOUT, payload)
        raw = int(fields["want"]).to_bytes(WANT.byte_count, "little")
        self.wants.append((fields["sequence"], WANT.unpack(raw)))

    def word(self, place: int, row: int = 0) -> int:
        return (place * 40503 + row * 77 + self.seed) & (1 << self.config.word_bits) - 1

    def frame(self, place: int, count: int, row: int = 0) -> None:
        """Send words of the record stream, or of row number ``row`` if it is not 0. The first row is number 1."""
        self.sequence = self.sequence + 1 & 0xFF
        self.words.queue(
            pack(
                self.layout,
                {
                    "row": row != 0,
                    "place": place + index + (row << 16),
                    "last": index == count - 1,
                    "sequence": self.sequence,
                    "word": self.word(place + index, row),
                },
            )
            for index in range(count)
        )

    async def settled(self) -> dict[str, int]:
        """Return the last WANT after all words have been handled. The last frame must contain words that the chip
        drops. The chip answers this frame with a WANT."""
        await self.words.drained()
        await ClockCycles(self.dut.clk, 60)
        sequence, want = self.wants[-1]
        assert sequence == self.sequence, f"no WANT came for a frame with dropped words, seed {self.seed}"
        return want


@cocotb.test()
async def words_come_once_and_in_order(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    dut.running.value = 1
    sent = 0
    for _ in range(bench_parameters()["frames"]):
        count = bench.draw.randint(1, 30)
        match bench.draw.randrange(4):
            case 0:  # the previous frame was lost
                bench.frame(sent + bench.draw.randint(1, 50), count)
            case 1 if sent:  # repeated words, perhaps followed by new words
                back = bench.draw.randint(1, min(sent, 40))
                bench.frame(sent - back, count)
                sent = max(sent, sent - back + count)
            case _:
                bench.frame(sent, count)
                sent += count
    await bench.words.drained()
    await ClockCycles(dut.clk, 200)
    bench.frame(sent + 1, 1)
    want = await bench.settled()
    assert (want["offset"], want["taken"], bench.taken) == (sent, sent, sent), (
        f"the counts of the last WANT are wrong, seed {bench.seed}"
    )
    taken = [want["taken"] for _, want in bench.wants]
    chunk = CHUNK_BYTES // bench.config.word_bytes
    assert taken == sorted(taken) and sent > 2 * chunk
    assert max(b - a for a, b in zip([0, *taken], [*taken, sent], strict=True)) <= chunk + 60, (
        f"too many words were taken between two WANTs, seed {bench.seed}"
    )


@cocotb.test()
async def a_full_fifo_drops_and_says_so(dut: Any) -> None:
    bench = Bench(dut)
    bench.stream.pause = iter(lambda: True, None)
    await start(dut)
    dut.running.value = 1
    depth = bench.config.memory_words
    bench.frame(0, depth + 40)
    want = await bench.settled()
    assert (want["taken"], want["offset"]) == (0, depth), "the FIFO must store exactly memory_words words"


@cocotb.test()
async def rows(dut: Any) -> None:
    """The words of a row leave complete and in order. Words of another row and words in a wrong order are dropped."""
    bench = Bench(dut)
    await start(dut)
    dut.running.value = 1
    for number in range(1, 20):
        token = bench.draw.randrange(1 << 16)
        await bench.starts.send(token)
        await ClockCycles(dut.clk, 60)
        assert bench.wants[-1][1] | {"offset": 0, "taken": 0} == {
            "offset": 0,
            "taken": 0,
            "row": number,
            "place": 0,
            "token": token,
        }
        cut = bench.draw.randrange(1, ROW_WORDS)
        bench.frame(0, cut, number)
        bench.frame(cut + 1, 2, number)
        bench.frame(0, 3, number + 1)
        bench.frame(bench.draw.randrange(cut + 1), ROW_WORDS, number)
        got = await bench.rows.receive(ROW_WORDS, 2000)
        assert got == [bench.word(place, number) for place in range(ROW_WORDS)], (
            f"the words of row {number} are wrong, seed {bench.seed}"
        )
    await ClockCycles(dut.clk, 50)
    assert not bench.rows.received


@cocotb.test()
async def a_new_setup_begins_anew(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for _ in range(4):
        dut.running.value = 1
        bench.taken = 0
        await bench.starts.send(5)
        bench.frame(0, bench.draw.randint(5, 40))
        await ClockCycles(dut.clk, bench.draw.randint(1, 60))
        await bench.words.drained()
        dut.running.value = 0
        await ClockCycles(dut.clk, 3)
        assert not to_int(dut.o_words__valid) and not to_int(dut.o_want__valid)
        bench.stream.received.clear()
        bench.wants.clear()
    bench.taken = 0
    dut.running.value = 1
    await bench.starts.send(6)
    await ClockCycles(dut.clk, 60)
    first = {"offset": 0, "taken": 0, "row": 1, "place": 0, "token": 6}
    assert bench.wants == [(0, first)], f"the first WANT has a sequence of the time before, seed {bench.seed}"
    bench.frame(0, 10)
    await bench.words.drained()
    await ClockCycles(dut.clk, 60)
    bench.frame(0, 1)
    want = await bench.settled()
    assert want == first | {"offset": 10, "taken": 10}


@cocotb.test()
async def a_stop_does_not_change_a_want_that_is_sent(dut: Any) -> None:
    """The link reads the payload until its last byte, while the machine is stopped and begins anew."""
    bench = Bench(dut)
    bench.want.pause = iter(lambda: True, None)
    await start(dut)
    dut.running.value = 1
    await bench.starts.send(0x5566)
    await ClockCycles(dut.clk, 20)
    assert to_int(dut.o_want__valid)
    sent = to_int(dut.o_want__payload)
    assert unpack(WANT_LAYOUT, sent)["want"]
    for running in (0, 1):
        dut.running.value = running
        for _ in range(10):
            await ClockCycles(dut.clk, 1)
            assert to_int(dut.o_want__payload) == sent
