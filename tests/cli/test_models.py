"""`lutern new`, `convert` and `inspect` as a user runs them, and `generate` with the files that they write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.synthetic import write_random_checkpoint
from lutern.model_ref.ternarise import ternarise
from processes import lutern as run

CONFIG = ModelConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that contains a small sharded checkpoint and its image."""
    folder = tmp_path_factory.mktemp("models")
    write_random_checkpoint(folder / "model", CONFIG, SEED, "random numbers", shard_bytes=20_000)
    done = run("convert", str(folder / "model"), "-o", str(folder / "image"))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert f"{CONFIG.trits:,} ternary weights" in done.stdout and "synthetic (random numbers)" in done.stdout
    return folder


def test_an_image_writes_what_its_checkpoint_writes(folder: Path) -> None:
    common = ("ab", "--on", "golden", "-n", "8", "-t", "0.9", "--model")
    texts = [run("generate", *common, str(folder / name)) for name in ("model", "image")]
    assert texts[0].stdout == texts[1].stdout and texts[0].stdout.startswith("ab"), texts[1].stderr
    assert all("synthetic weights (random numbers)" in text.stderr for text in texts)


@pytest.mark.parametrize("name", ["model", "image"])
def test_inspect(folder: Path, name: str) -> None:
    done = run("inspect", str(folder / name))
    assert (done.returncode, done.stderr) == (0, "")
    tensors, totals, machines = done.stdout.split("\n\n")
    size = (folder / "image").stat().st_size
    assert f"as an image {size:,}, " in totals if name == "model" else f"image of {size:,} bytes, " in totals
    stored = sum(path.stat().st_size for path in (folder / "model").glob("*.safetensors"))
    assert name == "image" or f"{stored:,} bytes in model-00001-of-" in totals
    assert name == "image" or "config.json: keys of the config that do not change the network: arch" in totals
    last = machines.splitlines()[-1]
    assert (
        last.startswith(f"{folder / name} fits orangecrab-25f with ddr3-x16-25f at ")
        and "tokens/s by the cycle model; " in last
    )
    lines = [line.split("\t") for line in tensors.splitlines()]
    assert lines[0] == ["tensor", "shape", "count", "stored_as", "zero_share", "bits_per_weight", "bytes"]
    gate = next(line for line in lines if line[0] == "model.layers.*.mlp.gate_proj.weight")
    assert gate[1:4] == ["96 x 32", "2", "trits" if name == "image" else "BF16"]
    assert "synthetic: random numbers" in totals and f"{CONFIG.trits:,} ternary weights" in totals
    fits = {line.split("\t")[0]: line.split("\t")[3:] for line in machines.splitlines()}
    assert fits["sim-64"] == ["true", ""] and fits["tiny"][0] == "false"
    assert fits["tiny"][1] == "the model's vocabulary is 96, but tiny holds at most 64 (max_vocab)"
    one_each = run("inspect", "--all", str(folder / name)).stdout
    assert "model.layers.1.mlp.gate_proj.weight" in one_each and "layers.*" not in one_each


def test_a_token_beyond_the_model_is_refused_when_it_is_used(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "model").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["~"] = 96
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = run("convert", str(tmp_path), "-o", str(tmp_path / "image"))
    assert (done.returncode, done.stderr) == (0, "")
    for name in (tmp_path, tmp_path / "image"):
        common = ("--on", "golden", "-n", "1", "-t", "0", "--model", str(name))
        assert run("generate", "ab", *common).returncode == 0
        assert (
            run("generate", "a~", *common).stderr
            == "lutern: the tokenizer gives number 96 to '~', but the model knows 96 tokens; leave out that text, or "
            "give the tokenizer of the model's training.\n"
        )


def test_images_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes((folder / "image").read_bytes()[:-1])
    for command in (["inspect"], ["generate", "--on", "golden", "--model"]):
        done = run(*command, str(tmp_path / "image"))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"lutern: {tmp_path}/image is truncated or no image file"), done.stderr


