"""Tokenizers: a text is the same after encoding and decoding, and a character without a token is reported with its
position."""

import json
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer, load_tokenizer

CHARACTERS = "\n !'.abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer.json").write_text(Tokenizer(character_tokenizer(CHARACTERS)).to_json())
    return load_tokenizer(tmp_path)


def test_capitals_are_read_as_small_letters_where_there_are_none(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("Once UPON a time")) == "once upon a time"
    both = Tokenizer(character_tokenizer("aAb"))
    assert both.decode(both.encode("aA")) == "aA"
    with pytest.raises(LuternError, match="no token for 'B' at position 1"):
        both.encode("aB")


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


# ---------------------------------------------------------------------------------- lost characters


def silent(characters: str, normalizer: normalizers.Normalizer) -> Tokenizer:
    """Return a model of characters that has no unknown token and drops all other characters."""
    library = character_tokenizer(characters)
    library.normalizer = normalizer
    return Tokenizer(library)


@pytest.mark.parametrize(
    ("normalizer", "text", "kept"),
    [
        (normalizers.NFC(), "cafe\u0301 a", "caf\u00e9 a"),
        (normalizers.NFKC(), "\uff43a", "ca"),
        (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), "caf\u00e9", "cafe"),
        (normalizers.BertNormalizer(), "Ca\u0301\u00ad\x00 f\u200b", "ca f"),
        (normalizers.Strip(), "  ca  ", "ca"),
        (normalizers.Replace("-", ""), "c-a", "ca"),
        (normalizers.Lowercase(), "CAF\u00c9", "caf\u00e9"),
        (normalizers.Sequence([normalizers.Lowercase(), normalizers.NFC()]), "E\u0301", "\u00e9"),
    ],
    ids=["nfc", "nfkc", "accents", "bert", "strip", "replace", "lowercase", "both"],
)
def test_characters_that_the_normalizer_changes_are_no_errors(
    normalizer: normalizers.Normalizer, text: str, kept: str
) -> None:
    tokenizer = silent("acef \u00e9", normalizer)
    assert tokenizer.decode(tokenizer.encode(text)) == kept
    for place in (text + "x", "x" + text):
        with pytest.raises(LuternError, match="no token for 'x'"):
            tokenizer.encode(place)


