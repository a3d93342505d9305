"""Bench of the ternary unit: matrices and vectors in, sums against the golden model, cycles of every row group.

Two monitors rebuild codes and trits from what the unit takes, decode bytes with `layouts.decode_byte`, and ask the
golden model for the sums of each row group; a third checks what comes out.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from lutern.hw.config import HwConfig
from lutern.hw.layouts import CODE_BITS, codes_payload, decode_byte, sums_payload
from lutern.hw.ternary import TernaryUnit
from lutern.model_ref.ternary import SUM_BITS
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, reset, start, to_signed, unpack

BYTES = [byte for byte in range(256) if decode_byte(byte) is not None]
BYTE_OF: dict[Any, int] = {decode_byte(byte): byte for byte in BYTES}


@dataclass
class Beats:
    """Payloads of both inputs."""

    words: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def add(self, config: HwConfig, trits: np.ndarray, codes: np.ndarray, **flags: int) -> None:
        """One beat; trits [R, C], codes [C]."""
        flat = np.pad(trits.ravel(), (0, -config.lanes % 5)).reshape(-1, 5)
        self.add_word(config, [BYTE_OF[tuple(map(int, five))] for five in flat], codes, **flags)

    def add_word(self, config: HwConfig, word: list[int], codes: np.ndarray, **flags: int) -> None:
        flat = sum((int(code) & 0xFF) << CODE_BITS * i for i, code in enumerate(codes))
        self.words.append(int.from_bytes(bytes(word), "little"))
        self.codes.append(pack(codes_payload(config), {"codes": flat, **flags}))

    def add_matrix(self, config: HwConfig, trits: np.ndarray, codes: np.ndarray) -> None:
        """All row groups of trits [rows, n] against codes [n]; columns padded in the trits, with junk in the codes."""
        rows, columns = config.rows, config.columns
        count, n = trits.shape
        padded = np.pad(trits, ((0, -count % rows), (0, -n % columns)))
        codes = np.concatenate([codes, np.arange(-n % columns) + 100])
        for top in range(0, count, rows):
            results = -(-min(rows, count - top) // config.results_per_cycle)
            for left in range(0, n, columns):
                self.add(config, padded[top : top + rows, left : left + columns], codes[left : left + columns],
                         last_column=int(left + columns >= n), last_row_group=int(top + rows >= count),
                         results=results)


class Model:
    """The golden model, fed by the monitors of both inputs."""

    def __init__(self, config: HwConfig, board: Scoreboard) -> None:
        self.config, self.board = config, board
        self.words: list[int] = []
        self.group_ends: list[int] = []
        self.trits: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.row_groups = 0

    def clear(self) -> None:
        """What a reset drops."""
        self.words, self.trits, self.codes = [], [], []
        self.board.pending.clear()

    def take_word(self, cycle: int, payload: int) -> None:
        self.words.append(payload)

    def take_codes(self, cycle: int, payload: int) -> None:
        """Called behind take_word of the same cycle: that monitor was started first."""
        config, beat = self.config, unpack(codes_payload(self.config), payload)
        assert len(self.words) == 1, "the unit took codes without a word"
        trits = [trit for byte in self.words.pop().to_bytes(config.word_bytes, "little")
                 for trit in decode_byte(byte) or ()]
        self.trits.append(np.array(trits[: config.lanes]).reshape(config.rows, config.columns))
        self.codes.append(np.array([to_signed(beat["codes"] >> CODE_BITS * i & 0xFF, CODE_BITS)
                                    for i in range(config.columns)]))
        if beat["last_column"]:
            self.group_ends.append(cycle)
            sums = TernaryUnit.model(np.concatenate(self.codes), np.concatenate(self.trits, axis=1))
            per_cycle = config.results_per_cycle
            for index in range(beat["results"]):
                last = int(beat["last_row_group"] and index == beat["results"] - 1)
                some = sums[index * per_cycle : (index + 1) * per_cycle]
                flat = sum((int(value) & (1 << SUM_BITS) - 1) << SUM_BITS * i for i, value in enumerate(some))
                self.board.expect(pack(sums_payload(config), {"sums": flat, "last": last}), layer=self.row_groups,
                                  index=index * per_cycle)
            self.row_groups += 1
            self.trits, self.codes = [], []


class Bench:
    """The unit with its sources, sink, monitors, model and scoreboard."""

    def __init__(self, dut: Any, *, pause: str = "none") -> None:
        parameters, seed = bench_parameters(), bench_seed()
        self.config = HwConfig("bench", **parameters["config"])
        names = {"none": ("none", "none", "none"), "after_valid": ("none", "none", "after_valid")}
        weights, codes, sums = names.get(pause, (pause, pause, pause))
        self.weights = StreamSource(dut, "i_weights", pause=weights, seed=seed)
        self.codes = StreamSource(dut, "i_codes", pause=codes, seed=seed + 1)
        self.sink = StreamSink(dut, "o_sums", pause=sums, seed=seed + 2)
        self.board = Scoreboard("ternary.sums, row group as layer", seed=seed,
                                decode=lambda value: to_signed(value & (1 << SUM_BITS) - 1, SUM_BITS))
        self.model = Model(self.config, self.board)
        StreamMonitor(dut, "i_weights", on_item=self.model.take_word)
        StreamMonitor(dut, "i_codes", on_item=self.model.take_codes)
        self.left = StreamMonitor(dut, "o_sums", on_item=self.board.check)
        self.dut = dut

    async def run(self, beats: Beats) -> None:
        """Send all beats and check all that comes."""
        self.weights.queue(beats.words)
        self.codes.queue(beats.codes)
        await self.codes.drained()
        for _ in range(400):
            if not self.board.pending:
                break
            await ClockCycles(self.dut.clk, 8)
        await ClockCycles(self.dut.clk, 10)
        self.board.finish()


def edge_matrices(config: HwConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Named (trits, codes) whose sums reach the ends of their ranges."""
    rows, n = 2 * config.rows, 4 * config.columns
    ones, codes = np.ones((rows, n), int), np.full(n, 127)
    signs = np.where(np.arange(n) % 2, 1, -1)
    return {
        "all_plus": (ones, codes),
        "all_minus": (-ones, codes),
        "minus_times_minus": (-ones, -codes),
        "zero_trits": (0 * ones, codes),
        "zero_codes": (ones, 0 * codes),
        "alternating": (ones * signs, codes * signs),
        "one_row": (ones[:1], np.arange(n) - n // 2),
        "one_column": (ones[:, :1], codes[:1]),
        "one_trit_each": (np.eye(rows, n, dtype=int), np.arange(n) % 255 - 127),
    }


@cocotb.test()
async def edges_then_random(dut: Any) -> None:
    """Named matrices, then random ones of odd sizes, back to back, under the pause pattern."""
    bench = Bench(dut, pause=bench_parameters()["pause"])
    config, generator = bench.config, np.random.default_rng(bench_seed())
    await start(dut)
    beats = Beats()
    for trits, codes in edge_matrices(config).values():
        beats.add_matrix(config, trits, codes)
    for _ in range(6):
        shape = generator.integers(1, 4 * config.rows), generator.integers(1, 5 * config.columns)
        beats.add_matrix(config, generator.integers(-1, 2, shape), generator.integers(-127, 128, shape[1]))
    await bench.run(beats)


@cocotb.test()
async def every_byte(dut: Any) -> None:
    """All 243 bytes at every place of a word; codes 1, 3, 9, 27, ... make a sum name its trits."""
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    beats = Beats()
    shuffled = [random.Random(place).sample(BYTES, len(BYTES)) for place in range(config.word_bytes)]
    for word in zip(*shuffled, strict=True):
        for left in range(0, config.columns, 5):  # five columns at a time
            codes = [3 ** (column - left) if left <= column < left + 5 else 0 for column in range(config.columns)]
            beats.add_word(config, list(word), np.array(codes), last_column=1, last_row_group=0,
                           results=config.rows // config.results_per_cycle)
    await bench.run(beats)


@cocotb.test()
async def widest_row(dut: Any) -> None:
    """8192 columns of 127 reach the ends of 21 bits."""
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    beats = Beats()
    trits = np.where(np.arange(config.rows) % 2, 1, -1)[:, None] * np.ones((config.rows, 8192), int)
    beats.add_matrix(config, trits, np.full(8192, 127))
    await bench.run(beats)


@cocotb.test()
async def latency_and_rate(dut: Any) -> None:
    """Without pauses: sums exactly `latency` cycles after the row group's end, inputs wait for the drain only."""
    bench = Bench(dut)
    config, generator = bench.config, np.random.default_rng(bench_seed())
    await start(dut)
    drain = config.rows // config.results_per_cycle
    for column_beats in sorted({drain, drain + 3, 1}, reverse=True):
        bench.left.items.clear()
        bench.model.group_ends.clear()
        beats, shape = Beats(), (6 * config.rows, column_beats * config.columns)
        beats.add_matrix(config, generator.integers(-1, 2, shape), generator.integers(-127, 128, shape[1]))
        await bench.run(beats)
        ends, out = bench.model.group_ends, [cycle for cycle, _ in bench.left.items]
        first = ends[0] + bench_parameters()["latency"]
        period = max(column_beats, drain)
        assert out == [first + group * period + beat for group in range(6) for beat in range(drain)], (
            f"{column_beats} beats a row group: row groups ended in cycles {ends}, sums came in cycles {out}"
        )
        if column_beats >= drain:
            assert [end - ends[0] for end in ends] == [group * column_beats for group in range(6)]


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """A reset in the middle of a row group, and of a drain, drops both; the next matrix is whole."""
    bench = Bench(dut)
    config, generator = bench.config, np.random.default_rng(bench_seed())
    await start(dut)
    for cycles in (1, 3, 6, 9, 10, 11, 12, 13):
        beats = Beats()
        shape = (3 * config.rows, 3 * config.columns)
        trits, codes = generator.integers(-1, 2, shape), generator.integers(-127, 128, shape[1])
        beats.add_matrix(config, trits, codes)
        bench.weights.queue(beats.words)
        bench.codes.queue(beats.codes)
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        bench.weights.clear()
        bench.codes.clear()
        await reset(dut)
        bench.model.clear()
        await bench.run(beats)
