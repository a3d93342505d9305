"""`lutern convert --calibrate`, and what `lutern inspect` prints about the calibration."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest

from lutern.firmware.image import open_image
from lutern.model_ref.calibrate import observe, text_tokens
from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.synthetic import random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer
from processes import lutern as run

CONFIG = ModelConfig(vocab_size=4, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
GATE = "model.layers.0.mlp.gate_proj"
TEXT = "abca cab " * 300
SEED = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tensors = dict(random_checkpoint(CONFIG, SEED).tensors)
    tensors[f"{GATE}.weight"] = tensors[f"{GATE}.weight"] * np.float32(1e6)
    save_checkpoint(folder, CONFIG, tensors)
    (folder / "tokenizer.json").write_text(Tokenizer(character_tokenizer(" abc")).to_json())
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_calibrated_on_a_text(folder: Path, tmp_path: Path, packed: bool) -> None:
    text = tmp_path / ("text.txt.xz" if packed else "text.txt")
    text.write_bytes(lzma.compress(TEXT.encode()) if packed else TEXT.encode())
    image = tmp_path / "image"
    done = run("convert", str(folder), "-o", str(image), "--calibrate", str(text))
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        f"calibrated on 2,048 tokens of {text}" in done.stdout
        and "warning: the ranges of 1 words are calibrated" in done.stdout
    )
    opened = open_image(image)
    assert opened.calibrated == {GATE}
    ids = text_tokens([" abc".index(character) for character in TEXT])
    wanted = {name: seen.rounded() for name, seen in observe(load_checkpoint(folder), ids).items()}
    assert opened.activations == wanted
    lines = [line.split("\t") for line in run("inspect", str(image)).stdout.splitlines()]
    assert ["activation", "word_holds", "rests_on", "largest", "rms"] in lines
    cells = {line[0]: line[1:] for line in lines if line[0] in wanted and len(line) == 5}
    assert set(cells) == set(wanted)
    for name, (holds, rests_on, largest, rms) in cells.items():
        assert rests_on == ("calibration" if name == GATE else "proof")
        assert (float(largest), float(rms)) == (wanted[name].largest, wanted[name].rms)
        assert float(holds) > float(largest) or name == GATE


def test_texts_that_cannot_calibrate(folder: Path, tmp_path: Path) -> None:
    for content, reason in (("", "contains no text"), ("abd", "has no token for 'd'")):
        (tmp_path / "text").write_text(content)
        done = run("convert", str(folder), "-o", str(tmp_path / "image"), "--calibrate", str(tmp_path / "text"))
        assert done.returncode == 1 and reason in done.stderr and not (tmp_path / "image").exists()


def test_embeddings_of_12_bits(tmp_path: Path) -> None:
    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    assert run("convert", "demo-small", "-o", str(wide)).returncode == 0
    done = run("convert", "demo-small", "-o", str(narrow), "--embedding-bits", "12")
    assert (done.returncode, done.stderr) == (0, "") and "embeddings coded in 12 bits with" in done.stdout
    sizes = [open_image(path).tensor("model.embeddings.weight").nbytes for path in (wide, narrow)]
    assert sizes == [38 * 128 * 2, 38 * 128 * 3 // 2] and narrow.stat().st_size < wide.stat().st_size
    shown = run("inspect", str(narrow)).stdout
    assert "embeddings of 12 bits" in shown and "\titems of 12 bits\t" in shown
    done = run("convert", "demo-small", "-o", str(tmp_path / "none"), "--embedding-bits", "13")
    assert done.returncode == 1 and "--embedding-bits is 13; give 16 or 12." in done.stderr
    assert not (tmp_path / "none").exists()


def test_files_of_a_checkpoint_are_not_replaced(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in before:
        done = run("convert", str(folder), "-o", str(folder / name))
        assert done.returncode == 1 and "is a file of a checkpoint and is not replaced" in done.stderr, name
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for _ in range(2):  # an image with such a name may be replaced, because it is no file of a checkpoint
        assert run("convert", str(folder), "-o", str(folder / "image.safetensors")).returncode == 0
