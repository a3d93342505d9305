"""The image file: a quantised model with its tokenizer, the same for every machine.

    safetensors ─┬─ metadata "lutern": format, version, source, config, constants, digests, digest (JSON)
                 └─ tensors, named as in the checkpoint:
                      model.embeddings.weight  uint16 [V, d]  12-bit mantissa low, 4-bit exponent above
                      model.lower_bounds       int32  [L, d]  1 - LB, 17 fraction bits
                      *_proj.weight, lm_head.weight  uint8    trits, five in a byte (packing.pack_canonical)
                      *norm.weight             int32  [n]     gains, 22 bits; those of a matrix include the outer norm's
                      tokenizer.json           uint8

About 1.6 bits a ternary weight, 16 an embedding. ``program.py`` lays an image out for one ``HwConfig``. A digest stands
above every tensor and one above the metadata, so that a damaged file is refused before anything is computed with it;
shapes are compared with the config's before a tensor is read, so that what the reader allocates is bounded by the size
of the file, whatever its config claims.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from lutern.firmware.packing import canonical_bytes, gain_items, pack_canonical, unpack_canonical
from lutern.model_ref.checkpoint import write_atomically
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_MAX, MANTISSA_ONE, SCALAR_EXPONENT_BITS
from lutern.model_ref.norm import GAIN_EXPONENT_MAX, Gains, ScaleConstants
from lutern.model_ref.quantize import EMBEDDING_MANTISSA_MAX, EmbeddingTable, IntegerLayer, IntegerWeights, Matrix
from lutern.model_ref.tokenizer import MAX_TOKENIZER_BYTES

FORMAT, VERSION = "lutern-image", 1
EMBEDDINGS, LOWER_BOUNDS, TOKENIZER = "model.embeddings.weight", "model.lower_bounds", "tokenizer.json"
MAX_METADATA_BYTES = 1 << 22  # 256 layers need 0.4 MB
_MANTISSA_BITS = EMBEDDING_MANTISSA_MAX.bit_length() + 1

# Fields of IntegerLayer: the outer norm of each vector, and the matrices that it enters.
_VECTORS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "x_gains": ("attn_norm", ("attn.f_proj", "attn.i_proj", "attn.g_proj")),
    "v_gains": ("attn.g_norm", ("attn.o_proj",)),
    "y_gains": ("mlp_norm", ("mlp.gate_proj",)),
    "w_gains": (None, ("mlp.down_proj",)),
}
_FINAL: tuple[str, tuple[str, ...]] = ("model.norm", ("lm_head",))


@dataclass(frozen=True)
class Image:
    """What an image file holds. ``digest`` names the image: it covers every byte that matters."""

    weights: IntegerWeights
    tokenizer_json: str
    source: str
    digests: dict[str, str]
    digest: str


def write_image(path: str | Path, weights: IntegerWeights, tokenizer_json: str | bytes, source: str) -> str:
    """Write an image; the file appears whole or not at all. Returns its digest; equal inputs give equal files."""
    path = Path(path)
    text = tokenizer_json.encode() if isinstance(tokenizer_json, str) else tokenizer_json
    gains, matrices = _gains_of(weights), _matrices_of(weights)
    table = weights.embeddings
    tensors: dict[str, NDArray[Any]] = {
        EMBEDDINGS: (table.mantissa & (1 << _MANTISSA_BITS) - 1 | table.exponent << _MANTISSA_BITS).astype("<u2"),
        LOWER_BOUNDS: np.stack([layer.one_minus_lower_bound for layer in weights.layers]).astype("<i4"),
        TOKENIZER: np.frombuffer(text, dtype=np.uint8),
    }
    tensors |= {f"{name}.weight": gain_items(value).astype("<i4") for name, value in gains.items()}
    tensors |= {f"{name}.weight": pack_canonical(matrix.trits) for name, matrix in matrices.items()}
    body = {
        "format": FORMAT,
        "version": VERSION,
        "source": source,
        "config": weights.config.to_dict(),
        "config_digest": weights.config.digest,
        "h_frac_bits": weights.h_frac_bits,
        "embeddings_base": table.base,
        "vector_exponents": {name: value.vector_exponent for name, value in gains.items()},
        "matrices": {
            name: {"frac_bits": m.frac_bits, "k": m.scale.k, "e1": m.scale.e1, "e2": m.scale.e2}
            for name, m in matrices.items()
        },
        "digests": {name: _digest(tensor) for name, tensor in tensors.items()},
    }
    sealed = seal(body)
    try:
        write_atomically(path, safetensors_bytes(tensors, metadata={"lutern": sealed}))
    except OSError as error:
        raise LuternError(f"{path} cannot be written ({error.strerror}); choose a folder that exists.") from error
    return str(json.loads(sealed)["digest"])


def read_image(path: str | Path) -> Image:
    """Read an image; a file that is damaged, foreign or too new is refused in one sentence."""
    path = Path(path)
    if not path.is_file():
        raise LuternError(f"there is no image file {path}; write one from a checkpoint.")
    try:
        with safe_open(str(path), framework="numpy") as file:
            body, digest = _unseal((file.metadata() or {}).get("lutern", ""), path)
            config = ModelConfig.from_dict(_part(body, "config", dict, path))
            if config.digest != body.get("config_digest"):
                raise LuternError(f"{path}: the config is not the one that the image was written with; write it again.")
            tensors = _read_tensors(file, config, _part(body, "digests", dict, path), path)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise LuternError(f"{path} is truncated or no image file ({error}); fetch or write it again.") from error
    return Image(_Builder(path, config, body, tensors).weights(), _text(tensors[TOKENIZER], path),
                 _part(body, "source", str, path), dict(body["digests"]), digest)


def seal(body: Mapping[str, Any]) -> str:
    """Metadata as canonical JSON with the digest of everything else in it."""
    return json.dumps({"digest": hashlib.sha256(_canonical(body)).hexdigest(), **body}, sort_keys=True)


def _unseal(text: str, path: Path) -> tuple[dict[str, Any], str]:
    foreign = LuternError(f"{path} is no Lutern image; give a file that Lutern wrote from a checkpoint.")
    try:
        body = json.loads(text) if len(text) <= MAX_METADATA_BYTES else None
    except (ValueError, RecursionError):
        raise foreign from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise foreign
    if body.get("version") != VERSION:
        raise LuternError(
            f"{path} is an image of version {body.get('version')!r}, but this program reads version {VERSION}; "
            "write the image again."
        )
    digest = body.pop("digest", None)
    if digest != hashlib.sha256(_canonical(body)).hexdigest():
        raise LuternError(f"{path}: the digest of its metadata is wrong; fetch or write the image again.")
    return body, str(digest)


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _digest(tensor: NDArray[Any]) -> str:
    return hashlib.sha256(tensor.tobytes()).hexdigest()


def _shapes(config: ModelConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of every tensor except the tokenizer, whose length is its own."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in config.tensor_shapes.items():
        shapes[name] = ("I32", shape)
    for name, (rows, columns) in config.projections.items():
        shapes[f"{name}.weight"] = ("U8", (canonical_bytes(rows, columns),))
    shapes[EMBEDDINGS] = ("U16", (config.vocab_size, config.hidden_size))
    shapes[LOWER_BOUNDS] = ("I32", (config.num_hidden_layers, config.hidden_size))
    return shapes


def _read_tensors(file: Any, config: ModelConfig, digests: dict[str, Any], path: Path) -> dict[str, NDArray[Any]]:
    """All tensors, each read only after its type and shape are the config's, and compared with its digest."""
    shapes, present = _shapes(config), set(file.keys())
    if TOKENIZER in present:
        shapes[TOKENIZER] = ("U8", (min(sum(file.get_slice(TOKENIZER).get_shape()), MAX_TOKENIZER_BYTES),))
    if present != {*shapes, TOKENIZER}:
        name = sorted(present ^ {*shapes, TOKENIZER})[0]
        problem = "is there, but no tensor of this model" if name in present else "is missing"
        raise LuternError(f"{path}: {name} {problem}; fetch or write the image again.")
    tensors = {}
    for name, wanted in shapes.items():
        view = file.get_slice(name)
        got = view.get_dtype(), tuple(view.get_shape())
        if got != wanted:
            raise LuternError(
                f"{path}: {name} is {got[0]} {list(got[1])}, but must be {wanted[0]} {list(wanted[1])}; "
                "fetch or write the image again."
            )
        tensors[name] = file.get_tensor(name)
        if _digest(tensors[name]) != digests.get(name):
            raise LuternError(f"{path}: the digest of {name} is wrong; fetch or write the image again.")
    return tensors


