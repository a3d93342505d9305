"""Bench of hw/weight_check.py: every port is compared in every cycle with a reference that stores whole blocks.

    passes of blocks ─► word, checked ─┐
    beats of a pass ──► beat ──────────┤ check ├─► damage
    rows with checks ─► i_row ─────────┤       ├─► o_row
    tokens of steps ──► i_token ───────┘       └─► o_token ─► host

Steps, passes and rows come at any time, so tokens may wait for words, and words may be two passes ahead of the tokens.
A `Fault` damages one block, row or pass. The bench marks the end of a block as the router would, so a damaged header
can move this mark.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import check_words
from lutern.hw.protocol import DAMAGE_LAYOUT, SETUP_LAYOUT, TOKEN_LAYOUT, Damage
from lutern.model_ref.signature import BLOCK_MARK, ROW_MARK, Signature, WordSignatures
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, pauses, start, to_int, unpack

LATENCY = 4
"""Number of cycles from the last word of a pass, row or block until a token leaves, or until damage is reported."""
AHEAD = 2
"""Largest number of passes that are read before the tokens of their steps have left."""


@dataclass(frozen=True)
class Fault:
    """The damage in pass number ``at``, or in row number ``at``. ``Program`` defines the kinds of damage."""

    kind: str = "none"
    at: int = 0
    block: int = 0


def to_words(numbers: list[int], word_bytes: int) -> Any:
    return np.frombuffer(b"".join(number.to_bytes(word_bytes, "little") for number in numbers), np.uint8).reshape(
        len(numbers), word_bytes
    )


def to_numbers(words: Any) -> list[int]:
    return [int.from_bytes(word.tobytes(), "little") for word in words]


def state_of(numbers: list[int], word_bytes: int) -> int:
    return int(Signature(word_bytes).fold(to_words(numbers, word_bytes)[None], np.zeros(1, np.uint64))[0])


class Program:
    """Random contents of an image: blocks and rows with their checks, and beats with the last state of
    their signature."""

    def __init__(self, config: HwConfig, draw: random.Random, image: int) -> None:
        self.config, self.image = config, image
        self.bytes, self.check = config.word_bytes, check_words(config)
        self.signatures = WordSignatures(self.bytes)
        self.blocks: list[list[int]] = []
        for place, length in enumerate((9, 5, 14)):
            words = [draw.getrandbits(8 * self.bytes) for _ in range(length)]
            check = self.signatures.block_check(to_words(words, self.bytes), image, place)
            self.blocks.append(words + to_numbers(check))
        self.record_words = sum(map(len, self.blocks))
        self.rows: dict[int, list[int]] = {}
        for token in range(12):
            words = [draw.getrandbits(8 * self.bytes) for _ in range(6)]
            leading = self.signatures.row_checks(to_words(words, self.bytes)[None], image, [token])
            self.rows[token] = to_numbers(leading[0]) + words
        self.beats = [draw.getrandbits(config.beat_bits) for _ in range(23)]
        self.trit_state = state_of(self.beats, config.beat_bytes)

    @property
    def setup(self) -> int:
        fields = {
            "record_words": self.record_words,
            "embedding_row_words": len(self.rows[0]),
            "image": self.image,
            "trit_state": self.trit_state,
            "trit_beats": len(self.beats),
        }
        return pack(SETUP_LAYOUT, {name: fields.get(name, 0) for name in SETUP_LAYOUT.members})

    def is_right(self, numbers: list[int], place: int, mark: int) -> bool:
        """Return whether the words ``numbers`` are the block or row with number ``place``."""
        return self.signatures.is_right(to_words(numbers, self.bytes), self.image, place, mark)

    def read(self, number: int, fault: Fault, draw: random.Random) -> list[tuple[int, bool]]:
        """Return the words of pass ``number``. Each word has a flag that says whether the word ends a block."""
        blocks = [list(block) for block in self.blocks]
        ends = [[place == len(block) - 1 for place in range(len(block))] for block in blocks]
        if fault.at == number:
            at = fault.block
            if fault.kind == "flip":
                blocks[at][draw.randrange(len(blocks[at]))] ^= 1 << draw.randrange(8 * self.bytes)
            elif fault.kind == "unended":  # a damaged length, so the block does not end
                blocks[at][0] ^= 16
                ends[at][-1] = False
            elif fault.kind == "ended":  # a damaged kind, so a record looks like a CHECK
                blocks[at][1] ^= 5
                ends[at][2] = True
            elif fault.kind == "swap":
                blocks[0], blocks[2] = blocks[2], blocks[0]
                ends[0], ends[2] = ends[2], ends[0]
            elif fault.kind == "image":
                blocks[at] = Program(self.config, random.Random(at), self.image ^ 1 << 9).blocks[at]
        return [pair for words, last in zip(blocks, ends, strict=True) for pair in zip(words, last, strict=True)]

    def row(self, number: int, token: int, fault: Fault, draw: random.Random) -> list[int]:
        words = list(self.rows[token])
        if fault.at == number:
            if fault.kind == "row":
                words[draw.randrange(len(words))] ^= 1 << draw.randrange(8 * self.bytes)
            elif fault.kind == "row of another":
                words = list(self.rows[(token + 1) % len(self.rows)])
            elif fault.kind == "row of another image":
                words = Program(self.config, random.Random(1), self.image ^ 1).rows[token]
        return words

    def read_beats(self, number: int, fault: Fault, draw: random.Random) -> list[int]:
        beats = list(self.beats)
        if fault.kind == "trits" and fault.at == number:
            beats[draw.randrange(len(beats))] ^= 1 << draw.randrange(self.config.beat_bits)
        if fault.kind == "beats swapped" and fault.at == number:
            beats[3], beats[17] = beats[17], beats[3]
        return beats


class Reference:
    """Computes the next values of the ports from all earlier values."""

    def __init__(self, dut: Any, config: HwConfig, seed: int) -> None:
        self.dut, self.config, self.seed = dut, config, seed
        self.resident = config.source == "resident"
        self.damage = unpack(DAMAGE_LAYOUT, to_int(dut.damage))  # kept from earlier tests: no reset changes it
        self.program: Program | None = None
        self.restart()
        cocotb.start_soon(self._watch())

    def restart(self) -> None:
        """Reset the reference. ``damage`` stays."""
        self.words: list[int] = []
        self.of_pass = self.block = 0
        self.beats: list[int] = []
        self.row: list[int] = []
        self.token = 0
        self.is_damaged = False
        self.good = {"records": 0, **({"trits": 0} if self.resident else {})}
        self.final = self.left = 0
        self.due: dict[int, list[tuple[Damage, int, bool, str]]] = {}

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            where = f"cycle {cycle_now()}, seed {self.seed}"
            shown = unpack(DAMAGE_LAYOUT, to_int(self.dut.damage))
            assert shown == self.damage, f"weight_check.damage: got {shown}, expected {self.damage}, {where}"
            if to_int(self.dut.rst) or self.program is None:
                self.restart()
                continue
            self._look_at_row(where)
            left = self._look_at_token(where)
            self._take_words(self.program)
            self._settle(cycle_now(), left)

    def _look_at_row(self, where: str) -> None:
        dut, program = self.dut, self.program
        assert program is not None
        valid, ready = to_int(dut.i_row__valid), to_int(dut.i_row__ready)
        is_check = len(self.row) < program.check
        assert to_int(dut.o_row__valid) == (valid and not is_check), f"weight_check.o_row: valid is wrong, {where}"
        assert ready == (is_check or to_int(dut.o_row__ready)), f"weight_check.i_row: ready is wrong, {where}"
        assert is_check or to_int(dut.o_row__payload) == to_int(dut.i_row__payload), (
            f"weight_check.o_row: the word is wrong, {where}"
        )
        if valid and ready:
            self.row.append(to_int(dut.i_row__payload))
            if len(self.row) == len(program.rows[0]):
                self._ends(Damage.ROW, self.token, program.is_right(self.row, self.token, ROW_MARK), "")
                self.row = []
        if to_int(dut.asked):
            self.token = to_int(dut.token)

    def _look_at_token(self, where: str) -> bool:
        """Check the ports of tokens. Return whether the last token of a step leaves."""
        dut = self.dut
        may_leave = all(self.good.values()) and not self.is_damaged
        valid, ready = to_int(dut.i_token__valid), to_int(dut.o_token__ready)
        state = f"{self.good} good passes are left, damaged {self.is_damaged}"
        found = to_int(dut.o_token__valid), to_int(dut.i_token__ready)
        assert found == (valid and may_leave, ready and may_leave), (
            f"weight_check.o_token: (valid, ready) is {found}, {state}, {where}"
        )
        assert to_int(dut.o_token__payload) == to_int(dut.i_token__payload), (
            f"weight_check.o_token: the payload is wrong, {where}"
        )
        leaves = bool(valid and ready and may_leave)
        ends_step = leaves and self.left == 0
        if to_int(dut.begins):
            self.final = self.left = to_int(dut.final_stream)
        elif leaves:
            self.left = self.final if self.left == 0 else self.left - 1
        return ends_step

    def _take_words(self, program: Program) -> None:
        dut = self.dut
        if to_int(dut.word_valid):
            self.words.append(to_int(dut.word))
            self.of_pass += 1
            ends_pass = self.of_pass == program.record_words
            if ends_pass or to_int(dut.checked):
                right = program.is_right(self.words, self.block, BLOCK_MARK)
                self._ends(Damage.RECORDS, self.block, right, "records" if ends_pass else "")
                self.words, self.block = [], 0 if ends_pass else self.block + 1
            if ends_pass:
                self.of_pass = 0
        if self.resident and to_int(dut.beat_valid):
            self.beats.append(to_int(dut.beat))
            if len(self.beats) == len(program.beats):
                right = state_of(self.beats, self.config.beat_bytes) == program.trit_state
                self._ends(Damage.TRITS, 0, right, "trits")
                self.beats = []

    def _ends(self, kind: Damage, place: int, right: bool, of_pass: str) -> None:
        self.due.setdefault(cycle_now() + LATENCY - 1, []).append((kind, place, right, of_pass))

    def _settle(self, now: int, step_ends: bool) -> None:
        """Compute the values of the next cycle."""
        ended = sorted(self.due.pop(now, []))
        wrong = [(kind, place) for kind, place, right, _ in ended if not right]
        for name in self.good:
            self.good[name] += any(right and of_pass == name for _, _, right, of_pass in ended) - step_ends
        if wrong and not self.is_damaged:
            self.is_damaged = True
            self.damage = {"count": (self.damage["count"] + 1) % 256, "kind": wrong[0][0], "place": wrong[0][1]}
        elif to_int(self.dut.begins) and not self.is_damaged:
            self.damage = {**self.damage, "kind": Damage.NONE}


class Bench:
    """Drives all inputs of one WeightCheck."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.draw = random.Random(self.seed)
        self.rows = StreamSource(dut, "i_row", pause=self.pause, seed=self.seed)
        self.tokens = StreamSource(dut, "i_token", pause=self.pause, seed=self.seed + 1)
        StreamSink(dut, "o_row", pause=self.pause, seed=self.seed + 2)
        self.sink = StreamSink(dut, "o_token", pause=self.pause, seed=self.seed + 3)
        for name in ("i_row", "o_row", "i_token"):
            StreamMonitor(dut, name)
        for port in ("word_valid", "checked", "asked", "begins", *(["beat_valid"] if self.resident else [])):
            getattr(dut, port).value = 0
        self.words: deque[Any] = deque()  # (word, whether it ends a block); None for a cycle without a word
        self.beats: deque[Any] = deque()
        self.reference = Reference(dut, self.config, self.seed)
        self.program = Program(self.config, self.draw, self.draw.getrandbits(32))
        self.passes = self.rows_asked = self.steps_done = 0
        self.fault = Fault()
        cocotb.start_soon(self._feed_words())
        if self.resident:
            cocotb.start_soon(self._feed_beats())

    @property
    def resident(self) -> bool:
        return self.config.source == "resident"

    async def set_up(self, fault: Fault) -> None:
        """Reset the block, as happens during a SETUP, and load a new image."""
        dut = self.dut
        await RisingEdge(dut.clk)
        dut.rst.value = 1
        self.words.clear()
        self.beats.clear()
        self.rows.clear()
        self.tokens.clear()
        self.sink.received.clear()
        self.fault, self.passes, self.rows_asked, self.steps_done = fault, 0, 0, 0
        self.program = self.reference.program = Program(self.config, self.draw, self.draw.getrandbits(32))
        dut.setup.value = self.program.setup
        for _ in range(3):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        self.read_pass()

    def read_pass(self) -> None:
        """Queue the words and beats of one more pass."""
        for queue, items in (
            (self.words, self.program.read(self.passes, self.fault, self.draw)),
            (self.beats, self.program.read_beats(self.passes, self.fault, self.draw)),
        ):
            queue.extend([None] * self.draw.choice((0, 0, 40)))
            queue.extend(items)
        self.passes += 1

    async def _feed_words(self) -> None:
        dut, pause = self.dut, pauses(self.pause, self.seed + 7)
        while True:
            await RisingEdge(dut.clk)
            item = self.words.popleft() if self.words and not to_int(dut.rst) and not next(pause) else None
            comes = item is not None
            word, checked = item or (self.draw.getrandbits(8 * self.config.word_bytes), False)
            dut.word_valid.value, dut.word.value, dut.checked.value = int(comes), word, int(checked)

    async def _feed_beats(self) -> None:
        dut, pause = self.dut, pauses(self.pause, self.seed + 8)
        while True:
            await RisingEdge(dut.clk)
            item = self.beats.popleft() if self.beats and not to_int(dut.rst) and not next(pause) else None
            dut.beat_valid.value = int(item is not None)
            dut.beat.value = self.draw.getrandbits(self.config.beat_bits) if item is None else item

    async def pulse(self, name: str, **ports: int) -> None:
        """Set a port to 1 for one cycle, and ``ports`` to their values. In the next cycle the lowest bits of ``ports``
        are inverted."""
        await RisingEdge(self.dut.clk)
        getattr(self.dut, name).value = 1
        for port, value in ports.items():
            getattr(self.dut, port).value = value
        await RisingEdge(self.dut.clk)
        getattr(self.dut, name).value = 0
        for port, value in ports.items():
            getattr(self.dut, port).value = value ^ 1

    async def ask_row(self) -> None:
        """Request a row. The next request must come at least two cycles after the last word of this row."""
        token = self.draw.randrange(len(self.program.rows))
        await self.pulse("asked", token=token)
        self.rows.queue(self.program.row(self.rows_asked, token, self.fault, self.draw))
        self.rows_asked += 1
        await self.rows.drained()
        await RisingEdge(self.dut.clk)

    def read_ahead(self, step: int) -> None:
        """Make sure that the pass of this step is read. At random, also read the next pass."""
        while self.passes < self.steps_done + step + 1 + self.draw.randrange(AHEAD):
            self.read_pass()

    async def run(self, streams: int, steps: int) -> int:
        """Run, and return the number of tokens that have left. Fewer tokens than requested leave only after damage."""
        self.sink.received.clear()
        await self.pulse("begins", final_stream=streams - 1)
        for step in range(steps):
            is_early = self.draw.random() < 0.5
            if is_early:
                self.read_ahead(step)
            for _ in range(streams):
                await self.ask_row()
            if is_early:
                await ClockCycles(self.dut.clk, self.draw.choice((0, 0, 150)))
            tokens = [{"token": self.draw.getrandbits(16), "last": self.draw.getrandbits(1)} for _ in range(streams)]
            self.tokens.queue(pack(TOKEN_LAYOUT, token) for token in tokens)
            if not is_early:
                await ClockCycles(self.dut.clk, self.draw.randrange(60))
                self.read_ahead(step)
            for _ in range(1000):
                if len(self.sink.received) == (step + 1) * streams or self.reference.is_damaged:
                    break
                await FallingEdge(self.dut.clk)
            else:
                raise AssertionError(f"weight_check.o_token: no token comes in step {step}, seed {self.seed}")
            if self.reference.is_damaged:
                break
        self.steps_done += steps
        return len(self.sink.received)


