"""Lists the keys of a ``config.json``, and checks that no key describes a network that Lutern does not support.

    key ─┬─ in _READ     ─► ``ModelConfig`` reads the value
         ├─ in BUILT     ─► refused, unless the value is a value that Lutern supports
         ├─ in HARMLESS  ─► ignored: training, text, bookkeeping
         └─ any other    ─► refused

An unknown key is refused and not ignored, because it may change what is computed. Error messages name the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lutern.model_ref.errors import LuternError, named, quoted

MODEL_TYPE = "hgrn_bit"
EPS_NAMES = ("rms_norm_eps", "norm_eps")
"""The two names of the eps of norms, the older name first."""
EPS_RANGE = 1e-12, 1e-2
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers")
_READ = frozenset((*SIZES, *EPS_NAMES, "intermediate_size", "hidden_ratio", "use_lower_bound"))

ABSENT = object()
BUILT: dict[str, tuple[tuple[Any, ...], Any]] = {
    "model_type": ((MODEL_TYPE,), None),
    "num_heads": ((1, None), 1),
    "expand_ratio": ((1, None), 1),
    "use_short_conv": ((False, None), False),
    "hidden_act": (("swish", "silu"), "swish"),
    "tie_word_embeddings": ((False, None), False),
    "attn_mode": (("fused_recurrent", "recurrent", "chunk", "fused_chunk", "parallel", None), "fused_recurrent"),
    "elementwise_affine": ((True, None), ABSENT),
    "use_output_gate": ((True, None), ABSENT),
    "use_moe": ((False, None), ABSENT),
    "num_experts": ((None, 0, 1), ABSENT),
    "attn": ((None, {}, []), ABSENT),
    "quantization_config": ((None, {}), ABSENT),
    "compression_config": ((None, {}), ABSENT),
    "conv_bias": ((False, None), ABSENT),
    "bias": ((False, None), ABSENT),
    "use_bias": ((False, None), ABSENT),
    "rope_scaling": ((None, {}), ABSENT),
    "pruned_heads": ((None, {}), ABSENT),
    "chunk_size_feed_forward": ((0, None), ABSENT),
    "is_encoder_decoder": ((False, None), ABSENT),
    "add_cross_attention": ((False, None), ABSENT),
    "cross_attention_hidden_size": ((None,), ABSENT),
    "tie_encoder_decoder": ((False, None), ABSENT),
}
"""Options that may describe a different network. Each option has the values that Lutern supports, and the value that
the published code uses if the key is absent (``ABSENT``: the published code does not have this key)."""

TRAINING = frozenset(
    """
    initializer_range use_cache gradient_checkpointing fuse_cross_entropy fuse_linear_cross_entropy fuse_norm
    fuse_swiglu use_l2warp max_position_embeddings conv_size share_conv_kernel loss_type
    """.split()
)
"""Keys for training, for the convolution (which is not used) and for positions (which a recurrence does not need)."""
TEXT = frozenset(
    """
    bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id decoder_start_token_id
    forced_bos_token_id forced_eos_token_id tokenizer_class prefix max_length max_new_tokens min_length do_sample
    early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p min_p typical_p
    repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences exponential_decay_length_penalty suppress_tokens begin_suppress_tokens remove_invalid_values
    chat_template
    """.split()
)
"""Keys for text and sampling, which do not change the network."""
BOOKKEEPING = frozenset(
    """
    architectures auto_map torch_dtype dtype transformers_version _name_or_path name_or_path _commit_hash
    _attn_implementation attn_implementation _attn_implementation_autoset _attn_implementation_internal
    _from_model_config
    return_dict return_dict_in_generate output_hidden_states output_attentions output_scores torchscript use_bfloat16
    tf_legacy_loss is_decoder finetuning_task id2label label2id num_labels task_specific_params problem_type
    custom_pipelines model_name license unsloth_version unsloth_fixed
    """.split()
)
"""Keys that describe where the checkpoint comes from, and how the training library returns its results."""
HARMLESS = TRAINING | TEXT | BOOKKEEPING

MOST_NAMED = 4


def check_keys(values: Mapping[str, Any]) -> None:
    """Refuse every key that describes a different network, and every unknown key."""
    for name, (built, default) in BUILT.items():
        value = values.get(name, default)
        if value is not ABSENT and not any(_means(value, one) for one in built):
            wanted = " or ".join(repr(one) for one in built if one is not None) or "null"
            raise LuternError(
                f"config: {name} is {quoted(value)}, but only {wanted} is built; choose a checkpoint without that "
                "option."
            )
    unknown = [name for name in values if name not in _READ | HARMLESS and name not in BUILT]
    if "use_moe" in values:  # some programs write all options of experts, even if no experts are used
        unknown = [name for name in unknown if not name.startswith("moe_")]
    if unknown:
        listed = ", ".join(f"{named(name)} ({quoted(values[name])})" for name in unknown[:MOST_NAMED])
        more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
        raise LuternError(
            f"config: {listed}{more}: Lutern does not know this, so it may mean another network; choose a checkpoint "
            "without it, or take it out of config.json if it changes nothing that is computed."
        )


def eps_of(values: Mapping[str, Any], default: float) -> float:
    """Return the eps of norms, which may have either of two names."""
    given = {name: values[name] for name in EPS_NAMES if values.get(name) is not None}
    low, high = EPS_RANGE
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise LuternError(f"config: {name} is {quoted(value)}, but must be a number from {low:g} to {high:g}.")
    if len(set(given.values())) > 1:
        both = " and ".join(f"{name} {quoted(value)}" for name, value in given.items())
        raise LuternError(f"config: {both} are two names of one constant; keep the value that was used in training.")
    return float(next(iter(given.values()), default))


def assumptions(values: Mapping[str, Any], intermediate_size: int, default_eps: float) -> tuple[str, ...]:
    """Return sentences that say which values are missing in a config, what Lutern assumes for these values, and which
    keys are ignored."""
    found = []
    if values.get("intermediate_size") is None:
        found.append(f"intermediate_size {intermediate_size}, by the published rule from hidden_size and hidden_ratio")
    absent = [f"{name} {quoted(default)}" for name, (_, default) in BUILT.items() if default is not ABSENT]
    absent = [text for text in absent if text.split()[0] not in values]
    if "use_lower_bound" not in values:
        absent.append("use_lower_bound True")
    if all(values.get(name) is None for name in EPS_NAMES):
        absent.append(f"{EPS_NAMES[0]} {default_eps!r}")
    if absent:
        found.append(f"not in the config, so as the published code has it: {', '.join(absent)}")
    harmless = [named(name) for name in values if name in HARMLESS or name.startswith("moe_")]
    if harmless:
        found.append(f"keys of the config that do not change the network: {', '.join(sorted(harmless))}")
    return tuple(found)


def _means(value: Any, built: Any) -> bool:
    """Return whether a value in the file equals a supported value. 1.0 equals 1, and 0 equals False, but True does not
    equal 1."""
    if isinstance(built, bool):
        return type(value) in (bool, int) and value == built
    if isinstance(built, int):
        return type(value) in (int, float) and value == built
    return type(value) is type(built) and value == built


__all__ = ["BUILT", "EPS_NAMES", "EPS_RANGE", "HARMLESS", "MODEL_TYPE", "SIZES", "assumptions", "check_keys", "eps_of"]
