"""Computes for the cycle model when sums of a row group leave the ternary unit, and when results enter the norm.

    sums ─► drain ─► scale ─┬► f, i, gate: written in mlgru or glu
                            └► mlgru (G), glu (UP), residual ─► join with gains ─► norm

F, I and G are the operations of f_proj, i_proj and g_proj. GATE and UP are the operations of the two halves of
gate_proj. mlgru computes z from F and S from I. P values, the results per cycle, move together as a beat. All times are
cycles. The computation takes constant time per beat.
"""

from __future__ import annotations

from lutern.firmware.schedule import Operation
from lutern.hw.config import HwConfig
from lutern.hw.glu import WRITTEN as GATE_WRITTEN
from lutern.hw.glu import Glu
from lutern.hw.head import Head
from lutern.hw.layouts import Op
from lutern.hw.mlgru import FEW_BEATS, G_AFTER_I, S_READ, WRITTEN, Mlgru
from lutern.hw.residual import Residual
from lutern.hw.scale import SumScale
from lutern.hw.ternary import TernaryUnit
from lutern.measure.record_cycles import RecordTimes
from lutern.measure.state_cycles import StateTimes
from lutern.measure.steady import Visitor
from lutern.measure.timing import Pipe

I_AFTER_F = 3  # cycles between the last beat of F and the first beat of I, so that z is written
G_AFTER_FEW = (
    WRITTEN + 1
)  # cycles from the last beat of I to the first beat of a G with few beats, so that S is written
I_AFTER_I = WRITTEN - S_READ + 1  # cycles between two chained beats of the same index, so that S is written
UP_AFTER_GATE = GATE_WRITTEN + 1  # from a beat of GATE in glu to the beat of UP in scale, so that the gate is written
BLOCKS = {Op.G: "mlgru", Op.UP: "glu", Op.EMBED: "residual", Op.RESIDUAL: "residual"}
"""Blocks whose results enter the norm, by operation."""
_TIMES = (
    "loaded",
    "vector_end",
    "result_end",
    "_drained",
    "_drain_shown",
    "_last_f",
    "_last_i",
    "_vector_last",
    "_gains_shows",
)


