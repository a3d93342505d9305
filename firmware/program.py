"""The program: an image laid out for one HwConfig, as its memories hold it.

    stream   OP(embed) OP(f) OP(i)  gains of the embedding's vector
             then for each matrix: OP(the matrix after the next)  [gains of some rows, trits of those rows] ...
    table    a row of the embedding table for every token, no header

The machine reads the stream again and again, and one row of the table a token. Source "stream": one memory of words
holds both, the table behind the stream. Source "resident": the stream has no trits; these stand in a memory of beats,
matrix after matrix, and the table behind them in the full parts of beats.

The image file knows nothing of this; the same image is laid out anew for every machine. docs/engine.md has the records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Shape
from numpy.typing import NDArray

from lutern.firmware.packing import pack_groups, pack_trits
from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.layouts import (
    HEADER_LENGTH_BITS,
    OPERATION,
    OPERATION_BITS,
    Eps,
    Op,
    RecordKind,
    full_parts,
    group_shape,
    group_words,
    header,
    header_words,
    short_trits,
)
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import Int
from lutern.model_ref.mlgru import Bounds
from lutern.model_ref.norm import Gains, ScaleConstants
from lutern.model_ref.quantise import IntegerLayer, IntegerWeights, Matrix
from lutern.model_ref.sampling import SCORE_FRAC_BITS

LOOKAHEAD = 2
"""Operations that are sent ahead of their trits, so that their codes are made during the rows before."""

VectorGains = tuple[Gains | None, list[Gains]]


@dataclass(frozen=True)
class Step:
    """One operation with what it reads: trits [rows, n] (None: EMBED) and items [elements, T] (None: no gains)."""

    name: str
    fields: dict[str, object]
    trits: NDArray[np.int8] | None
    items: NDArray[np.uint16] | None


@dataclass(frozen=True)
class Sizes:
    """What a shape takes of a machine's memories, whatever its weights are.

    record_words, trit_beats
        read every token; ``trit_beats`` is 0 where trits are in the stream.
    row_words, stride
        words of a row of the embedding table; from row to row, in beats (resident) or words.
    words, beats
        everything in the memory of words, and in the memory of beats.
    """

    record_words: int
    trit_beats: int
    row_words: int
    stride: int
    words: int
    beats: int


@dataclass(frozen=True)
class Program:
    """A model laid out for a machine: ``words`` uint8 [n, word_bytes], ``beats`` uint8 [k, beat_bytes] (resident)."""

    model: ModelConfig
    config: HwConfig
    words: NDArray[np.uint8]
    beats: NDArray[np.uint8]

    @property
    def sizes(self) -> Sizes:
        """Where in the memories the spans of a token are."""
        return program_sizes(self.model, self.config)

    @property
    def vocab(self) -> int:
        """Tokens of the model."""
        return self.model.vocab_size

    @property
    def trits(self) -> int:
        """Trits of the model, padding not counted."""
        return self.model.trits

    @property
    def setup(self) -> dict[str, int]:
        """The setup record of the link."""
        sizes = self.sizes
        return {
            "record_words": sizes.record_words,
            "trit_beats": sizes.trit_beats,
            "embedding_base": sizes.trit_beats if self.config.source == "resident" else sizes.record_words,
            "embedding_row_words": sizes.row_words,
            "embedding_stride": sizes.stride,
            "vocab": self.vocab,
        }

    @property
    def sections(self) -> list[tuple[int, NDArray[np.uint8]]]:
        """What the host writes: (address, words [n, word_bytes]). Beats are padded to whole parts, as many as a power
        of two."""
        config = self.config
        found = [(0, self.words)]
        if len(self.beats):
            padded = np.zeros((len(self.beats), config.word_bytes << config.part_bits), np.uint8)
            padded[:, : config.beat_bytes] = self.beats
            found.append((TRIT_MEMORY, padded.reshape(-1, config.word_bytes)))
        return found

    @property
    def bytes_per_token(self) -> int:
        """Bytes that are read from memory for a token: stream, row, beats."""
        sizes = self.sizes
        words = sizes.record_words + sizes.row_words
        return words * self.config.word_bytes + sizes.trit_beats * self.config.beat_bytes


def check_fit(model: ModelConfig, config: HwConfig) -> None:
    """Refuse, by name and number, a shape that the machine cannot hold."""
    limits = (
        ("hidden size", model.hidden_size, "max_width", config.max_width),
        ("intermediate size", model.intermediate_size, "max_width", config.max_width),
        ("state (layers x hidden size)", _state(model), "max_state", config.max_state),
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
    sizes = program_sizes(model, config)
    for needed, kind, item_bytes, name, depth in (
        (sizes.words, "words", config.word_bytes, "memory_words", config.memory_words),
        (sizes.beats, "beats", config.beat_bytes, "trit_beats", config.trit_beats),
    ):
        if needed > depth and config.memory != "host":
            raise LuternError(
                f"the model needs {needed} {kind} of {item_bytes} bytes, but {config.name} has "
                f"{depth} ({name}); choose a larger preset or a smaller model."
            )


def streams_that_fit(model: ModelConfig, config: HwConfig) -> int:
    """Streams of a model whose states a machine holds, at most ``config.streams``."""
    return min(config.streams, config.max_state // _state(model))


def _state(model: ModelConfig) -> int:
    """Words of state of one stream."""
    return model.num_hidden_layers * model.hidden_size


def program_words(model: ModelConfig, config: HwConfig) -> int:
    """Words that ``lay_out`` makes for a shape; see ``Sizes``."""
    return program_sizes(model, config).words


def program_sizes(model: ModelConfig, config: HwConfig) -> Sizes:
    """Sizes of what ``lay_out`` makes for a shape."""
    d, m, vocab = model.hidden_size, model.intermediate_size, model.vocab_size
    resident = config.source == "resident"
    # rows, columns and items a row (a vector's gains, or the lower bound) of f, i, g, o, gate, up, down
    layer = [(d, d, 1), (d, d, 0), (d, d, 2), (d, d, 2), (m, d, 0), (m, d, 1), (d, m, 4)]
    matrices = layer * model.num_hidden_layers + [(vocab, d, 0)]
    matrices[-2] = (d, m, 2)  # the last vector enters one matrix
    head = header_words(config)
    words = (1 + len(matrices)) * (head + -(-OPERATION_BITS // config.word_bits)) + head + group_words(d, 4, config)
    beats = 0
    for rows, columns, items in matrices:
        chunk = chunk_rows(rows, columns, items, config)
        for start in range(0, rows, chunk):
            count = min(chunk, rows - start)
            words += head + group_words(count, items, config) if items else 0
            beats += -(-count // config.rows) * -(-columns // config.columns)
            words += 0 if resident else sum(head + length for _, _, length in trit_records(count, columns, config))

    row = group_words(d, 1, config)
    if resident:
        stride = -(-row // full_parts(config))
        return Sizes(words, beats, row, stride, words, beats + vocab * stride)
    return Sizes(words, 0, row, row, words + vocab * row, 0)


def chunk_rows(rows: int, columns: int, items: int, config: HwConfig) -> int:
    """Rows of a matrix that stand in one record of trits, with ``items`` a row in the record of gains before it.

    Whole row groups, as many as a header can count; their gains fill no more than half of the gain FIFO, in whole
    words. All rows where trits are resident: nothing stands between the gains then.
    """
    if config.source == "resident":
        return rows
    beat_words = config.beat_bytes // config.word_bytes
    counted = ((1 << HEADER_LENGTH_BITS) - 1) // (-(-columns // config.columns) * beat_words) * config.rows
    if items == 0:
        return counted
    groups, words = group_shape(config, items)
    unit = int(np.lcm(config.rows, config.results_per_cycle * groups))
    unit_words = unit // config.results_per_cycle // groups * words
    chunk = config.gain_fifo_words // 2 // unit_words * unit
    if chunk == 0:
        raise LuternError(
            f"{unit_words} words of gains of {unit} rows do not fit half of the gain FIFO of {config.name} "
            f"({config.gain_fifo_words} words); choose a preset with a deeper gain_fifo_words."
        )
    return min(chunk, counted)


def trit_records(rows: int, columns: int, config: HwConfig) -> list[tuple[RecordKind, int, int]]:
    """Records of the trits of a chunk of rows (source "streamed"): kind, rows, words behind the header."""
    beats, beat_words = -(-columns // config.columns), config.beat_bytes // config.word_bytes
    rest = rows % config.rows if short_trits(rows % config.rows, config) else 0
    whole = rows - rest
    found = [
        (RecordKind.TRITS, whole, -(-whole // config.rows) * beats * beat_words),
        (RecordKind.SHORT_TRITS, rest, beats),
    ]
    return [record for record in found if record[1]]


def lay_out(weights: IntegerWeights, config: HwConfig) -> Program:
    """Lay a model out for a machine; ``LuternError`` when it does not fit."""
    check_fit(weights.config, config)
    sizes = program_sizes(weights.config, config)
    writer = _Writer(config)
    steps = _steps(weights, config)
    embed, matrices = steps[0], steps[1:]

    for step in steps[: 1 + LOOKAHEAD]:
        writer.operation(step.fields)
    assert embed.items is not None
    writer.gains(embed.items)
    for index, step in enumerate(matrices):
        if index + LOOKAHEAD < len(matrices):
            writer.operation(matrices[index + LOOKAHEAD].fields)
        writer.matrix(step)
    table = np.concatenate([pack_groups(row[:, None], config) for row in weights.embeddings.codes])
    if config.source == "streamed":
        writer.words.append(table)
    else:
        writer.beats.append(_table_beats(table, sizes, config))
    program = Program(weights.config, config, np.concatenate(writer.words), writer.all_beats())
    assert (len(program.words), len(program.beats)) == (sizes.words, sizes.beats)
    return program


def _table_beats(table: NDArray[np.uint8], sizes: Sizes, config: HwConfig) -> NDArray[np.uint8]:
    """Rows of the embedding table [rows * row_words, word_bytes] in the full parts of beats."""
    parts = full_parts(config)
    rows = len(table) // sizes.row_words
    padded = np.zeros((rows, sizes.stride * parts, config.word_bytes), np.uint8)
    padded[:, : sizes.row_words] = table.reshape(rows, sizes.row_words, config.word_bytes)
    beats = np.zeros((rows * sizes.stride, config.beat_bytes), np.uint8)
    beats[:, : parts * config.word_bytes] = padded.reshape(len(beats), -1)
    return beats


def _steps(weights: IntegerWeights, config: HwConfig) -> list[Step]:
    """The operations of a token, in order."""
    model, layers = weights.config, weights.layers
    vectors: list[VectorGains] = [*(layer.x_gains for layer in layers), weights.final_gains]
    embed = Step(
        "embeddings",
        {
            "op": Op.EMBED,
            "beats": model.hidden_size // config.results_per_cycle,
            "groups": model.hidden_size // config.results_per_cycle,
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
    steps.append(_step("lm_head", Op.HEAD, weights.lm_head, config, new_vector=1, frac=SCORE_FRAC_BITS))
    return steps


def _layer_steps(
    layer: IntegerLayer, index: int, weights: IntegerWeights, following: VectorGains, config: HwConfig
) -> list[Step]:
    model = weights.config
    m = model.intermediate_size
    state_base = index * model.hidden_size // config.results_per_cycle
    gate = layer.gate_proj
    bounds = _bound_items(layer.one_minus_lower_bound)
    return [
        _step("f_proj", Op.F, layer.f_proj, config, items=bounds, new_vector=1, u_index=0),
        _step("i_proj", Op.I, layer.i_proj, config, u_index=1, state_base=state_base),
        _step(
            "g_proj",
            Op.G,
            layer.g_proj,
            config,
            vector=layer.v_gains,
            u_index=2,
            state_base=state_base,
            frac=layer.state_frac_bits,
        ),
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
    items: NDArray[np.uint16] | None = None,
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
            "groups": -(-count // config.results_per_cycle),
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


def _items(vector: VectorGains) -> NDArray[np.uint16]:
    """Items [elements, T]: w1 first, if there is one."""
    outer, inner = vector
    return np.stack([gains.items for gains in ([outer] if outer else []) + inner], axis=1)


def _bound_items(bounds: Int) -> NDArray[np.uint16]:
    """Lower bounds (1 - LB) as items [elements, 1]."""
    coded = Bounds.from_integers(bounds)
    wrong = np.flatnonzero(coded.values != bounds)
    if len(wrong):
        raise LuternError(
            f"a lower bound (1 - LB) is {bounds[wrong[0]]} / 2^17, which has more significant bits than an item of the "
            "stream; convert the model again."
        )
    return coded.items[:, None]


class _Writer:
    """Appends records to lists of word arrays; resident: trits to lists of beats."""

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.words: list[NDArray[np.uint8]] = []
        self.beats: list[NDArray[np.uint8]] = []

    def all_beats(self) -> NDArray[np.uint8]:
        """The beats, which may be none."""
        return np.concatenate([np.zeros((0, self.config.beat_bytes), np.uint8), *self.beats])

    def record(self, kind: RecordKind, words: NDArray[np.uint8]) -> None:
        """A header and its words."""
        count, word_bytes = header_words(self.config), self.config.word_bytes
        raw = header(kind, len(words)).to_bytes(count * word_bytes, "little")
        self.words += [np.frombuffer(raw, dtype=np.uint8).reshape(count, word_bytes), words]

    def operation(self, fields: dict[str, object]) -> None:
        """One operation; fields that are not named are 0."""
        word_bytes = self.config.word_bytes
        _check_fields(fields)
        value = OPERATION.const(fields).as_value().value
        size = -(-OPERATION_BITS // self.config.word_bits) * word_bytes
        raw = np.frombuffer(value.to_bytes(size, "little"), dtype=np.uint8)
        self.record(RecordKind.OP, raw.reshape(-1, word_bytes))

    def gains(self, items: NDArray[np.uint16]) -> None:
        """One record of gains."""
        self.record(RecordKind.GAINS, pack_groups(items, self.config))

    def matrix(self, step: Step) -> None:
        """The trits of a matrix, in chunks of rows that follow their gains."""
        assert step.trits is not None
        count, columns = step.trits.shape
        rows = chunk_rows(count, columns, 0 if step.items is None else step.items.shape[1], self.config)
        for start in range(0, count, rows):
            if step.items is not None:
                self.gains(step.items[start : start + rows])
            chunk = step.trits[start : start + rows]
            if self.config.source == "streamed":
                self.trits(chunk)
            else:
                self.beats.append(pack_trits(chunk, self.config))

    def trits(self, chunk: NDArray[np.int8]) -> None:
        """The records of some rows."""
        at, word_bytes = 0, self.config.word_bytes
        for kind, rows, _ in trit_records(len(chunk), chunk.shape[1], self.config):
            beats = pack_trits(chunk[at : at + rows], self.config)
            at += rows
            self.record(
                kind, beats[:, :word_bytes] if kind is RecordKind.SHORT_TRITS else beats.reshape(-1, word_bytes)
            )


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


__all__ = [
    "LOOKAHEAD",
    "Program",
    "Sizes",
    "check_fit",
    "chunk_rows",
    "lay_out",
    "program_sizes",
    "program_words",
    "streams_that_fit",
    "trit_records",
]
