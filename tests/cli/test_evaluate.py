"""`lutern eval` computes the bits per character of a text with the float network and with the integer network. Training
reports its results with the same function."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from lutern.cli.evaluate import counted
from lutern.firmware.image import write_image
from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.evaluate import bits_per_character
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer
from processes import Finished, lutern

CONFIG = ModelConfig(vocab_size=4, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
TEXT = "abca cab " * 40
SEED = 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_checkpoint(folder, CONFIG, random_checkpoint(CONFIG, SEED).tensors)
    (folder / "tokenizer.json").write_text(Tokenizer(character_tokenizer(" abc")).to_json())
    return folder


def run(*arguments: str) -> Finished:
    """Run `lutern eval`."""
    return lutern("eval", *arguments)


def test_float_and_integer_side_by_side(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    done = run(str(folder), str(tmp_path / "text.txt"), "--whole", "--streams", "4")
    assert (done.returncode, done.stderr) == (0, "")
    figures = {name: float(value) for name, value in re.findall(r"(float|integer) +([\d.]+) bits", done.stdout)}
    ids = np.array([" abc".index(character) for character in TEXT])
    assert figures["float"] == pytest.approx(bits_per_character(FloatModel(load_checkpoint(folder)), ids, 4), abs=1e-5)
    assert abs(figures["integer"] - figures["float"]) < 0.02
    assert "saturated: h 0, i 0, S 0, gate 0\nranges: proved\n" in done.stdout


def test_image_has_integer_figures_only(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    image = tmp_path / "model.lutern"
    write_image(image, integer_weights(load_checkpoint(folder)), (folder / "tokenizer.json").read_text(), "a test")
    results = [run(str(model), str(tmp_path / "text.txt"), "--whole", "--streams", "4") for model in (folder, image)]
    assert [done.returncode for done in results] == [0, 0]
    lines = [[line for line in done.stdout.splitlines() if line.startswith("integer  ")] for done in results]
    assert lines[0] == lines[1] and len(lines[0]) == 1
    assert not re.search("float", results[1].stdout)


def test_few_characters(folder: Path, tmp_path: Path) -> None:
    """A short text is cut into few streams, and a warning follows its figures. In formats for programs, the warning is
    on standard error."""
    (tmp_path / "text.txt").write_text(TEXT)
    done = run(str(folder), str(tmp_path / "text.txt"), "--whole")
    warning = f"warning: {len(TEXT) - 1:,} characters are few: figures of a similar text may differ by tenths of a bit."
    assert f"{len(TEXT) - 1:,} characters in 1 stream\n" in done.stdout and warning in done.stdout
    done = run(str(folder), str(tmp_path / "text.txt"), "--whole", "--format", "json")
    assert [row["numerics"] for row in json.loads(done.stdout)] == ["float", "integer"] and warning in done.stderr
    (tmp_path / "long.txt").write_text(TEXT * 30)
    assert "warning" not in run(str(folder), str(tmp_path / "long.txt"), "--whole").stdout


def test_characters_and_tokens_are_counted_separately() -> None:
    """A token of this tokenizer has two characters, so there are half as many tokens as characters. Neither count
    includes the first token of each stream."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    library.decoder = tokenizers.decoders.Fuse()
    tokenizer = Tokenizer(library)
    ids = np.array(tokenizer.encode("ab" * 20))
    assert counted(tokenizer, ids, 4) == (2 * 16, 16)


def test_missing_text(folder: Path, tmp_path: Path) -> None:
    done = run(str(folder), str(tmp_path / "none.txt"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"lutern: {tmp_path}/none.txt cannot be read (No such file or directory); give a text file, plain or .xz.\n"
    )
