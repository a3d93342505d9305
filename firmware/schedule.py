"""The schedule: the operations of a token and the records that carry them, from the shapes of model and machine.

    ModelConfig, HwConfig ─► operations ─► records ─► sizes
                                  │           └────► firmware.program.lay_out fills the records with a model's values
                                  └────────────────► the cycle model, the counters' phases, the estimate read these

The matrices of a layer are f, i, g, o, gate, up, down. The embedding's row comes before all layers, lm_head after all
layers. In the record stream, an operation comes ``LOOKAHEAD`` matrices before its own trits:

    OP(embed) OP(f) OP(i)  gains of the embedding's vector
    then for each matrix: OP(the matrix after the next)  [gains of some rows, trits of those rows] ...

A CHECK comes when a block has at least ``block_words`` words, and at the end of a layer that has at least
``block_words`` words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    LONGEST_RECORD,
    OPERATION,
    OPERATION_BITS,
    STATE_BITS,
    Eps,
    Op,
    RecordKind,
    block_words,
    check_words,
    full_parts,
    group_shape,
    group_words,
    header_words,
    row_item_bits,
    row_words,
    short_trits,
)
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import VectorNames, vectors_of

LOOKAHEAD = 2
"""Number of matrices by which an OP precedes its trits, so that its codes are made while earlier rows are computed."""


@dataclass(frozen=True)
class Operation:
    """One operation: a matrix, or the embedding's row (``columns`` 0).

    name, layer
        The matrix, and its layer; ``layer`` is None outside of the layers. up_proj is the second half of gate_proj's
        rows.
    rows, columns
        Shape of the matrix; EMBED has ``rows`` elements.
    from beats to state_base
        Fields of ``hw.layouts.OPERATION``: all except the fields that depend on the values of the weights.
    """

    name: str
    layer: int | None
    op: Op
    rows: int
    columns: int
    beats: int
    groups: int
    row_groups: int = 0
    column_beats: int = 0
    last_results: int = 0
    eps: Eps = Eps.NONE
    new_vector: bool = False
    u_index: int = 0
    reuse: bool = False
    keep: bool = False
    makes_vector: bool = False
    outer: bool = False
    matrices: int = 0
    state_base: int = 0

    @property
    def items(self) -> int:
        """Number of items for a row in the records of gains.

        The items are lower bounds (F), gains of the vector that the results make, or none.
        """
        return 1 if self.op == Op.F else self.outer + self.matrices

    @property
    def fields(self) -> dict[str, int]:
        """The fields of ``hw.layouts.OPERATION`` that follow from shapes."""
        return {name: int(getattr(self, name)) for name in OPERATION.members if hasattr(self, name)}


class _Matrix(NamedTuple):
    """A matrix of every layer; ``rows`` and ``columns`` name fields of ModelConfig, ``flags`` fields of Operation."""

    name: str
    op: Op
    rows: str
    columns: str
    flags: dict[str, Any]


D, M = "hidden_size", "intermediate_size"
LAYER = (
    _Matrix("f_proj", Op.F, D, D, {"new_vector": True}),
    _Matrix("i_proj", Op.I, D, D, {"u_index": 1}),
    _Matrix("g_proj", Op.G, D, D, {"u_index": 2, "makes_vector": True}),
    _Matrix("o_proj", Op.RESIDUAL, D, D, {"new_vector": True, "eps": Eps.O_PROJ, "makes_vector": True}),
    _Matrix("gate_proj", Op.GATE, M, D, {"new_vector": True, "keep": True}),
    _Matrix("up_proj", Op.UP, M, D, {"reuse": True, "makes_vector": True}),
    _Matrix("down_proj", Op.RESIDUAL, D, M, {"new_vector": True, "eps": Eps.DOWN_PROJ, "makes_vector": True}),
)
HEAD = _Matrix("lm_head", Op.HEAD, "vocab_size", D, {"new_vector": True})


def operations(model_config: ModelConfig, hw_config: HwConfig) -> list[Operation]:
    """Return the operations of a token, in order."""
    width, results = model_config.hidden_size, hw_config.results_per_cycle
    vectors = iter(vectors_of(model_config))  # vectors, in the order in which operations make them
    beats = width // results
    found = [Operation("embeddings", None, Op.EMBED, width, 0, beats, beats, **_vector_flags(next(vectors)))]
    matrices = [(matrix, layer) for layer in range(model_config.num_hidden_layers) for matrix in LAYER]
    for matrix, layer in [*matrices, (HEAD, None)]:
        rows, columns = getattr(model_config, matrix.rows), getattr(model_config, matrix.columns)
        row_groups = -(-rows // hw_config.rows)
        state_base = (layer or 0) * width // results if hw_config.state == "block" else 0
        flags = matrix.flags | (_vector_flags(next(vectors)) if "makes_vector" in matrix.flags else {})
        found.append(
            Operation(
                matrix.name,
                layer,
                matrix.op,
                rows,
                columns,
                beats=-(-columns // hw_config.codes_per_cycle),
                groups=-(-rows // results),
                row_groups=row_groups,
                column_beats=-(-columns // hw_config.columns),
                last_results=-(-(rows - (row_groups - 1) * hw_config.rows) // results),
                state_base=state_base if matrix.op in (Op.I, Op.G) else 0,
                **flags,
            )
        )
    return found


def _vector_flags(vector: VectorNames) -> dict[str, Any]:
    """Return the flags of the operation whose results make a vector. The flags say which gains the elements have."""
    outer, inner = vector
    return {"makes_vector": True, "outer": outer is not None, "matrices": len(inner)}


def phase_names(layer_count: int) -> list[tuple[str, str]]:
    """Return (section, name) of every phase of a token, in order: the embedding's row, every matrix, the choice."""
    layers = [(f"layer {layer}", matrix.name) for layer in range(layer_count) for matrix in LAYER]
    return [("embeddings", "row"), *layers, ("head", HEAD.name), ("head", "choice")]


