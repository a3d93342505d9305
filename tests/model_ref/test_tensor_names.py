"""Names of stored tensors: prefixes are removed, and an unused tensor is ignored as harmless or refused by its name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.tensor_names import HARMLESS, WRAPPERS, Naming, find_names

CONFIG = ModelConfig(vocab_size=7, hidden_size=4, num_hidden_layers=2, intermediate_size=6)
NAMES = list(CONFIG.tensor_shapes)
fast = settings(derandomize=True, database=None, deadline=None, max_examples=150)


def found(stored: list[str]) -> Naming:
    naming = find_names(stored, NAMES, CONFIG.num_hidden_layers, "file")
    if naming.left_over:
        raise LuternError(naming.left_over)
    return naming


def refusal(stored: list[str]) -> str:
    with pytest.raises(LuternError) as caught:
        found(stored)
    text = str(caught.value)
    assert text.endswith(".") and text.isprintable() and len(text) < 1000, text
    return text


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "_orig_mod.",
        "module.",
        "transformer.",
        "base_model.model.",
        "model.",
        "module._orig_mod.",
        "_forward_module.",
    ],
)
def test_prefixes_of_training_tools(prefix: str) -> None:
    naming = found([prefix + name for name in NAMES])
    assert naming.places == {name: prefix + name for name in NAMES} and naming.prefix == prefix
    assert naming.notes == ([f"all tensor names begin with {prefix}, which is taken off"] if prefix else [])


@fast
@given(
    parts=st.lists(st.text(st.characters(codec="ascii", exclude_characters="\n"), min_size=1, max_size=8), max_size=3)
)
def test_any_prefix_of_all_names_is_taken_off(parts: list[str]) -> None:
    prefix = "".join(f"{part}." for part in parts)
    naming = found([prefix + name for name in NAMES])
    assert naming.places == {name: prefix + name for name in NAMES}
    assert bool(naming.notes) == bool(prefix)


@fast
@given(data=st.data())
def test_wrappers_inside_names_are_taken_out(data: st.DataObject) -> None:
    wrappers = st.lists(st.sampled_from(sorted(WRAPPERS)), max_size=2)
    stored = {}
    for name in NAMES:
        parts: list[str] = []
        for part in name.split("."):
            parts += [*data.draw(wrappers), part]
        stored[name] = ".".join(parts)
    naming = found(list(stored.values()))
    assert naming.places == stored
    assert bool(naming.notes) == (set(stored.values()) != set(NAMES))


@pytest.mark.parametrize(
    "extra",
    [
        "model.rotary_emb.inv_freq",
        "model.layers.0.attn.rotary_emb.inv_freq",
        "model.layers.1.attn.rotary_emb.cos_cached",
        "model.position_ids",
        "position_ids",
        "model.layers.0.mlp.gate_proj._extra_state",
        "lm_head._extra_state",
    ],
)
def test_harmless_tensors_pass(extra: str) -> None:
    for prefix in ("", "module."):
        naming = found([prefix + name for name in (*NAMES, extra)])
        assert naming.harmless == (prefix + extra,) and set(naming.places) == set(NAMES)
        assert naming.unused == [f"1 stored tensor is a buffer that no weight depends on: {prefix + extra}"]


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("lm_head.bias", "a bias"),
        ("model.layers.0.attn.i_proj.bias", "a bias"),
        ("model.norm.bias", "a bias"),
        ("model.layers.0.attn.i_proj.lora_A.weight", "an adapter"),
        ("model.layers.0.attn.i_proj.lora_B.default.weight", "an adapter"),
        ("model.layers.0.attn.h_conv1d.weight", "a convolution"),
        ("model.layers.2.attn_norm.weight", "a layer beyond the 2 of config.json"),
        ("model.layers.10.attn.i_proj.weight", "a layer beyond the 2 of config.json"),
        ("optimizer.state.0.exp_avg", "state of an optimizer"),
        ("model.layers.0.mlp.experts.3.gate_proj.weight", "a mixture of experts"),
        ("model.layers.0.attn.i_proj.weight_scale", "a quantised format"),
        ("ema.lm_head.weight", "an average of the weights"),
        ("model.layers.0.attn.q_proj.weight", ""),
    ],
)
def test_tensors_that_nothing_uses_are_refused_by_name(extra: str, what: str) -> None:
    text = refusal([*NAMES, extra])
    assert f"{extra} ({what}" in text if what else f"{extra};" in text


def test_many_tensors_are_counted() -> None:
    text = refusal([*NAMES, *(f"model.layers.0.attn.x{index}.weight" for index in range(10))])
    assert "attn.x3.weight and 6 more;" in text
    only_layers = ModelConfig(7, 4, 1, 6)
    text = find_names(NAMES, list(only_layers.tensor_shapes), 1, "file").left_over
    assert "(a layer beyond the 1 of config.json)" in text and "correct num_hidden_layers in config.json" in text


@fast
@given(extra=st.text(min_size=1, max_size=30))
def test_any_other_tensor_is_refused_by_name_or_harmless(extra: str) -> None:
    if extra in NAMES:
        return
    if HARMLESS.fullmatch(extra):
        assert found([*NAMES, extra]).harmless == (extra,)
    else:
        assert (extra if extra.isprintable() else ascii(extra)) in refusal([*NAMES, extra])


def test_two_models_in_one_file_are_refused() -> None:
    assert "the whole model twice, under student. and teacher.;" in refusal(
        [prefix + name for prefix in ("teacher.", "student.") for name in NAMES]
    )
    assert "twice, under no prefix and ema.;" in refusal([prefix + name for prefix in ("", "ema.") for name in NAMES])


def test_missing_tensors_are_left_to_the_caller() -> None:
    naming = found(["module." + name for name in NAMES if name != "lm_head.weight"])
    assert naming.prefix == "module." and set(NAMES) - set(naming.places) == {"lm_head.weight"}
