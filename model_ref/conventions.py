"""Reads the text conventions of a checkpoint: how a text begins and ends, how tokens are sampled, how a chat is
written.

    bos, eos             the first value in: generation_config.json, config.json, tokenizer_config.json,
                         special_tokens_map.json, published defaults
    sampling, stops      generation_config.json
    special tokens, add_bos_token, add_eos_token    tokenizer_config.json; its names of special tokens have priority
                                                    over special_tokens_map.json
    chat template        chat_template.jinja, else chat_template.json, else tokenizer_config.json

The published code reads the same files. An image stores these conventions, and the tokenizer after the changes that
these files require. So an image writes the same text as its checkpoint.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import pre_tokenizers, processors

from lutern.model_ref.errors import LuternError, quoted, reason_of
from lutern.model_ref.file_kinds import refuse_foreign
from lutern.model_ref.input_files import read_plain
from lutern.model_ref.text import decode_text, read_json

GENERATION_FILE, TOKENIZER_CONFIG_FILE, SPECIAL_FILE = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
TEMPLATE_FILE, TEMPLATE_JSON_FILE = "chat_template.jinja", "chat_template.json"
MAX_JSON_BYTES = 1 << 20
MAX_TOKENIZER_CONFIG_BYTES = 1 << 24  # tokenizer_config.json may list every added token
MAX_TEMPLATE_CHARACTERS = 1 << 18
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
PUBLISHED_BOS, PUBLISHED_EOS = 1, 2  # defaults of the published config class if config.json lacks these keys
BOS_NAMES = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>")
EOS_NAMES = ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>")
LLAMA_CLASSES = ("Llama", "CodeLlama", "Gemma")  # tokenizer classes that write the post-processor themselves
LARGEST = 1e9
"""The largest number that generation_config.json may contain."""

_SAMPLING: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: value >= 0, "a number from 0 to 1e9"),
    "top_k": (lambda value: value >= 0 and value == int(value), "an integer from 0 to 1e9"),
    "top_p": (lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    "min_p": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "repetition_penalty": (lambda value: value > 0, "a number above 0 and at most 1e9"),
}
_HARMLESS_OPTIONS: dict[str, tuple[Any, ...]] = {
    "clean_up_tokenization_spaces": (False,),
    "split_special_tokens": (False,),
}
"""Keys of tokenizer_config.json that Lutern does not support, with the values that do not change a text."""
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "typical_p": (1,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "top_h": (),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({},),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1,),
    "watermarking_config": (),
}
"""Keys of generation_config.json that Lutern does not support, with the values that do not change a text."""


@dataclass(frozen=True)
class Conventions:
    """The conventions of a model's texts.

    ``bos``: the token that replaces an empty prompt. ``eos`` and ``stops``: tokens and texts that end a text.
    ``sampling``: defaults of the sampler. ``tokens``: names of special tokens for ``chat_template``. ``unheeded``:
    options of generation_config.json and tokenizer_config.json that Lutern does not support.
    """

    bos: int | None = None
    eos: tuple[int, ...] = ()
    stops: tuple[str, ...] = ()
    sampling: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    chat_template: str = ""
    unheeded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Conventions:
        """Return the conventions of a dict that ``to_dict`` made. Raises ``ValueError`` for any other dict."""
        if set(values) != set(asdict(cls())):
            raise ValueError("keys")
        bos, eos, template = values["bos"], values["eos"], values["chat_template"]
        if not (bos is None or type(bos) is int) or not _list_of(eos, int) or type(template) is not str:
            raise ValueError("bos, eos or chat_template")
        if not _list_of(values["stops"], str) or not _list_of(values["unheeded"], str):
            raise ValueError("stops or unheeded")
        sampling, tokens = values["sampling"], values["tokens"]
        if not isinstance(sampling, dict) or not isinstance(tokens, dict):
            raise ValueError("sampling or tokens")
        if not all(name in _SAMPLING and _is_good(name, value) for name, value in sampling.items()):
            raise ValueError("sampling")
        if not all(name in NAMES and type(value) is str for name, value in tokens.items()):
            raise ValueError("tokens")
        return cls(bos, tuple(eos), tuple(values["stops"]), sampling, tokens, template, tuple(values["unheeded"]))


def read_conventions(folder: Path, library: tokenizers.Tokenizer) -> Conventions:
    """Read the files of a checkpoint folder, and change ``library`` as the published code does.

    Special tokens are marked as special, and the post-processor is changed as add_bos_token and add_eos_token require.
    Raises ``LuternError`` if a file cannot be read or the value of a key is not allowed.
    """
    generation = read_json(folder / GENERATION_FILE, MAX_JSON_BYTES)
    config = read_json(folder / "config.json", MAX_JSON_BYTES)
    options = read_json(folder / TOKENIZER_CONFIG_FILE, MAX_TOKENIZER_CONFIG_BYTES)
    special = read_json(folder / SPECIAL_FILE, MAX_TOKENIZER_CONFIG_BYTES)
    tokens = {}
    for name in NAMES:
        token = _token_text(options, name, folder / TOKENIZER_CONFIG_FILE)
        token = token or _token_text(special, name, folder / SPECIAL_FILE)
        if token:
            tokens[name] = token
    _mark_special(library, [*tokens.values(), *_more_special(options), *_more_special(special)])
    known = {number for number, token in library.get_added_tokens_decoder().items() if token.special}
    bos = _numbers(folder, generation, config, "bos_token_id")
    eos = _numbers(folder, generation, config, "eos_token_id")
    named = tokens.get("bos_token"), tokens.get("eos_token")
    bos = bos or _default(library, known, named[0], PUBLISHED_BOS, BOS_NAMES, "bos_token_id" in config)
    eos = eos or _default(library, known, named[1], PUBLISHED_EOS, EOS_NAMES, "eos_token_id" in config)
    for number, name in ((bos[:1], "bos_token"), (eos[:1], "eos_token")):
        text = library.id_to_token(number[0]) if number and 0 <= number[0] < 1 << 32 else None
        if text is not None:
            tokens.setdefault(name, text)
    # A token whose name is in brackets never becomes text, even if no file marks it as special.
    ends = [library.id_to_token(number) for number in (*bos, *eos) if 0 <= number < 1 << 32]
    _mark_special(library, [token for token in ends if token and token[0] in "<[" and token[-1] in ">]"])
    _follow_prefix(library, options, folder / TOKENIZER_CONFIG_FILE)
    _follow_options(library, options, tokens, folder / TOKENIZER_CONFIG_FILE)
    return Conventions(
        next((number for number in bos if number >= 0), None),
        tuple(eos),
        _stops(generation, folder),
        _sampling(generation, folder / GENERATION_FILE),
        tokens,
        _chat_template(folder, options),
        tuple(
            sorted(
                name
                for values, group in ((generation, _HARMLESS), (options, _HARMLESS_OPTIONS))
                for name, harmless in group.items()
                if values.get(name) is not None and values[name] not in harmless
            )
        ),
    )


def _numbers(folder: Path, generation: dict[str, Any], config: dict[str, Any], name: str) -> list[int]:
    """Return the token numbers from the first file that has the key. The value of the key is a number or a list."""
    for file, values in ((GENERATION_FILE, generation), ("config.json", config)):
        value = values.get(name)
        if value is None or value == []:
            continue
        numbers = value if isinstance(value, list) else [value]
        if not _list_of(numbers, int):
            raise LuternError(
                f"{folder / file}: {name} is {quoted(value)}, but must be a token number or a list of them; correct it."
            )
        return numbers
    return []


def _default(
    library: tokenizers.Tokenizer,
    special: set[int],
    named: str | None,
    published: int,
    names: tuple[str, ...],
    key: bool,
) -> list[int]:
    """Return the number of a token for which no file contains a number: the token that a file names, else the published
    default, else a token with a well-known name."""
    number = library.token_to_id(named) if named else None
    if number is not None:
        return [number]
    if key:  # the key exists and is null, so the model has no such token
        return []
    if published in special or library.id_to_token(published) in names:
        return [published]
    found = (library.token_to_id(name) for name in names)
    return [number for number in found if number in special][:1]


def _token_text(values: dict[str, Any], name: str, path: Path) -> str:
    """Return the text of a special token, which is stored as a text or as an object with the text in ``content``."""
    value = values.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    if text is None:
        return ""
    if not isinstance(text, str):
        raise LuternError(f"{path}: {name} is {quoted(value)}, but must be a text; correct it.")
    return text


def _more_special(values: dict[str, Any]) -> list[str]:
    """Return the special tokens in ``additional_special_tokens`` and ``added_tokens_decoder``."""
    listed = values.get("additional_special_tokens") or []
    items = list(listed) if isinstance(listed, list) else []
    decoder = values.get("added_tokens_decoder") or {}
    if isinstance(decoder, dict):
        items += [item for item in decoder.values() if isinstance(item, dict) and item.get("special") is True]
    texts = [item.get("content") if isinstance(item, dict) else item for item in items]
    return [text for text in texts if isinstance(text, str) and text]


def _mark_special(library: tokenizers.Tokenizer, texts: list[str]) -> None:
    """Mark tokens of the vocabulary as special. Special tokens are left out of decoded text."""
    known = {token.content for token in library.get_added_tokens_decoder().values() if token.special}
    wanted = [text for text in dict.fromkeys(texts) if text not in known and library.token_to_id(text) is not None]
    if wanted:
        library.add_special_tokens([tokenizers.AddedToken(text, special=True, normalized=False) for text in wanted])


def _follow_prefix(library: tokenizers.Tokenizer, options: dict[str, Any], path: Path) -> None:
    """Set add_prefix_space of a ByteLevel pre-tokenizer to the value of the key. If the key is absent, change
    nothing."""
    value, pre_tokenizer = options.get("add_prefix_space"), library.pre_tokenizer
    if value is not None and not isinstance(value, bool):
        raise LuternError(f"{path}: add_prefix_space is {quoted(value)}, but must be true or false; correct it.")
    if value is not None and isinstance(pre_tokenizer, pre_tokenizers.ByteLevel):
        pre_tokenizer.add_prefix_space = value
        library.pre_tokenizer = pre_tokenizer


def _follow_options(library: tokenizers.Tokenizer, options: dict[str, Any], tokens: dict[str, str], path: Path) -> None:
    """Set the post-processor as add_bos_token and add_eos_token require. If these keys are absent, change nothing,
    except for tokenizers of ``LLAMA_CLASSES``."""
    of_llama = str(options.get("tokenizer_class", "")).startswith(LLAMA_CLASSES)
    wanted = {}
    for key, name, default in (("add_bos_token", "bos_token", True), ("add_eos_token", "eos_token", False)):
        value = options.get(key)
        if value is not None and not isinstance(value, bool):
            raise LuternError(f"{path}: {key} is {quoted(value)}, but must be true or false; correct it.")
        if value is None and of_llama:
            value = default and tokens.get(name) is not None
        wanted[name] = value
    if wanted["bos_token"] is None and wanted["eos_token"] is None:
        return
    before, after = added_around(library)
    pieces: list[str] = []
    numbers: list[tuple[str, int]] = []
    for name, present in (("bos_token", before), ("eos_token", after)):
        ids = present
        if wanted[name] is not None:
            token = tokens.get(name, "")
            number = library.token_to_id(token) if token else None
            if wanted[name] and number is None:
                raise LuternError(
                    f"{path} asks for add_{name}, but the tokenizer has no {name}; name one, or write false."
                )
            ids = [number] if wanted[name] and number is not None else []
        texts = [str(library.id_to_token(number)) for number in ids]
        pieces += [*texts, "$A"] if name == "bos_token" else texts
        numbers += zip(texts, ids, strict=True)
    try:
        library.post_processor = processors.TemplateProcessing(single=pieces, special_tokens=numbers)
    except Exception as error:  # the library raises bare exceptions
        raise LuternError(f"{path} asks for special tokens that no template can name ({reason_of(error)}).") from error


def added_around(library: tokenizers.Tokenizer) -> tuple[list[int], list[int]]:
    """Return the numbers of the tokens that the post-processor puts before and after a text."""
    words = (library.id_to_token(number) or "" for number in range(1000))
    for text in itertools.chain(("a", "the", "0", "."), words):
        try:
            encoding = library.encode(text)
        except Exception:  # the library raises bare exceptions for tokens that it lacks
            continue
        mask = list(encoding.special_tokens_mask)
        if 0 in mask:
            first, last = mask.index(0), len(mask) - mask[::-1].index(0)
            return list(encoding.ids[:first]), list(encoding.ids[last:])
    return [], []


def _sampling(generation: dict[str, Any], path: Path) -> dict[str, float]:
    """Return the defaults of the sampler. ``do_sample: false`` means temperature 0."""
    found: dict[str, float] = {}
    for name, (_, wanted) in _SAMPLING.items():
        value = generation.get(name)
        if value is None:
            continue
        if not _is_good(name, value):
            raise LuternError(f"{path}: {name} is {quoted(value)}, but must be {wanted}; correct it.")
        found[name] = value
    if generation.get("do_sample") is False:
        found["temperature"] = 0.0
    elif generation.get("do_sample") is True:
        found.setdefault("temperature", 1.0)
    return found


def _is_good(name: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
    return number and _SAMPLING[name][0](value)


def _stops(generation: dict[str, Any], folder: Path) -> tuple[str, ...]:
    stops = generation.get("stop_strings") or []
    stops = [stops] if isinstance(stops, str) else stops
    if not _list_of(stops, str) or not all(stops):
        raise LuternError(f"{folder / GENERATION_FILE}: stop_strings must be a text or a list of texts; correct it.")
    return tuple(stops)


def _chat_template(folder: Path, options: dict[str, Any]) -> str:
    """Return the chat template from its own file, or from tokenizer_config.json. If there are several templates, return
    the template with the name "default"."""
    path = folder / TEMPLATE_FILE
    if os.path.lexists(path):
        refuse_foreign(path, "chat template")
        try:
            template: Any = decode_text(read_plain(path, 4 * MAX_TEMPLATE_CHARACTERS, "chat template"))
        except (OSError, UnicodeDecodeError) as error:
            raise LuternError(f"{path} cannot be read as UTF-8 text; restore the file.") from error
    else:
        template = read_json(folder / TEMPLATE_JSON_FILE, MAX_JSON_BYTES).get("chat_template")
        template = options.get("chat_template") if template is None else template
    if isinstance(template, list):
        default = (item for item in template if isinstance(item, dict) and item.get("name") == "default")
        template = next(default, {}).get("template")
    if template is None:
        return ""
    if not isinstance(template, str) or len(template) > MAX_TEMPLATE_CHARACTERS:
        raise LuternError(
            f"the chat template of {folder} must be a text of at most {MAX_TEMPLATE_CHARACTERS} characters; correct it."
        )
    return template


def _list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


__all__ = ["Conventions", "added_around", "read_conventions"]