@settings(derandomize=True, database=None, max_examples=200, deadline=None)
@given(st.text("ae\u0301\u00e9 x\u00ad1", max_size=12))
def test_nfc_is_refused_exactly_where_the_normalised_text_lacks_a_token(text: str) -> None:
    known = "ae\u00e9 x"
    tokenizer = silent(known, normalizers.NFC())
    lost = [character for character in unicodedata.normalize("NFC", text) if character not in known]
    if lost:
        with pytest.raises(LuternError, match="no token for"):
            tokenizer.encode(text)
    else:
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("trim", [False, True])
def test_trimmed_offsets_are_not_lost(trim: bool) -> None:
    """The post-processor of GPT-2 omits spaces from the offsets, and a byte that has no token is still found."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    text = "two  words\n é 🙂"
    for missing, lost in (("", ""), ("Ċ", r"'\\n' at position 10"), ("Ł", "'🙂' at position 14"), ("ÿ", "")):
        known = {character: token for token, character in enumerate(alphabet) if character != missing}
        library = tokenizers.Tokenizer(models.BPE(vocab=known, merges=[]))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.post_processor = processors.ByteLevel(trim_offsets=trim)
        library.decoder = decoders.ByteLevel()
        tokenizer = Tokenizer(library)
        if lost:
            with pytest.raises(LuternError, match=f"no token for {lost}"):
                tokenizer.encode(text)
        else:
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_and_whole_words_stand_in_for_characters() -> None:
    """The models have no unknown token; they fall back to bytes, or have only tokens for whole words."""
    tokens = ["a", "<0xC3>", "<0xA9>"]
    library = tokenizers.Tokenizer(models.BPE({t: n for n, t in enumerate(tokens)}, [], byte_fallback=True))
    assert Tokenizer(library).encode("aé") == [0, 1, 2]
    with pytest.raises(LuternError, match="no token for 'ä' at position 1"):
        Tokenizer(library).encode("aä")
    library = tokenizers.Tokenizer(models.BPE({"ab": 0, "c": 1}, [], ignore_merges=True))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert Tokenizer(library).encode("ab c") == [0, 1]
    with pytest.raises(LuternError, match="no token for 'd' at position 3"):
        Tokenizer(library).encode("ab d")


def test_added_tokens_need_no_letters() -> None:
    library = character_tokenizer("ab")
    library.add_tokens(["<x>"])
    tokenizer = Tokenizer(library)
    assert tokenizer.encode("a<x>b") == [0, 2, 1]
    with pytest.raises(LuternError, match="no token for 'x' at position 4"):
        tokenizer.encode("a<x>x")


def test_word_pieces_drop_spaces_and_name_unknown_words() -> None:
    vocabulary = {"[UNK]": 0, "the": 1, "cat": 2, "##s": 3, ".": 4}
    library = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    tokenizer = Tokenizer(library)
    assert tokenizer.encode("The  c\u0301ats.\n") == [1, 2, 3, 4]
    assert tokenizer.decode([1, 2, 3, 4]) == "the cats."
    with pytest.raises(LuternError, match="no token for 'd' at position 4"):
        tokenizer.encode("the dog")


@pytest.mark.parametrize("unk_id", [0, 1])
@pytest.mark.parametrize("bytes_too", [False, True])
def test_unknown_characters_of_unigram_models(unk_id: int, bytes_too: bool) -> None:
    """Unknown characters are found by the number of the unknown token and refused, unless every byte has a token."""
    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0)]
    pieces = pieces if unk_id == 0 else [pieces[1], pieces[0], pieces[2]]
    if bytes_too:
        pieces += [(f"<0x{value:02X}>", -9.0) for value in range(256)]
    library = tokenizers.Tokenizer(models.Unigram(pieces, unk_id, bytes_too))
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = Tokenizer(library)
    if bytes_too:
        assert tokenizer.decode(tokenizer.encode("a\u00e95b")) == "a\u00e95b"
    else:
        with pytest.raises(LuternError, match="no token for '5' at position 2"):
            tokenizer.encode("ab5")


@pytest.mark.parametrize(
    "model", [models.Unigram([("a", 0.0)], None, False), models.WordLevel({"a": 0}, unk_token="<unk>")]
)
def test_models_without_an_unknown_token_refuse_in_one_sentence(model: models.Model) -> None:
    tokenizer = Tokenizer(tokenizers.Tokenizer(model))
    assert tokenizer.encode("a") == [0]
    with pytest.raises(LuternError, match="the tokenizer cannot encode the text"):
        tokenizer.encode("b")


def test_bytes_that_are_no_text_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(LuternError, match="no UTF-8"):
        tokenizer.encode("a\udcff")


def test_numbers_beyond_the_model_are_refused_when_they_are_used() -> None:
    library = character_tokenizer("ab")
    library.add_special_tokens(["<pad>"])
    tokenizer = Tokenizer(library).limit_to(2)
    assert tokenizer.encode("ab") == [0, 1]
    with pytest.raises(LuternError, match="gives number 2 to '<pad>', but the model knows 2 tokens"):
        tokenizer.encode("a<pad>")


@pytest.mark.parametrize("strategy", ["fixed", "longest"])
def test_padding_and_truncation_are_switched_off(strategy: str) -> None:
    library = character_tokenizer("ab")
    library.enable_padding(length=16 if strategy == "fixed" else None, pad_id=1, pad_to_multiple_of=8)
    library.enable_truncation(3)
    tokenizer = Tokenizer.from_json(library.to_str(), "x")
    assert tokenizer.encode("abab") == [0, 1, 0, 1]
    values = json.loads(tokenizer.to_json())
    assert (values["padding"], values["truncation"]) == (None, None)


def test_dropout_of_training_is_switched_off() -> None:
    library = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], dropout=1.0))
    assert library.encode("ab").ids == [0, 1]
    tokenizer = Tokenizer(library)
    assert tokenizer.encode("abab") == [2, 2]
    assert json.loads(tokenizer.to_json())["model"]["dropout"] is None


def test_a_part_is_encoded_as_it_is_in_the_whole() -> None:
    library = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, " ": 3}, [("a", "b")]))
    tokenizer = Tokenizer(library)
    assert tokenizer.encode_body("ab ab", 2) == [3, 2]
    assert tokenizer.encode_body("ab", 1) == [1], "a part inside a token must still be encoded"
    assert tokenizer.encode_body("ab", 2) == []
