"""Text to token numbers and back, over a ``tokenizer.json`` of the tokenizers library.

The demo models read characters: one token a character.  ``character_tokenizer`` writes such a file, so that host
program, published implementation and Lutern read the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lutern.model_ref.errors import LuternError

TOKENIZER_FILE = "tokenizer.json"
MAX_TOKENIZER_BYTES = 1 << 26  # the largest published tokenizers are some 20 MB


class Tokenizer:
    """``encode`` and ``decode`` of one tokenizer; never maps a character to the unknown token."""

    def __init__(self, library: tokenizers.Tokenizer, where: str = "the tokenizer") -> None:
        self._library = library
        vocabulary = library.get_vocab(with_added_tokens=True)
        owners: dict[int, str] = {}
        for token, number in vocabulary.items():
            if owners.setdefault(number, token) != token:
                raise LuternError(
                    f"{where} gives number {number} to {owners[number][:40]!r} and {token[:40]!r}; give each its own."
                )
        self._vocab_size = 1 + max(owners, default=-1)
        unknown = getattr(library.model, "unk_token", None)
        self._unknown_id = library.token_to_id(unknown) if unknown else None
        # A character tokenizer only joins its tokens, so it keeps spaces; word-level ones may drop and restore them.
        self._keeps_spaces = isinstance(library.decoder, decoders.Fuse)

    @property
    def vocab_size(self) -> int:
        """One more than the largest token number."""
        return self._vocab_size

    @classmethod
    def from_json(cls, text: str, where: str) -> Tokenizer:
        """Read the content of a ``tokenizer.json``; ``where`` names it in the sentence that refuses it."""
        if len(text) > MAX_TOKENIZER_BYTES:
            raise LuternError(f"{where} is larger than {MAX_TOKENIZER_BYTES} bytes, so it is no tokenizer.")
        try:
            library = tokenizers.Tokenizer.from_str(text)
        except BaseException as error:  # the library raises bare Exception, and panics as BaseException
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            reason = " ".join(str(error).split())[:200]
            raise LuternError(f"{where} is no tokenizer that the tokenizers library reads ({reason}).") from error
        return cls(library, where)

    def check_fits(self, vocab_size: int, where: str) -> None:
        """Refuse a tokenizer with numbers that a model of ``vocab_size`` tokens does not know."""
        if self.vocab_size > vocab_size:
            raise LuternError(
                f"the tokenizer of {where} has {self.vocab_size} tokens, but the model knows {vocab_size}; "
                "give the tokenizer that the model was trained with."
            )

    def to_json(self) -> str:
        """Content of the ``tokenizer.json`` that ``load_tokenizer`` reads."""
        return str(self._library.to_str(pretty=True))

    def encode(self, text: str) -> list[int]:
        """Token numbers of ``text``; a character that the tokenizer lacks raises, with its position."""
        encoding = self._library.encode(text, add_special_tokens=False)
        position = self._first_lost(text, encoding)
        if position is not None:
            raise LuternError(
                f"the tokenizer has no token for {text[position]!r} at position {position}; "
                "leave that character out or write it differently."
            )
        return list(encoding.ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token numbers; a number outside the vocabulary raises."""
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise LuternError(f"token {token} is outside the vocabulary of {self.vocab_size} tokens.")
        return str(self._library.decode(list(ids), skip_special_tokens=False))

    def _first_lost(self, text: str, encoding: tokenizers.Encoding) -> int | None:
        """First character that became the unknown token or that no token covers; None when all are kept."""
        covered = bytearray(len(text))
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token == self._unknown_id:
                return int(start)
            covered[start:end] = b"\1" * (end - start)
        lost = covered.find(0)
        while lost >= 0 and text[lost].isspace() and not self._keeps_spaces:
            lost = covered.find(0, lost + 1)
        return lost if lost >= 0 else None


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read ``tokenizer.json`` of a checkpoint folder."""
    path = Path(folder) / TOKENIZER_FILE
    if not path.is_file():
        raise LuternError(f"{folder} has no {TOKENIZER_FILE}; copy the tokenizer of the checkpoint there.")
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise LuternError(f"{path} is larger than {MAX_TOKENIZER_BYTES} bytes, so it is no tokenizer.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LuternError(f"{path} cannot be read as UTF-8 text; restore the file.") from error
    return Tokenizer.from_json(text, str(path))


def character_tokenizer(characters: Sequence[str]) -> tokenizers.Tokenizer:
    """A tokenizer of one token a character, numbered in the order given.

    A byte-pair model without merges splits into characters and has no unknown token: characters outside the vocabulary
    are left out of the encoding, which ``Tokenizer.encode`` finds by the offsets.
    """
    vocabulary = {character: token for token, character in enumerate(characters)}
    library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    library.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    library.decoder = decoders.Fuse()
    return library
