"""Bench of the ternary unit: it sends matrices and vectors, compares the sums with the golden model, and checks cycles.

Two monitors rebuild codes and trits from the items that the unit accepts. The monitors decode bytes with
`layouts.decode_byte` and compute the sums of each row group with the golden model. A third monitor checks the output.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from lutern.hw.config import TRITS_PER_BYTE, HwConfig
from lutern.hw.layouts import CODE_BITS, codes_payload, decode_byte, sums_payload
from lutern.hw.ternary import TernaryUnit
from lutern.model_ref.ternary import SUM_BITS
from lutern.sim.benches.vectors import flat, split
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, reset, start, to_signed, unpack

BYTES = [byte for byte in range(256) if decode_byte(byte) is not None]
BYTE_OF: dict[Any, int] = {decode_byte(byte): byte for byte in BYTES}


@dataclass
class Beats:
    """Payloads of the two inputs, weights and codes."""

    words: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)

    def add(self, config: HwConfig, trits: np.ndarray, codes: np.ndarray, **flags: int) -> None:
        """Add one beat: trits [R, C] and codes [T, C]."""
        fives = np.pad(trits.ravel(), (0, -config.lanes % TRITS_PER_BYTE)).reshape(-1, TRITS_PER_BYTE)
        self.add_word(config, [BYTE_OF[tuple(map(int, five))] for five in fives], codes, **flags)

    def add_word(self, config: HwConfig, word: list[int], codes: np.ndarray, **flags: int) -> None:
        self.words.append(int.from_bytes(bytes(word), "little"))
        self.codes.append(pack(codes_payload(config), {"codes": flat(codes.ravel(), CODE_BITS), **flags}))

    def add_matrix(self, config: HwConfig, trits: np.ndarray, codes: np.ndarray) -> None:
        """Add all row groups of trits [rows, n] with codes [T, n]. Trits are padded with 0, and codes are padded with
        101."""
        rows, columns = config.rows, config.columns
        count, n = trits.shape
        padded = np.pad(trits, ((0, -count % rows), (0, -n % columns)))
        codes = np.pad(codes, ((0, 0), (0, -n % columns)), constant_values=101)
        for top in range(0, count, rows):
            results = -(-min(rows, count - top) // config.results_per_cycle)
            for left in range(0, n, columns):
                self.add(
                    config,
                    padded[top : top + rows, left : left + columns],
                    codes[:, left : left + columns],
                    last_column=int(left + columns >= n),
                    last_row_group=int(top + rows >= count),
                    results=results,
                )


class Model:
    """The golden model. The monitors of the two inputs feed it."""

    def __init__(self, config: HwConfig, active: int, board: Scoreboard) -> None:
        self.config, self.active, self.board = config, active, board
        self.words: list[int] = []
        self.group_ends: list[int] = []
        self.trits: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.row_groups = 0
        self.base = 0

    def clear(self) -> None:
        """Drop all values that a reset of the unit drops."""
        self.words, self.trits, self.codes, self.base = [], [], [], 0
        self.board.pending.clear()

    def take_word(self, cycle: int, payload: int) -> None:
        self.words.append(payload)

    def take_codes(self, cycle: int, payload: int) -> None:
        """Take codes. In each cycle this runs after take_word, because the monitor of the weights was started first."""
        config, beat = self.config, unpack(codes_payload(self.config), payload)
        assert len(self.words) == 1, "the unit must accept codes and a word in the same cycle"
        trits = [
            trit for byte in self.words.pop().to_bytes(config.beat_bytes, "little") for trit in decode_byte(byte) or ()
        ]
        self.trits.append(np.array(trits[: config.lanes]).reshape(config.rows, config.columns))
        codes = split(beat["codes"], CODE_BITS, config.streams * config.columns)
        self.codes.append(codes.reshape(config.streams, config.columns))
        if beat["last_column"]:
            self.group_ends.append(cycle)
            sums = TernaryUnit.model(np.concatenate(self.codes, axis=1), np.concatenate(self.trits, axis=1))
            per_cycle, results = config.results_per_cycle, beat["results"]
            for stream in range(self.active):
                for place in range(results):
                    some = sums[stream, place * per_cycle : (place + 1) * per_cycle]
                    self.board.expect(
                        pack(
                            sums_payload(config),
                            {
                                "sums": flat(some, SUM_BITS),
                                "stream": stream,
                                "index": self.base + place,
                                "last": int(beat["last_row_group"] and place == results - 1),
                            },
                        ),
                        layer=self.row_groups,
                        token=stream,
                        index=place * per_cycle,
                    )
            self.base = 0 if beat["last_row_group"] else self.base + config.rows // per_cycle
            self.row_groups += 1
            self.trits, self.codes = [], []


class Bench:
    """The unit with its sources, sink, monitors, model and scoreboard."""

    def __init__(self, dut: Any, *, pause: str = "none") -> None:
        parameters, seed = bench_parameters(), bench_seed()
        self.config, self.active = HwConfig("bench", **parameters["config"]), parameters["active"]
        dut.final_stream.value = self.active - 1
        names = {"none": ("none", "none", "none"), "after_valid": ("none", "none", "after_valid")}
        weights, codes, sums = names.get(pause, (pause, pause, pause))
        self.weights = StreamSource(dut, "i_weights", pause=weights, seed=seed)
        self.codes = StreamSource(dut, "i_codes", pause=codes, seed=seed + 1)
        self.sink = StreamSink(dut, "o_sums", pause=sums, seed=seed + 2)
        self.board = Scoreboard(
            "ternary.sums, stream as token, row group as layer",
            seed=seed,
            bits=sums_payload(self.config).size,
            decode=lambda value: to_signed(value & (1 << SUM_BITS) - 1, SUM_BITS),
        )
        self.model = Model(self.config, self.active, self.board)
        StreamMonitor(dut, "i_weights", on_item=self.model.take_word)
        StreamMonitor(dut, "i_codes", on_item=self.model.take_codes)
        self.left = StreamMonitor(dut, "o_sums", on_item=self.board.check)
        self.dut, self.generator = dut, np.random.default_rng(seed)

    async def run(self, beats: Beats) -> None:
        """Send all beats, and check that all expected sums come."""
        self.weights.queue(beats.words)
        self.codes.queue(beats.codes)
        await self.codes.drained()
        for _ in range(400):
            if not self.board.pending:
                break
            await ClockCycles(self.dut.clk, 8)
        await ClockCycles(self.dut.clk, 10)
        self.board.finish()

    def draw_codes(self, n: int) -> np.ndarray:
        """Return random codes [T, n], also for streams that are not active."""
        return self.generator.integers(-127, 128, (self.config.streams, n))

    def draw_trits(self, *shape: int) -> np.ndarray:
        """Return random trits of a shape."""
        return self.generator.integers(-1, 2, shape)


def edge_matrices(config: HwConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the edge cases (trits, codes) by name. The sums of some cases are the largest and smallest sums for the
    size of the case."""
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
    """Sums equal the golden model for edge cases and for random matrices of any size, sent without gaps or with the
    pause pattern."""
    bench = Bench(dut, pause=bench_parameters()["pause"])
    config, generator = bench.config, bench.generator
    await start(dut)
    beats = Beats()
    for number, (trits, codes) in enumerate(edge_matrices(config).values()):
        every = bench.draw_codes(len(codes))
        every[number % bench.active] = codes  # the other streams have other codes
        beats.add_matrix(config, trits, every)
    for _ in range(6):
        rows, n = int(generator.integers(1, 4 * config.rows)), int(generator.integers(1, 5 * config.columns))
        beats.add_matrix(config, bench.draw_trits(rows, n), bench.draw_codes(n))
    await bench.run(beats)


