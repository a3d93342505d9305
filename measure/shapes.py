"""The records of a program from the shapes alone: kinds, lengths, and what of an operation decides when things happen.

    ModelConfig, HwConfig ─► [Item(kind, words, operation)]            as ``firmware.program.lay_out`` would write them

Values (scales, exponents, trits) are left out: no cycle depends on them. A test compares every record with those of a
program that was laid out.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.firmware.program import LOOKAHEAD, chunk_rows, trit_records
from lutern.hw.config import HwConfig
from lutern.hw.layouts import OPERATION_BITS, Eps, Op, RecordKind, group_words
from lutern.model_ref.config import ModelConfig

MATRICES_A_LAYER = 7


@dataclass(frozen=True)
class Operation:
    """The fields of an operation by which the stages of a pass go; see ``hw.layouts.OPERATION``."""

    op: Op
    beats: int
    groups: int
    row_groups: int = 0
    column_beats: int = 0
    last_results: int = 0
    eps: Eps = Eps.NONE
    new_vector: bool = False
    reuse: bool = False
    keep: bool = False
    makes_vector: bool = False
    outer: bool = False
    matrices: int = 0

    @property
    def supplied(self) -> bool:
        """Whether groups of gains belong to it."""
        return self.op == Op.F or self.makes_vector

    @property
    def items(self) -> int:
        """Items a row in the stream."""
        return 1 if self.op == Op.F else (self.outer + self.matrices) * self.makes_vector


@dataclass(frozen=True)
class Item:
    """A record: its kind, the words behind the header, and the operation that it carries."""

    kind: RecordKind
    words: int
    operation: Operation | None = None


def operations(model: ModelConfig, config: HwConfig) -> list[tuple[Operation, int, int]]:
    """The embedding's operation, then each matrix's, with its rows and columns."""
    d, m, last = model.hidden_size, model.intermediate_size, model.num_hidden_layers - 1
    results = config.results_per_cycle
    found = [(Operation(Op.EMBED, d // results, d // results, makes_vector=True, outer=True, matrices=3), d, 0)]

    def add(
        op: Op,
        rows: int,
        columns: int,
        *,
        eps: Eps = Eps.NONE,
        new_vector: bool = False,
        reuse: bool = False,
        keep: bool = False,
        vector: tuple[bool, int] | None = None,
    ) -> None:
        row_groups = -(-rows // config.rows)
        outer, matrices = vector or (False, 0)
        found.append(
            (
                Operation(
                    op,
                    -(-columns // config.codes_per_cycle),
                    -(-rows // results),
                    row_groups,
                    -(-columns // config.columns),
                    -(-(rows - (row_groups - 1) * config.rows) // results),
                    eps,
                    new_vector,
                    reuse,
                    keep,
                    vector is not None,
                    outer,
                    matrices,
                ),
                rows,
                columns,
            )
        )

    for layer in range(model.num_hidden_layers):
        add(Op.F, d, d, new_vector=True)
        add(Op.I, d, d)
        add(Op.G, d, d, vector=(True, 1))
        add(Op.RESIDUAL, d, d, new_vector=True, eps=Eps.O_PROJ, vector=(True, 1))
        add(Op.GATE, m, d, new_vector=True, keep=True)
        add(Op.UP, m, d, reuse=True, vector=(False, 1))
        add(Op.RESIDUAL, d, m, new_vector=True, eps=Eps.DOWN_PROJ, vector=(True, 1 if layer == last else 3))
    add(Op.HEAD, model.vocab_size, d, new_vector=True)
    return found


def records(model: ModelConfig, config: HwConfig) -> list[Item]:
    """The stream of a token, record by record."""
    steps = operations(model, config)
    operation_words = -(-OPERATION_BITS // config.word_bits)
    found = [Item(RecordKind.OP, operation_words, step) for step, _rows, _columns in steps[: 1 + LOOKAHEAD]]
    found.append(Item(RecordKind.GAINS, group_words(model.hidden_size, steps[0][0].items, config)))
    for index, (step, rows, columns) in enumerate(steps[1:], start=1):
        if index + LOOKAHEAD < len(steps):
            found.append(Item(RecordKind.OP, operation_words, steps[index + LOOKAHEAD][0]))
        chunk = chunk_rows(rows, columns, step.items, config)
        for start in range(0, rows, chunk):
            count = min(chunk, rows - start)
            if step.items:
                found.append(Item(RecordKind.GAINS, group_words(count, step.items, config)))
            if config.source == "streamed":
                found += [Item(kind, words) for kind, _rows, words in trit_records(count, columns, config)]
    return found
