"""Makes the tokenizer of a run from its text, or reads a given tokenizer. This module does not need PyTorch.

    --tokenizer character ─► one token per character        ─┐
    --tokenizer bpe:N     ─► N pieces, found in the text     ├─► tokenizer.json and the files that belong to it,
    --tokenizer FILE      ─► tokenizer.json, or its folder  ─┘   bos_token_id and eos_token_id for config.json

If a tokenizer is made from several documents or has pieces, tokens 0, 1 and 2 are ``<unk>``, ``<s>`` and ``</s>``, as
in the releases, and ``<s>`` begins every text. The character tokenizer of a single text does not have these three
tokens, because the beginning of the text needs no mark. With at least ``BYTES_FROM`` pieces, 256 of the pieces are the
bytes, so that every text has tokens. A smaller vocabulary contains only the characters of its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from lutern.model_ref.config import MAX_VOCAB_SIZE
from lutern.model_ref.conventions import (
    GENERATION_FILE,
    MAX_TOKENIZER_CONFIG_BYTES,
    SPECIAL_FILE,
    TEMPLATE_FILE,
    TEMPLATE_JSON_FILE,
    TOKENIZER_CONFIG_FILE,
    read_conventions,
)
from lutern.model_ref.errors import LuternError, quoted
from lutern.model_ref.input_files import read_plain
from lutern.model_ref.text import decode_text
from lutern.model_ref.tokenizer import (
    MAX_TOKENIZER_BYTES,
    TOKENIZER_FILE,
    Tokenizer,
    character_tokenizer,
    load_tokenizer,
)

UNKNOWN, BEGIN, END = SPECIAL = ("<unk>", "<s>", "</s>")
BYTES_FROM = 1024
"""A vocabulary with at least this number of pieces contains 256 pieces for the bytes."""
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
SPACE = "▁"
WORDS = rf"{SPACE}?\p{{L}}+|\p{{N}}|{SPACE}?[^\s{SPACE}\p{{L}}\p{{N}}]+|{SPACE}|\s"
"""The units of text that a piece does not cross: a word, a digit, or punctuation. A word or punctuation includes the
space before it."""
COMPANIONS = (TOKENIZER_CONFIG_FILE, SPECIAL_FILE, GENERATION_FILE, TEMPLATE_FILE, TEMPLATE_JSON_FILE)
WANTED = "character, bpe:N with the number of pieces, or a tokenizer.json"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, its files in a checkpoint folder (by name), and its keys in config.json.

    ``splits_lines``: whether no token crosses the end of a line, so that a text may be encoded in parts.
    """

    tokenizer: Tokenizer
    files: dict[str, bytes]
    keys: dict[str, Any]
    splits_lines: bool = False

    @property
    def end(self) -> list[int]:
        """The token that ends each document if there are several documents. Empty: the tokenizer has no such token."""
        eos = self.tokenizer.conventions.eos
        return [eos[0]] if eos and eos[0] >= 0 else []


def pieces_of(name: str) -> int | None:
    """Return N of ``bpe:N``, or None for any other name. Raises ``LuternError`` if N is not a number in range."""
    if not name.startswith("bpe:"):
        return None
    if not (name[4:].isascii() and name[4:].isdigit()) or not 1 <= int(name[4:]) <= MAX_VOCAB_SIZE:
        raise LuternError(f"--tokenizer is {quoted(name)}, but N in bpe:N must be from 1 to {MAX_VOCAB_SIZE:,}.")
    return int(name[4:])


def given(name: str) -> Vocabulary:
    """Return the tokenizer of a folder or of a ``tokenizer.json``, and the tokenizer's other files in its folder.

    Raises ``LuternError`` if the tokenizer cannot be read.
    """
    path = Path(name)
    if path.is_file() and path.name == TOKENIZER_FILE:
        path = path.absolute().parent
    if path.is_dir():
        tokenizer = load_tokenizer(path)
        present = [file for file in COMPANIONS if (path / file).is_file()]
        files = {file: read_plain(path / file, MAX_TOKENIZER_CONFIG_BYTES, "file of a tokenizer") for file in present}
        files[TOKENIZER_FILE] = read_plain(path / TOKENIZER_FILE, MAX_TOKENIZER_BYTES, "tokenizer")
    elif path.is_file():
        content = read_plain(path, MAX_TOKENIZER_BYTES, "tokenizer")
        try:
            text = decode_text(content)
        except UnicodeDecodeError as error:
            raise LuternError(f"{path} is no UTF-8 text, so it is no tokenizer; give {WANTED}.") from error
        tokenizer = Tokenizer.from_json(text, str(path))
        tokenizer = Tokenizer(tokenizer.library, str(path), read_conventions(path, tokenizer.library))
        files = {TOKENIZER_FILE: content}
    else:
        raise LuternError(f"--tokenizer is {quoted(name)}, but must be {WANTED}.")
    conventions = tokenizer.conventions
    eos = list(conventions.eos)
    return Vocabulary(tokenizer, files, _keys(conventions.bos, eos[0] if len(eos) == 1 else eos or None))


