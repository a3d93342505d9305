"""The program: an image laid out for one HwConfig, as the words that its memory holds.

    head:  OP(EMBED)
    row:   EMBED words of the token (elsewhere in memory)
    rest:  OP(f) OP(i)  gains of the embedding's vector
           then for each matrix: OP(the matrix after the next)  [gains of some rows, trits of those rows] ...
    table: one record of EMBED words a token

The image file knows nothing of this; the same image is laid out anew for every machine. docs/engine.md has the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Shape
from numpy.typing import NDArray

from lutern.firmware.packing import gain_items, pack_groups, pack_trits
from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    EMBEDDING_BITS,
    GAIN_BITS,
    HEADER_LENGTH_BITS,
    OPERATION,
    OPERATION_BITS,
    Eps,
    Op,
    Record,
    group_shape,
    header,
)
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.norm import Gains, ScaleConstants
from lutern.model_ref.quantize import IntegerLayer, IntegerWeights, Matrix

HEADER_BYTES = 4
LOOKAHEAD = 2
"""Operations that are sent ahead of their trits, so that their codes are made during the rows before."""

VectorGains = tuple[Gains | None, list[Gains]]


@dataclass(frozen=True)
class Step:
    """One operation with what it reads: trits [rows, n] (None: EMBED) and items [elements, T] (None: no gains)."""

    name: str
    fields: dict[str, object]
    trits: NDArray[np.int8] | None
    items: NDArray[np.uint64] | None


@dataclass(frozen=True)
class Program:
    """Memory words uint8 ``[words, word_bytes]``, and where in them the spans of a token are."""

    words: NDArray[np.uint8]
    head_words: int
    stream_words: int
    embedding_row_words: int
    vocab: int
    trits: int

    @property
    def setup(self) -> dict[str, int]:
        """The setup record of the link."""
        return {
            "head_words": self.head_words,
            "stream_base": 0,
            "stream_words": self.stream_words,
            "embedding_base": self.stream_words,
            "embedding_row_words": self.embedding_row_words,
            "vocab": self.vocab,
            "spare": 0,
        }


def check_fit(model: ModelConfig, config: HwConfig) -> int:
    """Refuse, by name and number, a shape that the machine cannot hold; returns the words of memory that it takes."""
    if config.word_bytes < HEADER_BYTES:
        raise LuternError(
            f"{config.name} has words of {config.word_bytes} bytes, but a record's header takes {HEADER_BYTES}; "
            "choose a machine of 16 lanes or more."
        )
    limits = (
        ("hidden size", model.hidden_size, "max_width", config.max_width),
        ("intermediate size", model.intermediate_size, "max_width", config.max_width),
        ("state (layers x hidden size)", model.num_hidden_layers * model.hidden_size, "max_state", config.max_state),
        ("vocabulary", model.vocab_size, "max_vocab", config.max_vocab),
    )
    for what, value, name, limit in limits:
        if value > limit:
            raise LuternError(
                f"the model's {what} is {value}, but {config.name} holds at most {limit} ({name}); "
                "choose a larger preset or a smaller model."
            )
    for what, value in (("hidden size", model.hidden_size), ("intermediate size", model.intermediate_size)):
        if value % config.results_per_cycle:
            raise LuternError(
                f"the model's {what} is {value}, no multiple of the {config.results_per_cycle} results a cycle of "
                f"{config.name}; choose a preset with fewer results a cycle."
            )
    words = program_words(model, config)
    if words > config.memory_words:
        raise LuternError(
            f"the model needs {words} words of {config.word_bytes} bytes, but {config.name} has "
            f"{config.memory_words} (memory_words); choose a larger preset or a smaller model."
        )
    return words


def program_words(model: ModelConfig, config: HwConfig) -> int:
    """Words of memory that ``lay_out`` fills for a shape, whatever its weights are."""
    d, m, vocab = model.hidden_size, model.intermediate_size, model.vocab_size
    counter = _Writer(config)

    def group_words(elements: int, items: int, item_bits: int = GAIN_BITS) -> int:
        groups_a_word, words_a_group = group_shape(config, item_bits, items)
        groups = -(-elements // config.results_per_cycle)
        return -(-groups // groups_a_word) * words_a_group

    def matrix_words(rows: int, columns: int, items: int) -> int:
        operation = 1 - (-OPERATION_BITS // config.word_bits)
        chunk = counter.chunk_rows(columns, items)
        words = operation
        for start in range(0, rows, chunk):
            count = min(chunk, rows - start)
            words += 1 - (-count // config.rows) * -(-columns // config.columns)
            words += 1 + group_words(count, items) if items else 0
        return words

    # rows, columns and items a row (a vector's gains, or the lower bound) of f, i, g, o, gate, up, down
    layer = ((d, d, 1), (d, d, 0), (d, d, 2), (d, d, 2), (m, d, 0), (m, d, 1))
    words = 1 - (-OPERATION_BITS // config.word_bits) + 1 + group_words(d, 4)
    words += model.num_hidden_layers * sum(matrix_words(*shape) for shape in layer)
    words += (model.num_hidden_layers - 1) * matrix_words(d, m, 4) + matrix_words(d, m, 2)
    return words + matrix_words(vocab, d, 0) + vocab * (1 + group_words(d, 1, EMBEDDING_BITS))


def lay_out(weights: IntegerWeights, config: HwConfig) -> Program:
    """Lay a model out for a machine; ``LuternError`` when it does not fit."""
    words_needed = check_fit(weights.config, config)
    writer = _Writer(config)
    steps = _steps(weights, config)
    embed, matrices = steps[0], steps[1:]

    writer.operation(embed.fields)
    head_words = writer.count
    for step in matrices[:LOOKAHEAD]:
        writer.operation(step.fields)
    assert embed.items is not None
    writer.gains(embed.items)
    for index, step in enumerate(matrices):
        if index + LOOKAHEAD < len(matrices):
            writer.operation(matrices[index + LOOKAHEAD].fields)
        writer.matrix(step)
    stream_words = writer.count

    row_words = writer.embedding_table(weights)
    words = np.concatenate(writer.parts)
    assert len(words) == words_needed, f"{len(words)} words, {words_needed} expected"
    return Program(words, head_words, stream_words, row_words, weights.config.vocab_size, weights.config.trits)


def _steps(weights: IntegerWeights, config: HwConfig) -> list[Step]:
    """The operations of a token, in order."""
    model, layers = weights.config, weights.layers
    vectors: list[VectorGains] = [*(layer.x_gains for layer in layers), weights.final_gains]
    embed = Step(
        "embeddings",
        {
            "op": Op.EMBED,
            "beats": model.hidden_size // config.results_per_cycle,
            "frac": weights.h_frac_bits,
            "base": weights.embeddings.base,
            **_vector_fields(vectors[0]),
        },
        None,
        _items(vectors[0]),
    )
    steps = [embed]
    for index, layer in enumerate(layers):
        steps += _layer_steps(layer, index, weights, vectors[index + 1], config)
    steps.append(_step("lm_head", Op.HEAD, weights.lm_head, config, new_vector=1))
    return steps


def _layer_steps(
    layer: IntegerLayer, index: int, weights: IntegerWeights, following: VectorGains, config: HwConfig
) -> list[Step]:
    model = weights.config
    m = model.intermediate_size
    state_base = index * model.hidden_size // config.results_per_cycle
    gate = layer.gate_proj
    bounds = layer.one_minus_lower_bound.astype(np.uint64)[:, None]
    return [
        _step("f_proj", Op.F, layer.f_proj, config, items=bounds, new_vector=1, slot=0),
        _step("i_proj", Op.I, layer.i_proj, config, slot=1, state_base=state_base),
        _step("g_proj", Op.G, layer.g_proj, config, vector=layer.v_gains, slot=2, state_base=state_base,
              frac=layer.state_frac_bits),
        _step("o_proj", Op.RESIDUAL, layer.o_proj, config, vector=layer.y_gains, new_vector=1, eps=Eps.O_PROJ),
        _step("gate_proj", Op.GATE, gate, config, rows=slice(0, m), new_vector=1, keep=1),
        _step("up_proj", Op.UP, gate, config, rows=slice(m, 2 * m), vector=layer.w_gains, reuse=1),
        _step("down_proj", Op.RESIDUAL, layer.down_proj, config, vector=following, new_vector=1, eps=Eps.DOWN_PROJ),
    ]


def _step(
    name: str,
    op: Op,
    matrix: Matrix,
    config: HwConfig,
    *,
    rows: slice = slice(None),
    vector: VectorGains | None = None,
    items: NDArray[np.uint64] | None = None,
    **fields: object,
) -> Step:
    trits = matrix.trits[rows]
    count, columns = trits.shape
    row_groups = -(-count // config.rows)
    of_last = count - (row_groups - 1) * config.rows
    return Step(
        name,
        {
            "op": op,
            "row_groups": row_groups,
            "column_beats": -(-columns // config.columns),
            "last_results": -(-of_last // config.results_per_cycle),
            "beats": -(-columns // config.codes_per_cycle),
            "cut": matrix.cut,
            "frac": matrix.frac_bits,
            **_scalar_fields(matrix.scale),
            **(_vector_fields(vector) if vector else {}),
            **fields,
        },
        trits,
        _items(vector) if vector else items,
    )


def _vector_fields(vector: VectorGains) -> dict[str, object]:
    return {"makes_vector": 1, "outer": int(vector[0] is not None), "matrices": len(vector[1])}


def _scalar_fields(scale: ScaleConstants) -> dict[str, object]:
    return {
        name: {"mantissa": value[0], "exponent": value[1]}
        for name, value in (("k", scale.k), ("e1", scale.e1), ("e2", scale.e2))
    }


def _items(vector: VectorGains) -> NDArray[np.uint64]:
    """Items [elements, T]: w1 first, if there is one."""
    outer, inner = vector
    return np.stack([gain_items(gains) for gains in ([outer] if outer else []) + inner], axis=1)


class _Writer:
    """Appends records to a list of word arrays."""

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.parts: list[NDArray[np.uint8]] = []
        self.count = 0

    def record(self, kind: Record, words: NDArray[np.uint8]) -> None:
        """A header and its words."""
        head = np.zeros((1, self.config.word_bytes), dtype=np.uint8)
        raw = header(kind, len(words)).to_bytes(HEADER_BYTES, "little")
        head[0, :HEADER_BYTES] = np.frombuffer(raw, dtype=np.uint8)
        self.parts += [head, words]
        self.count += 1 + len(words)

    def operation(self, fields: dict[str, object]) -> None:
        """One operation; fields that are not named are 0."""
        word_bytes = self.config.word_bytes
        _check_fields(fields)
        value = OPERATION.const(fields).as_value().value
        size = -(-OPERATION_BITS // self.config.word_bits) * word_bytes
        raw = np.frombuffer(value.to_bytes(size, "little"), dtype=np.uint8)
        self.record(Record.OP, raw.reshape(-1, word_bytes))

    def gains(self, items: NDArray[np.uint64]) -> None:
        """One record of gains."""
        self.record(Record.GAINS, pack_groups(items, GAIN_BITS, self.config))

    def matrix(self, step: Step) -> None:
        """The trits of a matrix, in chunks of rows that follow their gains."""
        assert step.trits is not None
        count, columns = step.trits.shape
        rows = self.chunk_rows(columns, 0 if step.items is None else step.items.shape[1])
        for start in range(0, count, rows):
            if step.items is not None:
                self.gains(step.items[start : start + rows])
            self.record(Record.TRITS, pack_trits(step.trits[start : start + rows], self.config))

    def chunk_rows(self, columns: int, items: int) -> int:
        """Rows that stand in one record of trits: whole row groups, as many as a header can count.

        With gains, ``items`` a row: no more than fill half of the gain FIFO, in whole words.
        """
        config = self.config
        counted = ((1 << HEADER_LENGTH_BITS) - 1) // -(-columns // config.columns) * config.rows
        if items == 0:
            return counted
        groups, words = group_shape(config, GAIN_BITS, items)
        unit = int(np.lcm(config.rows, config.results_per_cycle * groups))
        unit_words = unit // config.results_per_cycle // groups * words
        chunk = config.gain_fifo_words // 2 // unit_words * unit
        if chunk == 0:
            raise LuternError(
                f"{unit_words} words of gains of {unit} rows do not fit half of the gain FIFO of {config.name} "
                f"({config.gain_fifo_words} words); choose a preset with a deeper gain_fifo_words."
            )
        return chunk

    def embedding_table(self, weights: IntegerWeights) -> int:
        """One EMBED record a token; returns the words of each."""
        table = weights.embeddings
        codes = table.codes
        before = self.count
        for row in codes:
            self.record(Record.EMBED, pack_groups(row[:, None].astype(np.uint64), EMBEDDING_BITS, self.config))
        return (self.count - before) // len(codes)


def _check_fields(fields: dict[str, Any]) -> None:
    """Refuse a number that its field of the operation cannot hold, rather than let it wrap."""
    for name, value in fields.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            shape = Shape.cast(OPERATION[name].shape.members[part] if part else OPERATION[name].shape)
            low, high = (-1 << shape.width - 1, 1 << shape.width - 1) if shape.signed else (0, 1 << shape.width)
            if not low <= number < high:
                raise LuternError(
                    f"the model needs {number} for {name} {part} in an operation, which holds {low} to {high - 1}; "
                    "choose a wider machine or a smaller model."
                )


__all__ = ["LOOKAHEAD", "Program", "check_fit", "lay_out", "program_words"]
