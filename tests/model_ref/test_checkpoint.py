"""Checkpoint folders: a written checkpoint is read again, from one file and from shards, one tensor at a time."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lutern.model_ref.checkpoint import load_checkpoint, load_tokenizer, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import open_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint, write_random_checkpoint
from lutern.model_ref.ternarise import CHUNK, ternarise

CONFIG = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 11
TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a small synthetic checkpoint in four shards."""
    write_random_checkpoint(tmp_path / "model", CONFIG, SEED, "test", shard_bytes=10_000)
    return tmp_path / "model"


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_come_back_rounded_to_the_stored_type(tmp_path: Path, dtype: str) -> None:
    tensors = random_checkpoint(CONFIG, SEED).tensors
    save_checkpoint(tmp_path, CONFIG, tensors, dtype)
    read = load_checkpoint(tmp_path)
    assert read.config == CONFIG and set(read.tensors) == set(tensors) and read.synthetic == ""
    for name, values in tensors.items():
        assert read.tensors[name].dtype == np.float32
        assert np.array_equal(read.tensors[name], values.astype(TYPES[dtype]).astype(np.float32)), name


def test_files_are_compatible_with_the_safetensors_library(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, CONFIG, random_checkpoint(CONFIG, SEED).tensors)
    path = tmp_path / "model.safetensors"
    theirs = load_file(path)
    ours = load_checkpoint(tmp_path).tensors
    assert {name: value.shape for name, value in theirs.items()} == CONFIG.tensor_shapes
    assert all(np.array_equal(value.astype(np.float32), ours[name]) for name, value in theirs.items())
    save_file(theirs, path)
    again = load_checkpoint(tmp_path).tensors
    assert all(np.array_equal(again[name], value.astype(np.float32)) for name, value in theirs.items())


def test_shards_are_one_checkpoint(folder: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(names) > 2 and names[0] == f"model-00001-of-{len(names):05}.safetensors"
    assert not (folder / "model.safetensors").exists()
    sharded = load_checkpoint(folder)
    assert sharded.synthetic == "test" and load_tokenizer(folder).vocab_size == CONFIG.vocab_size
    save_checkpoint(tmp_path / "single", CONFIG, sharded.tensors)
    single = load_checkpoint(tmp_path / "single")
    assert all(np.array_equal(single.tensors[name], values) for name, values in sharded.tensors.items())
    assert integer_weights(sharded).h_frac_bits == integer_weights(single).h_frac_bits


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=2000, hidden_size=256, num_hidden_layers=4, intermediate_size=512)
    write_random_checkpoint(tmp_path / "model", config, SEED, "test")
    largest = 4 * 2000 * 256
    checkpoint = load_checkpoint(tmp_path / "model")
    tracemalloc.start()
    for name in checkpoint.tensors:
        assert checkpoint.tensors[name].size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * largest, f"{peak} bytes"


def test_shards_refused(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    name, place = "model.norm.weight", places["weight_map"]["model.norm.weight"]

    def refused(changes: dict[str, object], sentence: str) -> None:
        index.write_text(json.dumps({"weight_map": {**places["weight_map"], **changes}}))
        with pytest.raises(LuternError, match=sentence):
            load_checkpoint(folder)

    outside = ("../model.safetensors", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "x\0y", "é" * 300, 3, None, ["x"])
    for wrong in outside:
        refused({name: wrong}, "names no file for" if wrong is None else "but a shard is a file of the same folder")
    refused({name: "model-00009-of-00004.safetensors"}, "has no model-00009-of-00004.safetensors, which")
    refused({"lm_head.weight": next(iter(places["weight_map"].values()))}, "has no tensor lm_head.weight")
    for text in ("", "[]", "{}", '{"weight_map": 3}', "[" * 100_000, '{"weight_map": null}', "\xff"):
        index.write_text(text, encoding="latin-1")
        with pytest.raises(LuternError, match="is no index of shards"):
            load_checkpoint(folder)
    index.write_bytes(b" " * ((1 << 22) + 1))
    with pytest.raises(LuternError, match="is larger than"):
        load_checkpoint(folder)
    index.write_text(json.dumps(places))
    (folder / place).unlink()
    with pytest.raises(LuternError, match=f"has no {place}, which"):
        load_checkpoint(folder)
    index.unlink()
    with pytest.raises(LuternError, match=r"only shards such as .*, and no model\.safetensors\.index\.json"):
        load_checkpoint(folder)
    for shard in folder.glob("*.safetensors"):
        shard.unlink()
    with pytest.raises(LuternError, match=r"has no model\.safetensors; give a checkpoint folder"):
        load_checkpoint(folder)
    for pickle in ("pytorch_model.bin", "model.pt"):
        (folder / pickle).write_bytes(b"\x80\x04.")
    with pytest.raises(LuternError, match=r"model\.pt, a pickle, which can run code"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(np.nan, "holds NaN or infinity"), (np.inf, "holds NaN or infinity"), (-np.inf, "holds NaN or infinity")],
)
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.lower_bounds"])
def test_weights_that_are_no_numbers(tmp_path: Path, name: str, value: float, sentence: str) -> None:
    tensors = dict(random_checkpoint(CONFIG, SEED).tensors)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = value
    save_checkpoint(tmp_path, CONFIG, tensors)
    with pytest.raises(LuternError, match=f"{name} {sentence}"):
        integer_weights(load_checkpoint(tmp_path))


