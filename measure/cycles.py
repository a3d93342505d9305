"""The cycle model: computes when everything in a pass happens, from the shapes and the latencies of the blocks.

    words ─► router ─┬► trit FIFO ─► beats ─► ternary unit ─► sums ─► scale ─► mlgru, glu, residual ─┐
    beats (resident) ┘                            ▲                                                  │
                     └► gain FIFO ─► groups ──────┼────────────────────────────────────────► join ◄──┤
    row ─► (its FIFO)► groups ────────────────────┼─► scale                                          │
                                            codes ◄── quantiser ◄── 127 / largest ◄──────── norm ◄───┘

The only rules are "a cycle later than", "when both have arrived" and "one per cycle", so every time is a maximum of
sums. The operations of a pass are computed in order, and words are read when something that is made from them is
needed. The readers run ahead into the next pass, so several passes are computed, and the figures are from the last
pass. Beats, row groups and layers that repeat are jumped over (``steady.py``). docs/engine.md describes the same cycles
in words. Tests compare the RTL with the model, cycle by cycle. The model assumes on-chip memory, which returns one word
per cycle, and a host that takes each token immediately.

A value "shows" in the cycle in which its reader can see it. Times are cycles from the start of the first pass. The
model takes a fifth of a second for the demo, and seconds for the released models.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

from lutern.firmware.schedule import LAYER, Operation, program_sizes
from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, check_words, group_shape, row_fifo_words, short_trits
from lutern.hw.memory import ResidentMemory, StreamedMemory, side_steps
from lutern.hw.memory.readers import FETCHED
from lutern.measure.code_cycles import CodeTimes
from lutern.measure.record_cycles import RecordTimes
from lutern.measure.result_cycles import ResultTimes
from lutern.measure.state_cycles import ROW_LATENCY, StateTimes
from lutern.measure.steady import Steady, Visitor
from lutern.measure.timing import Checked, Fifo, Groups, ReaderAhead, Slot, Widened
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError

PAUSE = 100_000
"""Number of cycles before a pass that the host starts; in this time the readers read as far ahead as they can."""
PASSES = 32
"""Largest number of passes to compute until the readers are equally far ahead after two successive passes. Usually
three are enough.
"""
SHORT_GROUP = 48
"""Up to this number of beats per row group, computing each beat is faster than jumping."""
_LOOKS = {start + place for start in (4, 16, 64, 256, 1024) for place in range(3)}
"""Column beats at which the state is shown for a jump. A jump needs three states."""


@dataclass
class TokenCycles:
    """``cycles`` from one token to the next, ``beats`` of the ternary unit, and ``words`` that the memory returned."""

    cycles: int
    beats: int
    words: int


@dataclass
class PhaseCycles:
    """``cycles`` and ``beats`` of one phase of a pass, as ``hw/counters.py`` counts them."""

    cycles: int
    beats: int


class PassModel:
    """Passes of a model on a machine, with ``streams`` tokens per pass.

    If ``chained``, the streams are tokens of one prompt, and each pass is a run. ``embedding_bits`` is the number of
    bits of an element of the model's embedding table.
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
        self.beat_words = hw_config.beat_bytes // hw_config.word_bytes
        self.stream = RecordTimes(model_config, hw_config)
        self.codes = CodeTimes(hw_config, streams)
        self.state = StateTimes(hw_config, self.sizes, streams, chained, self.stream.reader.close)
        self.results = ResultTimes(hw_config, streams, chained, self.stream, self.state)
        # A row is read from the second cycle after its request on. A word comes when all steps of its read are done.
        steps = side_steps(hw_config)
        row_latency = ResidentMemory.row_latency_of(hw_config) - 1 - steps
        self.row_reader = Checked(ReaderAhead(FETCHED, row_latency, room=1, steps=steps), check_words(hw_config))
        self.row_words = Fifo(row_fifo_words(hw_config))
        row_source = self.row_words if self.sizes.row_item_bits == ITEM_BITS else Widened(self.row_words)
        self.row = Groups(hw_config, self.row_reader if self.resident else row_source)
        self.row_latency = ROW_LATENCY if self.sizes.state_words else StreamedMemory.row_latency
        self.row_slot = Slot()
        self.row_used = -1
        self.fetcher_idle = 0
        self.beat = -1
        self.beats = 0
        self.phases: list[PhaseCycles] = []  # phases of the last pass

    def run(self) -> TokenCycles:
        """Compute passes until two successive passes have equal figures and equally advanced readers; return the
        figures.

        Raises ``LuternError`` if no two passes are equal.
        """
        stream, chosen = self.stream, [PAUSE] * self.streams
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
            state, last = (found.cycles, stream.record, stream.place, chosen[-1] - stream.taken), state
            if state == last:
                return found
        raise LuternError(
            f"no two of {PASSES} passes of this model leave the readers of {self.config.name} equally far ahead, so "
            "its cycles per token are not one number; choose another gain_fifo_words."
        )

    def _pass(self, chosen: list[int]) -> list[int]:
        """Compute one step from the cycles in which its tokens were chosen, and return the cycles of the next
        choices."""
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
            jumped = steady.jump(self.layers - 2 - layer)  # the last layer differs, and its words are read ahead
            self.phases += self.phases[-len(LAYER) :] * jumped
            layer, ends, beats = layer + jumped, self.beat + 1, self.beats
        done = self._matrix()
        phase(self.beat + 1)
        phase(done[-1])
        return done

    def _visit(self, visitor: Visitor, *, layers: bool = False) -> None:
        """Show the state to ``visitor``, between two layers (``layers``) or between two beats or row groups."""
        self.stream.visit(visitor, layers=layers)
        for part in (self.codes, self.results, self.row, self.row_slot):
            part.visit(visitor)
        self.fetcher_idle, self.row_used = visitor.time(self.fetcher_idle), visitor.time(self.row_used)
        self.beat = visitor.time(self.beat)
        self.beats = visitor.count(self.beats)

    # ------------------------------------------------------------------------------------------ embedding

    def _embed(self, chosen: list[int]) -> None:
        """Read the rows of the embedding table for tokens that were chosen in the cycles ``chosen``, as vectors."""
        start = max(self.results.result_end + 1, self.stream.next_op("results"))
        op = self.stream.ops.popleft()
        self.results.open_gains()
        self.row.open(0)
        for stream, when in enumerate(chosen):
            asked = self._asked(when)
            if self.resident:
                self.row_reader.begin(asked + 2)
            else:  # the fetch of a row never waits, because the record stream waits for it
                if stream == 0:
                    self._close_port(asked)
                for word in range(check_words(self.config), self.sizes.row_words):
                    self.row_words.write(asked + self.row_latency + word)
                self.fetcher_idle = asked + 2 + self.sizes.row_words
                if stream + 1 < self.streams:
                    # The next row is requested before all gains of this row are read. A copy finds this cycle.
                    ahead = self._copy()
                    ahead._take_row(op, stream, start)
                    self._close_port(ahead._asked(chosen[stream + 1]))
            self._take_row(op, stream, start)
            if self.resident:
                self.fetcher_idle = self.row_reader.source.read + 1
        self.results.end(self.row_used)

    def _asked(self, chosen: int) -> int:
        """Return the cycle in which a token's row is requested, after the previous row was fetched and used."""
        return max(chosen + 1, self.row_used + 1, self.fetcher_idle)

    def _close_port(self, asked: int) -> None:
        """Reserve the port of the memory of words for a row that is requested in cycle ``asked``."""
        self.stream.reader.close(asked + 2, asked + 2 + self.sizes.row_words)

    def _take_row(self, op: Operation, stream: int, start: int) -> None:
        """Pass the beats of a row into the norm."""
        for beat in range(op.beats):
            last = beat == op.beats - 1
            shown = self.row_slot.enter(self.row.next(1))
            self.row.take(shown, last)
            self.row_used = self.results.enter(op, stream, beat, max(shown, start))
            self.row_slot.leave(shown, self.row_used)
            self.results.result(op, stream, beat, self.row_used, last, first=beat == 0)

    def _copy(self) -> PassModel:
        """Return a copy of the state."""
        shared = (self.config, self.stream.records)
        return copy.deepcopy(self, {id(item): item for item in shared})

    # ------------------------------------------------------------------------------------------ matrices

    def _matrix(self) -> list[int]:
        """Compute the rows of the next operation. For HEAD, return the cycles in which tokens are chosen."""
        stream, codes, results = self.stream, self.codes, self.results
        shows = stream.next_op("engine")
        op = stream.ops.popleft()
        if not op.reuse:
            stream.popped["quantise"] = codes.quantise(op, stream.next_op("quantise"), results.vector_end)
        else:
            codes.reuse(op)
        starts = results.starts(op, codes.scale_shows)
        if op.items > 0:
            results.open_gains()
        of_group = self.config.rows // self.config.results_per_cycle
        # row groups after which the gains end with a word
        period = math.lcm(of_group, group_shape(self.config, op.items or 1)[0]) // of_group
        steady = Steady(self._visit, lambda: self.beat)
        is_brief = results.is_brief(op)
        done: list[int] = []
        group = 0
        while group < op.row_groups:
            last_group = group == op.row_groups - 1
            drained = op.last_results if last_group else of_group
            short = last_group and short_trits(drained * self.config.results_per_cycle, self.config)
            self._group(op, shows, first=group == 0, beat_words=1 if short else self.beat_words)
            if last_group:
                stream.popped["engine"] = codes.reader.read
                if not op.keep:
                    codes.free_bank()
            done = results.drain(op, self.beat, drained, group * of_group, starts, last_group)
            group += 1
            if not is_brief and group % period == 0 and group + 2 * period < op.row_groups:
                group += period * steady.jump((op.row_groups - group) // period - 2)
        return done

    def _group(self, op: Operation, shows: int, first: bool, beat_words: int) -> None:
        """Compute the beats of a row group. The beats of the first group wait for their codes."""
        codes, steady = self.codes.reader, Steady(self._visit, lambda: self.beat)
        column = 0
        while column < op.column_beats:
            codes.begin(max(shows, self.codes.column_ready[column]) if first else shows)
            ends = column == op.column_beats - 1
            shown = codes.shows(self.beat)
            trits = self.stream.trits_show(self.beat, beat_words)
            self.beat = max(self.beat + 1, shown, trits, self.results.loaded if ends else 0)
            self.beats += 1
            column += 1
            if not first and column in _LOOKS and op.column_beats > SHORT_GROUP:
                column += steady.jump(op.column_beats - column)


def token_cycles(
    model_config: ModelConfig,
    hw_config: HwConfig,
    streams: int = 1,
    *,
    chained: bool = False,
    embedding_bits: int = WIDE_BITS,
) -> TokenCycles:
    """Return the numbers of cycles, beats and words of a pass in the middle of a run. They are equal for every pass of
    a program.

    If ``chained``, the streams are tokens of one prompt, and each pass is a run. Raises ``LuternError`` if the
    passes differ.
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
    """Return the phases of the pass of ``token_cycles``: the embedding's row, each matrix, the choice. Their cycles add
    up to the cycles of the pass."""
    passes = PassModel(model_config, hw_config, streams, chained=chained, embedding_bits=embedding_bits)
    passes.run()
    return passes.phases
