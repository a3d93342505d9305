"""The cycle model: when everything of one token happens, from the program and the latencies of the blocks.

    word ─► router ─► trit FIFO ─► beat of the ternary unit ─► sums ─► scale ─► mlgru, glu, residual ─┐
               └────► gain FIFO ─► groups ──────────────────────────────────────────────────► join ◄──┤
                              codes ◄── quantiser ◄── R = 127 / largest ◄── last element ◄── norm ◄───┘

The only rules are "a cycle later than", "when both are there" and "one a cycle", so every time is a maximum of sums,
and a token is worked through once, in the order of its stream. docs/engine.md says the same in words. Tests hold the
RTL to it, cycle by cycle. It assumes on-chip memory (a word a cycle) and a host that takes the token at once.

Times are cycles since the one in which the token was accepted. Cost: some microseconds a word in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lutern.firmware.program import Program
from lutern.hw.config import HwConfig
from lutern.hw.glu import Glu
from lutern.hw.head import Head
from lutern.hw.layouts import (
    EMBEDDING_BITS,
    GAIN_BITS,
    HEADER_KIND_BITS,
    OPERATION,
    Eps,
    Op,
    Record,
    group_shape,
    row_fifo_words,
)
from lutern.hw.mlgru import Mlgru
from lutern.hw.norm import RmsNorm
from lutern.hw.norm_statistics import largest_latency
from lutern.hw.quantiser import Quantiser
from lutern.hw.residual import Residual
from lutern.hw.scale import SumScale
from lutern.hw.sequencer import QUEUE_DEPTH
from lutern.hw.stages import described
from lutern.hw.ternary import TernaryUnit
from lutern.measure.timing import Fifo, Groups, Pipe, Slot

FIRST_ISSUE = 2  # the token is accepted in 0, the reader starts in 1, and reads in 2
FACTOR_STATES = 7  # from LARGEST to FACTOR in the norm's scalar unit
EPS_STATES = 12  # from its IDLE to VECTOR when an eps term is prepared
SAME_VECTOR_SCALE = 8  # from FACTOR to the scale, when the square root is known
G_AFTER_I = 13  # advances between the last beat of I and the first of G (state complete)

Operation = dict[str, int]


@dataclass
class TokenCycles:
    """``cycles`` from a token to the next; ``beats`` of the ternary unit; ``words`` read; ``vectors``: the cycles in
    which the last element of each vector entered the norm."""

    cycles: int
    beats: int
    words: int
    vectors: list[int]


class TokenModel:
    """One token of one program on one machine."""

    def __init__(self, program: Program, config: HwConfig) -> None:
        self.config = config
        self.program = program
        self.norm = described(RmsNorm(config))
        self.largest_latency = largest_latency(config)
        # the link from words to results
        self.trits = Fifo(config.trit_fifo_words)
        self.gains = Groups(config, GAIN_BITS, config.gain_fifo_words)
        self.row = Groups(config, EMBEDDING_BITS, row_fifo_words(config))
        self.ternary = Pipe(described(TernaryUnit(config)).latency - 1)
        self.scale = Pipe(SumScale.latency)
        self.blocks = {
            "mlgru": Pipe(described(Mlgru(config)).latency),
            "glu": Pipe(described(Glu(config)).latency),
            "residual": Pipe(Residual.latency),
        }
        self.quantiser = Pipe(Quantiser.latency)
        self.sums_slot, self.x_slot = Slot(), Slot()
        # operations: when each shows at the head of its queues, and when it left them
        self.ops: list[Operation] = []
        self.queues = {name: Fifo(QUEUE_DEPTH) for name in ("quantise", "engine", "results", "gains")}
        self.popped = dict.fromkeys(self.queues, -1)
        # state of the stages
        self.scalar_idle = 0
        self.last_read = 0
        self.bank_free = [0, 0]
        self.bank = 0
        self.column_ready: list[int] = []
        self.scale_shows = 0
        self.issue = -1
        self.beat = -1
        self.drained = 0
        self.result_end = -1
        self.vector_end = 0
        self.last_i = 0
        self.vectors: list[int] = []
        self.vector_last = -1
        self.embedded = 0
        self.embed_shows = -1
        self.beats = 0

    def run(self) -> TokenCycles:
        """Work through the token."""
        words = 0
        taken, issued = 0, FIRST_ISSUE - 1
        op_accepted = 0
        done = 0
        matrices: Iterator[tuple[int, int]] | None = None
        current = 0  # operation whose trits come
        for kind, first, value, new_span in self._words():
            words += 1
            issued = max(issued + 1 + new_span, taken) if words > 1 else FIRST_ISSUE
            when = max(issued + 1, taken + 1)
            if first:
                taken = when
            elif kind == Record.OP:
                taken = max(when, op_accepted + 1)
                if value is not None:
                    op_accepted = self._deal(value, taken + 1)
            elif kind == Record.EMBED:
                taken = self.row.fifo.write(when)
            elif kind == Record.GAINS:
                taken = self.gains.fifo.write(when)
                self._embed(len(self.gains.fifo.written))
            else:
                if matrices is None:
                    current += 1
                    matrices = self._rows(current)
                taken = self.trits.write(when)
                ended = next(matrices)
                if ended[0]:
                    matrices = None
                    done = ended[1]
        return TokenCycles(done, self.beats, words, self.vectors)

    # ------------------------------------------------------------------------------------------ stream

    def _words(self) -> Iterator[tuple[int, bool, Operation | None, bool]]:
        """(kind, is header, operation that is complete with this word, first of a span) of every word of a token."""
        program, raw = self.program, self.program.words
        spans = (
            (0, program.head_words),
            (program.stream_words, program.stream_words + program.embedding_row_words),
            (program.head_words, program.stream_words),
        )
        for start, stop in spans:
            at = start
            while at < stop:
                head = int.from_bytes(raw[at, :4].tobytes(), "little")
                kind, length = head & ((1 << HEADER_KIND_BITS) - 1), (head >> HEADER_KIND_BITS) & 0xFFFFF
                yield kind, True, None, at == start
                for index in range(length):
                    complete = kind == Record.OP and index == length - 1
                    operation = _operation(raw[at + 1 : at + 1 + length].tobytes()) if complete else None
                    yield kind, False, operation, False
                at += 1 + length

    def _deal(self, op: Operation, when: int) -> int:
        """An operation enters the queues as soon as all have room; returns when it was accepted."""
        for queue in self.queues.values():
            when = queue.room(when)
        embed = op["op"] == Op.EMBED
        wanted = {
            "quantise": not embed and not op["reuse"],
            "engine": not embed,
            "results": True,
            "gains": op["op"] == Op.F or op["makes_vector"],
        }
        for name, queue in self.queues.items():
            if wanted[name]:
                queue.write(when)
        self.ops.append(op)
        return when

    def _next_op(self, name: str) -> int:
        """The cycle from which a stage's next operation shows."""
        return self.queues[name].shows(self.popped[name])

    # ------------------------------------------------------------------------------------------ embedding

    def _embed(self, gain_words: int) -> None:
        """The elements of the embedding's vector whose gains are among the first ``gain_words`` words."""
        op = self.ops[0]
        groups, words = group_shape(self.config, GAIN_BITS, op["outer"] + op["matrices"])
        if self.embed_shows < 0:
            self.embed_shows = self._next_op("results")
            self.gains.open(self._next_op("gains"))
        while self.embedded < min(op["beats"], gain_words // words * groups):
            last = self.embedded == op["beats"] - 1
            entered = self.scale.enter(max(self.row.next(1), self.embed_shows))
            self.row.take(entered, last)
            self._result(op, entered, last)
            self.embedded += 1
            if last:
                self._end_results(entered)

    # ------------------------------------------------------------------------------------------ codes

    def _quantise(self, op: Operation) -> None:
        """Scalars and code pass of an operation: when each column beat is written, and when its scale shows."""
        accepted = max(self._next_op("quantise"), self.scalar_idle)
        self.popped["quantise"] = accepted
        largest = accepted + 1
        if op["new_vector"]:
            ready = accepted + 1 + (EPS_STATES if op["eps"] else 0)
            largest = max(ready, self.vector_end + self.largest_latency) + 1
        factor = max(largest + FACTOR_STATES, self.last_read)
        after = SAME_VECTOR_SCALE
        if op["new_vector"]:
            nominal = self.largest_latency + 1 + FACTOR_STATES
            after = self.norm.scale_latency(Eps(op["eps"])) - nominal
        self.scale_shows = self.scalar_idle = factor + after

        parts = self.config.columns // self.config.codes_per_cycle
        self.column_ready = []
        read = factor
        for index in range(op["beats"]):
            read = self.quantiser.enter(read + 1)
            stored = self.quantiser.leave(self.quantiser.arrive(read), self.bank_free[self.bank])
            if index % parts == parts - 1 or index == op["beats"] - 1:
                self.column_ready.append(stored + 1)
        self.last_read = read

    # ------------------------------------------------------------------------------------------ rows and results

    def _rows(self, index: int) -> Iterator[tuple[bool, int]]:
        """Every beat of an operation, each after its word was written to the trit FIFO."""
        op, shows = self.ops[index], self._next_op("engine")
        if not op["reuse"]:
            self._quantise(op)
        else:
            self.column_ready = [0] * op["column_beats"]
        start = self._start_results(op, self._next_op("results"))
        if op["op"] == Op.F or op["makes_vector"]:
            self.gains.open(self._next_op("gains"))
        of_group = self.config.rows // self.config.results_per_cycle
        for group in range(op["row_groups"]):
            for column in range(op["column_beats"]):
                self.issue = max(self.issue + 1, self.beat, shows)
                if group == 0:
                    self.issue = max(self.issue, self.column_ready[column])
                self.beat = self.ternary.enter(max(self.issue + 1, self.trits.shows(self.beat)))
                self.beats += 1
                last_beat = group == op["row_groups"] - 1 and column == op["column_beats"] - 1
                if last_beat:
                    self.popped["engine"] = self.issue
                    if not op["keep"]:
                        self.bank_free[self.bank] = self.issue + 1
                        self.bank = 1 - self.bank
                if column == op["column_beats"] - 1:
                    results = op["last_results"] if group == op["row_groups"] - 1 else of_group
                    self._drain(op, results, start, last_beat)
                if not last_beat:
                    yield False, 0
        yield True, self.result_end + SumScale.latency + Head.latency

    def _start_results(self, op: Operation, shows: int) -> int:
        """The cycle from which sums of the operation pass."""
        start = max(self.result_end + 1, shows)
        return start if op["reuse"] else max(start, self.scale_shows) + 1

    def _drain(self, op: Operation, results: int, start: int, last_group: bool) -> None:
        """Sums of a row group, P at a time."""
        arrival = self.ternary.arrive(self.beat)
        shows = self.ternary.leave(arrival, self.drained) + 1
        for index in range(results):
            drained = self.sums_slot.enter(shows)
            when = max(drained, start)
            last = last_group and index == results - 1
            if op["op"] == Op.F:
                when = max(when, self.gains.next(1))
            entered = self.scale.enter(when)
            if op["op"] == Op.F:
                self.gains.take(entered, last)
                if last:
                    self.popped["gains"] = entered
            self._result(op, entered, last)
            self.sums_slot.leave(drained, entered)
            shows = drained + 1
        self.drained = shows - 1
        if last_group:
            self._end_results(entered)

    def _result(self, op: Operation, entered: int, last: bool) -> None:
        """A beat of P values through scale and its block, into the norm."""
        arrival = self.scale.arrive(entered)
        name = {Op.G: "mlgru", Op.UP: "glu", Op.EMBED: "residual", Op.RESIDUAL: "residual"}.get(Op(op["op"]))
        if name is None:
            if op["op"] == Op.I:
                self.last_i = arrival
            return
        block = self.blocks[name]
        inside = block.enter(max(arrival, self.last_i + G_AFTER_I if name == "mlgru" else 0))
        self.scale.leave(arrival, inside)
        items = op["outer"] + op["matrices"]
        shows = block.arrive(inside)
        left = block.leave(shows, self.x_slot.enter(shows))
        joined = self.x_slot.leave(left, max(self.gains.next(items), self.vector_last + 1))
        self.vector_last = joined
        self.gains.take(joined, last)
        if last:
            self.popped["gains"] = joined
            self.vector_end = joined
            self.vectors.append(joined)

    def _end_results(self, when: int) -> None:
        self.result_end = when
        self.popped["results"] = when


def token_cycles(program: Program, config: HwConfig) -> TokenCycles:
    """Cycles of one token; the same for every token of a program."""
    return TokenModel(program, config).run()


def _operation(raw: bytes) -> Operation:
    """Fields of an operation's words."""
    value = int.from_bytes(raw, "little")
    return {str(name): value >> part.offset & ((1 << part.width) - 1) for name, part in OPERATION}
