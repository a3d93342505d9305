"""The cycle model: when everything in a pass happens, computed from shapes and the latencies of the blocks.

    words ─► router ─┬► trit FIFO ─► beats ─► ternary unit ─► sums ─► scale ─► mlgru, glu, residual ─┐
    beats (resident) ┘                            ▲                                                  │
                     └► gain FIFO ─► groups ──────┼────────────────────────────────────────► join ◄──┤
    row ─► (its FIFO)► groups ────────────────────┼─► scale                                          │
                                            codes ◄── quantiser ◄── R = 127 / largest ◄──── norm ◄───┘

The only rules are "a cycle later than", "when both are there" and "one a cycle", so every time is a maximum of sums. A
pass is computed in the order of its operations; words are read when something made from them is needed. The readers
run ahead into the next pass, so several passes are computed, and the last one counts. Beats, row groups and layers that
repeat are jumped over (``steady.py``). docs/engine.md describes the same in words. Tests compare the RTL with it, cycle
by cycle. It assumes on-chip memory (a word a cycle) and a host that takes tokens at once.

Times are cycles from the start of the first pass. Cost: see ``token_cycles``.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from dataclasses import dataclass

from lutern.firmware.schedule import LAYER, Operation, program_sizes, records
from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.hw.glu import WRITTEN as GATE_WRITTEN
from lutern.hw.glu import Glu
from lutern.hw.head import Head
from lutern.hw.layouts import (
    ITEM_BITS,
    Op,
    RecordKind,
    check_words,
    group_shape,
    header_words,
    row_fifo_words,
    short_trits,
)
from lutern.hw.memory import ResidentMemory, StreamedMemory, side_steps
from lutern.hw.memory.readers import FETCHED
from lutern.hw.mlgru import FEW_BEATS, G_AFTER_I, S_READ, WRITTEN, Mlgru
from lutern.hw.norm import RmsNorm
from lutern.hw.norm.quantiser import Quantiser
from lutern.hw.norm.scalar import NormScalar
from lutern.hw.norm.statistics import largest_latency
from lutern.hw.pipeline import CREDITS
from lutern.hw.residual import Residual
from lutern.hw.scale import SumScale
from lutern.hw.sequencer import QUEUE_DEPTH
from lutern.hw.ternary import TernaryUnit
from lutern.measure.state_cycles import ROW_LATENCY, StateTimes
from lutern.measure.steady import Steady, Visitor
from lutern.measure.timing import Checked, Fifo, Groups, Pipe, Reader, ReaderAhead, Slot, Supply, Widened
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError

I_AFTER_F = 3  # cycles between the last beat of F and the first of I, so that its z is written
G_AFTER_FEW = WRITTEN + 1  # the same of I and a G of few beats, so that S is written
I_AFTER_I = WRITTEN - S_READ + 1  # cycles between two chained beats of the same index, so that S is written
UP_AFTER_GATE = GATE_WRITTEN + 1  # cycles from a beat of GATE in glu to UP's in scale: the gate is written
PAUSE = 100_000
"""Cycles before a pass that the host begins: enough for the readers to read all that they can."""
PASSES = 32
"""Most passes that are computed until the readers are as far ahead as they stay; mostly it takes three."""
SHORT_GROUP = 48
"""Most beats of a row group for which computing each is faster than jumping."""
_LOOKS = {start + place for start in (4, 16, 64, 256, 1024) for place in range(3)}  # three states make a step
_TIMES = (
    "taken",
    "op_accepted",
    "fetcher_idle",
    "assembled",
    "scalar_idle",
    "last_read",
    "beat",
    "loaded",
    "drained",
    "drain_shown",
    "result_end",
    "vector_end",
    "last_f",
    "last_i",
    "vector_last",
    "row_used",
    "gains_shows",
)


@dataclass
class TokenCycles:
    """``cycles`` from one token to the next, ``beats`` of the ternary unit, and ``words`` that the memory gave."""

    cycles: int
    beats: int
    words: int


@dataclass
class PhaseCycles:
    """``cycles`` and ``beats`` of one phase of a pass; the phases are those of ``hw/counters.py``."""

    cycles: int
    beats: int


class PassModel:
    """Passes of a model on a machine; each takes ``streams`` tokens.

    ``chained``: the streams are tokens of one prompt, and each pass is a run. ``embedding_bits``: bits of an element of
    the model's embedding table.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        hw_config: HwConfig,
        streams: int = 1,
        *,
        chained: bool = False,
        embedding_bits: int = WIDE_BITS,
    ) -> None:
        self.config = hw_config
        self.layers = model_config.num_hidden_layers
        self.sizes = program_sizes(model_config, hw_config, embedding_bits)
        self.streams = streams
        self.chained = chained
        self.resident = hw_config.source == "resident"
        self.largest_latency = largest_latency(hw_config)
        self.head_latency = Head.latency_of(hw_config)
        # The way from words to groups and beats.
        # The resident latencies include the cycle in which the readers are released.
        self.reader: Reader | ReaderAhead = (
            ReaderAhead(CREDITS, ResidentMemory.latency - 1) if self.resident else Reader()
        )
        self.trit_reader = ReaderAhead(CREDITS, ResidentMemory.trit_latency_of(hw_config) - 1)
        self.header_words = header_words(hw_config)
        self.records = records(model_config, hw_config)
        self.record = self.place = 0  # the next word
        self.taken = -1
        self.op_accepted = 0
        self.trits = Fifo(hw_config.trit_fifo_words, self._read_word)
        self.gains = Supply(hw_config, self._read_word, self._next_supply)
        # A row is read from the second cycle after its request on; its first word comes after all of its steps.
        steps = side_steps(hw_config)
        row_latency = ResidentMemory.row_latency_of(hw_config) - 1 - steps
        self.row_reader = Checked(ReaderAhead(FETCHED, row_latency, room=1, steps=steps), check_words(hw_config))
        self.row_words = Fifo(row_fifo_words(hw_config))
        row_source = self.row_words if self.sizes.row_item_bits == ITEM_BITS else Widened(self.row_words)
        self.row = Groups(hw_config, self.row_reader if self.resident else row_source)
        self.row_latency = ROW_LATENCY if self.sizes.state_words else StreamedMemory.row_latency
        self.fetcher_idle = 0
        self.beat_words = hw_config.beat_bytes // hw_config.word_bytes  # stream
        self.assembled = 0  # when the last word of a beat was taken from the FIFO
        stages = ("quantise", "engine", "results", "supply", "gains")
        self.queues = {name: Fifo(QUEUE_DEPTH, self._read_word) for name in stages}
        self.popped = dict.fromkeys(self.queues, -1)
        # Pipelines.
        self.ternary_latency = TernaryUnit.latency_of(hw_config)
        self.scale = Pipe(SumScale.latency)
        self.blocks = {"mlgru": Pipe(Mlgru.latency), "glu": Pipe(Glu.latency), "residual": Pipe(Residual.latency)}
        self.codes = ReaderAhead(CREDITS, CodeMemory.read_latency_of(hw_config))
        self.row_slot = Slot()
        self.state = StateTimes(hw_config, self.sizes, streams, chained, self.reader.close)
        # State of the stages.
        self.scalar_idle = 0
        self.last_read = 0
        self.bank_free = [0, 0]
        self.bank = 0
        self.column_ready: list[int] = []
        self.scale_shows: list[int] = []
        self.beat = -1
        self.loaded = self.drained = self.drain_shown = 0
        self.result_end = -1
        self.vector_end = 0
        self.last_f = self.last_i = 0
        self.i_entered: dict[int, int] = {}  # by index in a row group: the newest beat of I
        self.gate_entered: dict[tuple[int, int], int] = {}  # by stream and index: gates that UP may wait for
        self.vector_last = -1
        self.row_used = -1
        self.beats = 0
        self.ops: deque[Operation] = deque()  # waiting in the queues, for all stages except the supply
        self.supply_ops: deque[Operation] = deque()
        self.gains_shows = 0
        self.phases: list[PhaseCycles] = []  # of the last pass

    def run(self) -> TokenCycles:
        """Compute passes until one equals the one before, with the reader as far ahead; returns its figures.

        Raises ``LuternError`` if no two passes are equal.
        """
        chosen = [PAUSE] * self.streams
        words = self.sizes.pass_words(self.streams, chained=self.chained)
        found, state = TokenCycles(0, 0, words), (0, 0, 0, 0)
        for _ in range(PASSES):
            if self.chained:
                chosen = [chosen[-1] + PAUSE] * self.streams
            if self.sizes.state_words and (self.chained or not self.beats):
                self.state.load(chosen[0])
            before, beats_before = chosen[-1], self.beats
            chosen = self._pass(chosen)
            found = TokenCycles(chosen[-1] - before, self.beats - beats_before, words)
            state, last = (found.cycles, self.record, self.place, chosen[-1] - self.taken), state
            if state == last:
                return found
        raise LuternError(
            f"the readers are not equally far ahead after two of {PASSES} passes of this model on "
            f"{self.config.name}: no one figure of cycles a token; give it another gain_fifo_words."
        )

    def _pass(self, chosen: list[int]) -> list[int]:
        """One step: takes the cycles in which tokens were chosen, returns those of the next choices."""
        self.phases = []
        ends, beats = chosen[-1], self.beats

        def phase(end: int) -> None:
            nonlocal ends, beats
            self.phases.append(PhaseCycles(end - ends, self.beats - beats))
            ends, beats = end, self.beats

        self._embed(chosen)
        phase(self.row_used + 1)
        steady = Steady(lambda visitor: self._visit(visitor, layers=True), lambda: self.beat)
        layer = 0
        while layer < self.layers:
            for _ in range(len(LAYER)):
                self._matrix()
                phase(self.beat + 1)
            layer += 1
            jumped = steady.jump(self.layers - 2 - layer)  # the last layer differs, and is read ahead
            self.phases += self.phases[-len(LAYER) :] * jumped
            layer, ends, beats = layer + jumped, self.beat + 1, self.beats
        done = self._matrix()
        phase(self.beat + 1)
        phase(done[-1])
        return done

    def _visit(self, visitor: Visitor, *, layers: bool = False) -> None:
        """Show the state between two beats, row groups or ``layers`` to ``visitor``."""
        part = visitor
        for fifo in self.queues.values():
            fifo.visit(part)
        for pipe in (self.scale, *self.blocks.values()):
            pipe.visit(part)
        for item in (self.reader, self.trits, self.gains, self.row, self.codes, self.row_slot, self.state):
            item.visit(part)
        if self.resident:
            self.trit_reader.visit(part)
        self.popped = {name: part.time(when) for name, when in self.popped.items()}
        self.bank_free = [part.time(when) for when in self.bank_free]
        for name in _TIMES:
            setattr(self, name, part.time(getattr(self, name)))
        part.same((self.bank, len(self.ops), len(self.supply_ops)))
        self.beats = part.count(self.beats)
        if layers:
            part.same(self.place)
            self.record = part.count(self.record)
        else:
            part.same(self.record)
            part.count(self.header_words + self.records[self.record].words - self.place)
            self.place = part.count(self.place)

    # ------------------------------------------------------------------------------------------ stream

    def _read_word(self) -> None:
        """Move the next word through the router; the first word follows the last."""
        item = self.records[self.record]
        is_header = self.place < self.header_words
        self.place += 1
        ends = self.place == self.header_words + item.words
        if ends:
            self.record, self.place = (self.record + 1) % len(self.records), 0
        when = max(self.reader.shows(self.taken), self.taken + 1)
        if is_header or item.kind == RecordKind.CHECK:
            self.taken = when
        elif item.kind == RecordKind.OP:
            self.taken = max(when, self.op_accepted + 1)
            if ends:
                self.op_accepted = self._deal(item.operation, self.taken + 1)
        else:
            self.taken = (self.gains.words if item.kind == RecordKind.GAINS else self.trits).write(when)

    def _deal(self, op: Operation, when: int) -> int:
        """Put an operation into the queues as soon as all have room; returns the cycle in which it was accepted."""
        for queue in self.queues.values():
            when = queue.room(when)
        embed = op.op == Op.EMBED
        wanted = {
            "quantise": not embed and not op.reuse,
            "engine": not embed,
            "results": True,
            "supply": op.items > 0,
            "gains": op.items > 0,
        }
        for name, queue in self.queues.items():
            if wanted[name]:
                queue.write(when)
        self.ops.append(op)
        if wanted["supply"]:
            self.supply_ops.append(op)
        return when

    def _next_supply(self, popped: int) -> tuple[int, int, int]:
        """The cycle from which the supply's next operation shows, its items for each group, and its groups."""
        shows = self.queues["supply"].shows(popped)
        op = self.supply_ops.popleft()
        return shows, op.items, op.groups

    def _next_op(self, name: str) -> int:
        """The cycle from which a stage's next operation shows."""
        return self.queues[name].shows(self.popped[name])

    # ------------------------------------------------------------------------------------------ embedding

    def _embed(self, chosen: list[int]) -> None:
        """Read the rows of the embedding table for the tokens that were chosen in ``chosen``, as vectors."""
        start = max(self.result_end + 1, self._next_op("results"))
        op = self.ops.popleft()
        self.gains_shows = self._next_op("gains")
        self.row.open(0)
        for stream, when in enumerate(chosen):
            asked = self._asked(when)
            if self.resident:
                self.row_reader.begin(asked + 2)
            else:  # the fetch never waits; it takes cycles of the record stream
                if stream == 0:
                    self._close_port(asked)
                for word in range(check_words(self.config), self.sizes.row_words):
                    self.row_words.write(asked + self.row_latency + word)
                self.fetcher_idle = asked + 2 + self.sizes.row_words
                if stream + 1 < self.streams:
                    # The next row is requested while gains of this one are still to be read. A copy computes when.
                    ahead = self._copy()
                    ahead._take_row(op, stream, start)
                    self._close_port(ahead._asked(chosen[stream + 1]))
            self._take_row(op, stream, start)
            if self.resident:
                self.fetcher_idle = self.row_reader.source.read + 1
        self._end_results(self.row_used)

    def _asked(self, chosen: int) -> int:
        """The cycle in which a token's row is requested: the row before it is used, and its fetch is done."""
        return max(chosen + 1, self.row_used + 1, self.fetcher_idle)

    def _close_port(self, asked: int) -> None:
        """Reserve the port of the words for a row that is requested in cycle ``asked``."""
        self.reader.close(asked + 2, asked + 2 + self.sizes.row_words)

    def _take_row(self, op: Operation, stream: int, start: int) -> None:
        """Pass the beats of a row into the norm."""
        for beat in range(op.beats):
            last = beat == op.beats - 1
            shown = self.row_slot.enter(self.row.next(1))
            self.row.take(shown, last)
            self.row_used = self._enter(op, stream, beat, max(shown, start))
            self.row_slot.leave(shown, self.row_used)
            self._result(op, stream, beat, self.row_used, last, first=beat == 0)

    def _copy(self) -> PassModel:
        """A copy of the state."""
        shared = (self.config, self.records)
        return copy.deepcopy(self, {id(item): item for item in shared})

    # ------------------------------------------------------------------------------------------ codes

    def _quantise(self, op: Operation) -> None:
        """Scalars and code passes of an operation: computes when column beats are written and when scales show."""
        accepted = max(self._next_op("quantise"), self.scalar_idle)
        self.popped["quantise"] = accepted
        eps, new_vector = op.eps, op.new_vector
        largest = self.vector_end + self.largest_latency
        parts = self.config.columns // self.config.codes_per_cycle
        self.scale_shows = []
        for stream in range(self.streams):  # each like an operation; the codes of stream 0 wait for a bank
            begins = max(largest, accepted + 1 + NormScalar.preparation[eps]) if new_vector else accepted
            [(first_read, scale)], accepted = RmsNorm.schedule(
                eps, begins=begins, beats=op.beats, streams=1, new_vector=new_vector, last_read=self.last_read
            )
            self.scale_shows.append(scale)
            if stream == 0:
                first_read = max(first_read, self.bank_free[self.bank])
            self.column_ready = []
            for index in range(op.beats):
                whole = index % parts == parts - 1
                if whole or index == op.beats - 1:
                    stored = first_read + index + Quantiser.latency
                    self.column_ready.append(stored + CodeMemory.written_latency(self.config, whole=whole))
            self.last_read = first_read + op.beats - 1
        self.scalar_idle = accepted

    # ------------------------------------------------------------------------------------------ rows and results

    def _matrix(self) -> list[int]:
        """Compute the rows of the next operation; for HEAD, returns the cycles in which tokens are chosen."""
        shows = self._next_op("engine")
        op = self.ops.popleft()
        if not op.reuse:
            self._quantise(op)
        else:
            self.column_ready = [0] * op.column_beats
        starts = self._start_results(op, self._next_op("results"))
        if op.items > 0:
            self.gains_shows = self._next_op("gains")
        of_group = self.config.rows // self.config.results_per_cycle
        # row groups whose gains are whole words
        period = math.lcm(of_group, group_shape(self.config, op.items or 1)[0]) // of_group
        steady = Steady(self._visit, lambda: self.beat)
        is_brief = self._is_brief(op)
        done: list[int] = []
        group = 0
        while group < op.row_groups:
            last_group = group == op.row_groups - 1
            drained = op.last_results if last_group else of_group
            short = last_group and short_trits(drained * self.config.results_per_cycle, self.config)
            self._group(op, shows, first=group == 0, beat_words=1 if short else self.beat_words)
            if last_group:
                self.popped["engine"] = self.codes.read
                if not op.keep:
                    self.bank_free[self.bank] = self.codes.read + CodeMemory.bank_latency
                    self.bank = 1 - self.bank
            done = self._drain(op, drained, group * of_group, starts, last_group)
            group += 1
            if not is_brief and group % period == 0 and group + 2 * period < op.row_groups:
                group += period * steady.jump((op.row_groups - group) // period - 2)
        return done

    def _group(self, op: Operation, shows: int, first: bool, beat_words: int) -> None:
        """The beats of a row group; those of the first group wait for their codes."""
        steady = Steady(self._visit, lambda: self.beat)
        column = 0
        while column < op.column_beats:
            self.codes.begin(max(shows, self.column_ready[column]) if first else shows)
            ends = column == op.column_beats - 1
            shown = self.codes.shows(self.beat)
            self.beat = max(self.beat + 1, shown, self._trits_show(beat_words), self.loaded if ends else 0)
            self.beats += 1
            column += 1
            if not first and column in _LOOKS and op.column_beats > SHORT_GROUP:
                column += steady.jump(op.column_beats - column)

    def _trits_show(self, words: int) -> int:
        """The cycle from which the trits of the next beat show at the ternary unit; they fill ``words`` words."""
        if self.resident:
            return self.trit_reader.shows(self.beat)
        for word in range(words):
            when = max(self.trits.shows(self.assembled), self.assembled + 1)
            self.assembled = max(when, self.beat) if word == words - 1 else when
        return self.assembled + 1

    def _start_results(self, op: Operation, shows: int) -> list[int]:
        """For each stream, the cycle from which sums of the operation pass."""
        start = max(self.result_end + 1, shows)
        if op.reuse:
            return [start] * self.streams
        starts = []
        for scale_shows in self.scale_shows:
            start = max(start, scale_shows) + 1
            starts.append(start)
        return starts

    def _drain(self, op: Operation, results: int, base: int, starts: list[int], last_group: bool) -> list[int]:
        """Pass the sums of a row group on, stream after stream, P at a time; returns when each stream's are done."""
        moved = self.loaded = max(self.beat + self.ternary_latency - 1, self.drain_shown)
        full = self.config.rows // self.config.results_per_cycle
        self.i_entered = {}
        done = []
        for stream, start in enumerate(starts):
            for index in range(results):
                # the drain moves on while a beat waits in the register after it
                when = self.drain_shown = max(moved, self.drained) + 1
                moved = when + (full - results if index == results - 1 else 0)
                last = last_group and index == results - 1
                if op.op == Op.F:
                    when = self._gain_shows(stream, when, first=index == 0)
                entered = self.drained = self._enter(op, stream, base + index, max(when, start))
                if op.op == Op.F and stream == 0:
                    self.gains.take(entered)
                valued = self._result(op, stream, base + index, entered, last, first=index == 0)
            done.append(valued + self.head_latency)
        if last_group:
            if op.op == Op.F:
                self.popped["gains"] = entered + 1
            self._end_results(entered)
        return done

    def _gain_shows(self, stream: int, when: int, first: bool) -> int:
        """The cycle from ``when`` on in which a beat of a stream has its gains; the ring is read one beat ahead."""
        when = max(when, self.gains_shows)
        return max(when, self.gains.next()) if stream == 0 else when + first

    def _enter(self, op: Operation, stream: int, index: int, when: int) -> int:
        """The first cycle from ``when`` on in which a beat can enter the scale because there is room after it."""
        if op.op in (Op.EMBED, Op.RESIDUAL):
            return self.blocks["residual"].enter(when)
        if op.op == Op.UP:
            if self._is_brief(op):
                when = max(when, self.gate_entered[stream, index] + UP_AFTER_GATE)
            return self.blocks["glu"].enter(when)
        return self.scale.enter(when)

    def _result(self, op: Operation, stream: int, index: int, entered: int, last: bool, first: bool) -> int:
        """Move a beat of P values through the scale, its block and into the norm; returns when it leaves the scale."""
        name = {Op.G: "mlgru", Op.UP: "glu", Op.EMBED: "residual", Op.RESIDUAL: "residual"}.get(op.op)
        shown = self.scale.arrive(entered) if name in (None, "mlgru") else entered
        if name is None:
            wanted = max(self.last_f + I_AFTER_F, self.state.loaded) if op.op == Op.I else 0
            if op.op == Op.I and self.chained:
                wanted = max(wanted, self.i_entered.get(index, -I_AFTER_I) + I_AFTER_I)
            left = self.scale.leave(shown, wanted)
            if op.op == Op.I:
                self.last_i = self.i_entered[index] = left
                if last and stream == self.streams - 1:
                    self.state.save(left)
            elif op.op == Op.F:
                self.last_f = left
            elif op.op == Op.GATE and self._is_brief(op):
                self.gate_entered[stream, index] = left
            return left
        block, inside = self.blocks[name], entered
        if op.op == Op.G:
            waits = G_AFTER_FEW if op.groups <= FEW_BEATS else G_AFTER_I
            inside = self.scale.leave(shown, block.enter(max(shown, self.last_i + waits)))
        wanted = max(block.arrive(inside), self.vector_last + 1)
        joined = block.leave(wanted, self._gain_shows(stream, wanted, first))
        self.vector_last = joined
        if stream == 0:
            self.gains.take(joined)
        if last:
            if name == "mlgru" and stream == self.streams - 1:
                self.state.load_next(inside)
            self.vector_end, self.popped["gains"] = joined, joined + 1
        return inside

    def _is_brief(self, op: Operation) -> bool:
        """Whether an operation has so few beats that UP could come before its gate is written."""
        return op.groups * self.streams < SumScale.latency + UP_AFTER_GATE

    def _end_results(self, when: int) -> None:
        self.result_end = when
        self.popped["results"] = when


def token_cycles(
    model_config: ModelConfig,
    hw_config: HwConfig,
    streams: int = 1,
    *,
    chained: bool = False,
    embedding_bits: int = WIDE_BITS,
) -> TokenCycles:
    """Cycles, beats and words of a pass in the middle of a run; they are the same for every pass of a program.

    ``chained``: the streams are tokens of one prompt, and each pass is a run. Raises ``LuternError`` if passes differ.
    """
    return PassModel(model_config, hw_config, streams, chained=chained, embedding_bits=embedding_bits).run()


def token_phases(
    model_config: ModelConfig,
    hw_config: HwConfig,
    streams: int = 1,
    *,
    chained: bool = False,
    embedding_bits: int = WIDE_BITS,
) -> list[PhaseCycles]:
    """The phases of the same pass: the embedding's row, each matrix, the choice. Their cycles add up to the pass's."""
    passes = PassModel(model_config, hw_config, streams, chained=chained, embedding_bits=embedding_bits)
    passes.run()
    return passes.phases
