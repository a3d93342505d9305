"""The format of an image file: names, types and shapes of its tensors, its metadata, and the digests in them.

``image.py`` describes the format and reads it, ``image_writer.py`` writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.packing import canonical_bytes, narrow_bytes
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError, quoted

FORMAT, VERSION = "lutern-image", 4
WIDE_ONLY_VERSION = 3
"""The previous version. It has no ``embedding_bits``, because its embeddings always have 16 bits. Images of this
version are read, but not written.
"""
METADATA_KEY = "lutern"
EMBEDDINGS, LOWER_BOUNDS, TOKENIZER = "model.embeddings.weight", "model.lower_bounds", "tokenizer.json"
MAX_METADATA_BYTES = 1 << 22  # 256 layers need 0.4 MB
FRAC_BITS_RANGE = -64, 63
BASE_RANGE = -2048, 2047  # exponents of gain vectors and of the embedding table


def activation_names(config: ModelConfig) -> list[str]:
    """Return the tensors that have their own binary point. A calibrated image stores their activations."""
    return ["h", *(name for name in config.projections if name.endswith(("i_proj", "gate_proj")))]


def image_shapes(
    config: ModelConfig, tokenizer_bytes: int, embedding_bits: int = WIDE_BITS
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type and shape of every tensor in the order of the file.

    Items of 16 bits come first, so that each is aligned.
    """
    item_shapes = {
        **config.tensor_shapes,
        EMBEDDINGS: (config.vocab_size, config.hidden_size),
        LOWER_BOUNDS: (config.num_hidden_layers, config.hidden_size),
    }
    trits = {f"{name}.weight": canonical_bytes(*shape) for name, shape in config.projections.items()}
    narrow: dict[str, tuple[str, tuple[int, ...]]] = {}
    if embedding_bits != WIDE_BITS:
        vocab, width = item_shapes.pop(EMBEDDINGS)
        narrow[EMBEDDINGS] = "U8", (vocab, narrow_bytes(width))
    return {
        **{name: ("U16", shape) for name, shape in item_shapes.items() if name not in trits},
        **narrow,
        **{name: ("U8", (length,)) for name, length in trits.items()},
        TOKENIZER: ("U8", (tokenizer_bytes,)),
    }


def digest_of(tensor: NDArray[Any]) -> str:
    """Return SHA-256 of a tensor's bytes, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data).hexdigest()


def seal(body: Mapping[str, Any]) -> str:
    """Return metadata as canonical JSON, with a digest of all other entries."""
    return json.dumps({"digest": hashlib.sha256(_canonical(body)).hexdigest(), **body}, sort_keys=True)


def unseal(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """Return metadata and their digest; raise ``LuternError`` for a text that ``seal`` did not write."""
    foreign = LuternError(f"{path} is no Lutern image; give a file that Lutern wrote from a checkpoint.")
    try:
        body = json.loads(text) if len(text) <= MAX_METADATA_BYTES else None
    except (ValueError, RecursionError):
        raise foreign from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise foreign
    if body.get("version") not in (VERSION, WIDE_ONLY_VERSION):
        raise LuternError(
            f"{path} is an image of version {quoted(body.get('version'))}, but this program reads versions "
            f"{WIDE_ONLY_VERSION} and {VERSION}; "
            "convert again: lutern convert CHECKPOINT -o IMAGE."
        )
    digest = body.pop("digest", None)
    if digest != hashlib.sha256(_canonical(body)).hexdigest():
        raise LuternError(f"{path}: the digest of its metadata is wrong; fetch or write the image again.")
    return body, str(digest)


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


__all__ = [
    "EMBEDDINGS",
    "FORMAT",
    "LOWER_BOUNDS",
    "METADATA_KEY",
    "TOKENIZER",
    "VERSION",
    "WIDE_ONLY_VERSION",
    "activation_names",
    "digest_of",
    "image_shapes",
    "seal",
    "unseal",
]
