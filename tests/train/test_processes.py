"""Several processes train the same network as one, and a run can continue with another number of processes. They run
on the CPU with gloo."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.errors import LuternError
from lutern.train import TrainOptions, train
from processes import Finished, run

torch = pytest.importorskip("torch", reason="training is an optional extra")

pytestmark = pytest.mark.slow

STORY = "once upon a time there was a cat who saw a dog. the dog ran home, and the cat sat down.\n"
BOUND_BITS = 0.01
"""The largest difference between the records of two processes and of one, in bits per character over these few steps.
Sums in another order move some weights across a threshold."""
SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 64}
FREE = {"batch": 4, "sequence_length": 32, "warmup_steps": 3, "dropout": 0.0, "validate_every": 4, "save_every": 6}
OPTIONS = TrainOptions(steps=12, device="cpu", **SHAPE, **FREE)  # type: ignore[arg-type]
LOSE_ONE = """
import os, signal
from lutern.train import fit

store = fit.store

def store_and_die(folder, network, optimizer, state, group):
    store(folder, network, optimizer, state, group)
    if group.rank == 1 and state["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)

fit.store = store_and_die
"""
COMMAND = """
from lutern.cli.main import main
main()
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    path = tmp_path / "text.txt"
    path.write_text(STORY * 60)
    return path


def torchrun(folder: Path, program: str, *arguments: str | Path) -> Finished:
    """Run ``lutern train`` with ``OPTIONS`` in two processes, each of which first runs the text of a program."""
    script = folder / "command.py"
    script.write_text(program + COMMAND)
    settings = [f"--set={name}={value}" for name, value in {**SHAPE, **FREE}.items()]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return run([*launcher, "train", *arguments, "--steps=12", "--device=cpu", *settings], env=environment)


def rows(record: list[dict[str, float]]) -> np.ndarray:
    return np.array([list(row.values()) for row in record])


def report_of(out: Path) -> list[dict[str, float]]:
    import json

    record: list[dict[str, float]] = json.loads((out / "training_report.json").read_text())["record"]
    return record


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_what_one_trains(parallel: str, text: Path, tmp_path: Path) -> None:
    one = rows(train(text, tmp_path / "one", OPTIONS)["record"])
    done = torchrun(tmp_path, "", text, "--out", tmp_path / "two", "--parallel", parallel, "--set", "accumulate=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bits per character of the validation text") == 1, "only one process may print results"
    two = rows(report_of(tmp_path / "two"))
    difference = np.abs(two - one).max()
    print(f"{parallel}: the records differ by {difference:.2g} bits")
    assert difference <= BOUND_BITS
    assert load_checkpoint(tmp_path / "two").config == load_checkpoint(tmp_path / "one").config


def test_a_lost_process_and_resuming_with_another_number(text: Path, tmp_path: Path) -> None:
    one = rows(train(text, tmp_path / "one", OPTIONS)["record"])
    out = tmp_path / "out"
    lost = torchrun(tmp_path, LOSE_ONE, text, "--out", out, "--parallel", "fsdp")
    assert lost.returncode != 0
    said = [line for line in lost.stderr.splitlines() if line.startswith("lutern: ")]
    assert said == [
        "lutern: process 0 of 2 stops, because another process was lost or ended; --resume continues from step 6."
    ]
    assert not (out / "config.json").exists()
    gone_on = rows(train(text, out, replace(OPTIONS, resume=True))["record"])
    assert np.abs(gone_on - one).max() <= BOUND_BITS
    # The run is now started by one process and continued by two.
    refused = torchrun(tmp_path, "", text, "--out", out)
    assert refused.returncode != 0
    assert [line for line in refused.stderr.splitlines() if line.startswith("lutern: ")] == [
        f"lutern: {out} holds a finished model; give another --out, or --force to replace it."
    ]
    for path in (out / "config.json", out / "model.safetensors", out / "training_report.json"):
        path.unlink()
    done = torchrun(tmp_path, "", text, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "train: continuing from step 12 of 12" in done.stderr
    assert np.array_equal(rows(report_of(out)), gone_on)


@pytest.mark.parametrize("case", ["370M", "370M:4", "370m:4:ddp", "370M:x:ddp", "370M:4:both", ""])
def test_invalid_cases_are_refused(case: str) -> None:
    from lutern.train.processes import parse_case

    with pytest.raises(LuternError, match=r"is no case; give SHAPE:CROPS:PARALLEL with a shape of 370M"):
        parse_case(case)