def characters(texts: Iterable[str], several: bool) -> Vocabulary:
    """Return a vocabulary with one token for each character, in the order of code points. For ``several`` documents,
    the vocabulary also contains the special tokens."""
    found: set[str] = set()
    for text in texts:
        found.update(text)
    if not several:
        plain = Tokenizer(character_tokenizer(sorted(found)))
        return Vocabulary(plain, {TOKENIZER_FILE: plain.to_json().encode()}, _keys(None, None), True)
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *sorted(found)))}
    library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    if not any(character.isupper() for character in found):
        library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    library.decoder = decoders.Fuse()
    return _made(library)


def byte_pairs(texts: Iterable[str], pieces: int) -> Vocabulary:
    """Return a vocabulary of exactly ``pieces`` pieces. Pairs of pieces are joined in the order of their frequency in
    the text.

    Raises ``LuternError`` if the text has too many characters or too few pairs.
    """
    spare = len(BYTES) if pieces >= BYTES_FROM else 0
    small = True

    def watched() -> Iterator[str]:
        nonlocal small
        for text in texts:
            small = small and text == text.lower()
            yield text

    library = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN))
    library.normalizer = normalizers.Replace(" ", SPACE)
    library.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=pieces - spare, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    library.train_from_iterator(watched(), trainer)
    known = json.loads(library.to_str())["model"]
    reached, alphabet = library.get_vocab_size() + spare, library.get_vocab_size() - len(known["merges"]) + spare
    if reached > pieces:
        raise LuternError(
            f"--tokenizer is bpe:{pieces}, but the text's characters and the special tokens alone are {alphabet}; "
            f"ask for more than {alphabet}."
        )
    if reached < pieces:
        raise LuternError(
            f"--tokenizer is bpe:{pieces}, but the text supports {reached} pieces only; ask for at most {reached}, "
            "or give more text."
        )
    order = sorted(known["vocab"], key=known["vocab"].__getitem__)
    order[len(SPECIAL) : len(SPECIAL)] = BYTES[:spare]
    vocabulary = {token: number for number, token in enumerate(order)}
    merges = [(first, second) for first, second in known["merges"]]
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=UNKNOWN, byte_fallback=spare > 0))
    spaces = normalizers.Replace(" ", SPACE)
    made.normalizer = normalizers.Sequence([normalizers.Lowercase(), spaces]) if small else spaces
    made.pre_tokenizer = library.pre_tokenizer
    made.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return _made(made)


def _made(library: tokenizers.Tokenizer) -> Vocabulary:
    """Add the special tokens to a new tokenizer, let ``<s>`` begin every text, and make the tokenizer's files."""
    library.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    library.post_processor = processors.TemplateProcessing(single=[BEGIN, "$A"], special_tokens=[(BEGIN, 1)])
    names = {"bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN}
    options = {"tokenizer_class": "PreTrainedTokenizerFast", **names, "clean_up_tokenization_spaces": False}
    keys = _keys(1, 2)
    tokenizer = Tokenizer(library)
    files = {
        TOKENIZER_FILE: tokenizer.to_json(),
        TOKENIZER_CONFIG_FILE: json.dumps(options, indent=2) + "\n",
        SPECIAL_FILE: json.dumps(names, indent=2) + "\n",
        GENERATION_FILE: json.dumps(keys, indent=2) + "\n",
    }
    # This path does not exist, so no other files are read, only the library's own conventions.
    conventions = read_conventions(Path("tokenizer.json/none"), library)
    tokenizer = Tokenizer(library, conventions=conventions)
    return Vocabulary(tokenizer, {name: text.encode() for name, text in files.items()}, keys, True)


def _keys(bos: int | None, eos: int | list[int] | None) -> dict[str, Any]:
    """Return the keys of config.json for the beginning and the end of a text. null means that the model has no such
    token."""
    return {"bos_token_id": bos, "eos_token_id": eos}


__all__ = ["COMPANIONS", "Vocabulary", "byte_pairs", "characters", "given", "pieces_of"]
