"""Finds the model's tensors among the stored tensors, removes prefixes of training tools from the names, and refuses
tensors that the model does not use.

stored names ─► remove the common prefix ─► remove wrappers inside names ─┬─► tensors of the model
                                                                          ├─► harmless tensors, not used
                                                                          └─► other tensors, refused
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lutern.model_ref.errors import LuternError, named

ANCHORS = ("lm_head.weight", "model.embeddings.weight", "model.norm.weight")
"""Tensors that every model has. The text before their names is the prefix."""
SEPARATORS = (".", "/", ":")
MOST_PREFIXES = 16
WRAPPERS = frozenset(("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module", "module"))
"""Modules that training tools wrap around other modules, so that these names may appear anywhere in a tensor's name. No
name in the published format contains such a part."""
HARMLESS = re.compile(
    r"(?:.*\.)?(?:rotary_emb\.(?:inv_freq|cos_cached|sin_cached)|inv_freq|position_ids|_extra_state|_float_tensor)"
)
"""The names of constants and buffers that other programs compute or store. No weight has such a name."""
MOST_NAMED = 4
MERGE = "merge the adapter (PEFT's merge_and_unload) and save the model again"
_KINDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (r"lora_|\.base_layer\.|modules_to_save|adapter", "an adapter that is not merged into the weights"),
        (r"optim|exp_avg|adam|momentum_buffer|master_param", "state of an optimizer"),
        (r"conv", "a convolution"),
        (r"expert|router|\bmoe\b", "a mixture of experts"),
        (r"qweight|qzeros|g_idx|quant_state|absmax|weight_scale|\.scb$|\.scales?$", "a quantised format"),
        (r"lower_bound", "a lower bound, which config.json switches off"),
        (r"\bema\b|shadow", "an average of the weights"),
        (r"bias$", "a bias"),
    )
)


@dataclass(frozen=True)
class Naming:
    """The stored names of a model's tensors.

    ``places``: the stored name of each tensor of the model that was found. ``prefix``: the beginning of all stored
    names. ``wrappers``: modules of training tools in stored names. ``harmless``: the names of stored tensors that are
    not needed. ``left_over``: the error message for all other stored tensors, empty if there are no others.
    """

    places: Mapping[str, str]
    prefix: str
    wrappers: tuple[str, ...]
    harmless: tuple[str, ...]
    left_over: str

    @property
    def notes(self) -> list[str]:
        """Sentences that say which prefixes and wrappers were removed from the names."""
        found = []
        if self.prefix:
            found.append(f"all tensor names begin with {named(self.prefix)}, which is taken off")
        if self.wrappers:
            found.append(f"tensor names contain {', '.join(self.wrappers)} of a training tool, which is taken out")
        return found

    @property
    def unused(self) -> list[str]:
        """At most one sentence, which says how many buffers are not used."""
        count = len(self.harmless)
        what = "stored tensors are buffers" if count != 1 else "stored tensor is a buffer"
        return [f"{count} {what} that no weight depends on: {named(self.harmless[0])}"] if count else []


def find_names(stored: Iterable[str], wanted: Iterable[str], layers: int, where: str) -> Naming:
    """Match the stored names with the names of the model. Raises ``LuternError`` for an adapter, because an adapter
    renames the model's tensors.

    ``where`` is the name of the file or folder in error messages.
    """
    names, wanted = list(stored), list(wanted)
    plain = {name: name for name in names}
    prefix = _prefix(plain, wanted, where)
    wrappers: tuple[str, ...] = ()
    if any(prefix + name not in plain for name in wanted):
        without = _without_wrappers(names, where)
        other = _prefix(without, wanted, where)
        if sum(other + name in without for name in wanted) > sum(prefix + name in plain for name in wanted):
            plain, prefix = without, other
            found = {part for name in names for part in _parts(name) if part in WRAPPERS}
            wrappers = tuple(sorted(found))
    places = {name: plain[prefix + name] for name in wanted if prefix + name in plain}
    used = set(places.values())
    rest = [name for name in names if name not in used]
    harmless = tuple(name for name in rest if HARMLESS.fullmatch(name))
    refused = [name for name in rest if not HARMLESS.fullmatch(name)]
    left_over = _left_over(refused, layers, where) if refused else ""
    if MERGE in left_over:
        raise LuternError(left_over)
    return Naming(places, prefix, wrappers, harmless, left_over)


def _prefix(names: Mapping[str, str], wanted: list[str], where: str) -> str:
    """Return the prefix with which most of the model's names are stored."""
    found = [""]
    for anchor in ANCHORS:
        ends = (name[: -len(anchor)] for name in names if name.endswith(anchor))
        found += [text for text in ends if text.endswith(SEPARATORS)]
    candidates = sorted(set(found), key=lambda text: (len(text), text))[:MOST_PREFIXES]
    counts = {text: sum(text + name in names for name in wanted) for text in candidates}
    whole = [text for text in candidates if counts[text] == len(wanted)]
    if len(whole) > 1:
        listed = " and ".join(named(text) or "no prefix" for text in whole[:2])
        raise LuternError(f"{where} has the whole model twice, under {listed}; keep only one.")
    return max(candidates, key=lambda text: counts[text])


def _parts(name: str) -> list[str]:
    return name.split(".")


def _without_wrappers(names: list[str], where: str) -> dict[str, str]:
    """Return the stored names, by their names without the wrappers of training tools."""
    found: dict[str, str] = {}
    for name in names:
        short = ".".join(part for part in _parts(name) if part not in WRAPPERS)
        if short in found:
            raise LuternError(
                f"{where} has {named(short)} twice, as {named(found[short])} and {named(name)}; keep only one."
            )
        found[short] = name
    return found


def _left_over(names: list[str], layers: int, where: str) -> str:
    """Return the error message for stored tensors that the network does not use."""
    kinds = [_kind(name, layers) for name in names]
    order = sorted(range(len(names)), key=lambda index: not kinds[index])  # tensors of a known kind come first
    listed = ", ".join(
        named(names[index]) + (f" ({kinds[index]})" if kinds[index] else "") for index in order[:MOST_NAMED]
    )
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    mend = "give the checkpoint of the network that config.json describes"
    if any("adapter" in kind for kind in kinds):
        mend = MERGE
    elif any("layer" in kind for kind in kinds):
        mend = "correct num_hidden_layers in config.json, or restore the file"
    return f"{where} has tensors that the network of config.json does not use: {listed}{more}; {mend}."


def _kind(name: str, layers: int) -> str:
    """Return the kind of a tensor that the network does not use, or "" if the name does not show the kind."""
    for pattern, what in _KINDS:
        if pattern.search(name):
            return what
    index = re.search(r"layers\.(\d{1,6})\.", name)
    if index and int(index[1]) >= layers:
        return f"a layer beyond the {layers} of config.json"
    return ""


__all__ = ["HARMLESS", "WRAPPERS", "Naming", "find_names"]
