"""Keys of a config.json: each is read, ignored as harmless, or refused with its name."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.model_ref.config import NORM_EPS, ModelConfig
from lutern.model_ref.config_keys import BUILT, EPS_NAMES, HARMLESS, SIZES
from lutern.model_ref.errors import LuternError

TINY = Path(__file__).parents[1] / "data" / "tiny" / "config.json"
RELEASED: dict[str, Any] = {
    "_name_or_path": "x/y",
    "architectures": ["HGRNBitForCausalLM"],
    "attn_mode": "fused_recurrent",
    "bos_token_id": 1,
    "conv_size": 4,
    "eos_token_id": [2, 3],
    "expand_ratio": 1,
    "fuse_cross_entropy": True,
    "hidden_act": "swish",
    "hidden_ratio": 4,
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": None,
    "max_position_embeddings": 2048,
    "model_type": "hgrn_bit",
    "num_heads": 1,
    "num_hidden_layers": 1,
    "share_conv_kernel": True,
    "tie_word_embeddings": False,
    "transformers_version": "4.42.3",
    "use_cache": True,
    "use_lower_bound": True,
    "use_short_conv": False,
    "vocab_size": 332,
}
"""Keys of the released checkpoints, with other sizes and without the eps of the norms."""
fast = settings(derandomize=True, database=None, deadline=None, max_examples=200)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(LuternError) as caught:
        ModelConfig.from_dict(values)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 1000, text
    return text


@pytest.mark.parametrize("name", EPS_NAMES)
def test_both_names_of_the_eps_are_read(name: str) -> None:
    assert ModelConfig.from_dict(RELEASED).rms_norm_eps == NORM_EPS
    config = ModelConfig.from_dict({**RELEASED, name: 1e-5})
    assert config.rms_norm_eps == 1e-5
    assert config.digest != ModelConfig.from_dict(RELEASED).digest
    assert ModelConfig.from_dict(config.to_dict()) == config  # as in an image
    assert ModelConfig.from_dict({**RELEASED, name: None}).rms_norm_eps == NORM_EPS
    for wrong in (0, -1e-6, 0.5, "1e-6", float("nan"), [1e-6], True):
        assert refusal({**RELEASED, name: wrong}).startswith(f"config: {name} is {wrong!r}, but must be a number")


def test_both_names_of_the_eps_must_agree() -> None:
    assert ModelConfig.from_dict({**RELEASED, "norm_eps": 1e-5, "rms_norm_eps": 1e-5}).rms_norm_eps == 1e-5
    text = refusal({**RELEASED, "norm_eps": 1e-5, "rms_norm_eps": 1e-6})
    assert "rms_norm_eps 1e-06 and norm_eps 1e-05 are two names of one constant" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_moe", True),
        ("attn", {"layers": [1], "num_heads": 4}),
        ("elementwise_affine", False),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("use_output_gate", False),
        ("tie_word_embeddings", True),
        ("num_heads", 4),
        ("num_heads", True),
        ("expand_ratio", 2.0),
        ("attn_mode", "softmax"),
        ("is_encoder_decoder", True),
        ("rope_scaling", {"type": "linear"}),
        ("num_experts", 8),
    ],
)
def test_other_networks_are_refused_by_name(name: str, value: Any) -> None:
    assert refusal({**RELEASED, name: value}).startswith(f"config: {name} is {value!r}, but only ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expand_ratio", 1.0),
        ("expand_ratio", None),
        ("num_heads", None),
        ("num_heads", 1.0),
        ("use_short_conv", None),
        ("tie_word_embeddings", None),
        ("hidden_act", "silu"),
        ("elementwise_affine", True),
        ("use_output_gate", True),
        ("attn", None),
        ("quantization_config", None),
        ("use_moe", False),
        ("attn_mode", "chunk"),
    ],
)
def test_values_of_the_supported_network_pass(name: str, value: Any) -> None:
    assert ModelConfig.from_dict({**RELEASED, name: value}) == ModelConfig.from_dict(RELEASED)


def test_options_of_experts_that_are_not_used() -> None:
    unused = {"moe_num_experts": 4, "moe_router_bias": False}
    assert ModelConfig.from_dict({**RELEASED, "use_moe": False, **unused}) == ModelConfig.from_dict(RELEASED)
    text = refusal({**RELEASED, **unused})
    assert "moe_num_experts (4), moe_router_bias (False): Lutern does not know this" in text


@fast
@given(name=st.text(min_size=1, max_size=20), value=json_values)
def test_unknown_keys_are_refused_by_name(name: str, value: Any) -> None:
    if (
        name in HARMLESS
        or name in BUILT
        or name in ModelConfig.__dataclass_fields__
        or name in (*EPS_NAMES, "hidden_ratio")
    ):
        return
    text = refusal({**RELEASED, name: value})
    assert "Lutern does not know this" in text and (name if name.isprintable() else ascii(name)) in text


@fast
@given(values=st.dictionaries(st.sampled_from(sorted(HARMLESS)), json_values, max_size=8))
def test_harmless_keys_pass_with_any_value(values: dict[str, Any]) -> None:
    assert ModelConfig.from_dict({**RELEASED, **values}) == ModelConfig.from_dict(RELEASED)


@fast
@given(name=st.sampled_from(sorted(BUILT)), value=json_values)
def test_options_with_other_values_are_refused_by_name(name: str, value: Any) -> None:
    values = {**RELEASED, name: value}
    if value is None or value in (0, 1, {}, []) or isinstance(value, str):
        return  # some of these values are supported: see above
    assert refusal(values).startswith(f"config: {name} is ")


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-8"),
    ],
)
def test_byte_order_marks_and_line_ends(tmp_path: Path, mark: bytes, encoding: str) -> None:
    for line_end in ("\n", "\r\n", "\r"):
        text = json.dumps(RELEASED, indent=2).replace("\n", line_end)
        path = tmp_path / "config.json"
        path.write_bytes(mark + text.encode(encoding))
        assert ModelConfig.from_json(path) == ModelConfig.from_dict(RELEASED)


def test_a_key_with_two_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    text = json.dumps(RELEASED)
    path.write_text(text[:-1] + ', "hidden_size": 64}')
    assert ModelConfig.from_json(path).hidden_size == 64
    path.write_text(text[:-1] + ', "hidden_size": 128}')
    with pytest.raises(LuternError, match="not valid JSON"):
        ModelConfig.from_json(path)


def test_assumptions_list_missing_keys() -> None:
    values = {name: RELEASED[name] for name in (*SIZES, "model_type")}
    config = ModelConfig.from_dict(values)
    found = " ".join(config.assumptions(values))
    assert "intermediate_size 256, by the published rule" in found
    for name in ("num_heads 1", "hidden_act 'swish'", "use_lower_bound True", "rms_norm_eps 1e-06"):
        assert name in found
    assert ModelConfig.from_json(TINY).assumptions({**config.to_dict(), "torch_dtype": "float32"}) == (
        "keys of the config that do not change the network: architectures, torch_dtype",
    )