def test_new(tmp_path: Path) -> None:
    out = str(tmp_path / "model")
    done = run("new", "--size", "370m", "--layers", "1", "--seed", "3", "--shard-bytes", "80000000", "-o", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert "random numbers: lutern new --size 370m --seed 3 --layers 1" in done.stdout
    assert len(list((tmp_path / "model").glob("model-*-of-00003.safetensors"))) == 3
    again = run("new", "--size", "370m", "-o", out)
    assert again.stderr == f"lutern: {out} is there and not empty; give a folder that is new.\n"
    other = run("new", "--size", "7b", "-o", out)
    assert other.stderr == "lutern: there is no size 7b; choose one of 370m, 1.3b, 2.7b.\n"


def test_prefix_and_ternary_weights_are_reported(folder: Path, tmp_path: Path) -> None:
    """Every command that reads the checkpoint or its image reports on standard error that a prefix was removed and that
    weights were ternary already. `lutern inspect` also reports this in its output."""
    model = load_checkpoint(folder / "model")
    tensors = dict(model.tensors)
    for name in CONFIG.projections:
        trits, scale = ternarise(tensors[f"{name}.weight"])
        tensors[f"{name}.weight"] = trits * np.float32(scale)
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "model" / name).write_bytes((folder / "model" / name).read_bytes())
    save_file({f"module.{name}": values for name, values in tensors.items()}, tmp_path / "model" / "model.safetensors")
    commands = (
        ["generate", "ab", "--on", "golden", "-n", "8", "-t", "0", "--model", str(tmp_path / "model")],
        ["convert", str(tmp_path / "model"), "-o", str(tmp_path / "image")],
        ["inspect", str(tmp_path / "model")],
        ["inspect", str(tmp_path / "image")],
        ["generate", "ab", "--on", "golden", "-n", "8", "-t", "0", "--model", str(tmp_path / "image")],
    )
    texts = []
    for command in commands:
        done = run(*command)
        assert done.returncode == 0, done.stderr
        for note in (
            "all tensor names begin with module., which is taken off",
            "13 of 13 matrices are ternary already",
        ):
            assert done.stderr.count(note) == 1, f"{command}: {done.stderr}"
            assert done.stdout.count(f"read: {note}") == (command[0] == "inspect"), f"{command}: {done.stdout}"
        texts.append(done.stdout)
    assert texts[0] == texts[-1]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "ridger/MMfreeLM-370M",
            "nothing is downloaded; if it is a name of the Hugging Face hub, fetch it with `hf downl",
        ),
        ("{}/model/config.json", "{}/model/config.json is one file of a checkpoint; give its folder {}/model."),
        ("{}/model/model-00001-of-00003.safetensors", "is one file of a checkpoint; give its folder {}/model."),
        ("{}/x.gguf", "{}/x.gguf is a GGUF file of llama.cpp, no image file; give the safetensors checkpoint that"),
        (
            "{}/x.bin",
            "{}/x.bin is a zip archive, as torch.save writes one: a pickle, which can run code, no image file",
        ),
    ],
)
def test_files_that_are_no_models(folder: Path, name: str, sentence: str) -> None:
    (folder / "x.gguf").write_bytes(b"GGUF\x03")
    (folder / "x.bin").write_bytes(b"PK\x03\x04")
    for command in (["inspect"], ["generate", "--on", "golden", "--model"]):
        done = run(*command, name.format(folder))
        assert (done.returncode, done.stdout) == (1, "") and sentence.format(folder, folder) in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1


def test_an_image_is_not_converted_again(folder: Path, tmp_path: Path) -> None:
    done = run("convert", str(folder / "image"), "-o", str(tmp_path / "again"))
    assert done.stderr.endswith("image is an image already; give the checkpoint folder that it was made from.\n")
    assert done.returncode == 1 and not (tmp_path / "again").exists()


def test_the_board_of_inspect(folder: Path) -> None:
    done = run("inspect", str(folder / "model"), "--board", "ulx3s-25f")
    assert done.stdout.splitlines()[-1].endswith("; ulx3s-25f holds it too."), done.stdout
    assert run("inspect", str(folder / "model"), "--board", "nowhere").stderr.startswith(
        "lutern: there is no board now"
    )
