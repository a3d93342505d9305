"""The program: an image laid out for one HwConfig, as the memories of the machine contain it.

    record stream   operations, gains and trits of a token, as ``schedule.records`` lists them, in blocks with a check
    table           a row of the embedding table for every token: its check, then its words, without a header

The machine reads the record stream again and again, and one row of the table for each token. Source "streamed": one
memory of words holds both, first the record stream, then the table. Source "resident": the record stream has no trits.
A memory of beats holds the trits, matrix after matrix, and then the table in the full parts of beats.

The image file does not depend on the machine: the same image is laid out for every machine. docs/engine.md
describes the records.

``lay_out`` needs memory for the weights (two bits per trit), the program and one record: 1.1 GiB for a 1.3B model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, cast

import numpy as np
from amaranth.hdl import Const, Shape
from numpy.typing import NDArray

from lutern.firmware.limits import check_fit, state_elements
from lutern.firmware.packing import pack_groups, pack_narrow_row, pack_trits
from lutern.firmware.schedule import Record, Sizes, operations, program_sizes, records
from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.layouts import ITEM_BITS, OPERATION, OPERATION_BITS, RecordKind, full_parts, header, header_words
from lutern.hw.protocol import STEP_LIMIT_CYCLES, crc32c
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS, EmbeddingTable
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import Int
from lutern.model_ref.mlgru import Bounds
from lutern.model_ref.norm import Gains
from lutern.model_ref.packed_trits import PackedTrits
from lutern.model_ref.quantise import IntegerLayer, IntegerWeights, Matrix
from lutern.model_ref.sampling import SCORE_FRAC_BITS
from lutern.model_ref.signature import Signature, WordSignatures

VectorGains = tuple[Gains | None, list[Gains]]
PATIENCE = 16
"""A step may take this many times the cycles in which its words and its trits are read one after the other."""
TABLE_ROWS = 256
"""Number of rows of the embedding table that are packed at a time."""


@dataclass(frozen=True)
class Program:
    """A model laid out for a machine.

    words
        Content of the memory of words, uint8 [n, word_bytes].
    beats
        Content of the memory of beats, uint8 [k, beat_bytes]; k is 0 if trits are streamed.
    embedding_bits
        Number of bits of an element of the model's embedding table.
    image
        The image number: 32 bits that identify the weights in every check.
    trit_state
        The last state of the signature of the beats of trits, if they are resident.
    """

    model_config: ModelConfig
    hw_config: HwConfig
    words: NDArray[np.uint8]
    beats: NDArray[np.uint8]
    embedding_bits: int = WIDE_BITS
    image: int = 0
    trit_state: int = 0

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of the program in the memories of the machine."""
        return program_sizes(self.model_config, self.hw_config, self.embedding_bits)

    @property
    def vocab(self) -> int:
        """Number of tokens that the model has."""
        return self.model_config.vocab_size

    @property
    def trits(self) -> int:
        """Number of trits of the model, without padding."""
        return self.model_config.trits

    @property
    def state_stride(self) -> int:
        """Distance from one slot to the next.

        The unit is a beat of P elements in the memory of states, or a word if S is in the memory of words.
        """
        if self.hw_config.state == "memory":
            return self.sizes.layers * self.sizes.state_words
        return state_elements(self.model_config) // self.hw_config.results_per_cycle

    @property
    def setup(self) -> dict[str, int]:
        """The setup record of the link."""
        sizes = self.sizes
        return {
            "record_words": sizes.record_words,
            "trit_beats": sizes.trit_beats,
            "embedding_base": sizes.trit_beats if self.hw_config.source == "resident" else sizes.record_words,
            "embedding_row_words": sizes.row_words,
            "embedding_stride": sizes.stride,
            "embedding_bits": sizes.row_item_bits,
            "state_base": sizes.words if sizes.state_words else 0,
            "state_words": sizes.state_words,
            "layers": self.model_config.num_hidden_layers,
            "vocab": self.vocab,
            "image": self.image,
            "trit_state": self.trit_state,
            "step_limit": self.step_limit,
        }

    @property
    def step_limit(self) -> int:
        """Number of cycles between two tokens of a run after which the machine ends the run, in units of
        ``STEP_LIMIT_CYCLES``.

        The limit is ``PATIENCE`` times the cycles that a step needs. For a machine whose words the host sends, the
        limit is 0, which means no limit.
        """
        config = self.hw_config
        if config.memory == "host":
            return 0
        cycles = self.sizes.pass_words(config.streams) + config.streams * self.model_config.trits // config.lanes
        return min((1 << 16) - 1, PATIENCE * -(-cycles // STEP_LIMIT_CYCLES) + 1)

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """The first word and the number of words of each block of the record stream."""
        found, first, at = [], 0, 0
        for record in records(self.model_config, self.hw_config):
            at += header_words(self.hw_config) + record.words
            if record.kind is RecordKind.CHECK:
                found.append((first, at - first))
                first = at
        return found

    @property
    def sections(self) -> list[tuple[int, NDArray[np.uint8]]]:
        """Return the sections that the host writes: (address, words [n, word_bytes]).

        Each beat is padded to a number of whole parts that is a power of two.
        """
        config = self.hw_config
        found = [(0, self.words)]
        if len(self.beats):
            padded = np.zeros((len(self.beats), config.word_bytes << config.part_bits), np.uint8)
            padded[:, : config.beat_bytes] = self.beats
            found.append((TRIT_MEMORY, padded.reshape(-1, config.word_bytes)))
        return found

    @property
    def bytes_per_token(self) -> int:
        """Number of bytes that are moved per token: record stream, row, beats, state."""
        return self.bytes_per_pass(1)

    def bytes_per_pass(self, streams: int) -> int:
        """Return the number of bytes that are moved for a pass with ``streams`` streams."""
        sizes = self.sizes
        return sizes.pass_words(streams) * self.hw_config.word_bytes + sizes.trit_beats * self.hw_config.beat_bytes


@dataclass(frozen=True)
class Values:
    """The values of a model that an operation needs.

    ``fields`` are the fields of the operation that do not follow from shapes. ``trits`` [rows, columns] is None for
    EMBED. ``items`` [rows, items per row] is None for an operation without gains.
    """

    fields: dict[str, object]
    trits: PackedTrits | None
    items: NDArray[np.uint16] | None


def lay_out(weights: IntegerWeights, hw_config: HwConfig) -> Program:
    """Lay a model out for a machine; raise ``LuternError`` if the model does not fit."""
    model_config, table = weights.config, weights.embeddings
    check_fit(model_config, hw_config, table.bits)
    sizes, values = program_sizes(model_config, hw_config, table.bits), _values(weights)
    image = _image_number(weights)
    words, beats = [_records(values, model_config, hw_config, image)], []
    table_words = _table(table, sizes, hw_config, image)
    if hw_config.source == "streamed":
        words.append(table_words)
    else:
        filled = (values[operation.layer, operation.name].trits for operation in operations(model_config, hw_config))
        beats.append(pack_trits(trits.unpack(), hw_config) for trits in filled if trits is not None)
        beats.append(_table_beats(rows, sizes, hw_config) for rows in table_words)
    joined = _joined(sizes.beats, hw_config.beat_bytes, beats)
    return Program(
        model_config,
        hw_config,
        _joined(sizes.words, hw_config.word_bytes, words),
        joined,
        table.bits,
        image,
        _last_state(joined[: sizes.trit_beats]) if len(joined) else 0,
    )


def _image_number(weights: IntegerWeights) -> int:
    """Return CRC-32C of all numbers of a model."""
    number = 0
    for (layer, name), values in _values(weights).items():
        number = crc32c(f"{layer} {name} {sorted(values.fields.items())}".encode(), number)
        for array in (None if values.trits is None else values.trits.unpack(), values.items):
            number = number if array is None else crc32c(array.tobytes(), number)
    table = weights.embeddings
    return crc32c(table.mantissa.tobytes() + table.exponent.tobytes(), number)


def _last_state(beats: NDArray[np.uint8]) -> int:
    """Return the last state of the signature of beats [n, beat_bytes]."""
    return int(Signature(beats.shape[1]).fold(beats[None], np.zeros(1, np.uint64))[0])


def _joined(count: int, width: int, sources: Iterable[Iterable[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Join parts [n, width] one after the other, ``count`` rows in all.

    Only one part exists at a time, in addition to the result.
    """
    joined, at = np.empty((count, width), np.uint8), 0
    for part in chain.from_iterable(sources):
        joined[at : at + len(part)] = part
        at += len(part)
    assert at == count
    return joined


def _records(
    values: dict[tuple[int | None, str], Values], model_config: ModelConfig, hw_config: HwConfig, image: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield headers and contents of the record stream, in order, one block after the other."""
    signatures = WordSignatures(hw_config.word_bytes)
    block: list[NDArray[np.uint8]] = []
    place = 0
    for record in records(model_config, hw_config):
        block.append(_header(record, hw_config))
        if record.kind is RecordKind.CHECK:
            block.append(signatures.block_check(np.concatenate(block), image, place))
            yield np.concatenate(block)
            block, place = [], place + 1
            continue
        content = _content(record, values[record.operation.layer, record.operation.name], hw_config)
        assert len(content) == record.words
        block.append(content)


def _table(table: EmbeddingTable, sizes: Sizes, hw_config: HwConfig, image: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the words of the embedding table, some rows at a time. Each row begins in a new word, with its check."""
    signatures = WordSignatures(hw_config.word_bytes)
    for start in range(0, len(table.mantissa), TABLE_ROWS):
        rows = slice(start, start + TABLE_ROWS)
        codes = EmbeddingTable(table.mantissa[rows], table.exponent[rows], table.base).codes
        if sizes.row_item_bits == ITEM_BITS:
            words = np.stack([pack_groups(row[:, None], hw_config) for row in codes])
        else:
            words = np.stack([pack_narrow_row(row, hw_config) for row in codes])
        checks = signatures.row_checks(words, image, range(start, start + len(words)))
        yield np.concatenate([checks, words], axis=1).reshape(-1, hw_config.word_bytes)


def _header(record: Record, hw_config: HwConfig) -> NDArray[np.uint8]:
    """Return the words of a record's header."""
    shape = header_words(hw_config), hw_config.word_bytes
    raw = header(record.kind, record.words).to_bytes(shape[0] * shape[1], "little")
    return np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _content(record: Record, values: Values, hw_config: HwConfig) -> NDArray[np.uint8]:
    """Return the words of a record that follow its header."""
    word_bytes, rows = hw_config.word_bytes, (record.start, record.start + record.count)
    if record.kind is RecordKind.OP:
        fields: dict[str, Any] = {**record.operation.fields, **values.fields}
        _check_fields(fields)
        value = Const.cast(OPERATION.const(cast(Any, fields))).value
        raw = value.to_bytes(-(-OPERATION_BITS // hw_config.word_bits) * word_bytes, "little")
        return np.frombuffer(raw, dtype=np.uint8).reshape(-1, word_bytes)
    if record.kind is RecordKind.GAINS:
        assert values.items is not None
        return pack_groups(values.items[slice(*rows)], hw_config)
    assert values.trits is not None
    beats = pack_trits(values.trits.part(*rows).unpack(), hw_config)
    return beats[:, :word_bytes] if record.kind is RecordKind.SHORT_TRITS else beats.reshape(-1, word_bytes)


def _table_beats(table: NDArray[np.uint8], sizes: Sizes, hw_config: HwConfig) -> NDArray[np.uint8]:
    """Put rows of the embedding table [rows * row_words, word_bytes] into the full parts of beats."""
    parts = full_parts(hw_config)
    rows = len(table) // sizes.row_words
    padded = np.zeros((rows, sizes.stride * parts, hw_config.word_bytes), np.uint8)
    padded[:, : sizes.row_words] = table.reshape(rows, sizes.row_words, hw_config.word_bytes)
    beats = np.zeros((rows * sizes.stride, hw_config.beat_bytes), np.uint8)
    beats[:, : parts * hw_config.word_bytes] = padded.reshape(len(beats), -1)
    return beats


def _values(weights: IntegerWeights) -> dict[tuple[int | None, str], Values]:
    """Return the values of every operation, by layer and name."""
    vectors: list[VectorGains] = [*(layer.x_gains for layer in weights.layers), weights.final_gains]
    embed: dict[str, object] = {"frac": weights.h_frac_bits, "base": weights.embeddings.base}
    found: dict[tuple[int | None, str], Values] = {(None, "embeddings"): Values(embed, None, _items(vectors[0]))}
    for index, layer in enumerate(weights.layers):
        for name, values in _layer_values(layer, vectors[index + 1]).items():
            found[index, name] = values
    found[None, "lm_head"] = _matrix_values(weights.lm_head, weights.lm_head.packed, frac=SCORE_FRAC_BITS)
    return found


def _layer_values(layer: IntegerLayer, following: VectorGains) -> dict[str, Values]:
    """Return the values of the operations of a layer. ``following`` are the gains of the vector after the layer."""
    gate_and_up, m = layer.gate_proj.packed, layer.gate_proj.packed.rows // 2
    bounds, state = _bound_items(layer.one_minus_lower_bound), layer.state_frac_bits
    return {
        "f_proj": _matrix_values(layer.f_proj, layer.f_proj.packed, bounds),
        "i_proj": _matrix_values(layer.i_proj, layer.i_proj.packed),
        "g_proj": _matrix_values(layer.g_proj, layer.g_proj.packed, _items(layer.v_gains), frac=state),
        "o_proj": _matrix_values(layer.o_proj, layer.o_proj.packed, _items(layer.y_gains)),
        "gate_proj": _matrix_values(layer.gate_proj, gate_and_up.part(0, m)),
        "up_proj": _matrix_values(layer.gate_proj, gate_and_up.part(m, 2 * m), _items(layer.w_gains)),
        "down_proj": _matrix_values(layer.down_proj, layer.down_proj.packed, _items(following)),
    }


def _matrix_values(
    matrix: Matrix, trits: PackedTrits, items: NDArray[np.uint16] | None = None, *, frac: int | None = None
) -> Values:
    """Return the values of the operation of a matrix.

    ``trits`` are the trits of the matrix or of one half of it. ``frac`` is the number of fraction bits of the scaled
    value, if it differs from the number in ``matrix``.
    """
    scale = matrix.scale
    scalars = {
        name: {"mantissa": value[0], "exponent": value[1]}
        for name, value in (("k", scale.k), ("e1", scale.e1), ("e2", scale.e2))
    }
    return Values({"cut": matrix.cut, "frac": matrix.frac_bits if frac is None else frac, **scalars}, trits, items)


def _items(vector: VectorGains) -> NDArray[np.uint16]:
    """Return the gains of a vector as items [elements, items per element]. The outer gains come first, if there are
    any."""
    outer, inner = vector
    return np.stack([gains.items for gains in ([outer] if outer else []) + inner], axis=1)


def _bound_items(bounds: Int) -> NDArray[np.uint16]:
    """Return lower bounds (1 - LB) as items [elements, 1]."""
    coded = Bounds.from_integers(bounds)
    wrong = np.flatnonzero(coded.values != bounds)
    if len(wrong):
        raise LuternError(
            f"a lower bound (1 - LB) is {bounds[wrong[0]]} / 2^17, which has more significant bits than an item of the "
            "stream; convert the model again."
        )
    return coded.items[:, None]


def _check_fields(fields: dict[str, Any]) -> None:
    """Raise ``LuternError`` if a number does not fit its field of the operation, because the number would wrap."""
    for name, value in fields.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            shape = Shape.cast(OPERATION[name].shape.members[part] if part else OPERATION[name].shape)
            low, high = (-1 << shape.width - 1, 1 << shape.width - 1) if shape.signed else (0, 1 << shape.width)
            if not low <= number < high:
                raise LuternError(
                    f"the model needs {number} for {name} {part} of an operation, but the field can be {low} to "
                    f"{high - 1}; choose a wider machine or a smaller model."
                )


__all__ = ["Program", "lay_out"]