def test_tensors_of_zeros(tmp_path: Path) -> None:
    tensors = dict(random_checkpoint(CONFIG, SEED).tensors)
    tensors["model.lower_bounds"] = np.zeros_like(tensors["model.lower_bounds"])
    save_checkpoint(tmp_path, CONFIG, tensors)
    integer_weights(load_checkpoint(tmp_path))  # equal lower bounds are allowed
    name = "model.layers.0.attn.i_proj.weight"
    tensors[name] = np.zeros_like(tensors[name])
    save_checkpoint(tmp_path, CONFIG, tensors)
    with pytest.raises(LuternError, match=f"{name} holds nothing but zeros"):
        integer_weights(load_checkpoint(tmp_path))
    tensors[name] = tensors[name] + np.float32(1e-9)
    save_checkpoint(tmp_path, CONFIG, tensors)
    with pytest.raises(LuternError, match=f"{name} gives no trit that is not zero"):
        integer_weights(load_checkpoint(tmp_path))


def test_weights_beyond_any_word(tmp_path: Path) -> None:
    tensors = dict(random_checkpoint(CONFIG, SEED).tensors)
    tensors["model.embeddings.weight"] = tensors["model.embeddings.weight"] * np.float32(1e30)
    save_checkpoint(tmp_path, CONFIG, tensors)
    with pytest.raises(LuternError, match=r"the residual stream can reach .*, but words reach"):
        integer_weights(load_checkpoint(tmp_path))


@pytest.mark.parametrize(("size", "trits"), [("370m", 341_049_344), ("1.3b", 1_298_661_376), ("2.7b", 2_619_473_920)])
def test_published_shapes(size: str, trits: int) -> None:
    """The shapes follow the published rule and have the published number of ternary weights."""
    config = PUBLISHED[size]
    by_rule = {name: value for name, value in config.to_dict().items() if name != "intermediate_size"}
    assert ModelConfig.from_dict(by_rule) == config
    assert config.trits == trits


def test_synthetic_checkpoints_are_repeatable_and_ordinary(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random_checkpoint(tmp_path / folder, CONFIG, seed, "test")
    contents = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in "abc"]
    assert contents[0] == contents[1] != contents[2]
    tensors = load_checkpoint(tmp_path / "a").tensors
    assert tensors["lm_head.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert tensors["model.layers.0.mlp.down_proj.norm.weight"].mean() == pytest.approx(1, abs=0.1)
    assert open_container(tmp_path / "a" / "model.safetensors").metadata["lutern_synthetic"] == "test"
    with pytest.raises(LuternError, match="is there and not empty"):
        write_random_checkpoint(tmp_path / "a", CONFIG, 1, "test")


def test_the_mean_of_chunks_is_that_of_the_whole() -> None:
    """The scale of a matrix is the same bit for bit, no matter how much of the matrix is in memory."""
    random = np.random.default_rng(SEED)
    for shape in ((CHUNK - 1,), (3, CHUNK), (517, 1033)):
        weight = random.standard_normal(shape).astype(np.float32)
        trits, scale = ternarise(weight)
        whole = np.abs(weight.astype(np.float64)).mean()
        assert scale == whole, f"{shape}, seed {SEED}"
        assert np.array_equal(trits, np.clip(np.rint(weight / whole), -1, 1)), f"{shape}, seed {SEED}"
