"""`lutern bench` as a user types it."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from lutern.hw.presets import PRESETS
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.synthetic import write_random_checkpoint
from processes import Finished, lutern

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)


def run(*arguments: str, **environment: str) -> Finished:
    return lutern("bench", *arguments, **environment)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "small"
    write_random_checkpoint(folder, MODEL, 9, "random numbers of a test")
    return folder


@pytest.fixture
def no_build(tmp_path: Path) -> str:
    """Return a cache that contains the simulated boards of the real cache, but no bitstreams."""
    real = Path(os.environ.get("LUTERN_CACHE") or Path.home() / ".cache" / "lutern") / "boards"
    real.mkdir(parents=True, exist_ok=True)
    (tmp_path / "boards").symlink_to(real)
    return str(tmp_path)


def test_formats(model: Path, no_build: str) -> None:
    """Every format contains the same figures, although a separate run of the command prints each format."""
    arguments = ("--preset", "tiny", "--model", str(model), "--prompts", "2", "--format")
    found = [run(*arguments, form, LUTERN_CACHE=no_build) for form in ("json", "csv", "md")]
    assert all(done.returncode == 0 for done in found), [done.stderr for done in found]
    row = json.loads(found[0].stdout)[0]
    assert row["cycles"] == row["model_cycles"] and row["deviation"] == 0 and row["clock"] == "target"
    assert [int(line["cycles"]) for line in csv.DictReader(io.StringIO(found[1].stdout))] == [row["cycles"]]
    assert f" {row['cycles']:,} " in found[2].stdout.splitlines()[2]


def test_a_board_without_a_build(model: Path, no_build: str) -> None:
    done = run("--board", "ulx3s-25f", "--preset", "tiny", "--model", str(model), LUTERN_CACHE=no_build)
    assert done.returncode == 0, done.stderr
    assert "ulx3s-25f has no build of tiny, so the rates are at the target clock" in done.stdout
    assert "by the integer model, one stream" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--format", "xml"), "there is no format xml; choose one of text, md, csv, json."),
        (("--board", "zynq"), "there is no board zynq; choose one of "),
        (("--preset", "large"), f"there is no preset large; choose one of {', '.join(PRESETS)}."),
    ],
)
def test_bad_input(arguments: tuple[str, ...], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1 and done.stderr.startswith(f"lutern: {sentence}") and done.stderr.count("\n") == 1
