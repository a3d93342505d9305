"""How the integer network is compiled and cached, and what happens if it cannot be compiled."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lutern.model_ref import compiled_model
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 7
COMPILER = """#!/bin/sh
echo "$@" >> {log}
case "$*" in {refused}) exit 1;; esac
for word; do output=$word; done
case "$*" in *-shared*) echo library > "$output";; *) echo macros;; esac
"""


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str = "nothing") -> Path:
    """Make a folder the whole PATH, with a false c++ that writes its arguments into a log; return the log."""
    folder.mkdir(exist_ok=True)
    program = folder / "c++"
    program.write_text(COMPILER.format(log=folder / "log", refused=refused))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder / "log"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def compilations(log: Path) -> int:
    return log.read_text().count("-shared")


def test_network_can_be_compiled() -> None:
    """The network can be compiled on this machine. If it cannot, the other tests of the compiled form pass as well,
    because they then use the form in NumPy."""
    assert compiled_model.library() is not None


def test_kept_and_made_again_when_damaged(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = compiler(tmp_path / "bin", monkeypatch)
    path = compiled_model._library_path()
    assert path.parent == cache and path.read_bytes() == b"library\n" and compilations(log) == 1
    assert compiled_model._library_path() == path and compilations(log) == 1
    path.write_bytes(b"damaged")
    assert compiled_model._library_path() == path and compilations(log) == 2 and path.read_bytes() == b"library\n"


def test_a_link_is_not_written_through(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(tmp_path / "bin", monkeypatch)
    path = compiled_model._library_path()
    path.unlink()
    other = tmp_path / "other"
    other.write_text("of somebody else")
    path.symlink_to(other)
    assert compiled_model._library_path() == path and not path.is_symlink()
    assert other.read_text() == "of somebody else"


def test_another_processor_has_its_own(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(tmp_path / "bin", monkeypatch)
    first = compiled_model._library_path()
    monkeypatch.setattr(compiled_model, "_OF_PROCESSOR", ((),))
    assert compiled_model._library_path() != first and len(list(cache.glob("*.so"))) == 2


def test_compiler_that_does_not_know_the_processor(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = compiler(tmp_path / "bin", monkeypatch, "*native*")
    compiled_model._library_path()
    assert "native" not in log.read_text().splitlines()[-1] and compilations(log) == 1


def test_only_the_newest_are_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(tmp_path / "bin", monkeypatch)
    cache.mkdir(parents=True)
    for index in range(6):
        (cache / f"{index}.so").touch()
        os.utime(cache / f"{index}.so", (index, index))
    path = compiled_model._library_path()
    assert {item.name for item in cache.glob("*.so")} == {"3.so", "4.so", "5.so", path.name}


@pytest.mark.parametrize("lacking", ["compiler", "cache", "whole library"])
def test_numpy_where_it_cannot_be_compiled(
    lacking: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler(tmp_path / "bin", monkeypatch)
    if lacking == "compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
    if lacking == "cache":
        cache.parent.write_text("a file")
    loaded = compiled_model.library.__wrapped__()
    assert loaded is None
    monkeypatch.setattr("lutern.model_ref.fast_model.library", lambda: loaded)
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    weights = integer_weights(random_checkpoint(config, SEED))
    model, plain = FastModel(weights), IntegerModel(weights)
    assert np.array_equal(*(m.step(np.array([3]), m.initial_state(1))[0] for m in (model, plain))), f"seed {SEED}"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("-fsanitize=undefined", "-fno-sanitize-recover=all")], ids=["plain", "ub"])
def test_compilation_without_processor_extensions(
    flags: tuple[str, ...], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extensions of this processor, the compiler chooses the vector code. The code has no undefined
    behaviour."""
    monkeypatch.setattr(compiled_model, "_OF_PROCESSOR", (flags,))
    loaded = compiled_model.library.__wrapped__()
    macros = subprocess.run([*compiled_model._compiler()[0], "-dM", "-E", "-xc++", os.devnull], capture_output=True)
    assert loaded is not None and b"__AVX2__" not in macros.stdout
    monkeypatch.setattr("lutern.model_ref.fast_model.library", lambda: loaded)
    config = ModelConfig(vocab_size=301, hidden_size=97, num_hidden_layers=2, intermediate_size=1100)
    weights = integer_weights(random_checkpoint(config, SEED))
    model, plain = FastModel(weights), IntegerModel(weights)
    states = [m.initial_state(2) for m in (model, plain)]
    for ids in np.random.default_rng(SEED).integers(0, 301, (5, 2)):
        (got, states[0]), (wanted, states[1]) = (m.step(ids, s) for m, s in zip((model, plain), states, strict=True))
        assert np.array_equal(got, wanted) and np.array_equal(*states), f"seed {SEED}"