FAULTS = {
    Damage.RECORDS: [
        Fault("flip", 0, 0),
        Fault("flip", 1, 1),
        Fault("flip", 2, 2),
        Fault("unended", 1, 1),
        Fault("unended", 0, 2),  # the last block of a pass
        Fault("ended", 1, 2),
        Fault("image", 2, 0),
        Fault("swap", 1),
    ],
    Damage.ROW: [Fault("row", 0), Fault("row of another", 3), Fault("row of another image", 2)],
    Damage.TRITS: [Fault("trits", 0), Fault("beats swapped", 2)],
}


@cocotb.test()
async def right_weights(dut: Any) -> None:
    """With right weights all tokens of one stream and of several streams leave, and no damage is reported."""
    bench = Bench(dut)
    most = bench.config.streams
    await start(dut)
    for _ in range(2):
        await bench.set_up(Fault())
        for streams, steps in ((1, 4), (most, 4), (max(1, most - 1), 3), (1, 2)):
            left = await bench.run(streams, steps)
            assert left == streams * steps, f"only {left} tokens of {streams} streams left, seed {bench.seed}"
    assert (bench.reference.damage["count"], bench.reference.damage["kind"]) == (0, Damage.NONE)


@cocotb.test()
async def damage(dut: Any) -> None:
    """After damage of each kind no token leaves until SETUP. The first damaged place is reported until the next run."""
    bench, steps = Bench(dut), 3
    most = bench.config.streams
    await start(dut)
    count = bench.reference.damage["count"]
    for kind, faults in FAULTS.items():
        for fault in faults if kind != Damage.TRITS or bench.resident else ():
            where = f"{fault}, seed {bench.seed}"
            await bench.set_up(fault)
            left = await bench.run(most, steps)
            count += 1
            await ClockCycles(dut.clk, 60)
            found = bench.reference.damage
            assert len(bench.sink.received) <= left + 1 < most * steps, (
                f"no more tokens must leave after the damage, but {left} left, {where}"
            )
            assert (found["kind"], found["count"]) == (kind, count), f"the damage is {found}, {where}"
            if fault.kind in ("flip", "unended", "image"):
                # A block without an end is found at the end of the next block or of the pass.
                assert found["place"] == fault.block, f"the place of the damage is wrong: {found}, {where}"
            await bench.set_up(Fault())
            assert bench.reference.damage == found, f"a reset has changed the damage, {where}"
            assert await bench.run(most, 1) == most, f"tokens must leave after a SETUP, {where}"
            assert bench.reference.damage == {**found, "kind": Damage.NONE}, (
                f"a new run must reset the kind of the damage, {where}"
            )


@cocotb.test()
async def damage_before_the_run(dut: Any) -> None:
    """If damage is found between SETUP and a run, no token of this run leaves."""
    bench = Bench(dut)
    await start(dut)
    before = bench.reference.damage["count"]
    for sequence in range(3):
        await bench.set_up(Fault("flip", 0, sequence))
        await ClockCycles(dut.clk, 200)
        found = {"count": before + sequence + 1, "kind": Damage.RECORDS, "place": sequence}
        assert bench.reference.damage == found, f"the damage is {bench.reference.damage}, seed {bench.seed}"
        assert await bench.run(1, 1) == 0
        await ClockCycles(dut.clk, 60)
        assert not bench.sink.received and bench.reference.damage == found, (
            f"no token must leave after the damage {bench.reference.damage}"
        )