@cocotb.test()
async def every_byte(dut: Any) -> None:
    """All 243 valid bytes are decoded correctly at every place of a word. With codes 1, 3, 9, 27, 81 each sum
    identifies its five trits."""
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    beats = Beats()
    shuffled = [random.Random(place).sample(BYTES, len(BYTES)) for place in range(config.beat_bytes)]
    for word in zip(*shuffled, strict=True):
        for left in range(0, config.columns, 5):  # five columns at a time
            codes = [3 ** (column - left) if left <= column < left + 5 else 0 for column in range(config.columns)]
            beats.add_word(
                config,
                list(word),
                np.tile(codes, (config.streams, 1)),
                last_column=1,
                last_row_group=0,
                results=config.rows // config.results_per_cycle,
            )
    await bench.run(beats)


@cocotb.test()
async def widest_row(dut: Any) -> None:
    """Sums are right for as many columns as the machine supports, with codes of 127 or -127. These sums are the largest
    and smallest possible."""
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    beats = Beats()
    trits = np.where(np.arange(config.rows) % 2, 1, -1)[:, None] * np.ones((config.rows, config.max_width), int)
    signs = np.where(np.arange(config.streams) % 2, -1, 1)[:, None]
    beats.add_matrix(config, trits, signs * np.full(config.max_width, 127))
    await bench.run(beats)


@cocotb.test()
async def latency_and_rate(dut: Any) -> None:
    """Without pauses, sums come `latency` cycles after the last beat of a row group. A row group waits only for the
    previous row group."""
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    full, per_cycle = config.rows // config.results_per_cycle, config.results_per_cycle
    drain = bench.active * full
    for column_beats in sorted({drain, drain + 3, 1}, reverse=True):
        for results in (full, 1):  # results of the last row group
            bench.left.items.clear()
            bench.model.group_ends.clear()
            beats, rows, n = Beats(), 5 * config.rows + results * per_cycle, column_beats * config.columns
            beats.add_matrix(config, bench.draw_trits(rows, n), bench.draw_codes(n))
            await bench.run(beats)
            ends, out = bench.model.group_ends, [cycle for cycle, _ in bench.left.items]
            latency = bench_parameters()["latency"]
            first, period = ends[0] + latency, max(column_beats, drain, latency - 1)
            expected = [
                first + group * period + stream * full + place
                for group in range(6)
                for stream in range(bench.active)
                for place in range(results if group == 5 else full)
            ]
            assert out == expected, (
                f"{column_beats} beats per row group: row groups ended in cycles {ends}, sums came in cycles {out}"
            )
            if column_beats == period:
                assert [end - ends[0] for end in ends] == [group * column_beats for group in range(6)]


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """A reset in the middle of a row group, or while its sums leave, drops the row group. The sums of the next matrix
    are right."""
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    for cycles in (1, 3, 6, 9, 10, 11, 12, 13):
        beats = Beats()
        n = 3 * config.columns
        beats.add_matrix(config, bench.draw_trits(3 * config.rows, n), bench.draw_codes(n))
        bench.weights.queue(beats.words)
        bench.codes.queue(beats.codes)
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        bench.weights.clear()
        bench.codes.clear()
        await reset(dut)
        bench.model.clear()
        await bench.run(beats)
