"""Writes image files: from integer weights, or straight from a checkpoint, one tensor at a time.

    checkpoint ─► weight of one matrix ─► trits ─► five in a byte ─► file      facts of every matrix ─► metadata

Both ways write the same bytes. ``convert`` keeps only one tensor in float32 and a few chunks in memory. A matrix takes
about 15 ns per weight, nearly all of this time for operations on chunks in float64 (``quantise.ternarise``).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    activation_names,
    image_shapes,
    seal,
)
from lutern.firmware.packing import pack_canonical, pack_narrow
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import ContainerWriter, container_bytes, write_container
from lutern.model_ref.conventions import Conventions
from lutern.model_ref.embedding import WIDE_BITS, EmbeddingTable, embedding_top
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import MANTISSA_MAX, SCALAR_EXPONENT_BITS, Int
from lutern.model_ref.mlgru import Bounds
from lutern.model_ref.norm import Gains, ScaleConstants
from lutern.model_ref.quantise import (
    FINAL_VECTOR,
    VECTORS,
    Constants,
    IntegerWeights,
    Matrix,
    MatrixFacts,
    VectorNames,
    check_width,
    constants,
    one_minus_lower_bounds,
    quantise_matrix,
    vectors_of,
)
from lutern.model_ref.ranges import Activation
from lutern.model_ref.tokenizer import MAX_TOKENIZER_BYTES

Advance = Callable[[int, int, str], None]
"""A function that is called with (tensors done, all tensors, name of the next tensor)."""
ROWS = 128
"""Number of rows of the embedding table that are coded at a time."""


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion: the image's digest, and the errors of the coding.

    embedding_error
        Relative RMS error of the embeddings, weighted as the first norm weights them. In 16 bits, an error above
        ``LARGEST_EMBEDDING_ERROR`` is no longer small compared with a code step.
    calibrated, activations
        See ``quantise.Constants``.
    """

    digest: str
    embedding_error: float
    calibrated: frozenset[str]
    activations: dict[str, Activation]


LARGEST_EMBEDDING_ERROR = 2.0**-8
LARGEST_NARROW_ERROR = 2.0**-7
"""A table with a larger error is not written in 12 bits.

No element within the range of the 4-bit exponent has a larger error. So a larger error of a table means that too many
of its elements are too small compared with the largest element. Bfloat16 tables have half of this error.
"""
LONGEST_ACTIVATION = Activation(9.99e15, 9.99e15)  # 18 characters each; from 1e16 on Python writes exponents


@dataclass(frozen=True)
class _Origin:
    """Facts about the checkpoint that an image records (for ``notes`` see ``Checkpoint.notes``), and the bits of its
    embeddings."""

    source: str
    synthetic: str
    notes: tuple[str, ...]
    conventions: Conventions
    embedding_bits: int


class _ImageWriter:
    """Writes tensors one by one, and computes the digests for the metadata."""

    def __init__(self, file: ContainerWriter) -> None:
        self.file = file
        self.hashes = {name: hashlib.sha256() for name in file.entries}

    def write(self, name: str, part: NDArray[Any]) -> None:
        part = np.ascontiguousarray(part)
        self.hashes[name].update(part.reshape(-1).view(np.uint8).data)
        self.file.write(name, part)

    def items(self, name: str, items: NDArray[np.uint16]) -> None:
        self.write(name, items.astype("<u2"))

    def embeddings(self, table: EmbeddingTable) -> None:
        if table.bits == WIDE_BITS:
            self.items(EMBEDDINGS, table.codes)
        else:
            self.write(EMBEDDINGS, pack_narrow(table.codes))

    def constants(self, found: Constants, lower_bounds: Int) -> None:
        self.items(LOWER_BOUNDS, Bounds.from_integers(lower_bounds).items)
        for name, gains in found.gains.items():
            self.items(f"{name}.weight", gains.items)


