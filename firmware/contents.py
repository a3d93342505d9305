"""Lists the tensors of a checkpoint or an image, for the tables of `lutern inspect`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from lutern.firmware.image import OpenImage
from lutern.firmware.image_format import EMBEDDINGS, TOKENIZER, image_shapes
from lutern.model_ref.checkpoint import Checkpoint, LazyTensors
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import Entry
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.ternarise import ternarise

Advance = Callable[[int, int, str], None]
BFLOAT16_BITS = 16


@dataclass(frozen=True)
class Tensor:
    """One tensor, or ``count`` tensors of the same kind.

    ``zeros`` is the number of elements that are 0. In a ternary matrix it is the number of trits that are 0.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    byte_count: int
    elements: int
    zeros: int
    count: int = 1

    @property
    def bits(self) -> float:
        """Number of bits per element."""
        return 8 * self.byte_count / max(1, self.elements)


def parts_of(model: OpenImage | Checkpoint, advance: Advance) -> list[Tensor]:
    """Return every tensor of an image or a checkpoint folder, and read each tensor once."""
    if isinstance(model, OpenImage):
        parts = _parts_of_image(model)
        total = len(model.file.entries)
    else:
        parts = _parts_of_checkpoint(model)
        total = len(model.config.tensor_shapes)
    found: list[Tensor] = []
    for part in parts:
        found.append(part)
        advance(len(found), total, part.name)
    return found


def _parts_of_image(image: OpenImage) -> Iterable[Tensor]:
    shapes = image.config.projections
    for name, entry in image.file.entries.items():
        matrix = name.removesuffix(".weight")
        if matrix in shapes:
            zeros = sum(int(block.size - np.count_nonzero(block)) for _, block in image.matrix(matrix).blocks())
            yield Tensor(name, shapes[matrix], "trits", entry.byte_count, math.prod(shapes[matrix]), zeros)
        elif name == EMBEDDINGS:
            codes = image.embedding_rows().codes
            kind = "items" if image.embedding_bits == WIDE_BITS else f"items of {image.embedding_bits} bits"
            zeros = int(codes.size - np.count_nonzero(codes))
            yield Tensor(name, codes.shape, kind, entry.byte_count, codes.size, zeros)
        else:
            stored = image.file.map(name) if name == TOKENIZER else image.tensor(name)
            kind = "deflated text" if name == TOKENIZER else "items"
            zeros = int(stored.size - np.count_nonzero(stored))
            yield Tensor(name, entry.shape, kind, entry.byte_count, stored.size, zeros)


def _parts_of_checkpoint(checkpoint: Checkpoint) -> Iterable[Tensor]:
    tensors, shapes = checkpoint.tensors, checkpoint.config.projections
    for name in checkpoint.config.tensor_shapes:
        values = tensors[name]
        entry = tensors.entry(name) if isinstance(tensors, LazyTensors) else Entry("F32", values.shape, 0)
        counted = ternarise(values)[0] if name.removesuffix(".weight") in shapes else values
        zeros = int(values.size - np.count_nonzero(counted))
        yield Tensor(name, entry.shape, entry.dtype, entry.byte_count, values.size, zeros)


def grouped(parts: list[Tensor]) -> list[Tensor]:
    """Return one ``Tensor`` for all tensors that differ only in the number of their layer, in order of appearance."""
    groups: dict[tuple[str, tuple[int, ...], str], Tensor] = {}
    for part in parts:
        name = re.sub(r"\.layers\.\d+\.", ".layers.*.", part.name)
        key = name, part.shape, part.kind
        if key in groups:
            one = groups[key]
            groups[key] = replace(
                one,
                byte_count=one.byte_count + part.byte_count,
                zeros=one.zeros + part.zeros,
                elements=one.elements + part.elements,
                count=one.count + 1,
            )
        else:
            groups[key] = replace(part, name=name)
    return list(groups.values())


def image_bytes(config: ModelConfig, embedding_bits: int = WIDE_BITS) -> tuple[int, int]:
    """Return the number of bytes of an image without header and tokenizer, and of its ternary matrices alone."""
    shapes = image_shapes(config, 0, embedding_bits)
    sizes = {name: Entry(dtype, shape, 0).byte_count for name, (dtype, shape) in shapes.items()}
    return sum(sizes.values()), sum(sizes[f"{name}.weight"] for name in config.projections)


def bfloat16_bytes(config: ModelConfig) -> int:
    """Return the number of bytes of all tensors if their elements are bfloat16, as in a released checkpoint."""
    return sum(math.prod(shape) for shape in config.tensor_shapes.values()) * BFLOAT16_BITS // 8


__all__ = ["Tensor", "bfloat16_bytes", "grouped", "image_bytes", "parts_of"]
