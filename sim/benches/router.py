"""Bench of the record router: records of every kind and length come in any order, and each word goes to the output of
its kind."""

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import HEADER_LENGTH_BITS, OPERATION, OPERATION_BITS, RecordKind, header, header_words
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, start, to_int

OUTPUTS = {RecordKind.OP: "o_op", RecordKind.GAINS: "o_gains", RecordKind.TRITS: "o_trits"}
UNKNOWN = (0, *range(6, 16))
LONG = 5000
"""A length that needs more bits than the kind leaves free in a 16-bit word."""


class Bench:
    """Drives one RecordRouter. The reference parses the words that the router accepts."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, pause = dut, bench_seed(), parameters["pause"]
        config = HwConfig("bench", **parameters["config"])
        self.bits, self.header_words = config.word_bits, header_words(config)
        self.op_words = -(-OPERATION_BITS // self.bits)
        self.draw = random.Random(self.seed)
        self.source = StreamSource(dut, "i", pause=pause, seed=self.seed)
        self.boards, self.left = {}, {}
        self.entered = StreamMonitor(dut, "i", on_item=self.on_word)
        self.checks_ended = list[int]()  # the cycles in which a CHECK ended
        self.checked = list[int]()
        cocotb.start_soon(self._watch_checked())
        for index, (kind, name) in enumerate(OUTPUTS.items()):
            StreamSink(dut, name, pause=pause, seed=self.seed + 1 + index)
            bits = OPERATION.size if kind == RecordKind.OP else self.bits + (kind == RecordKind.TRITS)
            self.boards[kind] = Scoreboard(f"router.{name}", seed=self.seed, bits=bits)
            self.left[kind] = StreamMonitor(dut, name, on_item=self.boards[kind].check)
        self.restart()

    def restart(self) -> None:
        self.kind, self.to_come, self.words, self.head = 0, 0, list[int](), list[int]()
        self.op_ends: list[int] = []
        for board in self.boards.values():
            board.pending.clear()

    async def _watch_checked(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.checked) and not to_int(self.dut.rst):
                self.checked.append(cycle_now())

    def record(self, kind: int, length: int) -> list[int]:
        """Return the header and words of a record. Unused bits of the header are random."""
        width = self.bits * self.header_words
        whole = header(RecordKind.OP, length) - RecordKind.OP + kind | self.draw.getrandbits(width) >> 24 << 24
        head = [whole >> self.bits * place & (1 << self.bits) - 1 for place in range(self.header_words)]
        return [*head, *(self.draw.getrandbits(self.bits) for _ in range(length))]

    def records(self, count: int) -> list[int]:
        """Return the words of edge cases, followed by ``count`` random records. The edge cases are records of length 0,
        successive operations, every unknown kind and a long record."""
        pairs = [(kind, length) for kind in (*UNKNOWN, 2, 3, 4, 5) for length in (0, 1, 3)]
        pairs += [(RecordKind.OP, self.op_words)] * 4 + [(RecordKind.TRITS, LONG)]
        for _ in range(count):
            kind = self.draw.choice([*RecordKind, RecordKind.OP, self.draw.choice(UNKNOWN)])
            pairs.append((kind, self.op_words if kind == RecordKind.OP else self.draw.randrange(9)))
        return [word for kind, length in pairs for word in self.record(kind, length)]

    def on_word(self, cycle: int, word: int) -> None:
        if self.to_come == 0:
            self.head.append(word)
            if len(self.head) == self.header_words:
                whole = sum(part << self.bits * place for place, part in enumerate(self.head))
                self.kind, self.to_come, self.head = whole & 15, whole >> 4 & (1 << HEADER_LENGTH_BITS) - 1, []
            return
        self.to_come -= 1
        if self.kind == RecordKind.CHECK and self.to_come == 0:
            self.checks_ended.append(cycle)
        if self.kind == RecordKind.OP:
            self.words.append(word)
            if len(self.words) == self.op_words:
                whole = sum(part << self.bits * place for place, part in enumerate(self.words))
                self.boards[RecordKind.OP].expect(whole & (1 << OPERATION.size) - 1)
                self.op_ends.append(cycle)
                self.words = []
        elif self.kind == RecordKind.GAINS:
            self.boards[RecordKind.GAINS].expect(word)
        elif self.kind in (RecordKind.TRITS, RecordKind.SHORT_TRITS):
            self.boards[RecordKind.TRITS].expect(word | (self.kind == RecordKind.SHORT_TRITS) << self.bits)

    async def run(self, words: list[int]) -> None:
        await self.source.send(*words)
        await ClockCycles(self.dut.clk, 40)
        for board in self.boards.values():
            board.finish()
        wrong = set(self.checked) ^ set(self.checks_ended)
        assert not wrong, f"checked is not the end of a CHECK in cycles {sorted(wrong)[:5]}, seed {self.seed}"


@cocotb.test()
async def records_go_where_they_belong(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    words = bench.records(200)
    await bench.run(words)
    if bench_parameters()["pause"] == "none":
        taken = {cycle: word for cycle, word in bench.entered.items}
        for kind in (RecordKind.GAINS, RecordKind.TRITS):
            left = bench.left[kind].items
            assert all(taken[cycle] == word & (1 << bench.bits) - 1 for cycle, word in left), (
                "gains and trits must leave with latency 0"
            )
        op_cycles = [cycle for cycle, _ in bench.left[RecordKind.OP].items]
        assert op_cycles == [cycle + 1 for cycle in bench.op_ends], (
            "an operation must leave one cycle after its last word"
        )
        assert bench.entered.items[-1][0] - bench.entered.items[0][0] == len(words) - 1, (
            "a word must enter in every cycle"
        )


@cocotb.test()
async def reset_in_mid_record(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for kind in (RecordKind.OP, RecordKind.TRITS, RecordKind.SHORT_TRITS, 9):
        for cycles in (1, 2, 4):
            bench.source.queue(bench.record(kind, 9))
            await ClockCycles(dut.clk, cycles)
            dut.rst.value = 1
            bench.source.clear()
            words = bench.records(5)
            bench.source.queue(words)
            await ClockCycles(dut.clk, 2)
            await FallingEdge(dut.clk)
            bench.restart()
            await RisingEdge(dut.clk)
            dut.rst.value = 0
            await bench.run([])
