"""Text in parts: with any decoder and any tokens, all parts together are equal to the decoding of the whole."""

from __future__ import annotations

import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from lutern.model_ref.text_stream import TextStream, Writing
from lutern.model_ref.tokenizer import Tokenizer

BYTES = [f"<0x{value:02X}>" for value in (0x41, 0x0A, 0x20, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x99, 0x82, 0xFF)]
FIXED = [
    "<unk>",
    *BYTES,
    "▁",
    "▁▁",
    "▁the",
    "cat",
    "##ing",
    "##",
    "b</w>",
    "</w>",
    "|",
    ".",
    "n't",
    "é",
    "🙂",
    "\ufffd",
    " ",
]
DECODERS = {
    "byte-fallback": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    ),
    "byte-fallback-kept": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
    "bytes-and-metaspace": decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
    "metaspace": decoders.Metaspace(),
    "metaspace-never": decoders.Metaspace(prepend_scheme="never"),
    "byte-level": decoders.ByteLevel(),
    "wordpiece": decoders.WordPiece(),
    "wordpiece-as-it-is": decoders.WordPiece(cleanup=False),
    "bpe": decoders.BPEDecoder(),
    "ctc": decoders.CTC(pad_token="<unk>"),
    "fuse": decoders.Fuse(),
    "none": None,
}
many = settings(derandomize=True, database=None, max_examples=150, deadline=None)


def make(kind: str, words: list[str]) -> Tokenizer:
    """Return a tokenizer with a decoder, added words, two special tokens, and an added token that is not special."""
    known = sorted(pre_tokenizers.ByteLevel.alphabet()) if kind == "byte-level" else FIXED
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*known, *words]))}
    library = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    if DECODERS[kind] is not None:
        library.decoder = DECODERS[kind]
    library.add_special_tokens(["<s>", "</s>"])
    library.add_tokens(["<extra>"])
    return Tokenizer(library)


words = st.lists(st.text(alphabet="ab▁Ġ #.é", min_size=1, max_size=4), max_size=8)


@many
@given(st.sampled_from(sorted(DECODERS)), words, st.data())
def test_the_parts_are_the_decoding_of_the_whole(kind: str, words: list[str], data: st.DataObject) -> None:
    """The tokens are random, some are unknown to the tokenizer, and the first few arrive together as a prompt."""
    tokenizer = make(kind, words)
    number = st.integers(0, tokenizer.vocab_size + 2)
    near = st.integers(max(0, tokenizer.vocab_size - 14), tokenizer.vocab_size - 1)
    ids = data.draw(st.lists(st.one_of(number, near, st.integers(1, len(BYTES))), min_size=1, max_size=14))
    cut = data.draw(st.integers(0, len(ids)))
    stream = TextStream(tokenizer)
    parts = [stream.push(ids[:cut]), *(stream.push([token]) for token in ids[cut:])]
    whole = tokenizer.library.decode(ids, skip_special_tokens=True)
    assert whole.startswith("".join(parts))
    assert "".join(parts) + stream.finish() == whole, (kind, ids)
    assert not any(part.endswith("\ufffd") for part in parts), "a part ends in an unfinished character"


@many
@given(st.sampled_from(["byte-fallback", "byte-level", "metaspace", "wordpiece"]), st.data())
def test_stops_cut_the_text_wherever_they_lie(kind: str, data: st.DataObject) -> None:
    """The printed text is the decoding of the whole, up to the first stop text after the prompt."""
    tokenizer = make(kind, [])
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), min_size=2, max_size=14))
    cut = data.draw(st.integers(1, len(ids) - 1))
    whole = tokenizer.text_of(ids)
    first = len(tokenizer.text_of(ids[:cut]))
    found = st.integers(first, max(first, len(whole) - 1)).map(lambda place: whole[place : place + 3])
    stops = data.draw(st.lists(st.one_of(found, st.text("ab ", min_size=1, max_size=2)), max_size=3))
    writing = Writing(tokenizer, ids[:cut], stops=stops)
    printed = writing.take()
    for token in ids[cut:]:
        ended = writing.push(token)
        printed += writing.take()
        if ended:
            break
    printed += writing.finish()
    places = [place for stop in stops if stop and (place := whole.find(stop, first)) >= 0]
    assert printed == whole[: min(places, default=len(whole))], (kind, ids, cut, stops)


def test_a_run_of_bytes_is_given_whole() -> None:
    """The bytes of a run are decoded together, so one wrong byte makes the whole run unreadable."""
    tokenizer = make("byte-fallback", [])
    numbers = [tokenizer.library.token_to_id(token) for token in ("<0x41>", "<0xC3>", "<0xA9>", "cat")]
    stream = TextStream(tokenizer)
    assert [stream.push([token]) for token in numbers] == ["", "", "", "Aécat"]
    stream = TextStream(tokenizer)
    assert [stream.push([token]) for token in (numbers[0], numbers[1], numbers[3])] == ["", "", "\ufffd\ufffdcat"]


def test_ends_and_hidden_prompts() -> None:
    tokenizer = make("fuse", [])
    cat, end = tokenizer.library.token_to_id("cat"), tokenizer.library.token_to_id("</s>")
    writing = Writing(tokenizer, [cat, cat], ends=[end], hidden=True)
    assert (writing.push(cat), writing.take(), writing.push(end)) == (False, "cat", True)
    assert (writing.take(), writing.finish(), writing.text, writing.ended_by, writing.count) == ("", "", "cat", end, 2)
