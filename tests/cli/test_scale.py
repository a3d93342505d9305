"""`lutern scale` passes options to its runs, keeps finished runs, and refuses wrong options. These tests train no
network and do not need PyTorch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lutern.cli.commands import app
from lutern.model_ref.errors import LuternError
from lutern.train import scaling_all
from lutern.train.scaling import Plan, Result, Run

SMALL = ("--sizes", "32x1,64x1,96x1", "--steps", "8", "--batch", "2", "--length", "16")


class Process:
    """A process that has ended with a status, or that still runs if the status is None."""

    def __init__(self, status: int | None) -> None:
        self.returncode, self.ended = status, False

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.ended = True

    def wait(self, seconds: float) -> int:
        assert self.ended
        return 0


class Runs:
    """Replaces the processes of the runs. Each process writes its result without training, or does what ``does``
    selects."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.does: dict[str, str] = {}
        self.processes: list[Process] = []

    def start(self, out: Path, run: Run, plan: Plan) -> Process:
        folder = out / run.name
        folder.mkdir(exist_ok=True)
        self.started.append(run.name)
        does = self.does.get(run.name, "finish")
        weights = run.shape(30).trits
        losses = [(4, 9.5 * weights**-0.1), (8, 9 * weights**-0.1)]
        record = [{"step": step, "loss_bits": bits, "validation_bits": bits} for step, bits in losses]
        result = Result(run.kind, run.size, weights, run.learning_rate(weights), 32, 9000, 8, record, 1.0, "CPU")
        if does == "finish":
            (folder / "run.json").write_text(json.dumps(asdict(result)))
        elif does == "half":
            (folder / "record.json").write_text(json.dumps(asdict(result) | {"record": record[:1]}))
        else:
            (folder / "log.txt").write_text("Traceback\nlutern: the GPU's memory is too small.\n")
        self.processes.append(Process({"finish": 0, "half": None}.get(does, 1)))
        return self.processes[-1]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(scaling_all, "_start", made.start)
    monkeypatch.setattr(scaling_all, "want_torch", lambda: None)
    return made


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("once upon a time there was a cat who saw a dog.\n" * 200)
    return path


def scale(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["scale", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    assert result.stderr == "", "progress must print nothing into a pipe"
    return result.stdout


def test_table_pictures_and_resuming(text: Path, tmp_path: Path, runs: Runs) -> None:
    out = tmp_path / "out"
    said = scale(text, "--out", out, *SMALL)
    assert len(runs.started) == 6 and runs.started[0].endswith("-96x1"), "the largest run must start first"
    lines = said.splitlines()
    assert [len(line.split("\t")) for line in lines[:7]] == [7] * 7
    assert "MatMul-free: loss in proportion to weights^-0.100 (95 %: 0.100 to 0.100)." in lines
    assert all((out / f"scaling.{kind}").stat().st_size > 500 for kind in ("svg", "png", "csv"))
    (out / "transformer-64x1" / "run.json").unlink()
    assert scale(text, "--out", out, *SMALL) == said
    assert runs.started[6:] == ["transformer-64x1"], "finished runs must be kept"


def test_time_that_is_over(text: Path, tmp_path: Path, runs: Runs) -> None:
    runs.does["transformer-32x1"] = "half"
    said = scale(text, "--out", tmp_path / "out", *SMALL, "--minutes", "0.01", "--at-once", "6")
    assert "compared at step 4 of 8" in said
    assert [process.ended for process in runs.processes].count(True) == 1


def test_a_run_that_fails(text: Path, tmp_path: Path, runs: Runs) -> None:
    runs.does["matmul-free-96x1"] = "fail"
    with pytest.raises(LuternError, match="matmul-free-96x1 failed: the GPU's memory is too small; the same command"):
        scale(text, "--out", tmp_path / "out", *SMALL)
    assert len(runs.started) == 6, "the other runs must continue"


def test_refused(text: Path, tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    for arguments, message in (
        (("--sizes", "64"), "--sizes is '64', but must be hidden sizes and layers, such as 64x4,96x5,160x5"),
        (("--sizes", "64x1,96x1"), "2 sizes make no law; give at least 3"),
        (("--sizes", "64x1,96x1,100x1"), "size 100x1: a hidden size that is a multiple of 32"),
        (("--rates", "fast"), "--rates is 'fast', but must be factors"),
        (("--rates", "0"), "factors of the learning rate must be above 0"),
        (("--tokenizer", "bpe:4000"), "pieces only; ask for at most"),
        (("--length", "9000"), "too few for crops of 9000"),
    ):
        with pytest.raises(LuternError, match=message):
            scale(text, "--out", out, *SMALL, *arguments)
        assert not out.exists(), message
    with pytest.raises(LuternError, match=r"nothing\.txt"):
        scale(tmp_path / "nothing.txt", "--out", out, *SMALL)
    assert not out.exists() and not runs.started
    with pytest.raises(LuternError, match="holds other files, and no scaling runs; give a new folder"):
        scale(text, "--out", tmp_path, *SMALL)
    with pytest.raises(LuternError, match=r"text.txt is a file, but --out must be a folder"):
        scale(text, "--out", text, *SMALL)


def test_a_folder_of_other_runs(text: Path, tmp_path: Path, runs: Runs) -> None:
    out = tmp_path / "out"
    scale(text, "--out", out, *SMALL)
    with pytest.raises(LuternError, match=r"holds runs with sizes \[\[32, 1\], .* but now it is .*; give the same"):
        scale(text, "--out", out, *SMALL, "--sizes", "32x1,64x1,128x1")
    (out / "transformer-64x1" / "run.json").write_text("{}")
    with pytest.raises(LuternError, match="is not what a run writes; remove"):
        scale(text, "--out", out, *SMALL)
    text.write_text(text.read_text() + "another end.\n")
    with pytest.raises(LuternError, match="was begun with other data"):
        scale(text, "--out", out, *SMALL)


def test_without_pytorch(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(LuternError, match=r"^training needs PyTorch, which is not installed; run: .*\[train\]"):
        scale(text, "--out", tmp_path / "out", *SMALL)
    assert not (tmp_path / "out").exists()