def _layout(
    config: ModelConfig, tokenizer: bytes, origin: _Origin
) -> tuple[bytes, dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """Return the tokenizer as stored, every tensor's type and shape, and metadata of the greatest possible length."""
    if len(tokenizer) > MAX_TOKENIZER_BYTES:
        raise LuternError(f"the tokenizer is larger than {MAX_TOKENIZER_BYTES} bytes; give the checkpoint's tokenizer.")
    packed = zlib.compress(tokenizer, 9)
    shapes = image_shapes(config, len(packed), origin.embedding_bits)
    largest = seal(_body(config, origin, _widest(config), BASE_RANGE[0], dict.fromkeys(shapes, "0" * 64)))
    return packed, shapes, {METADATA_KEY: largest}


def image_size(
    checkpoint: Checkpoint,
    tokenizer_json: bytes,
    source: str,
    conventions: Conventions,
    embedding_bits: int = WIDE_BITS,
) -> int:
    """Return the number of bytes of the file that ``convert`` writes."""
    origin = _Origin(source, checkpoint.synthetic, checkpoint.notes, conventions, embedding_bits)
    _, shapes, metadata = _layout(checkpoint.config, tokenizer_json, origin)
    return container_bytes(shapes, metadata)


@contextmanager
def _image_file(path: Path, config: ModelConfig, tokenizer: bytes, origin: _Origin) -> Iterator[_ImageWriter]:
    packed, shapes, metadata = _layout(config, tokenizer, origin)
    try:
        with write_container(path, shapes, metadata) as file:
            writer = _ImageWriter(file)
            writer.file.write(TOKENIZER, np.frombuffer(packed, dtype=np.uint8))
            writer.hashes[TOKENIZER].update(tokenizer)
            yield writer
    except OSError as error:
        raise LuternError(
            f"{path} cannot be written ({error.strerror}); choose a folder that exists and has room."
        ) from error


def _finish(writer: _ImageWriter, config: ModelConfig, origin: _Origin, found: Constants, base: int) -> str:
    digests = {name: known.hexdigest() for name, known in writer.hashes.items()}
    sealed = seal(_body(config, origin, found, base, digests))
    writer.file.metadata = {METADATA_KEY: sealed}
    return str(json.loads(sealed)["digest"])


def _body(config: ModelConfig, origin: _Origin, found: Constants, base: int, digests: dict[str, str]) -> dict[str, Any]:
    body = {
        "format": FORMAT,
        "version": VERSION,
        "source": origin.source,
        "synthetic": origin.synthetic,
        "conventions": origin.conventions.to_dict(),
        "config": config.to_dict(),
        "config_digest": config.digest,
        "h_frac_bits": found.h_frac_bits,
        "embeddings_base": base,
        "embedding_bits": origin.embedding_bits,
        "calibrated": sorted(found.calibrated),
        "vector_exponents": {name: gains.vector_exponent for name, gains in found.gains.items()},
        "matrices": {
            name: {"frac_bits": found.frac_bits[name], "k": scale.k, "e1": scale.e1, "e2": scale.e2}
            for name, scale in found.scales.items()
        },
        "digests": digests,
    }
    if found.activations:
        body["activations"] = {name: [seen.largest, seen.rms] for name, seen in found.activations.items()}
    if origin.notes:
        body["notes"] = list(origin.notes)
    return body


def _widest(config: ModelConfig) -> Constants:
    """Return constants whose metadata are at least as long as the metadata of any image of this shape."""
    low = FRAC_BITS_RANGE[0]
    scalar = MANTISSA_MAX, -(1 << (SCALAR_EXPONENT_BITS - 1))
    nothing = np.zeros(0, np.int64)
    vector = Gains(nothing, nothing, BASE_RANGE[0])
    names = [name for outer, inner in vectors_of(config) for name in (outer, *(f"{x}.norm" for x in inner)) if name]
    return Constants(
        low,
        dict.fromkeys(config.projections, low),
        dict.fromkeys(config.projections, ScaleConstants(scalar, scalar, scalar)),
        dict.fromkeys(names, vector),
        frozenset(("h", *config.projections)),
        dict.fromkeys(activation_names(config), LONGEST_ACTIVATION),
    )


def write_image(
    path: str | Path,
    weights: IntegerWeights,
    tokenizer_json: str | bytes,
    source: str,
    synthetic: str = "",
    conventions: Conventions | None = None,
) -> str:
    """Write an image, and return its digest.

    If writing fails, no file appears. Equal inputs produce equal files.
    """
    text = tokenizer_json.encode() if isinstance(tokenizer_json, str) else tokenizer_json
    origin = _Origin(source, synthetic, (), conventions or Conventions(), weights.embeddings.bits)
    config, matrices = weights.config, _matrices_of(weights)
    calibrated = {name for name, matrix in matrices.items() if matrix.calibrated}
    found = Constants(
        weights.h_frac_bits,
        {name: matrix.frac_bits for name, matrix in matrices.items()},
        {name: matrix.scale for name, matrix in matrices.items()},
        _gains_of(weights),
        frozenset(calibrated | ({"h"} if weights.h_calibrated else set())),
        weights.activations,
    )
    with _image_file(Path(path), config, text, origin) as writer:
        for name, matrix in matrices.items():
            writer.write(f"{name}.weight", pack_canonical(matrix.trits))
        writer.embeddings(weights.embeddings)
        writer.constants(found, np.stack([layer.one_minus_lower_bound for layer in weights.layers]))
        return _finish(writer, config, origin, found, weights.embeddings.base)


def convert(
    path: str | Path,
    checkpoint: Checkpoint,
    tokenizer_json: bytes,
    source: str,
    calibration: Int | None = None,
    advance: Advance = lambda done, total, name: None,
    conventions: Conventions | None = None,
    embedding_bits: int = WIDE_BITS,
) -> Conversion:
    """Write the image of a checkpoint, one tensor at a time. ``write_image`` would write the same file.

    Raise ``LuternError`` if the embedding table loses too much accuracy in 12 bits.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    check_width(config)
    total = len(config.projections) + 2
    facts: dict[str, MatrixFacts] = {}
    origin = _Origin(source, checkpoint.synthetic, checkpoint.notes, conventions or Conventions(), embedding_bits)
    with _image_file(Path(path), config, tokenizer_json, origin) as writer:
        advance(0, total, EMBEDDINGS)
        first_norm = tensors["model.layers.0.attn_norm.weight"]
        base, largest, error = _write_embeddings(writer, tensors[EMBEDDINGS], first_norm, embedding_bits)
        for index, name in enumerate(config.projections):
            advance(index + 1, total, name)
            trits, facts[name] = quantise_matrix(config, tensors, name)
            writer.write(f"{name}.weight", pack_canonical(trits))
            del trits
        advance(total - 1, total, "norms")
        found = constants(checkpoint, facts, largest, calibration)
        writer.constants(found, one_minus_lower_bounds(config, tensors))
        digest = _finish(writer, config, origin, found, base)
        advance(total, total, "norms")
    return Conversion(digest, error, found.calibrated, found.activations)


def _write_embeddings(
    writer: _ImageWriter, values: NDArray[np.float32], gains: NDArray[np.float32], bits: int
) -> tuple[int, float, float]:
    """Write the table. Return its base, its largest magnitude and the relative RMS error of table times gains."""
    top, base, largest = embedding_top(values), 0, 0.0
    squares, errors = 0.0, 0.0
    for start in range(0, len(values), ROWS):
        table = EmbeddingTable.from_real(values[start : start + ROWS], top, bits)
        writer.embeddings(table)
        base, largest = table.base, max(largest, table.largest)
        wide = values[start : start + ROWS].astype(np.float64)
        errors += float((((table.real() - wide) * gains) ** 2).sum())
        squares += float(((wide * gains) ** 2).sum())
    error = float(np.sqrt(errors / squares)) if squares else 0.0
    if bits != WIDE_BITS and error > LARGEST_NARROW_ERROR:
        raise LuternError(
            f"in {bits} bits the embeddings have a relative error of {error:.1e}, above {LARGEST_NARROW_ERROR:.1e}; "
            f"convert with --embedding-bits {WIDE_BITS}."
        )
    return base, largest, error


def _gains_of(weights: IntegerWeights) -> dict[str, Gains]:
    """Return every gain vector by its tensor's name without ``.weight``; the gains of a matrix have the name of its
    ``norm``.
    """
    found: dict[str, Gains] = {}

    def add(prefix: str, names: VectorNames, gains: tuple[Gains | None, list[Gains]]) -> None:
        if names[0] is not None and gains[0] is not None:
            found[prefix + names[0]] = gains[0]
        found.update((f"{prefix}{name}.norm", value) for name, value in zip(names[1], gains[1], strict=True))

    for index, layer in enumerate(weights.layers):
        for field, names in VECTORS.items():
            add(f"model.layers.{index}.", names, getattr(layer, field))
    add("", FINAL_VECTOR, weights.final_gains)
    return found


def _matrices_of(weights: IntegerWeights) -> dict[str, Matrix]:
    found = {
        name: getattr(weights.layers[int(name.split(".")[2])], name.rsplit(".", 1)[-1])
        for name in weights.config.projections
        if name != "lm_head"
    }
    return {**found, "lm_head": weights.lm_head}


__all__ = ["LARGEST_EMBEDDING_ERROR", "Advance", "Conversion", "convert", "image_size", "write_image"]
