"""Inputs of `lutern train`: texts, data sets, token files, and tokenizers made from them. These tests do not need
PyTorch."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from lutern.model_ref.checkpoint import save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import TOKENIZER_FILE, load_tokenizer
from lutern.train import TrainOptions
from lutern.train.prepare import prepare, refuse_short, shape_of
from lutern.train.sources import documents, find_source, map_tokens
from lutern.train.vocabulary import byte_pairs, characters, given, pieces_of

STORY = "once upon a time there was a cat who saw a dog.\nthe dog ran home, and the cat sat down.\n"


def read(path: Path, column: str = "text") -> list[object]:
    source = find_source(path)
    return list(documents(source.training, source.kind, "<|endoftext|>", column))


def write_lines(path: Path, rows: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_text_is_one_document_or_cut_at_its_separator(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("one\n\ntwo\n")
    assert read(path) == ["one\n\ntwo\n"]
    path.write_text("one\n<|endoftext|>\ntwo\n<|endoftext|>\n")
    assert read(path) == ["one", "two"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_json_lines(name: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / name, [{"text": "one"}, {"text": ""}, {"text": "two", "more": 1}])
    assert read(path) == ["one", "two"]
    assert read(write_lines(tmp_path / name, [{"input_ids": [1, 5]}]), "input_ids") == [[1, 5]]


def test_a_folder_has_parts(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001", "train-00001-of-00002", "validation-00000-of-00001", "test"):
        write_lines(tmp_path / "data" / f"{name}.jsonl", [{"text": name}])
    source = find_source(tmp_path)
    assert [file.name[:11] for file in source.training] == ["train-00000", "train-00001"]
    assert [file.name[:10] for file in source.validation] == ["validation"]
    assert read(tmp_path) == ["train-00000-of-00001", "train-00001-of-00002"]


def test_parquet_and_arrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="an optional extra")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["one", "two"], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "train.parquet")
    with pyarrow.OSFile(str(tmp_path / "stream.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as to:
        to.write_table(table)
    with pyarrow.OSFile(str(tmp_path / "file.arrow"), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as to:
        to.write_table(table)
    for name in ("train.parquet", "stream.arrow", "file.arrow"):
        assert read(tmp_path / name) == ["one", "two"], name
        with pytest.raises(LuternError, match="has the columns text, label, but not body; name one with"):
            read(tmp_path / name, "body")
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
        with pytest.raises(LuternError, match=r"cannot be read \("):
            assert read(tmp_path / name) == []


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(LuternError, match="pyarrow, which is not installed; run pip install pyarrow"):
        read(tmp_path)


def test_token_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(9, dtype=np.uint16))
    np.arange(9, dtype="<u2").tofile(tmp_path / "a.bin")
    for name in ("a.npy", "a.bin"):
        tokens = map_tokens(tmp_path / name)
        assert isinstance(tokens, np.memmap) and tokens.tolist() == list(range(9))
    np.save(tmp_path / "b.npy", np.zeros((2, 2)))
    with pytest.raises(LuternError, match=r"no \.npy file with one axis of integers"):
        map_tokens(tmp_path / "b.npy")
    (tmp_path / "b.bin").write_bytes(b"abc")
    with pytest.raises(LuternError, match="odd number of bytes"):
        map_tokens(tmp_path / "b.bin")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[1]", "line 1: a row must have the column text, but this row has no columns"),
        ('{"body": "x"}', "line 1: a row must have the column text, but this row has body; name the column"),
        ('{"text": 5}', "column text holds 5, but must contain texts or lists of token numbers"),
        ("{", "is not JSON with one object a line"),
    ],
)
def test_rows_that_cannot_be_used(row: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(row + "\n")
    with pytest.raises(LuternError, match=message):
        read(tmp_path)


def test_inputs_without_training_data(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"there is no .*missing; give a text, a token file"):
        find_source(tmp_path / "missing")
    with pytest.raises(LuternError, match="has no file of a data set"):
        find_source(tmp_path)
    write_lines(tmp_path / "test.jsonl", [])
    with pytest.raises(LuternError, match="no file to train on"):
        find_source(tmp_path)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(LuternError, match="files of several kinds"):
        find_source(tmp_path)


def test_byte_pairs_are_as_in_the_releases() -> None:
    made = byte_pairs([STORY * 9], 60)
    tokenizer = made.tokenizer
    assert tokenizer.vocab_size == 60
    assert [tokenizer.library.id_to_token(number) for number in range(3)] == ["<unk>", "<s>", "</s>"]
    assert (tokenizer.ahead, made.end, made.keys) == ((1,), [2], {"bos_token_id": 1, "eos_token_id": 2})
    ids = tokenizer.encode(STORY)
    assert ids[0] == 1 and len(ids) < 0.6 * len(STORY)
    assert tokenizer.decode(ids, special=False) == STORY
    assert tokenizer.encode("ONCE") == tokenizer.encode("once"), "capitals must be read as small letters"
    with pytest.raises(LuternError, match="no token for 'é'"):
        tokenizer.encode("é")


def test_many_pieces_have_bytes() -> None:
    # The text needs many different words, or else there are too few pairs for so many pieces.
    generator = np.random.default_rng(3)
    words = ["".join(chr(97 + letter) for letter in generator.integers(0, 26, 6)) for _ in range(600)]
    made = byte_pairs([" ".join(words * 3) + " Capital"], 1100)
    assert made.tokenizer.vocab_size == 1100
    text = "été, 🙂 Capital"
    assert made.tokenizer.decode(made.tokenizer.encode(text), special=False) == text


def test_pieces_that_the_text_does_not_support() -> None:
    with pytest.raises(LuternError, match=r"bpe:5000, but the text supports \d+ pieces only; ask for at most \d+"):
        byte_pairs([STORY], 5000)
    with pytest.raises(LuternError, match=r"bpe:10, but .* special tokens alone are \d+; ask for more than"):
        byte_pairs([STORY], 10)
    for name in ("bpe:", "bpe:0", "bpe:-5", "bpe:1e9", "bpe:99999999"):
        with pytest.raises(LuternError, match="N in bpe:N must be from"):
            pieces_of(name)
    with pytest.raises(LuternError, match="is 'words', but must be character, bpe:N"):
        given("words")


def test_characters_of_one_text_and_of_several() -> None:
    one = characters(["ba"], several=False)
    assert (one.tokenizer.encode("ab"), one.end, one.keys["eos_token_id"]) == ([0, 1], [], None)
    several = characters(["ba", "Ca"], several=True)
    assert (several.tokenizer.encode("abC"), several.end) == ([1, 4, 5, 3], [2])
    with pytest.raises(LuternError, match="no token for 'x'"):
        several.tokenizer.encode("x")


def test_prepared_data_of_one_text(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(STORY * 100)
    data = prepare(path, out, TrainOptions())
    ids = np.concatenate([data.training, data.validation])
    assert data.tokenizer.decode(ids.tolist()) == STORY * 100
    assert len(data.training) == int(0.95 * len(ids))
    pieces = prepare(path, out, TrainOptions(tokenizer="bpe:60"))
    ids = np.concatenate([pieces.training, pieces.validation])
    assert ids.tolist() == pieces.tokenizer.encode(STORY * 100, begin=False), "parts must give the tokens of the whole"
    assert load_tokenizer(out / "data").conventions.eos == (2,)
    refuse_short(data, path, 1024, 0.02)
    with pytest.raises(LuternError, match="too few for crops of 100000 and 64 validation streams"):
        refuse_short(data, path, 100_000, 0.02)


def test_prepared_documents_have_beginnings_and_ends(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("ab<|endoftext|>b")
    data = prepare(path, out, TrainOptions())
    assert [*data.training, *data.validation] == [1, 3, 4, 2, 1, 4, 2]
    write_lines(tmp_path / "rows" / "train.jsonl", [{"text": "ab"}, {"text": "b"}])
    write_lines(tmp_path / "rows" / "validation.jsonl", [{"text": "a"}])
    rows = prepare(tmp_path / "rows", out, TrainOptions())
    assert (rows.training.tolist(), rows.validation.tolist()) == ([1, 3, 4, 2, 1, 4, 2], [1, 3, 2])
    again = prepare(tmp_path / "rows", out, TrainOptions(tokenizer=str(out / "data")))
    assert again.digest == rows.digest


def test_token_files_need_their_tokenizer(tmp_path: Path, out: Path) -> None:
    tokens = tmp_path / "tokens.npy"
    np.save(tokens, np.arange(200, dtype=np.uint16) % 8)
    with pytest.raises(LuternError, match="which only their own tokenizer explains"):
        prepare(tokens, out, TrainOptions())
    file = tmp_path / TOKENIZER_FILE
    file.write_bytes(characters(["abcdefgh"], several=False).files[TOKENIZER_FILE])
    data = prepare(tokens, out, TrainOptions(tokenizer=str(file)))
    assert isinstance(data.training, np.memmap) and len(data.training) == 190
    assert not (out / "data" / "train.npy").exists(), "a token file must be mapped in place, not copied"
    np.save(tokens, np.full(200, 999, np.uint16))
    with pytest.raises(LuternError, match="holds token 999, but the vocabulary has"):
        prepare(tokens, out, TrainOptions(tokenizer=str(tmp_path)))


def test_a_resumed_run_uses_its_first_data(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(STORY * 30)
    digest = prepare(path, out, TrainOptions()).digest
    stamp = (out / "data" / "data.json").stat().st_mtime_ns
    assert prepare(path, out, TrainOptions(resume=True)).digest == digest
    assert (out / "data" / "data.json").stat().st_mtime_ns == stamp, "the data were prepared again"
    for change in (lambda: path.write_text(STORY * 31), lambda: path.unlink() or path.write_text("another" * 400)):
        change()
        with pytest.raises(LuternError, match="was begun with other data or another tokenizer"):
            prepare(path, out, TrainOptions(resume=True))
    assert (out / "data" / "data.json").stat().st_mtime_ns == stamp


def test_a_checkpoint_has_its_shape_and_tokenizer(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(STORY * 30)
    start = tmp_path / "start"
    config = ModelConfig(vocab_size=70, hidden_size=16, num_hidden_layers=1, intermediate_size=24)
    generator = np.random.default_rng(1)
    shapes = config.tensor_shapes.items()
    save_checkpoint(start, config, {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes})
    begun = TrainOptions(start_from=str(start))
    with pytest.raises(LuternError, match=r"has no tokenizer\.json"):
        prepare(path, out, begun)
    for name, content in byte_pairs([STORY * 9], 60).files.items():
        (start / name).write_bytes(content)
    data = prepare(path, out, begun)
    assert data.tokenizer.vocab_size == 60 and set(data.files) >= {"tokenizer.json", "generation_config.json"}
    assert shape_of(begun, 60) == config
    assert shape_of(TrainOptions(), 60).hidden_size == 256
    with pytest.raises(LuternError, match="has hidden_size 16, but 32 is asked for; leave hidden_size out"):
        shape_of(TrainOptions(start_from=str(start), hidden_size=32), 60)
    with pytest.raises(LuternError, match="has a vocabulary of its own"):
        prepare(path, out, TrainOptions(start_from=str(start), tokenizer="bpe:60"))
