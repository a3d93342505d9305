"""What the other files of a checkpoint say about text: begin and end, special tokens, sampling, chat template."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors

from lutern.model_ref.conventions import Conventions
from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer, load_tokenizer

VOCABULARY = {token: number for number, token in enumerate(["<unk>", "<s>", "</s>", "<end>", "<pad>", "a", "b", "c"])}
UNK, BOS, EOS, END, PAD, A, B, C = range(8)
files = settings(
    derandomize=True,
    database=None,
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def library(special: tuple[str, ...] = ("<unk>", "<s>", "</s>"), template: str = "") -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(list(special))
    if template:
        named = [(token, VOCABULARY[token]) for token in template.split() if token != "$A"]
        made.post_processor = processors.TemplateProcessing(single=template, special_tokens=list(dict.fromkeys(named)))
    return made


def load(folder: Path, made: tokenizers.Tokenizer, mark: bytes = b"", **values: Any) -> Tokenizer:
    """Write tokenizer.json and, beside it, ``values`` as files; return the tokenizer of this folder."""
    for path in folder.iterdir():
        path.unlink()
    (folder / "tokenizer.json").write_bytes(mark + made.to_str().encode())
    for name, value in values.items():
        if name == "chat_template_jinja":
            (folder / "chat_template.jinja").write_text(value)
        else:
            (folder / f"{name}.json").write_bytes(mark + json.dumps(value).encode())
    return load_tokenizer(folder)


# ---------------------------------------------------------------------------------- beginning and end


@files
@given(st.lists(st.sampled_from(["<s>", "</s>", "<end>"]), max_size=3), st.integers(0, 3), st.data())
def test_the_post_processor_is_followed(tmp_path: Path, added: list[str], place: int, data: st.DataObject) -> None:
    """With any template, the tokens are those of the library. ``begin=False`` leaves out the tokens before the text."""
    ahead, behind = added[:place], added[place:]
    made = library(template=" ".join([*ahead, "$A", *behind]))
    tokenizer = load(tmp_path, made)
    text = " ".join(data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=5)))
    words = [VOCABULARY[word] for word in text.split()]
    start, end = [VOCABULARY[token] for token in ahead], [VOCABULARY[token] for token in behind]
    assert tokenizer.encode(text) == made.encode(text).ids == [*start, *words, *end]
    assert tokenizer.encode(text, begin=False) == [*words, *end]
    assert tokenizer.encode_body(text) == words
    assert tokenizer.ahead == tuple(start)
    assert tokenizer.encode_prompt("") == (start or [BOS]), "a special <s> must be the default beginning"


@pytest.mark.parametrize(
    ("template", "options", "ids"),
    [
        ("<s> $A", {"add_bos_token": False}, [A]),
        ("<s> $A", {"add_bos_token": True}, [BOS, A]),
        ("<s> $A", {"add_eos_token": True}, [BOS, A, EOS]),
        ("<s> $A </s>", {"add_eos_token": False}, [BOS, A]),
        ("<s> $A </s>", {"add_eos_token": None}, [BOS, A, EOS]),
        ("", {"add_bos_token": True}, [BOS, A]),
        ("", {"add_bos_token": True, "bos_token": "<end>"}, [END, A]),
        ("", {"add_bos_token": True, "bos_token": {"content": "<end>", "lstrip": False}}, [END, A]),
        ("", {"add_bos_token": True, "add_eos_token": True}, [BOS, A, EOS]),
        ("", {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}, [BOS, A]),
        ("<s> $A </s>", {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"}, [BOS, A]),
        ("<s> $A", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, [A]),
        ("<s> $A </s>", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}, [BOS, A, EOS]),
        ("", {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<end>"}, [A]),
    ],
)
def test_add_bos_token_and_add_eos_token(
    tmp_path: Path, template: str, options: dict[str, Any], ids: list[int]
) -> None:
    tokenizer = load(tmp_path, library(template=template), tokenizer_config=options)
    assert tokenizer.encode("a") == ids
    again = Tokenizer.from_json(tokenizer.to_json(), "an image", tokenizer.conventions)
    assert again.encode("a") == ids and again.ahead == tokenizer.ahead


@pytest.mark.parametrize(
    ("values", "bos", "eos"),
    [
        ({}, BOS, (EOS,)),
        ({"config": {"eos_token_id": END}}, BOS, (END,)),
        ({"config": {"eos_token_id": [END, EOS], "bos_token_id": PAD}}, PAD, (END, EOS)),
        ({"generation_config": {"eos_token_id": [END]}, "config": {"eos_token_id": EOS}}, BOS, (END,)),
        ({"generation_config": {"bos_token_id": END}, "config": {"eos_token_id": PAD}}, END, (PAD,)),
        ({"generation_config": {"eos_token_id": []}, "config": {"eos_token_id": PAD}}, BOS, (PAD,)),
        ({"tokenizer_config": {"eos_token": "<end>", "bos_token": {"content": "<pad>"}}}, PAD, (END,)),
        ({"special_tokens_map": {"eos_token": {"content": "<end>"}}}, BOS, (END,)),
        ({"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": "<end>"}}, BOS, (END,)),
        ({"config": {"eos_token_id": None, "bos_token_id": None}}, None, ()),
        ({"config": {"eos_token_id": None}, "tokenizer_config": {"eos_token": "<end>"}}, BOS, (END,)),
        ({"tokenizer_config": {"eos_token": "no such token"}}, BOS, (EOS,)),
    ],
)
def test_where_bos_and_eos_come_from(
    tmp_path: Path, values: dict[str, Any], bos: int | None, eos: tuple[int, ...]
) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        conventions = load(tmp_path, library(), mark, **values).conventions
        assert (conventions.bos, conventions.eos) == (bos, eos)
        assert Conventions.from_dict(json.loads(json.dumps(conventions.to_dict()))) == conventions


def test_ordinary_tokens_are_no_published_defaults(tmp_path: Path) -> None:
    """If tokens 1 and 2 of a character model are letters, they are neither the begin token nor the end token."""
    assert load(tmp_path, character_tokenizer("abcd")).conventions == Conventions()
    with pytest.raises(LuternError, match="the prompt is empty"):
        load_tokenizer(tmp_path).encode_prompt("")
    names = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2, "</s>": 3, "<s>": 4}, unk_token="a"))
    names.add_special_tokens(["<s>", "</s>"])
    assert load(tmp_path, names).conventions.eos == (3,) and load_tokenizer(tmp_path).conventions.bos == 4


def test_the_published_end_is_known_by_its_name(tmp_path: Path) -> None:
    """The end token is in the vocabulary, but in no list of added tokens."""
    named = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}, unk_token="<unk>"))
    tokenizer = load(tmp_path, named)
    assert (tokenizer.conventions.bos, tokenizer.conventions.eos) == (1, (2,))
    assert tokenizer.text_of([3, 2]) == "a"


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("asked", [True, False, None])
def test_add_prefix_space(tmp_path: Path, stored: bool, asked: bool | None) -> None:
    """Whether a space is put before the text is decided by tokenizer_config.json, or else by the stored tokenizer."""
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = tokenizers.Tokenizer(models.BPE(letters, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=stored)
    made.decoder = decoders.ByteLevel()
    tokenizer = load(tmp_path, made, tokenizer_config={} if asked is None else {"add_prefix_space": asked})
    space = stored if asked is None else asked
    assert tokenizer.decode(tokenizer.encode("ab")) == " ab"[not space :]
    again = Tokenizer.from_json(tokenizer.to_json(), "an image", tokenizer.conventions)
    assert again.encode("ab") == tokenizer.encode("ab")


@pytest.mark.parametrize("number", [-1, 8, 1 << 32, 1 << 64, 10**300])
def test_an_end_that_the_tokenizer_lacks_is_described(tmp_path: Path, number: int) -> None:
    tokenizer = load(tmp_path, library(), generation_config={"eos_token_id": number})
    assert tokenizer.conventions.eos == (number,) and f"ends with None ({number})" in tokenizer.describe()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "pointer"])
@pytest.mark.parametrize(
    "name", ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
)
def test_unreadable_files_are_reported(tmp_path: Path, name: str, kind: str) -> None:
    load(tmp_path, library())
    path = tmp_path / name
    if kind == "link":
        path.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    reason = {"link": "leads to no file", "pointer": "a Git LFS pointer"}.get(kind, "no plain file")
    with pytest.raises(LuternError, match=reason):
        load_tokenizer(tmp_path)


# ---------------------------------------------------------------------------------- special tokens


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "a <end> b <pad>"),
        ({"tokenizer_config": {"eos_token": "<end>"}}, "a b <pad>"),
        ({"tokenizer_config": {"pad_token": {"content": "<pad>"}}}, "a <end> b"),
        ({"special_tokens_map": {"pad_token": "<pad>", "eos_token": "<end>"}}, "a b"),
        ({"tokenizer_config": {"additional_special_tokens": ["<end>", {"content": "<pad>"}]}}, "a b"),
        ({"tokenizer_config": {"added_tokens_decoder": {"3": {"content": "<end>", "special": True}}}}, "a b <pad>"),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"3": {"content": "<end>", "special": False}}}},
            "a <end> b <pad>",
        ),
        ({"config": {"eos_token_id": END}}, "a b <pad>"),
        ({"config": {"eos_token_id": A}}, "a <end> b <pad>"),
    ],
)
def test_special_tokens_leave_no_text(tmp_path: Path, values: dict[str, Any], text: str) -> None:
    """A token is special if a file says so, or if it is an end token with a name in brackets. Other added tokens are
    text."""
    tokenizer = load(tmp_path, library(), **values)
    assert tokenizer.text_of([BOS, A, END, B, PAD, EOS]) == text
    again = Tokenizer.from_json(tokenizer.to_json(), "an image", tokenizer.conventions)
    assert again.text_of([BOS, A, END, B, PAD, EOS]) == text


def test_a_special_token_in_a_text_is_that_token(tmp_path: Path) -> None:
    assert load(tmp_path, library()).encode("a </s>b") == [A, EOS, B]
    assert load(tmp_path, library()).encode("a <unk>") == [A, UNK], "an unknown token in the text must be kept"


# ---------------------------------------------------------------------------------- sampling, stops, templates


@pytest.mark.parametrize(
    ("generation", "sampling"),
    [
        ({}, {}),
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.0}),
        ({"do_sample": True, "top_p": 0.4, "temperature": 0.6}, {"temperature": 0.6, "top_p": 0.4}),
        ({"do_sample": True}, {"temperature": 1.0}),
        (
            {"temperature": 0.6, "top_k": 50, "min_p": 0.1, "repetition_penalty": 1.2, "top_p": None},
            {"temperature": 0.6, "top_k": 50, "min_p": 0.1, "repetition_penalty": 1.2},
        ),
    ],
)
def test_sampling(tmp_path: Path, generation: dict[str, Any], sampling: dict[str, float]) -> None:
    assert load(tmp_path, library(), generation_config=generation).conventions.sampling == sampling


def test_unsupported_options_are_listed(tmp_path: Path) -> None:
    generation = {"num_beams": 4, "no_repeat_ngram_size": 3, "typical_p": 1.0, "bad_words_ids": None, "max_length": 20}
    conventions = load(tmp_path, library(), generation_config={**generation, "stop_strings": "\n"}).conventions
    assert conventions.unheeded == ("no_repeat_ngram_size", "num_beams") and conventions.stops == ("\n",)


@pytest.mark.parametrize("value", [False, True])
def test_unsupported_options_of_the_tokenizer_are_listed(tmp_path: Path, value: bool) -> None:
    options = {"clean_up_tokenization_spaces": value, "split_special_tokens": value}
    conventions = load(tmp_path, library(), tokenizer_config=options).conventions
    assert conventions.unheeded == (tuple(options) if value else ())


@pytest.mark.parametrize(
    ("values", "template"),
    [
        ({}, ""),
        ({"tokenizer_config": {"chat_template": "x"}}, "x"),
        ({"tokenizer_config": {"chat_template": "x"}, "chat_template_jinja": "y"}, "y"),
        ({"tokenizer_config": {"chat_template": "x"}, "chat_template": {"chat_template": "z"}}, "z"),
        ({"tokenizer_config": {"chat_template": [{"name": "default", "template": "d"}, {"name": "t"}]}}, "d"),
        ({"tokenizer_config": {"chat_template": [{"name": "tool_use", "template": "d"}, 3, {"name": []}]}}, ""),
    ],
)
def test_chat_templates(tmp_path: Path, values: dict[str, Any], template: str) -> None:
    assert load(tmp_path, library(), **values).conventions.chat_template == template


# ---------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    "values",
    [
        {"generation_config": []},
        {"generation_config": {"eos_token_id": "2"}},
        {"generation_config": {"eos_token_id": [True]}},
        {"config": {"bos_token_id": 1.0}},
        {"generation_config": {"temperature": -1}},
        {"generation_config": {"temperature": float("nan")}},
        {"generation_config": {"temperature": 10**400}},
        {"generation_config": {"repetition_penalty": 10**309}},
        {"generation_config": {"top_k": 10**30}},
        {"generation_config": {"top_p": 0}},
        {"generation_config": {"top_k": 2.5}},
        {"generation_config": {"top_k": "50"}},
        {"generation_config": {"min_p": 2}},
        {"generation_config": {"repetition_penalty": 0}},
        {"generation_config": {"stop_strings": [1]}},
        {"tokenizer_config": {"add_bos_token": "yes"}},
        {"tokenizer_config": {"add_prefix_space": "yes"}},
        {"tokenizer_config": {"bos_token": 1}},
        {"tokenizer_config": {"add_bos_token": True, "bos_token": "none"}, "config": {"bos_token_id": None}},
        {"tokenizer_config": {"chat_template": 3}},
        {"chat_template_jinja": "x" * (1 << 21)},
        {"tokenizer_config": {"bos_token": "\ud800"}},
        {"generation_config": {"filler": "x" * (1 << 21)}},
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(LuternError) as refused:
        load(tmp_path, library(), **values)
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value) and len(str(refused.value)) < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = {
    "generation_config": ["eos_token_id", "bos_token_id", "temperature", "top_k", "stop_strings", "num_beams"],
    "tokenizer_config": [
        "bos_token",
        "add_bos_token",
        "add_eos_token",
        "tokenizer_class",
        "chat_template",
        "additional_special_tokens",
        "added_tokens_decoder",
    ],
    "special_tokens_map": ["eos_token", "additional_special_tokens"],
}


@files
@given(st.sampled_from(sorted(KEYS)), st.data())
def test_hostile_files(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Any value of any key is read or refused in one sentence, without another exception."""
    value = data.draw(st.one_of(JSON, st.dictionaries(st.sampled_from(KEYS[name]), JSON)))
    refused = ""
    try:
        load(tmp_path, library(), **{name: value}).encode("a b")
    except LuternError as error:
        refused = str(error)
    assert "\n" not in refused and (not refused or refused.endswith("."))