@dataclass(frozen=True)
class Record:
    """A record of the record stream.

    ``words`` words follow the header. An OP contains ``operation`` itself. A CHECK contains the check of the block that
    it ends. Any other record contains the gains or trits of ``count`` rows of ``operation``, from row ``start`` on.
    """

    kind: RecordKind
    words: int
    operation: Operation
    start: int = 0
    count: int = 0


def records(model_config: ModelConfig, hw_config: HwConfig) -> list[Record]:
    """Return the record stream of a token, record by record."""
    found: list[Record] = []
    of_block = of_layer = 0  # numbers of words so far
    head, least = header_words(hw_config), block_words(hw_config)
    plain = _plain_records(model_config, hw_config)
    for record, following in zip(plain, _followers(plain), strict=True):
        found.append(record)
        of_block, of_layer = of_block + head + record.words, of_layer + head + record.words
        is_other = following is None or following.operation.layer != record.operation.layer
        ends_layer = record.kind != RecordKind.OP and is_other
        if following is None or of_block >= least or (ends_layer and of_layer >= least):
            found.append(Record(RecordKind.CHECK, check_words(hw_config), record.operation))
            of_block = 0
        of_layer = 0 if ends_layer else of_layer
    return found


def _followers(plain: list[Record]) -> list[Record | None]:
    """Return for each record the next record that is not an OP."""
    found: list[Record | None] = []
    following = None
    for record in reversed(plain):
        found.append(following)
        following = following if record.kind == RecordKind.OP else record
    return found[::-1]