def _text(data: NDArray[np.uint8], path: Path) -> str:
    try:
        return data.tobytes().decode()
    except UnicodeDecodeError:
        raise LuternError(f"{path}: {TOKENIZER} is not UTF-8; write the image again.") from None


def _part(body: Mapping[str, Any], name: str, kind: type, path: Path) -> Any:
    value = body.get(name)
    if type(value) is not kind:
        raise LuternError(f"{path}: the metadata's {name} is not as Lutern writes it; write the image again.")
    return value


def _gains_of(weights: IntegerWeights) -> dict[str, Gains]:
    """Every gain vector by its tensor's name without ``.weight``; a matrix's own is its ``norm``."""
    found: dict[str, Gains] = {}

    def add(prefix: str, names: tuple[str | None, tuple[str, ...]], gains: tuple[Gains | None, list[Gains]]) -> None:
        if names[0] is not None and gains[0] is not None:
            found[prefix + names[0]] = gains[0]
        found.update((f"{prefix}{name}.norm", value) for name, value in zip(names[1], gains[1], strict=True))

    for index, layer in enumerate(weights.layers):
        for field, names in _VECTORS.items():
            add(f"model.layers.{index}.", names, getattr(layer, field))
    add("", _FINAL, weights.final_gains)
    return found


def _matrices_of(weights: IntegerWeights) -> dict[str, Matrix]:
    found = {name: getattr(weights.layers[int(name.split(".")[2])], name.rsplit(".", 1)[-1])
             for name in weights.config.projections if name != "lm_head"}
    return {**found, "lm_head": weights.lm_head}


