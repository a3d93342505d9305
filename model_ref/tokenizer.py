"""Converts text to token numbers and back with the ``tokenizer.json`` of the tokenizers library.

    text ─► normalizer ─► pre-tokenizer ─► model ─► post-processor (adds <s>) ─► token numbers ─► decoder ─► text

The demo models read characters, one token per character. ``character_tokenizer`` makes such a tokenizer. Since it is
stored as ``tokenizer.json``, the published implementation and Lutern read the same file.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from lutern.model_ref.conventions import Conventions, added_around, read_conventions
from lutern.model_ref.errors import LuternError, quoted, reason_of
from lutern.model_ref.input_files import read_plain, require_plain
from lutern.model_ref.text import decode_text

TOKENIZER_FILE = "tokenizer.json"
MAX_TOKENIZER_BYTES = 1 << 26  # the largest published tokenizers are some 20 MB
EMPTY_PROMPT = "the prompt is empty; give at least one character."
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_CONTEXT = 16  # the largest number of preceding characters with which the normalizer may join a character


class Tokenizer:
    """Encodes and decodes with one tokenizer, and never maps a character to the unknown token.

    ``conventions``: the text conventions from the checkpoint's other files.
    """

    def __init__(
        self, library: tokenizers.Tokenizer, where: str = "the tokenizer", conventions: Conventions | None = None
    ) -> None:
        self.library = library
        self.conventions = Conventions() if conventions is None else conventions
        # The file may contain padding and truncation from the training, which would change the tokens of a single text.
        library.no_padding()
        library.no_truncation()
        if isinstance(library.model, models.BPE) and library.model.dropout is not None:
            library.model.dropout = None  # dropout leaves out merges at random
        vocabulary = library.get_vocab(with_added_tokens=True)
        owners: dict[int, str] = {}
        for token, number in vocabulary.items():
            if owners.setdefault(number, token) != token:
                raise LuternError(
                    f"{where} gives number {number} to {quoted(owners[number])} and {quoted(token)}; give each its own."
                )
        self._vocab_size = 1 + max(owners, default=-1)
        self._model_size: int | None = None
        self._unknown = _unknown_token(library)
        self._unknown_id = library.token_to_id(self._unknown) if self._unknown else None
        self._silent = isinstance(library.model, models.BPE) and self._unknown_id is None
        self._added = frozenset(library.get_added_tokens_decoder())
        self._special = {number for number, token in library.get_added_tokens_decoder().items() if token.special}
        falls_back = library.decoder is not None and _decodes_bytes(library)
        self._bytes = {number for token, number in vocabulary.items() if falls_back and _BYTE_TOKEN.fullmatch(token)}
        self.ahead = tuple(added_around(library)[0])
        """The tokens that the post-processor puts before every text."""

    @property
    def vocab_size(self) -> int:
        """The largest token number plus 1."""
        return self._vocab_size

    @classmethod
    def from_json(cls, text: str, where: str, conventions: Conventions | None = None) -> Tokenizer:
        """Read the content of a ``tokenizer.json``. ``where`` is the name of the file in error messages."""
        return cls(_read_library(text, where), where, conventions)

    def limit_to(self, vocab_size: int) -> Tokenizer:
        """From now on, refuse to encode a text with tokens outside the vocabulary of ``vocab_size`` tokens."""
        self._model_size = vocab_size
        return self

    def to_json(self) -> str:
        """Return the tokenizer as the content of a ``tokenizer.json``."""
        return str(self.library.to_str(pretty=True))

    def encode(self, text: str, *, begin: bool = True) -> list[int]:
        """Return the same token numbers of ``text`` as the published code, including the tokens of the post-processor.

        If ``begin`` is not set, the tokens that the post-processor puts before the text are left out. Raises
        ``LuternError`` if the tokenizer lacks a character. The message gives the position of the first such character.
        """
        encoding = self._encode(text, True)
        ids = list(encoding.ids)
        if not begin:
            mask = [*encoding.special_tokens_mask, 0]
            ids = ids[mask.index(0) :]
        return ids

    def encode_body(self, text: str, start: int = 0) -> list[int]:
        """Return the token numbers of ``text[start:]``, without the tokens of the post-processor.

        The whole text is encoded. If none of its tokens crosses ``start``, the tokens from ``start`` on are returned.
        If a token crosses ``start``, ``text[start:]`` is encoded alone.
        """
        encoding = self._encode(text, False)
        if not start:
            return list(encoding.ids)
        first = next((place for place, (begin, _) in enumerate(encoding.offsets) if begin >= start), len(encoding.ids))
        if first and encoding.offsets[first - 1][1] > start:
            return list(self._encode(text[start:], False).ids)
        return list(encoding.ids[first:])

    def encode_documents(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of each text, without the tokens of the post-processor. All cores are used."""
        encodings = self.library.encode_batch(list(texts), add_special_tokens=False)
        lossless = not self._silent and all(self._unknown_id not in encoding.ids for encoding in encodings)
        for encoding, text in zip(encodings, texts, strict=True):
            if not lossless:
                self._encode(text, False)
            self._check_known(encoding.ids)
        return [list(encoding.ids) for encoding in encodings]

    def encode_prompt(self, text: str, *, begin: bool = True) -> list[int]:
        """Encode as ``encode`` does, but encode an empty text as the beginning-of-text token. Raises ``LuternError`` if
        there is no such token."""
        ids = self.encode(text, begin=begin) if text else []
        if not text and begin:
            bos = self.conventions.bos
            ids = list(self.ahead) or ([bos] if bos is not None else [])
            self._check_known(ids)
        if not ids:
            raise LuternError(EMPTY_PROMPT)
        return ids

    def decode(self, ids: Sequence[int], *, special: bool = True) -> str:
        """Return the text of token numbers, with special tokens if ``special``. Raises ``LuternError`` for a number
        outside the vocabulary."""
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise LuternError(f"token {token} is outside the vocabulary of {self.vocab_size} tokens.")
        return str(self.library.decode(list(ids), skip_special_tokens=not special))

    def text_of(self, ids: Sequence[int]) -> str:
        """Return the text of any token numbers. Special tokens, and numbers that the tokenizer lacks, give no text."""
        shown = [token for token in ids if token not in self._special]
        try:
            return str(self.library.decode(shown, skip_special_tokens=False)) if shown else ""
        except BaseException as error:
            if not is_panic(error):
                raise
            return ""

    def ends_run(self, token: int) -> bool:
        """Return whether a token ends a run of byte tokens.

        Successive byte tokens are decoded together. Special tokens, and numbers that the tokenizer lacks, give no text,
        so they do not end a run.
        """
        return token not in self._bytes and token not in self._special and self.library.id_to_token(token) is not None

    def describe(self) -> str:
        """Return a line that describes the text conventions."""
        conventions = self.conventions

        def named(numbers: Sequence[int]) -> str:
            known = {number: self.library.id_to_token(number) for number in numbers if 0 <= number < self.vocab_size}
            return ", ".join(f"{known.get(number)!r} ({number})" for number in numbers)

        begins = named(self.ahead) or "nothing"
        parts = [f"a text begins with {begins}", f"ends with {named(conventions.eos) or 'nothing'}"]
        if conventions.stops:
            parts.append(f"or ahead of {', '.join(map(ascii, conventions.stops))}")
        if conventions.sampling:
            parts.append("sampling: " + ", ".join(f"{name} {value:g}" for name, value in conventions.sampling.items()))
        parts.append("chat template" if conventions.chat_template else "no chat template")
        return "; ".join(parts)

    def _encode(self, text: str, special: bool) -> tokenizers.Encoding:
        try:
            encoding = self.library.encode(text, add_special_tokens=special)
        except BaseException as error:  # the library raises bare exceptions, for example for characters without a token
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            reason = reason_of(error)
            if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
                reason = "it holds bytes that are no UTF-8"
            raise LuternError(
                f"the tokenizer cannot encode the text ({reason}); leave out what it does not know."
            ) from error
        position = self._first_lost(text, encoding)
        if position is not None:
            end = position + 1
            while end < len(text) and unicodedata.combining(text[end]):
                end += 1
            raise LuternError(
                f"the tokenizer has no token for {quoted(text[position:end], 12)} at position {position}; "
                "leave that character out or write it differently."
            )
        self._check_known(encoding.ids)
        return encoding

    def _check_known(self, ids: Sequence[int]) -> None:
        """Refuse tokens whose numbers are outside the model's vocabulary."""
        token = max(ids, default=0)
        if self._model_size is not None and token >= self._model_size:
            raise LuternError(
                f"the tokenizer gives number {token} to {quoted(self.library.id_to_token(token))}, but the model knows "
                f"{self._model_size} tokens; leave out that text, or give the tokenizer of the model's training."
            )

    def _first_lost(self, text: str, encoding: tokenizers.Encoding) -> int | None:
        """Return the position of the first character that became the unknown token or was dropped by the model. None:
        all characters are kept.

        If the normalizer or the pre-tokenizer drops or joins characters, this is no error, because the published code
        drops or joins the same characters.
        """
        if self._unknown_id is not None and self._unknown_id in encoding.ids:
            for token, (start, end), added in zip(
                encoding.ids, encoding.offsets, encoding.special_tokens_mask, strict=True
            ):
                if token == self._unknown_id and not added and text[start:end] != self._unknown:
                    blank = len(text[start:end]) - len(text[start:end].lstrip())
                    return int(start) + (blank if blank < end - start else 0)
        return self._first_dropped(text, encoding) if self._silent else None

    def _first_dropped(self, text: str, encoding: tokenizers.Encoding) -> int | None:
        """Return the position of the first character that a model without an unknown token leaves out.

        Characters of added tokens are not examined. If the model searches for whole words first (``ignore_merges``), no
        character that belongs to a token is examined.
        """
        if all(map(self._has_tokens, set(self._normal(text)))):
            return None
        added = bytearray(len(text))
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._added or self.library.model.ignore_merges:
                added[start:end] = b"\1" * (end - start)
        dropped = (place for place in range(len(text)) if not added[place] and self._is_dropped(text, place))
        position = next(dropped, None)
        while position and unicodedata.combining(text[position]):
            position -= 1
        return position

    def _is_dropped(self, text: str, position: int) -> bool:
        """Return whether the model lacks a token for the normalised form of a character. The normalizer may have joined
        this character with characters before it."""
        start = max(0, position - _CONTEXT)
        before, after = self._normal(text[start:position]), self._normal(text[start : position + 1])
        same = next((place for place, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None)
        return not all(map(self._has_tokens, after[len(before) if same is None else same :]))

    def _normal(self, text: str) -> str:
        normalizer = self.library.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def _has_tokens(self, character: str) -> bool:
        """Return whether the model has tokens for all pieces into which the pre-tokenizer divides a character."""
        pre_tokenizer = self.library.pre_tokenizer
        pieces = [(character, (0, 1))] if pre_tokenizer is None else pre_tokenizer.pre_tokenize_str(character)
        return all(self._has_character(part) for piece, _ in pieces for part in piece)

    def _has_character(self, character: str) -> bool:
        """Return whether a byte-pair model has a token for a character at any place in a word, or tokens for the bytes
        of the character."""
        prefixes = ("", self.library.model.continuing_subword_prefix or "")
        suffixes = ("", self.library.model.end_of_word_suffix or "")
        forms = (prefix + character + suffix for prefix in prefixes for suffix in suffixes)
        if any(self.library.token_to_id(form) is not None for form in forms):
            return True
        bytes_of = (f"<0x{value:02X}>" for value in character.encode())
        return self.library.model.byte_fallback and all(self.library.token_to_id(byte) is not None for byte in bytes_of)


def _read_library(text: str, where: str) -> tokenizers.Tokenizer:
    if len(text) > MAX_TOKENIZER_BYTES:
        raise LuternError(f"{where} is larger than {MAX_TOKENIZER_BYTES} bytes, so it is no tokenizer.")
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:  # the library raises bare exceptions, and a panic is a BaseException
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        reason = reason_of(error)
        raise LuternError(f"{where} is no tokenizer that the tokenizers library reads ({reason}).") from error


def is_panic(error: BaseException) -> bool:
    """Return whether the error is a panic, which is a defect of the library. Decoders such as Strip panic on an empty
    text."""
    return type(error).__name__ == "PanicException"


def _unknown_token(library: tokenizers.Tokenizer) -> str | None:
    """Return the text of the unknown token. A Unigram model stores the number of this token, which only the JSON text
    contains."""
    if isinstance(library.model, models.Unigram):
        number = json.loads(library.to_str())["model"].get("unk_id")
        return None if number is None else str(library.id_to_token(number))
    return getattr(library.model, "unk_token", None)


def _decodes_bytes(library: tokenizers.Tokenizer) -> bool:
    """Return whether the decoder turns tokens such as <0x41> into bytes."""
    try:
        return "A" in library.decoder.decode(["<0x41>"]) and "x41" not in library.decoder.decode(["<0x41>"])
    except Exception:  # the library raises bare exceptions
        return False


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read ``tokenizer.json`` of a checkpoint folder, and the files that name the tokens at the beginning and end of a
    text.

    Raises ``LuternError`` if there is no tokenizer, or if one of these files cannot be read.
    """
    path = Path(folder) / TOKENIZER_FILE
    require_plain(path, "tokenizer")
    if not path.is_file():
        raise LuternError(f"{folder} has no {TOKENIZER_FILE}; copy the tokenizer of the checkpoint there.")
    try:
        text = decode_text(read_plain(path, MAX_TOKENIZER_BYTES, "tokenizer"))
    except (OSError, UnicodeDecodeError) as error:
        raise LuternError(f"{path} cannot be read as UTF-8 text; restore the file.") from error
    library = _read_library(text, str(path))
    return Tokenizer(library, str(path), read_conventions(Path(folder), library))


def character_tokenizer(characters: Sequence[str]) -> tokenizers.Tokenizer:
    """Return a tokenizer with one token per character, numbered in the given order. If there are no capitals among the
    characters, the tokenizer converts a text to lower case.

    The tokenizer is a byte-pair model without merges, which splits a text into characters. This model has no unknown
    token, and leaves out characters outside the vocabulary. ``Tokenizer.encode`` finds such characters.
    """
    vocabulary = {character: token for token, character in enumerate(characters)}
    library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    if all(character == character.lower() for character in characters):
        library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    library.decoder = decoders.Fuse()
    return library
