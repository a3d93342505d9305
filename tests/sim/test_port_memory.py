"""The simulated memory at a machine's port: order, latency, refreshes, pauses, faults, and the events that it
counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import Cat, DomainRenamer, Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.word_source import SourceShape, WordPort
from lutern.hw.presets import preset
from lutern.hw.top import Top
from lutern.model_ref.errors import LuternError
from lutern.sim.board import SimulatedBoard
from lutern.sim.port_memory import WordCounts, WordTiming
from lutern.sim.verilate import memory_of

WORDS = 1 << 12
STEADY = WordTiming(latency_least=70, latency_most=70)
Job = tuple[int, int, int, int, int]
"""The fields of a job: write, length, client, address, word."""


class PortBench(wiring.Component):
    """A bench that stores jobs from ``rx`` until a job has an additional top bit, and then offers all jobs to a memory.

    Members: ``rx``, ``tx`` (sends nothing), ``words``, the tap ``job`` of accepted jobs, and the tap ``word`` with
    {word, client}.
    """

    def __init__(self, word_bits: int) -> None:
        self.source_shape = shape = SourceShape(word_bits, address_bits=12, in_flight=64)
        self.config = SimpleNamespace(memory="port", memory_words=WORDS, clock_hz=75_000_000)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "words": Out(WordPort(shape)),
                "tap_job_valid": Out(1),
                "tap_job_payload": Out(shape.job.size),
                "tap_word_valid": Out(1),
                "tap_word_payload": Out(word_bits + 1),
                "tap_idle_valid": Out(1),
                "tap_idle_payload": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        bits, job, words = self.source_shape.job.size, self.words.job, self.words
        byte_count = bits // 8 + 1
        m.submodules.fifo = fifo = DomainRenamer("memory")(SyncFIFOBuffered(width=bits, depth=512))
        collected, count, goes = Signal(8 * byte_count), Signal(range(byte_count + 1)), Signal()
        m.d.comb += [
            self.rx.ready.eq(count != byte_count),
            fifo.w_data.eq(collected),
            fifo.w_en.eq(count == byte_count),
            job.valid.eq(fifo.r_rdy & goes),
            job.payload.eq(fifo.r_data),
            fifo.r_en.eq(job.ready & goes),
        ]
        with m.If(self.rx.valid & self.rx.ready):
            m.d.memory += [collected.eq(Cat(collected[8:], self.rx.payload)), count.eq(count + 1)]
        with m.If(fifo.w_en):
            m.d.memory += [count.eq(0), goes.eq(goes | collected[bits])]
        m.d.comb += [
            self.tap_job_valid.eq(job.valid & job.ready),
            self.tap_job_payload.eq(job.payload),
            self.tap_word_valid.eq(words.valid),
            self.tap_word_payload.eq(Cat(words.client, words.word)),
            self.tap_idle_valid.eq(words.idle),
        ]
        m.d.sync += self.tap_idle_payload.eq(words.idle)  # without a register the module would have no clk
        return m


@pytest.fixture(scope="module", params=[16, 512])
def board(request: pytest.FixtureRequest) -> Iterator[SimulatedBoard]:
    with SimulatedBoard(PortBench(request.param)) as board:
        yield board


def jobs_of(draw: np.random.Generator, count: int, word_bits: int, *, writes: float = 0.3) -> list[Job]:
    """Return reads within aligned blocks of 8 words, and writes, with addresses close to each other."""
    found = []
    for _ in range(count):
        address, client = int(draw.integers(0, 64)), int(draw.integers(0, 2))
        if draw.random() < writes:
            found.append((1, 0, 0, address, int.from_bytes(draw.bytes(word_bits // 8), "little")))
        else:
            found.append((0, int(draw.integers(1, 9 - address % 8)), client, address, 0))
    return found


def run(board: SimulatedBoard, timing: WordTiming, jobs: Sequence[Job], cycles: int = 0) -> WordCounts:
    """Send the jobs to the bench, start all of them, and run until they are done."""
    shape = SourceShape(8 * board.memory.word_bytes, 12, 64)
    board.reset()
    for name in board.tap_names:
        board.taps(name, clear=True)
        board.record(name)
    board.set_word_timing(timing)  # must come before the last job, which starts all jobs
    for index, (write, length, client, address, word) in enumerate(jobs):
        values = {"write": write, "length": length, "client": client, "address": address, "word": word}
        job = shape.job.const(values).as_bits() | (index == len(jobs) - 1) << shape.job.size
        board.write(job.to_bytes(shape.job.size // 8 + 1, "little"))
        board.run(shape.job.size // 8 + 3)
    board.run(cycles or 40 * len(jobs) + 4 * timing.latency_most)
    return board.word_counts()


def expected(board: SimulatedBoard, jobs: Sequence[Job]) -> list[tuple[int, int]]:
    """Return (client, word) of every word that is read, after all earlier writes."""
    words = {address: int.from_bytes(board.peek(address, 1).tobytes(), "little") for address in range(80)}
    found = []
    for write, length, client, address, word in jobs:
        if write:
            words[address] = word
        found += [(client, words[address + place]) for place in range(length)]
    return found


def answers(board: SimulatedBoard) -> list[tuple[int, int]]:
    return [(int(value) & 1, int(value) >> 1) for value in board.taps("word").integers()]


@pytest.mark.parametrize("timing", [STEADY, WordTiming(60, 200, 97, 30, 0.3, 0.3, seed=5)], ids=["steady", "random"])
def test_words_in_order(board: SimulatedBoard, timing: WordTiming) -> None:
    """Every requested word comes once and in order. Reads see earlier writes, and every cycle has one cause."""
    seed = 8
    draw, word_bytes = np.random.default_rng(seed), board.memory.word_bytes
    board.poke(0, draw.integers(0, 256, (80, word_bytes), dtype=np.uint8))
    jobs = jobs_of(draw, 200, 8 * word_bytes)
    wanted = expected(board, jobs)
    before = board.cycles
    counts = run(board, timing, jobs)
    assert answers(board) == wanted, f"seed {seed}"
    assert counts.words == len(wanted) and counts.writes == sum(job[0] for job in jobs), f"seed {seed}"
    assert (counts.pause > 0) == (timing.pause_share > 0) and (counts.refresh > 0) == (timing.refresh_interval > 0)
    assert counts.silent == 0 and counts.latency >= timing.latency_least - 1
    assert sum(vars(counts).values()) <= board.cycles - before
    written = {address: word for write, _, _, address, word in jobs if write}
    for address, word in written.items():
        assert int.from_bytes(board.peek(address, 1).tobytes(), "little") == word
    assert board.taps("idle").cycles[-1] == board.cycles - 1


def test_latency_refresh_and_rate(board: SimulatedBoard) -> None:
    """Bursts that are requested early enough come at one word per cycle. The first word comes ``latency`` cycles after
    its job, and no word comes in the last cycles of a refresh interval."""
    jobs = [(0, 8, 0, 8 * index, 0) for index in range(50)]
    counts = run(board, STEADY, jobs)
    taken, came = board.taps("job").cycles.astype(int), board.taps("word").cycles.astype(int)
    assert came[0] - taken[0] == STEADY.latency_least and np.ptp(came) == len(came) - 1 == 399
    assert (counts.words, counts.withheld) == (400, STEADY.latency_least - 1)
    timing = WordTiming(70, 70, refresh_interval=150, refresh_cycles=26)
    counts = run(board, timing, jobs)
    came = board.taps("word").cycles.astype(int)
    gaps = np.flatnonzero(np.diff(came) > 1)
    assert set(np.diff(came)[gaps]) == {27} and np.ptp(came) == 399 + 26 * len(gaps)
    assert counts.refresh == 26 * len(gaps) and counts.withheld == counts.refresh + counts.latency


def test_share_of_the_pauses(board: SimulatedBoard) -> None:
    jobs = [(0, 8, 0, 8 * index, 0) for index in range(200)]
    counts = run(board, WordTiming(60, 60, pause_share=0.25, seed=2), jobs)
    assert counts.words == 1600 and abs(counts.pause / (counts.pause + counts.words) - 0.25) < 0.04
    again = run(board, WordTiming(60, 60, pause_share=0.25, seed=2), jobs)
    assert again == counts
    assert run(board, WordTiming(60, 60, pause_share=0.25, seed=3), jobs) != counts


def test_faults(board: SimulatedBoard) -> None:
    """The memory can stop to answer after some words, or answer two reads in the wrong order once."""
    word_bytes = board.memory.word_bytes
    board.poke(0, np.arange(80 * word_bytes, dtype=np.uint8).reshape(80, word_bytes))
    jobs = [(0, 4, index % 2, 8 * index, 0) for index in range(9)]
    wanted = expected(board, jobs)
    counts = run(board, WordTiming(60, 60, silent_from=10), jobs, 500)
    assert answers(board) == wanted[:10] and counts.silent > 300
    run(board, WordTiming(60, 60, swap_from=3), jobs)
    assert answers(board) == [*wanted[:12], *wanted[16:20], *wanted[12:16], *wanted[20:]]


def test_invalid_addresses_and_timings(board: SimulatedBoard) -> None:
    word_bytes = board.memory.word_bytes
    with pytest.raises(LuternError, match=f"2 words of {word_bytes} bytes at word 4,095 do not fit"):
        board.peek(WORDS - 1, 2)
    with pytest.raises(LuternError, match="3 bytes at word 0 do not fit the simulated memory of 4,096 words"):
        board.poke(0, np.zeros((1, 3), np.uint8))
    with pytest.raises(LuternError, match="latency_least is 5, but latency_most is 4; give latency_least"):
        WordTiming(5, 4)
    with pytest.raises(LuternError, match=r"pause_share is 1\.5; give a number from 0 to 1"):
        WordTiming(pause_share=1.5)
    assert memory_of(Top(preset("host"))) is None


def test_a_job_beyond_the_end() -> None:
    with SimulatedBoard(PortBench(16)) as board, pytest.raises(AssertionError, match="beyond the end of the memory"):
        run(board, STEADY, [(0, 8, 0, WORDS - 4, 0)])