class _Builder:
    """Puts IntegerWeights together again; every number is checked against the range that Lutern writes."""

    def __init__(self, path: Path, config: ModelConfig, body: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        self.path, self.config, self.body, self.tensors = path, config, body, tensors
        self.vector_exponents = _part(body, "vector_exponents", dict, path)
        self.matrices = _part(body, "matrices", dict, path)

    def weights(self) -> IntegerWeights:
        layers = [self.layer(index) for index in range(self.config.num_hidden_layers)]
        h_frac_bits = self.integer(self.body, "h_frac_bits", -64, 63)
        outer, inner = self.vector("", _FINAL)
        assert outer is not None
        return IntegerWeights(self.config, self.embeddings(), h_frac_bits, layers, (outer, inner),
                              self.matrix("lm_head"))

    def layer(self, index: int) -> IntegerLayer:
        prefix = f"model.layers.{index}."
        fields: dict[str, Any] = {field: self.vector(prefix, names) for field, names in _VECTORS.items()}
        for _, names in _VECTORS.values():
            fields |= {name.rsplit(".", 1)[-1]: self.matrix(prefix + name) for name in names}
        bounds = self.tensors[LOWER_BOUNDS][index].astype(np.int64)
        self.check(bool(((bounds >= 0) & (bounds <= MANTISSA_MAX)).all()), LOWER_BOUNDS)
        return IntegerLayer(one_minus_lower_bound=bounds, **fields)

    def vector(self, prefix: str, names: tuple[str | None, tuple[str, ...]]) -> tuple[Gains | None, list[Gains]]:
        outer = None if names[0] is None else self.gains(prefix + names[0])
        return outer, [self.gains(f"{prefix}{name}.norm") for name in names[1]]

    def gains(self, name: str) -> Gains:
        items = self.tensors[f"{name}.weight"].astype(np.int64)
        exponent, low = items >> (MANTISSA_BITS + 1), items & (1 << (MANTISSA_BITS + 1)) - 1
        mantissa = low - (low >> MANTISSA_BITS << (MANTISSA_BITS + 1))
        size = np.abs(mantissa)
        normalised = (size >= MANTISSA_ONE) & (size <= MANTISSA_MAX) & (exponent >= 0) & (exponent <= GAIN_EXPONENT_MAX)
        self.check(bool((normalised | (items == 0)).all()), f"{name}.weight")
        return Gains(mantissa, exponent, self.integer(self.vector_exponents, name, -2048, 2047))

    def matrix(self, name: str) -> Matrix:
        rows, columns = self.config.projections[name]
        constants = _part(self.matrices, name, dict, self.path)
        trits = unpack_canonical(self.tensors[f"{name}.weight"], rows, columns, f"{self.path}: {name}.weight")
        scale = ScaleConstants(*(self.scalar(constants, field, name) for field in ("k", "e1", "e2")))
        return Matrix.build(trits, self.integer(constants, "frac_bits", -64, 63), scale, cut=name != "lm_head")

    def scalar(self, constants: dict[str, Any], field: str, name: str) -> tuple[int, int]:
        value = constants.get(field)
        self.check(isinstance(value, list) and len(value) == 2, f"{field} of {name}")
        parts = dict(zip(("mantissa", "exponent"), value or (), strict=True))
        mantissa = self.integer(parts, "mantissa", 0, MANTISSA_MAX)
        self.check(mantissa == 0 or mantissa >= MANTISSA_ONE, f"{field} of {name}")
        limit = 1 << (SCALAR_EXPONENT_BITS - 1)
        return mantissa, self.integer(parts, "exponent", -limit, limit - 1)

    def embeddings(self) -> EmbeddingTable:
        codes = self.tensors[EMBEDDINGS].astype(np.int64)
        low = codes & (1 << _MANTISSA_BITS) - 1
        mantissa = low - (low >> (_MANTISSA_BITS - 1) << _MANTISSA_BITS)
        self.check(bool((mantissa >= -EMBEDDING_MANTISSA_MAX).all()), EMBEDDINGS)
        base = self.integer(self.body, "embeddings_base", -2048, 2047)
        return EmbeddingTable(mantissa, codes >> _MANTISSA_BITS, base)

    def integer(self, values: Mapping[str, Any], name: str, low: int, high: int) -> int:
        value = _part(values, name, int, self.path)
        self.check(low <= value <= high, name)
        return int(value)

    def check(self, right: bool, what: str) -> None:
        if not right:
            raise LuternError(f"{self.path}: {what} holds a number that Lutern never writes; write the image again.")


__all__ = ["FORMAT", "VERSION", "Image", "read_image", "seal", "write_image"]