class ResultTimes:
    """The times of drain, scale, mlgru, glu, residual and the join with gains.

    ``loaded`` is the cycle from which the sums of another row group may be complete. In cycle ``vector_end`` the last
    beat of a vector enters the norm. In cycle ``result_end`` the last beat of an operation enters the scale.
    """

    def __init__(self, config: HwConfig, streams: int, chained: bool, stream: RecordTimes, state: StateTimes) -> None:
        self.config, self.streams, self.chained = config, streams, chained
        self.stream, self.state = stream, state
        self.ternary_latency = TernaryUnit.latency_of(config)
        self.head_latency = Head.latency_of(config)
        self.scale = Pipe(SumScale.latency)
        self.blocks = {"mlgru": Pipe(Mlgru.latency), "glu": Pipe(Glu.latency), "residual": Pipe(Residual.latency)}
        self.loaded = self._drained = self._drain_shown = 0
        self.vector_end = 0
        self.result_end = -1
        self._last_f = self._last_i = 0
        self._i_entered: dict[int, int] = {}  # cycle of the newest beat of I, by index in a row group
        self._gate_entered: dict[tuple[int, int], int] = {}  # cycles of gates that UP may wait for, by stream and index
        self._vector_last = -1
        self._gains_shows = 0

    def open_gains(self) -> None:
        """Begin the next operation with gains."""
        self._gains_shows = self.stream.next_op("gains")

    def starts(self, op: Operation, scale_shows: list[int]) -> list[int]:
        """Return, for each stream, the cycle from which sums of the next operation may enter the scale."""
        start = max(self.result_end + 1, self.stream.next_op("results"))
        if op.reuse:
            return [start] * self.streams
        starts = []
        for shows in scale_shows:
            start = max(start, shows) + 1
            starts.append(start)
        return starts

    def drain(
        self, op: Operation, beat: int, results: int, base: int, starts: list[int], last_group: bool
    ) -> list[int]:
        """Pass on the sums of a row group, stream after stream, P per beat. Return the cycle in which each stream ends.

        ``beat`` is the cycle of the group's last beat of trits. A stream has ``results`` beats of sums, from index
        ``base`` on.
        """
        moved = self.loaded = max(beat + self.ternary_latency - 1, self._drain_shown)
        full = self.config.rows // self.config.results_per_cycle
        self._i_entered = {}
        done = []
        for stream, start in enumerate(starts):
            for index in range(results):
                # The drain moves on while a beat waits in the register after it.
                when = self._drain_shown = max(moved, self._drained) + 1
                moved = when + (full - results if index == results - 1 else 0)
                last = last_group and index == results - 1
                if op.op == Op.F:
                    when = self._gain_shows(stream, when, first=index == 0)
                entered = self._drained = self.enter(op, stream, base + index, max(when, start))
                if op.op == Op.F and stream == 0:
                    self.stream.gains.take(entered)
                valued = self.result(op, stream, base + index, entered, last, first=index == 0)
            done.append(valued + self.head_latency)
        if last_group:
            if op.op == Op.F:
                self.stream.popped["gains"] = entered + 1
            self.end(entered)
        return done

    def enter(self, op: Operation, stream: int, index: int, when: int) -> int:
        """Return the first cycle from ``when`` on in which there is room for a beat behind the scale, so that the
        beat can enter the scale."""
        if op.op in (Op.EMBED, Op.RESIDUAL):
            return self.blocks["residual"].enter(when)
        if op.op == Op.UP:
            if self.is_brief(op):
                when = max(when, self._gate_entered[stream, index] + UP_AFTER_GATE)
            return self.blocks["glu"].enter(when)
        return self.scale.enter(when)

    def result(self, op: Operation, stream: int, index: int, entered: int, last: bool, first: bool) -> int:
        """Move a beat of P values through the scale, its block and into the norm. Return the cycle in which it leaves
        the scale."""
        name = BLOCKS.get(op.op)
        shown = self.scale.arrive(entered) if name in (None, "mlgru") else entered
        if name is None:
            return self._written(op, stream, index, shown, last)
        block, inside = self.blocks[name], entered
        if op.op == Op.G:
            waits = G_AFTER_FEW if op.groups <= FEW_BEATS else G_AFTER_I
            inside = self.scale.leave(shown, block.enter(max(shown, self._last_i + waits)))
        wanted = max(block.arrive(inside), self._vector_last + 1)
        joined = block.leave(wanted, self._gain_shows(stream, wanted, first))
        self._vector_last = joined
        if stream == 0:
            self.stream.gains.take(joined)
        if last:
            if name == "mlgru" and stream == self.streams - 1:
                self.state.load_next(inside)
            self.vector_end, self.stream.popped["gains"] = joined, joined + 1
        return inside

    def end(self, when: int) -> None:
        """End an operation, whose last beat entered the scale in cycle ``when``."""
        self.result_end = when
        self.stream.popped["results"] = when

    def is_brief(self, op: Operation) -> bool:
        """Return whether an operation has so few beats that its values may be needed before they are written."""
        return op.groups * self.streams < SumScale.latency + UP_AFTER_GATE

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        for pipe in (self.scale, *self.blocks.values()):
            pipe.visit(visitor)
        self.state.visit(visitor)
        for name in _TIMES:
            setattr(self, name, visitor.time(getattr(self, name)))

    def _written(self, op: Operation, stream: int, index: int, shown: int, last: bool) -> int:
        """Move a beat that does not enter the norm out of the scale, and return the cycle in which the beat leaves."""
        wanted = max(self._last_f + I_AFTER_F, self.state.loaded) if op.op == Op.I else 0
        if op.op == Op.I and self.chained:
            wanted = max(wanted, self._i_entered.get(index, -I_AFTER_I) + I_AFTER_I)
        left = self.scale.leave(shown, wanted)
        if op.op == Op.I:
            self._last_i = self._i_entered[index] = left
            if last and stream == self.streams - 1:
                self.state.save(left)
        elif op.op == Op.F:
            self._last_f = left
        elif op.op == Op.GATE and self.is_brief(op):
            self._gate_entered[stream, index] = left
        return left

    def _gain_shows(self, stream: int, when: int, first: bool) -> int:
        """Return the cycle from ``when`` on in which a beat of a stream has its gains. Streams from 1 on read
        them from the ring in ``hw/gains.py``, one beat ahead."""
        when = max(when, self._gains_shows)
        return max(when, self.stream.gains.next()) if stream == 0 else when + first


__all__ = ["ResultTimes"]
