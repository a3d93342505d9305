"""Folders: which files contain the weights, and what is said of a folder or a name without weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.synthetic import random_checkpoint, write_random_checkpoint
from lutern.model_ref.weight_files import not_a_folder

CONFIG = ModelConfig(vocab_size=12, hidden_size=8, num_hidden_layers=2, intermediate_size=8)
SEED = 3
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n"
fast = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a checkpoint of one file."""
    write_random_checkpoint(tmp_path / "model", CONFIG, SEED, "test")
    return tmp_path / "model"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Make the same checkpoint in several files."""
    write_random_checkpoint(tmp_path / "shards", CONFIG, SEED, "test", shard_bytes=600)
    return tmp_path / "shards"


def refusal(path: Path) -> str:
    with pytest.raises(LuternError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 1000, text
    return text


def renamed(folder: Path, name_of: Callable[[str], str], more: dict[str, np.ndarray] | None = None) -> None:
    """Rename the weights, and add more tensors."""
    path = folder / "model.safetensors"
    save_file({**{name_of(name): value for name, value in load_file(path).items()}, **(more or {})}, path)


@fast
@given(
    prefix=st.sampled_from(["_orig_mod.", "module.", "transformer.", "base_model.model.", "module._orig_mod.", "a.b."])
)
def test_a_prefix_only_adds_a_note(folder: Path, prefix: str) -> None:
    plain = load_checkpoint(folder)
    other = folder.parent / "prefixed"
    shutil.copytree(folder, other, dirs_exist_ok=True)
    renamed(other, lambda name: prefix + name)
    checkpoint = load_checkpoint(other)
    assert checkpoint.notes == (f"all tensor names begin with {prefix}, which is taken off",)
    assert all(np.array_equal(checkpoint.tensors[name], values) for name, values in plain.tensors.items())
    assert checkpoint.tensors.entry("lm_head.weight").shape == (12, 8)  # type: ignore[attr-defined]


def test_tensors_that_nothing_uses(folder: Path, shards: Path) -> None:
    renamed(folder, str, {"model.rotary_emb.inv_freq": np.ones(4, np.float32)})
    checkpoint = load_checkpoint(folder)
    assert checkpoint.notes == () and "buffer that no weight depends on: model.rotary_emb" in checkpoint.assumed[-1]
    renamed(folder, str, {"lm_head.bias": np.zeros(12, np.float32)})
    assert "lm_head.bias (a bias)" in refusal(folder)
    index = shards / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    table["weight_map"]["lm_head.bias"] = table["weight_map"]["lm_head.weight"]
    index.write_text(json.dumps(table))
    assert "lm_head.bias (a bias)" in refusal(shards)
    del table["weight_map"]["lm_head.bias"]
    index.write_text(json.dumps(table))
    place = shards / table["weight_map"]["lm_head.weight"]
    save_file({**load_file(place), "model.position_ids": np.ones(4, np.float32)}, place)
    load_checkpoint(shards)
    save_file({**load_file(place), "lm_head.bias": np.zeros(12, np.float32)}, place)
    assert "has lm_head.bias, which is not in model.safetensors.index.json" in refusal(shards)


def test_the_eps_of_the_config_is_used(folder: Path) -> None:
    """The weights are so small that another eps changes the results."""
    tensors = dict(random_checkpoint(CONFIG, SEED).tensors)
    tensors["model.embeddings.weight"] = tensors["model.embeddings.weight"] * np.float32(1e-6)
    results = []
    for key, eps in (("rms_norm_eps", 1e-6), ("rms_norm_eps", 1e-3), ("norm_eps", 1e-3)):
        save_checkpoint(folder, CONFIG, tensors, "float32")
        config = json.loads((folder / "config.json").read_text())
        del config["rms_norm_eps"]
        (folder / "config.json").write_text(json.dumps({**config, key: eps}))
        model = FloatModel(load_checkpoint(folder))
        results.append(model.step([1], model.initial_state(1))[0])
    assert np.array_equal(results[1], results[2])
    assert np.abs(results[0] - results[1]).max() > 0.01 * np.abs(results[0]).max(), f"seed {SEED}"


def test_the_single_file_is_read_where_shards_are_beside_it(folder: Path, shards: Path) -> None:
    for path in shards.iterdir():
        if path.name.startswith("model"):
            shutil.copy(path, folder)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.notes == (
        "model.safetensors is read, not the shards of model.safetensors.index.json beside it, as the transformers "
        "library does",
    )
    assert [path.name for path in checkpoint.files] == ["model.safetensors"]
    for stale in (POINTER.encode(), b"", (folder / "model.safetensors").read_bytes()[:-8]):
        (folder / "model.safetensors").write_bytes(stale)
        assert "An index of shards is beside it: if the shards are the model, remove model.safetensors." in refusal(
            folder
        )
    (folder / "model.safetensors").unlink()
    assert load_checkpoint(folder).notes == ()


def test_a_file_that_is_not_read_is_named(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert load_checkpoint(folder).notes == ("consolidated.safetensors in the folder is not read",)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "model.safetensors.index.json", "a shard"]
)
def test_lfs_pointers(folder: Path, shards: Path, name: str) -> None:
    target = folder if name == "model.safetensors" else shards
    path = sorted(shards.glob("model-*.safetensors"))[1] if name == "a shard" else target / name
    path.write_text(POINTER)
    assert refusal(target).startswith(f"{path} is a Git LFS pointer, a short text in place of a large file, no ")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapters_beside_or_instead_of_the_weights(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    for missing in ("model.safetensors", "config.json"):
        assert f"has {name}, an adapter whose weights add to the model's; merge it" in refusal(folder)
        (folder / missing).unlink()
    assert f"has {name}, an adapter" in refusal(folder)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            ["model-00001-of-00002.safetensors"],
            "only shards such as model-00001-of-00002.safetensors, and no model.safe",
        ),
        (["weights.safetensors"], "has no model.safetensors but weights.safetensors; rename the file"),
        (
            ["checkpoint-9/config.json", "checkpoint-500/config.json"],
            "the last of which is checkpoint-500; give {}/check",
        ),
        (["blobs/x", "refs/main", "snapshots/0a1b/config.json"], "the cache of a download; give {}/snapshots/0a1b."),
        (["MMfreeLM-370M/config.json"], "a folder MMfreeLM-370M with a config.json; give {}/MMfreeLM-370M."),
        (
            ["pytorch_model.bin", "optimizer.pt"],
            "has no model.safetensors but pytorch_model.bin, a pickle, which can run",
        ),
        (["pytorch_model.bin.index.json"], "but pytorch_model.bin.index.json, a pickle"),
        (
            ["optimizer.pt", "trainer_state.json"],
            "the folder of a training run without model.safetensors (it has optim",
        ),
        (["global_step500/x.pt"], "the folder of a training run without model.safetensors (it has global_step500)"),
        (["tf_model.h5"], "but tf_model.h5, another format"),
        (["README.md"], "has no model.safetensors; give a checkpoint folder in the published format."),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_folders_without_weights(folder: Path, files: list[str], sentence: str, config: bool) -> None:
    (folder / "model.safetensors").unlink()
    if not config:
        (folder / "config.json").unlink()
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    assert sentence.format(folder) in refusal(folder)


def test_a_checkpoint_of_the_trainer_is_a_checkpoint(folder: Path) -> None:
    step = folder.rename(folder.parent / "checkpoint-500")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"):
        (step / name).write_bytes(b"PK\x03\x04")
    assert load_checkpoint(step).notes == ()
    assert f"the last of which is checkpoint-500; give {step}." in refusal(step.parent)
    (step / "config.json").unlink()
    assert "has no config.json; copy it from the folder that the weights come from" in refusal(step)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_in_place_of_its_folder(folder: Path, name: str) -> None:
    assert refusal(folder / name) == f"{folder / name} is one file of a checkpoint; give its folder {folder}."


@fast
@given(
    owner=st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,9}", fullmatch=True),
    model=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}", fullmatch=True),
    start=st.sampled_from(["", "https://huggingface.co/", "hf.co/", "http://www.huggingface.co/"]),
    end=st.sampled_from(["", "/", "/tree/main"]),
)
def test_names_of_the_hub(owner: str, model: str, start: str, end: str) -> None:
    if Path(owner).exists() or (start == "hf.co/" and end != ""):
        return
    name = (
        f"https://{start}{owner}/{model}{end}" if start == "hf.co/" else f"{start}{owner}/{model}{end if start else ''}"
    )
    text = not_a_folder(name)
    assert text is not None and "nothing is downloaded" in text
    assert f"`hf download {owner}/{model} --local-dir {model}` and give {model}." in text


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "./a/b", "../a", "a/b/c/d", "tests/nowhere"])
def test_other_names_are_no_names_of_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "inner"
    (inner / "tests").mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert not_a_folder(name) is None


@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_links_without_a_target(folder: Path, shards: Path, target: str) -> None:
    """The links are like those of a download cache that was copied without the files to which they point."""
    names = [(folder, name) for name in ("config.json", "model.safetensors", "tokenizer.json")]
    shard = next(path.name for path in sorted(shards.iterdir()) if path.suffix == ".safetensors")
    for place, name in (*names, (shards, "model.safetensors.index.json"), (shards, shard)):
        path = place / name
        kept = path.read_bytes()
        path.unlink()
        path.symlink_to(name if target == "itself" else target)
        assert "is a link that leads to no file" in refusal(place), name
        path.unlink()
        path.write_bytes(kept)
        load_checkpoint(place)


def test_a_key_that_appears_twice_is_reported(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"vocab_size"', '"vocab_size": 5, "vocab_size"'))
    assert "'vocab_size' appears twice" in refusal(folder)
