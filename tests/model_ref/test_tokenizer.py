"""Tokenizers: what goes in comes out, and a character that has no token is named with its position."""

from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer, load_tokenizer

CHARACTERS = "\n !'.abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer.json").write_text(Tokenizer(character_tokenizer(CHARACTERS)).to_json())
    return load_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["", "a", "once upon a time\n\n it's  two spaces. ", CHARACTERS, " \n \n"])
def test_characters_come_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids == [CHARACTERS.index(character) for character in text]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("text", "character", "position"), [("he1lo", "1", 2), ("\tab", r"\\t", 0), ("aé", "é", 1), ("a b 🙂", "🙂", 4)]
)
def test_a_character_without_a_token_is_named(tokenizer: Tokenizer, text: str, character: str, position: int) -> None:
    with pytest.raises(LuternError, match=f"no token for '{character}' at position {position}"):
        tokenizer.encode(text)


def test_a_token_outside_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == len(CHARACTERS)
    for token in (-1, len(CHARACTERS)):
        with pytest.raises(LuternError, match=f"token {token} is outside"):
            tokenizer.decode([token])


def test_the_unknown_token_is_never_used() -> None:
    library = tokenizers.Tokenizer(models.WordLevel({"<unk>": 0, "cat": 1, "dog": 2}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(library)
    assert tokenizer.encode("cat dog") == [1, 2]
    with pytest.raises(LuternError, match="no token for 'b' at position 4"):
        tokenizer.encode("cat bird")


def test_byte_level_tokenizers_know_every_character() -> None:
    alphabet = {character: token for token, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    library = tokenizers.Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    tokenizer = Tokenizer(library)
    assert tokenizer.decode(tokenizer.encode("aé 🙂\t")) == "aé 🙂\t"


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(LuternError, match="is no tokenizer"):
        load_tokenizer(tmp_path)
