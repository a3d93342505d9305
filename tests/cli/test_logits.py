"""`lutern logits` writes arrays for comparison with another implementation, and refuses each bad file of tokens."""

from __future__ import annotations

import io
import os
import pickle
import resource
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lutern.cli.logits import read_ids, write_logits
from lutern.firmware.image import write_image
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.comparison import relative_error
from lutern.model_ref.errors import LuternError
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.output_files import UNFINISHED
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer

TINY = Path(__file__).parents[1] / "data" / "tiny"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    np.save(tmp_path / "ids.npy", np.load(TINY / "expected.npz")["ids"])
    return tmp_path / "ids.npy"


def test_float_is_the_published_network(tokens: Path, tmp_path: Path) -> None:
    expected = np.load(TINY / "expected.npz")
    write_logits(str(TINY), tokens, tmp_path / "out.npz", "float")
    got = np.load(tmp_path / "out.npz")
    for name in ("logits", "hidden"):
        assert got[name].dtype == np.float32 and got[name].shape == expected[name].shape
        assert relative_error(got[name], expected[name]) < 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.npy", "out.npz"]


def test_integer_is_the_golden_model_from_checkpoint_and_image(tokens: Path, tmp_path: Path) -> None:
    expected = np.load(TINY / "expected.npz")
    weights = integer_weights(load_checkpoint(TINY))
    write_image(tmp_path / "tiny.lutern", weights, Tokenizer(character_tokenizer("ab")).to_json(), "a test")
    for index, model in enumerate((TINY, tmp_path / "tiny.lutern")):
        write_logits(str(model), tokens, tmp_path / f"{index}.npz")
    first, second = np.load(tmp_path / "0.npz"), np.load(tmp_path / "1.npz")
    assert np.array_equal(first["logits"], second["logits"]) and np.array_equal(first["hidden"], second["hidden"])
    golden = IntegerModel(weights)
    state = golden.initial_state(1)
    for token, row in zip(expected["ids"], first["logits"], strict=True):
        wanted, state = golden.step(np.array([token]), state)
        assert np.array_equal(wanted[0], row)
    assert relative_error(first["hidden"], expected["hidden"]) < 0.02
    with pytest.raises(LuternError, match="holds no float weights"):
        write_logits(str(tmp_path / "tiny.lutern"), tokens, tmp_path / "no.npz", "float")
    assert not (tmp_path / "no.npz").exists()


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([1, "a", None], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(3))
    return buffer.getvalue()


GOOD = saved(np.arange(5))
BAD = {
    "empty": b"",
    "text": b"1 2 3\n",
    "pickle": pickle.dumps([1, 2]),
    "pickled-array": pickled(),
    "several": zipped(),
    "no-zip": zipped()[:40],
    "float": saved(np.array([1.0, 2.0])),
    "bool": saved(np.array([True])),
    "two-dimensional": saved(np.zeros((2, 2), np.int64)),
    "scalar": saved(np.array(3)),
    "no-token": saved(np.zeros(0, np.int64)),
    "too-large": saved(np.array([0, 10])),
    "negative": saved(np.array([-1])),
    "beyond-int64": saved(np.array([2**64 - 1], np.uint64)),
    "claims-too-much": GOOD.replace(b"(5,)", b"(9999999999,)".ljust(4))[:200],
    "shape-wraps": GOOD.replace(b"(5,), }      ", b"(2**62,4), }"),
    "negative-shape": GOOD.replace(b"(5,)", b"(-5,)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tokens_are_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "ids.npy").write_bytes(BAD[name])
    with pytest.raises(LuternError) as refused:
        read_ids(tmp_path / "ids.npy", 10)
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for length in range(len(GOOD)):
        (tmp_path / "ids.npy").write_bytes(GOOD[:length])
        with pytest.raises(LuternError):
            read_ids(tmp_path / "ids.npy", 10)


def test_missing_things(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(LuternError, match="there is no file"):
        read_ids(tmp_path / "none.npy", 10)
    with pytest.raises(LuternError, match="there is no folder"):
        write_logits(str(TINY), tokens, tmp_path / "none" / "out.npz")
    with pytest.raises(LuternError, match="there are no double numerics"):
        write_logits(str(TINY), tokens, tmp_path / "out.npz", "double")
    with pytest.raises(LuternError, match="there is no model"):
        write_logits(str(tmp_path / "none"), tokens, tmp_path / "out.npz")


def test_pipes_and_folders_are_refused(tokens: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LuternError, match="is a named pipe, no plain file"):
        read_ids(tmp_path / "pipe", 10)
    for name in ("pipe", "."):
        with pytest.raises(LuternError, match="give the name of a file"):
            write_logits(str(TINY), tokens, tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()


def test_a_failure_leaves_the_old_file(tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_bytes(b"old")
    broken = tmp_path / "broken"
    shutil.copytree(TINY, broken)
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(LuternError):
        write_logits(str(broken), tokens, tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == b"old"
    write_logits(str(TINY), tokens, tmp_path / "out.npz")
    assert zipfile.is_zipfile(tmp_path / "out.npz")


def test_a_full_disk(tokens: Path, tmp_path: Path) -> None:
    """If the disk is full, a process that writes into a mapped file gets SIGBUS. The command must print an error
    instead."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(LuternError, match=r"/out\.npz cannot be written \(File too large\); choose a folder that"):
            write_logits(str(TINY), tokens, tmp_path / "out.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out.npz").exists() and not list(tmp_path.glob(f"{UNFINISHED}*"))
