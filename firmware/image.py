"""The image file: a quantised model with its tokenizer, the same for every machine.

    safetensors ─┬─ metadata "lutern": format, version, source, conventions, config, constants, calibrated,
                 │            activations, embedding_bits, digests, digest
                 └─ tensors, named as in the checkpoint:
                      model.lower_bounds       uint16 [L, d]  1 - LB, one item each (model_ref/items.py)
                      *norm.weight             uint16 [n]     items; the gains of a matrix include the outer norm's
                      model.embeddings.weight  uint16 [V, d]  items; 12-bit items: uint8 [V, 1.5 d], two in three bytes
                      *_proj.weight, lm_head.weight  uint8    trits, five per byte (packing.pack_canonical)
                      tokenizer.json           uint8          deflated; its digest is computed from the text

L is the number of layers, d the hidden size, V the vocabulary and n the length of a vector. A ternary weight takes
about 1.6 bits, an element of an embedding 16 or 12. ``program.py`` lays an image out for one ``HwConfig``. The file has
a digest of every tensor and a digest of the metadata, so a damaged file raises an error before anything is computed
with its values. The shapes of the tensors are compared with the config before a tensor is read, so the reader never
allocates more than the size of the file, even if the config is wrong. Images of version 3, whose embeddings have 16
bits, can also be read.

There are two ways to read an image:

``read_image(path)``
    An ``Image`` whose ``weights`` are an ``IntegerWeights`` in memory. These weights take two bits per trit and three
    bytes per element of an embedding, 0.2 GB for a 370M.
``open_image(path)``
    An ``OpenImage``, which keeps only the metadata in memory. The tensors are memory-mapped. A tensor is compared with
    its digest when it is first used, and is decoded only when it is used::

        image.config, image.h_frac_bits, image.source, image.synthetic, image.conventions, image.digest
        image.embedding_bits                        16 or 12, bits of an element of the embedding table
        image.notes                                 sentences about what was read in an unexpected way
        image.calibrated                            the matrices (and h) whose ranges come from calibration
        image.activations                           largest value and RMS of h, i, gate in calibration; or empty
        image.matrix("model.layers.0.attn.f_proj")  PackedMatrix: packed (bytes, five trits each), rows, columns,
                                                    frac_bits, scale, calibrated; blocks() gives trits int8, a few
                                                    rows at a time; build() the whole Matrix, with its cut
        image.gains("model.layers.0.attn_norm")     Gains; the gains of a matrix are named like its norm, f_proj.norm
        image.lower_bounds(layer)                   1 - LB of a layer [d], int64, 17 fraction bits
        image.embedding_rows(ids)                   EmbeddingTable of the rows ``ids``
        image.weights()                             everything, as IntegerWeights
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.image_format import (
    BASE_RANGE,
    EMBEDDINGS,
    FORMAT,
    FRAC_BITS_RANGE,
    LOWER_BOUNDS,
    METADATA_KEY,
    TOKENIZER,
    VERSION,
    WIDE_ONLY_VERSION,
    activation_names,
    digest_of,
    image_shapes,
    seal,
    unseal,
)
from lutern.firmware.image_writer import convert, write_image
from lutern.firmware.packing import unpack_canonical, unpack_narrow
from lutern.hw.config import TRITS_PER_BYTE
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import Container, open_container
from lutern.model_ref.conventions import Conventions
from lutern.model_ref.embedding import EMBEDDING_BITS, WIDE_BITS, EmbeddingTable
from lutern.model_ref.errors import LuternError, named
from lutern.model_ref.fixed import MANTISSA_MAX, MANTISSA_ONE, SCALAR_EXPONENT_BITS, Int
from lutern.model_ref.items import ITEM_MANTISSA_MAX, ITEM_MANTISSA_ONE, item_parts
from lutern.model_ref.mlgru import Bounds
from lutern.model_ref.norm import Gains, ScaleConstants
from lutern.model_ref.packed_trits import PackedTrits, pack_rows, row_bytes
from lutern.model_ref.quantise import IntegerWeights, Matrix, assemble, cut_bits
from lutern.model_ref.ranges import Activation
from lutern.model_ref.tokenizer import MAX_TOKENIZER_BYTES

BLOCK_TRITS = 1 << 22


@dataclass(frozen=True)
class Image:
    """The content of an image file. ``digest`` identifies the image, because it covers every byte that matters."""

    weights: IntegerWeights
    tokenizer_json: str
    source: str
    digests: dict[str, str]
    digest: str
    synthetic: str = ""


@dataclass(frozen=True)
class PackedMatrix:
    """A ternary matrix as it is in the file. ``packed`` is memory-mapped and compared with its digest."""

    name: str
    rows: int
    columns: int
    packed: NDArray[np.uint8]
    frac_bits: int
    scale: ScaleConstants
    calibrated: bool
    where: str

    def blocks(self, trits: int = BLOCK_TRITS) -> Iterator[tuple[int, NDArray[np.int8]]]:
        """Yield (first row, trits of some rows), with about ``trits`` trits in each block."""
        step = max(TRITS_PER_BYTE, trits // self.columns // TRITS_PER_BYTE * TRITS_PER_BYTE)  # whole bytes
        for row in range(0, self.rows, step):
            count = min(step, self.rows - row)
            start = row * self.columns // TRITS_PER_BYTE
            part = self.packed[start : start - (-count * self.columns // TRITS_PER_BYTE)]
            yield row, unpack_canonical(part, count, self.columns, self.where)

    def build(self) -> Matrix:
        """Return the matrix with all its trits."""
        packed = np.empty((self.rows, row_bytes(self.columns)), np.uint8)
        cut = 0
        for row, block in self.blocks():
            packed[row : row + len(block)] = pack_rows(block)
            cut = max(cut, cut_bits(block))
        cut = 0 if self.name == "lm_head" else cut
        return Matrix(PackedTrits(packed, self.columns), cut, self.frac_bits, self.scale, self.calibrated)


class OpenImage:
    """An image file, of which only the tensors that are used are read; see the module's description."""

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        if not path.is_file():
            raise LuternError(f"there is no image file {path}; write one from a checkpoint.")
        self.file: Container = open_container(path, "image file")
        self.body, self.digest = unseal(self.file.metadata.get(METADATA_KEY, ""), path)
        self.config = ModelConfig.from_dict(self._part(self.body, "config", dict))
        if self.config.digest != self.body.get("config_digest"):
            raise LuternError(f"{path}: the config is not the one that the image was written with; write it again.")
        self.digests: dict[str, str] = dict(self._part(self.body, "digests", dict))
        self.embedding_bits = self._embedding_bits()
        self._check_shapes()
        self._known: set[str] = set()  # tensors whose digest was compared
        self._vector_exponents = self._part(self.body, "vector_exponents", dict)
        self._matrices = self._part(self.body, "matrices", dict)
        self.source: str = self._part(self.body, "source", str)
        self.synthetic: str = self._part(self.body, "synthetic", str)
        self.notes = self._notes()
        try:
            self.conventions = Conventions.from_dict(self._part(self.body, "conventions", dict))
        except ValueError:
            raise LuternError(
                f"{self.path}: the metadata's conventions is not as Lutern writes it; write the image again."
            ) from None
        self.h_frac_bits = self._integer(self.body, "h_frac_bits", *FRAC_BITS_RANGE)
        self.embeddings_base = self._integer(self.body, "embeddings_base", *BASE_RANGE)
        calibrated = self._part(self.body, "calibrated", list)
        self._check(all(name in ("h", *self.config.projections) for name in calibrated), "calibrated")
        self.calibrated: frozenset[str] = frozenset(calibrated)
        self.activations = self._activations()

    def _embedding_bits(self) -> int:
        """Return the number of bits of an element of the embedding table."""
        if self.body["version"] == WIDE_ONLY_VERSION:
            return WIDE_BITS
        bits = self._integer(self.body, "embedding_bits", min(EMBEDDING_BITS), max(EMBEDDING_BITS))
        self._check(bits in EMBEDDING_BITS, "embedding_bits")
        return bits

    def _notes(self) -> tuple[str, ...]:
        """Return the notes of the reader of the checkpoint; see ``Checkpoint.notes``."""
        notes = self._part(self.body, "notes", list) if "notes" in self.body else []
        self._check(all(isinstance(note, str) and note.isprintable() for note in notes), "notes")
        return tuple(notes)

    def _activations(self) -> dict[str, Activation]:
        """Return the activations of every tensor that has its own binary point; empty if the image is not
        calibrated."""
        if "activations" not in self.body:
            return {}
        stored = self._part(self.body, "activations", dict)
        names = activation_names(self.config)
        self._check(set(stored) == set(names), "activations")
        for pair in stored.values():
            numbers = isinstance(pair, list) and len(pair) == 2 and all(type(value) is float for value in pair)
            self._check(numbers and all(0 <= value < math.inf for value in pair), "activations")
        return {name: Activation(*stored[name]) for name in names}

    def _check_shapes(self) -> None:
        """Raise ``LuternError`` if a tensor is missing, or has another type or shape than follows from the config."""
        entries = self.file.entries
        length = sum(entries[TOKENIZER].shape) if TOKENIZER in entries else 0
        wanted = image_shapes(self.config, min(length, MAX_TOKENIZER_BYTES), self.embedding_bits)
        if set(entries) != set(wanted):
            name = sorted(set(entries) ^ set(wanted))[0]
            problem = "is in the file, but is no tensor of this model" if name in entries else "is missing"
            raise LuternError(f"{self.path}: {named(name)} {problem}; fetch or write the image again.")
        for name, shape in wanted.items():
            got = entries[name].dtype, entries[name].shape
            if got != shape:
                raise LuternError(
                    f"{self.path}: {name} is {got[0]} {list(got[1])}, but must be {shape[0]} {list(shape[1])}; "
                    "fetch or write the image again."
                )

    def tensor(self, name: str) -> NDArray[Any]:
        """Return a tensor as stored, memory-mapped; raise ``LuternError`` if its digest is wrong."""
        tensor = self.file.map(name)
        if name not in self._known:
            if digest_of(tensor) != self.digests.get(name):
                raise LuternError(f"{self.path}: the digest of {name} is wrong; fetch or write the image again.")
            self._known.add(name)
        return tensor

    @cached_property
    def tokenizer_json(self) -> str:
        """Return the content of the tokenizer.json."""
        inflater = zlib.decompressobj()
        try:
            text = inflater.decompress(self.file.map(TOKENIZER).tobytes(), MAX_TOKENIZER_BYTES)
        except zlib.error:
            text = b""
        damaged = not inflater.eof or inflater.unused_data
        if damaged or hashlib.sha256(text).hexdigest() != self.digests.get(TOKENIZER):
            raise LuternError(f"{self.path}: the digest of {TOKENIZER} is wrong; fetch or write the image again.")
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise LuternError(f"{self.path}: {TOKENIZER} is not UTF-8; write the image again.") from None

    def gains(self, name: str) -> Gains:
        """Return one vector of gains, by the name of its norm."""
        items = self.tensor(f"{name}.weight")
        mantissa, exponent = item_parts(items)
        size = np.abs(mantissa)
        normalised = (size >= ITEM_MANTISSA_ONE) & (size <= ITEM_MANTISSA_MAX)
        self._check(bool((normalised | (items == 0)).all()), f"{name}.weight")
        return Gains.from_parts(mantissa, exponent, self._integer(self._vector_exponents, name, *BASE_RANGE))

    def matrix(self, name: str) -> PackedMatrix:
        """Return one ternary matrix, packed; ``name`` is without ``.weight``."""
        rows, columns = self.config.projections[name]
        constants = self._part(self._matrices, name, dict)
        scale = ScaleConstants(*(self._scalar(constants, field, name) for field in ("k", "e1", "e2")))
        frac_bits = self._integer(constants, "frac_bits", *FRAC_BITS_RANGE)
        where = f"{self.path}: {name}.weight"
        packed = self.tensor(f"{name}.weight")
        return PackedMatrix(name, rows, columns, packed, frac_bits, scale, name in self.calibrated, where)

    def lower_bounds(self, index: int) -> Int:
        """Return 1 - LB of a layer."""
        items = self.tensor(LOWER_BOUNDS)[index]
        bounds = Bounds.from_parts(*item_parts(items)).values
        written = Bounds.from_integers(np.maximum(bounds, 0)).items  # only one of several codings of a value is valid
        self._check(np.array_equal(written, items), LOWER_BOUNDS)
        return bounds

    def embedding_rows(self, rows: Any = slice(None)) -> EmbeddingTable:
        """Return the embedding table, or only the rows that an index array or a slice selects."""
        codes, width = self.tensor(EMBEDDINGS)[rows], self.config.hidden_size
        if self.embedding_bits != WIDE_BITS:
            self._check(width % 2 == 0 or not (codes[..., -1] >> 4).any(), EMBEDDINGS)  # the last half byte is unused
            codes = unpack_narrow(codes, width)
        table = EmbeddingTable.from_codes(codes, self.embeddings_base, self.embedding_bits)
        self._check(int(table.mantissa.min(initial=0)) >= -ITEM_MANTISSA_MAX, EMBEDDINGS)
        return table

    def weights(self) -> IntegerWeights:
        """Return all weights, decoded and in memory."""
        return assemble(
            self.config,
            self.embedding_rows(),
            self.h_frac_bits,
            self.lower_bounds,
            self.gains,
            lambda name: self.matrix(name).build(),
            "h" in self.calibrated,
            self.activations,
        )

    def _scalar(self, constants: dict[str, Any], field: str, name: str) -> tuple[int, int]:
        value = constants.get(field)
        self._check(isinstance(value, list) and len(value) == 2, f"{field} of {name}")
        parts = dict(zip(("mantissa", "exponent"), value or (), strict=True))
        mantissa = self._integer(parts, "mantissa", 0, MANTISSA_MAX)
        self._check(mantissa == 0 or mantissa >= MANTISSA_ONE, f"{field} of {name}")
        limit = 1 << (SCALAR_EXPONENT_BITS - 1)
        return mantissa, self._integer(parts, "exponent", -limit, limit - 1)

    def _part(self, body: Mapping[str, Any], name: str, kind: type) -> Any:
        value = body.get(name)
        if type(value) is not kind:
            raise LuternError(f"{self.path}: the metadata's {name} is not as Lutern writes it; write the image again.")
        return value

    def _integer(self, values: Mapping[str, Any], name: str, low: int, high: int) -> int:
        value = self._part(values, name, int)
        self._check(low <= value <= high, name)
        return int(value)

    def _check(self, right: bool, what: str) -> None:
        if not right:
            raise LuternError(f"{self.path}: {what} holds a number that Lutern never writes; write the image again.")


def open_image(path: str | Path) -> OpenImage:
    """Open an image. Raise ``LuternError`` if the file is damaged, foreign or too new."""
    return OpenImage(path)


def read_image(path: str | Path) -> Image:
    """Read a whole image."""
    image = open_image(path)
    return Image(image.weights(), image.tokenizer_json, image.source, image.digests, image.digest, image.synthetic)


__all__ = [
    "FORMAT",
    "VERSION",
    "Image",
    "OpenImage",
    "PackedMatrix",
    "convert",
    "open_image",
    "read_image",
    "seal",
    "write_image",
]
