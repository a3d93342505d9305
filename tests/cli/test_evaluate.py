"""`lutern eval`: both networks on a text, through the one function that training reports with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.evaluate import bits_per_character
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.synthetic import random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer

CONFIG = ModelConfig(vocab_size=4, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
TEXT = "abca cab " * 40
SEED = 2


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_checkpoint(folder, CONFIG, random_checkpoint(CONFIG, SEED).tensors)
    (folder / "tokenizer.json").write_text(Tokenizer(character_tokenizer(" abc")).to_json())
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lutern eval`."""
    command = [sys.executable, "-m", "lutern.cli.main", "eval", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_float_and_integer_side_by_side(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    done = run(str(folder), str(tmp_path / "text.txt"), "--whole", "--streams", "4")
    assert (done.returncode, done.stderr) == (0, "")
    figures = {name: float(value) for name, value in re.findall(r"(float|integer) +([\d.]+) bits", done.stdout)}
    ids = np.array([" abc".index(character) for character in TEXT])
    assert figures["float"] == pytest.approx(bits_per_character(FloatModel(load_checkpoint(folder)), ids, 4), abs=1e-5)
    assert abs(figures["integer"] - figures["float"]) < 0.02


def test_missing_text(folder: Path, tmp_path: Path) -> None:
    done = run(str(folder), str(tmp_path / "none.txt"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"lutern: {tmp_path}/none.txt cannot be read as text ([Errno 2] No such file or directory: "
        f"'{tmp_path}/none.txt'); give a UTF-8 text file, plain or .xz.\n"
    )