def _plain_records(model_config: ModelConfig, hw_config: HwConfig) -> list[Record]:
    """Return the record stream without checks."""
    embed, *matrices = operations(model_config, hw_config)
    operation_words = -(-OPERATION_BITS // hw_config.word_bits)

    def gains(operation: Operation, start: int, count: int) -> Record:
        words = group_words(count, operation.items, hw_config)
        return Record(RecordKind.GAINS, words, operation, start, count)

    found = [Record(RecordKind.OP, operation_words, operation) for operation in (embed, *matrices[:LOOKAHEAD])]
    found.append(gains(embed, 0, embed.rows))
    for index, operation in enumerate(matrices):
        ahead = matrices[index + LOOKAHEAD : index + LOOKAHEAD + 1]
        found += [Record(RecordKind.OP, operation_words, later) for later in ahead]
        chunk = chunk_rows(operation.rows, operation.columns, operation.items, hw_config)
        for start in range(0, operation.rows, chunk):
            count = min(chunk, operation.rows - start)
            if operation.items:
                found.append(gains(operation, start, count))
            if hw_config.source == "streamed":
                for kind, rows, words in trit_records(count, operation.columns, hw_config):
                    found.append(Record(kind, words, operation, start, rows))
                    start += rows
    return found


def chunk_rows(rows: int, columns: int, items: int, hw_config: HwConfig) -> int:
    """Return the number of rows of a matrix that have their gains in one record, which their trits follow. A row has
    ``items`` items in this record.

    These rows are as many row groups as possible. Their trits must fit in one record, and their gains must fill whole
    words and at most half of the gain FIFO. If trits are resident, the number is ``rows``, because no trits come
    between the gains.
    """
    if hw_config.source == "resident":
        return rows
    beat_words = hw_config.beat_bytes // hw_config.word_bytes
    counted = LONGEST_RECORD // (-(-columns // hw_config.columns) * beat_words) * hw_config.rows
    if items == 0:
        return counted
    groups, words = group_shape(hw_config, items)
    unit = int(np.lcm(hw_config.rows, hw_config.results_per_cycle * groups))
    unit_words = unit // hw_config.results_per_cycle // groups * words
    chunk = hw_config.gain_fifo_words // 2 // unit_words * unit
    if chunk == 0:
        raise LuternError(
            f"{unit_words} words of gains of {unit} rows do not fit half of the gain FIFO of {hw_config.name} "
            f"({hw_config.gain_fifo_words} words); choose a preset with a deeper gain_fifo_words."
        )
    return min(chunk, max(counted // unit, 1) * unit)


def trit_records(rows: int, columns: int, hw_config: HwConfig) -> list[tuple[RecordKind, int, int]]:
    """Return the records that contain a chunk's trits (source "streamed"): kind, number of rows, words after the
    header."""
    beats, beat_words = -(-columns // hw_config.columns), hw_config.beat_bytes // hw_config.word_bytes
    rest = rows % hw_config.rows if short_trits(rows % hw_config.rows, hw_config) else 0
    whole = rows - rest
    found = [
        (RecordKind.TRITS, whole, -(-whole // hw_config.rows) * beats * beat_words),
        (RecordKind.SHORT_TRITS, rest, beats),
    ]
    return [record for record in found if record[1]]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a program in a machine's memories, which depend on the shape of the model but not on its weights.

    record_words
        Number of words of the record stream, which every token reads.
    trit_beats
        Number of beats of trits that every token reads; 0 if trits are in the record stream.
    row_item_bits
        Number of bits of an element of the embedding table.
    row_words
        Number of words of a row of the embedding table, with the words of the row's check, which come first.
    stride
        Distance from one row of the embedding table to the next, in beats (resident) or words.
    words
        Number of all words in the memory of words.
    beats
        Number of all beats in the memory of beats.
    state_words
        Number of words of the S of one layer and one stream if S is in the memory of words, otherwise 0.
    layers
        Number of layers of the model.
    """

    record_words: int
    trit_beats: int
    row_item_bits: int
    row_words: int
    stride: int
    words: int
    beats: int
    state_words: int
    layers: int

    def pass_words(self, streams: int = 1, *, chained: bool = False) -> int:
        """Return the number of words that a pass with ``streams`` streams moves.

        These words are the records, a row for each stream, and S of every layer, which is read and written.
        """
        state = 2 * self.layers * self.state_words * (1 if chained else streams)
        return self.record_words + streams * self.row_words + state


@lru_cache(maxsize=64)
def program_sizes(model_config: ModelConfig, hw_config: HwConfig, embedding_bits: int = WIDE_BITS) -> Sizes:
    """Return the sizes of the program of a shape: its records, and a row of the embedding table for every token.

    ``embedding_bits`` are the bits of an element of the model's table. A machine that does not support 12 bits stores
    the table with 16 bits.
    """
    found, vocab = records(model_config, hw_config), model_config.vocab_size
    layers = model_config.num_hidden_layers
    words = len(found) * header_words(hw_config) + sum(record.words for record in found)
    item_bits = row_item_bits(hw_config, embedding_bits)
    row = check_words(hw_config) + row_words(model_config.hidden_size, item_bits, hw_config)
    if hw_config.source == "resident":
        sent = [record.operation for record in found if record.kind is RecordKind.OP]
        beats = sum(operation.row_groups * operation.column_beats for operation in sent)
        stride = -(-row // full_parts(hw_config))
        return Sizes(words, beats, item_bits, row, stride, words, beats + vocab * stride, 0, layers)
    state = -(-model_config.hidden_size * STATE_BITS // hw_config.word_bits) if hw_config.state == "memory" else 0
    return Sizes(words, 0, item_bits, row, row, words + vocab * row, 0, state, layers)


__all__ = [
    "LAYER",
    "LOOKAHEAD",
    "Operation",
    "Record",
    "Sizes",
    "chunk_rows",
    "operations",
    "phase_names",
    "program_sizes",
    "records",
    "trit_records",
]
