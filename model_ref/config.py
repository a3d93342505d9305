"""Defines the shape of a MatMul-free language model (arXiv 2406.02528, section 3).

``ModelConfig`` reads and writes the ``config.json`` of the published checkpoints (``model_type`` ``hgrn_bit``).
``ModelConfig`` refuses every option that would change the network in a way that Lutern does not support, and every key
that ``config_keys.py`` does not contain. The error message names the option or the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutern.model_ref.config_keys import MODEL_TYPE, SIZES, assumptions, check_keys, eps_of
from lutern.model_ref.errors import LuternError, quoted
from lutern.model_ref.file_kinds import read_json

NORM_EPS = 1e-6
"""The eps of the norms inside the BitLinear layers, and the default of all other norms. The published kernel uses 1e-6,
although its class states 1e-8."""

# Limits that protect against a hostile config. The largest published model has d 2560, m 6912, L 32, V 32000.
MAX_VOCAB_SIZE = 1 << 18
MAX_HIDDEN_SIZE = 1 << 14
MAX_INTERMEDIATE_SIZE = 1 << 16
MAX_LAYERS = 256
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the network.

    Parameters
    ----------
    vocab_size: V, number of tokens that the model knows.
    hidden_size: d, number of channels of the residual stream and of each layer's recurrent state.
    num_hidden_layers: L, number of layers. A layer has one token mixer (MLGRU) and one channel mixer (GLU).
    intermediate_size: m, number of channels inside the channel mixer.
    use_lower_bound: whether all layers except the first have a learned lower bound of the forget gate.
    rms_norm_eps: the eps of every norm, except the norms inside the BitLinear layers, whose eps is ``NORM_EPS``.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    use_lower_bound: bool = True
    rms_norm_eps: float = NORM_EPS

    def __post_init__(self) -> None:
        for name, largest in (
            ("vocab_size", MAX_VOCAB_SIZE),
            ("hidden_size", MAX_HIDDEN_SIZE),
            ("num_hidden_layers", MAX_LAYERS),
            ("intermediate_size", MAX_INTERMEDIATE_SIZE),
        ):
            value = getattr(self, name)
            if not _is_int(value) or not 1 <= value <= largest:
                raise LuternError(f"config: {name} is {quoted(value)}, but must be an integer from 1 to {largest}.")
        if not isinstance(self.use_lower_bound, bool):
            raise LuternError(f"config: use_lower_bound is {quoted(self.use_lower_bound)}, but must be true or false.")
        eps_of({"rms_norm_eps": self.rms_norm_eps}, NORM_EPS)

    @classmethod
    def from_json(cls, path: str | Path) -> ModelConfig:
        """Read a ``config.json`` of the published format."""
        return cls.from_dict(read_values(Path(path)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Return the config of the published keys. Raises ``LuternError`` for every option of a different network."""
        check_keys(values)
        for name in SIZES:
            if name not in values:
                raise LuternError(f"config: {name} is missing; add it to config.json.")
        intermediate_size = values.get("intermediate_size")
        if intermediate_size is None:
            intermediate_size = _default_intermediate_size(values["hidden_size"], values.get("hidden_ratio"))
        return cls(
            vocab_size=values["vocab_size"],
            hidden_size=values["hidden_size"],
            num_hidden_layers=values["num_hidden_layers"],
            intermediate_size=intermediate_size,
            use_lower_bound=values.get("use_lower_bound", True),
            rms_norm_eps=eps_of(values, NORM_EPS),
        )

    def assumptions(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return one sentence for each question that the given keys do not answer."""
        return assumptions(values, self.intermediate_size, NORM_EPS)

    def to_dict(self) -> dict[str, Any]:
        """Return the published keys that the published implementation needs to load the checkpoint."""
        return {
            "architectures": ["HGRNBitForCausalLM"],
            "model_type": MODEL_TYPE,
            "attn_mode": "fused_recurrent",
            "num_heads": 1,
            "expand_ratio": 1,
            "use_short_conv": False,
            "hidden_act": "swish",
            "tie_word_embeddings": False,
            "hidden_ratio": 4,
            **asdict(self),
        }

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The shape (rows, columns) of every ternary matrix, by its tensor name without ``.weight``.

        ``firmware.schedule.operations`` defines the order in which a token reads the matrices.
        """
        d, m = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, int]] = {}
        for layer in range(self.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            for name in "ifgo":
                shapes[f"{prefix}attn.{name}_proj"] = (d, d)
            shapes[f"{prefix}mlp.gate_proj"] = (2 * m, d)
            shapes[f"{prefix}mlp.down_proj"] = (d, m)
        shapes["lm_head"] = (self.vocab_size, d)
        return shapes

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor of the checkpoint, by its published name."""
        d, layers = self.hidden_size, self.num_hidden_layers
        shapes: dict[str, tuple[int, ...]] = {"model.embeddings.weight": (self.vocab_size, d)}
        if self.use_lower_bound:
            shapes["model.lower_bounds"] = (layers, d)
        for layer in range(layers):
            for name in ("attn_norm", "attn.g_norm", "mlp_norm"):
                shapes[f"model.layers.{layer}.{name}.weight"] = (d,)
        for name, (rows, columns) in self.projections.items():
            shapes[f"{name}.weight"] = (rows, columns)
            shapes[f"{name}.norm.weight"] = (columns,)
        shapes["model.norm.weight"] = (d,)
        return shapes

    @property
    def trits(self) -> int:
        """The number of ternary weights of the whole model, including lm_head. The embedding table is not ternary."""
        return sum(rows * columns for rows, columns in self.projections.values())

    @property
    def digest(self) -> str:
        """The SHA-256 of the shape in canonical JSON, in hexadecimal. Different configs have different digests."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def read_values(path: Path) -> dict[str, Any]:
    """Return the keys of a ``config.json``. Raises ``LuternError`` if the file is not a JSON object."""
    try:
        values = read_json(path, MAX_CONFIG_BYTES, "model config")
    except OSError as error:
        raise LuternError(
            f"{path} cannot be read ({error.strerror}); a checkpoint folder needs a config.json."
        ) from error
    except (ValueError, RecursionError) as error:
        twice = f" ({error})" if type(error) is ValueError else ""
        raise LuternError(f"{path} is not valid JSON{twice}; restore the config.json of the checkpoint.") from error
    if not isinstance(values, dict):
        raise LuternError(f"{path} holds no JSON object; restore the config.json of the checkpoint.")
    return values


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _default_intermediate_size(hidden_size: Any, hidden_ratio: Any) -> int:
    """Return m by the published rule: int(d * hidden_ratio * 2 / 3), rounded up to a multiple of 256."""
    ratio = 4 if hidden_ratio is None else hidden_ratio
    if not _is_int(hidden_size) or not 1 <= hidden_size <= MAX_HIDDEN_SIZE:
        raise LuternError(
            f"config: hidden_size is {quoted(hidden_size)}, but must be an integer from 1 to {MAX_HIDDEN_SIZE}."
        )
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 64:
        raise LuternError(f"config: hidden_ratio is {quoted(ratio)}, but must be a number above 0 and at most 64.")
    return -(-int(hidden_size * ratio * 2 / 3) // 256) * 256
