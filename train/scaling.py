"""Several sizes of two kinds of network, trained alike: the runs behind a scaling law. Needs no PyTorch.

    DATA ─► OUT/data ─┬─► OUT/matmul-free-64x4/   ─► run.json: loss on the validation text, step by step
                      ├─► OUT/transformer-64x4/   ─► ...
                      └─► a folder for every kind, size and learning rate

    OUT/plan.json                    what all runs have in common; another plan in the same folder is refused
    OUT/KIND-SIZE/run.json           a finished run: kept, not trained again
    OUT/KIND-SIZE/record.json        the same of a run under way, as of its last validation
    OUT/KIND-SIZE/training, log.txt  its saves, which the next call goes on from, and what it says

Each run is a process of its own (scaling_run.py), some of them at once.  All read the same crops in the same order, so
that sizes differ by nothing but their shape and learning rate.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import UNFINISHED, refused_output, write_whole
from lutern.model_ref.text import read_json
from lutern.train import want_torch
from lutern.train.options import TrainOptions
from lutern.train.prepare import DATA, UNREAD_SHARE, load, prepare, refuse_short

_NOT_KEPT = ("device", "at_once", "minutes")
KINDS = ("matmul-free", "transformer")
SIZES = ((64, 4), (96, 5), (160, 5), (256, 5), (384, 6), (512, 9))
"""Hidden size and layers: 0.2 to 29 million ternary weights with an intermediate size of 2.75 d, as published."""
LEAST_SIZES = 3
WIDTH_STEP = 32
"""Hidden sizes are a multiple of it: the channels of a Transformer's head."""
RATES = {"matmul-free": (8e-3, 600_000, 0.11), "transformer": (4e-3, 200_000, 0.25)}
"""Learning rate at so many weights, and the power of their number by which it falls: for the MatMul-free network from
the demo's to the published 370M's."""
PLAN_FILE, RUN_FILE, RECORD_FILE, LOG_FILE = "plan.json", "run.json", "record.json", "log.txt"
MAX_BYTES = 1 << 24
SAVES = 4
"""Of a run, so that what is stopped goes on from its last quarter."""
POLL_S = 0.3
ENDING_S = 10.0
"""A run that is told to end is killed after so many seconds."""

Advance = Callable[[int, int, str], None]
"""Steps done, steps in all, and what is under way."""


@dataclass(frozen=True)
class Plan:
    """What is trained; all but ``device``, ``at_once`` and ``minutes`` must be equal where a folder is gone on with.

    Parameters
    ----------
    sizes: hidden size and layers of each.
    factors: of the learning rate of RATES; every size is trained with each.
    steps, batch, sequence_length, warmup_steps, dropout, tokenizer, seed: as in TrainOptions, the same for all runs.
    validations: how often each run is measured on the validation text.
    device: as in TrainOptions.
    at_once: runs beside each other.
    minutes: after which all runs are stopped where they are; None lets them finish.
    """

    sizes: tuple[tuple[int, int], ...] = SIZES
    factors: tuple[float, ...] = (1.0,)
    steps: int = 2_000
    batch: int = 32
    sequence_length: int = 512
    warmup_steps: int = 100
    dropout: float = 0.0
    tokenizer: str = "character"
    seed: int = 1
    validations: int = 20
    device: str = "auto"
    at_once: int = 1
    minutes: float | None = None

    def __post_init__(self) -> None:
        self.train_options()  # refuses what training refuses
        if len(set(self.sizes)) < LEAST_SIZES or len(set(self.sizes)) != len(self.sizes):
            raise LuternError(f"{len(set(self.sizes))} sizes make no law; give at least {LEAST_SIZES}, all different.")
        for width, layers in self.sizes:
            if width < WIDTH_STEP or width % WIDTH_STEP or layers < 1:
                raise LuternError(
                    f"size {width}x{layers}: a hidden size that is a multiple of {WIDTH_STEP}, x and a number of "
                    "layers are wanted, such as 256x5."
                )
        if not self.factors or not all(0 < factor < 1000 for factor in self.factors):
            raise LuternError("factors of the learning rate must be above 0 and below 1000.")

    def train_options(self) -> TrainOptions:
        """What the training loop is told."""
        return TrainOptions(
            tokenizer=self.tokenizer,
            steps=self.steps,
            batch=self.batch,
            sequence_length=self.sequence_length,
            warmup_steps=self.warmup_steps,
            dropout=self.dropout,
            seed=self.seed,
            device=self.device,
            validate_every=max(1, self.steps // self.validations),
            save_every=max(1, self.steps // SAVES),
            resume=True,
        )

    @property
    def runs(self) -> list[Run]:
        """Every kind, size and rate, the largest first: what is begun last should be done soon."""
        cases = [(kind, size, factor) for size in self.sizes for kind in KINDS for factor in self.factors]
        runs = [Run(kind, *size, factor) for kind, size, factor in cases]
        return sorted(runs, key=lambda run: -run.shape(1).trits)

    def kept(self) -> dict[str, Any]:
        """As it stands in PLAN_FILE."""
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_KEPT}
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Run:
    """One network to train: its kind, shape and factor of the learning rate."""

    kind: str
    hidden_size: int
    layers: int
    factor: float

    @property
    def size(self) -> str:
        return f"{self.hidden_size}x{self.layers}"

    @property
    def name(self) -> str:
        """Of its folder."""
        rate = "" if self.factor == 1 else f"-rate{self.factor:g}"
        return f"{self.kind}-{self.size}{rate}"

    def shape(self, vocab_size: int) -> ModelConfig:
        """Of the network; both kinds have as many weights in their matrices as this has trits."""
        width = self.hidden_size
        return ModelConfig(vocab_size, width, self.layers, width * 11 // 4)

    def learning_rate(self, weights: int) -> float:
        """At the top of the schedule."""
        rate, at, power = RATES[self.kind]
        return self.factor * rate * (weights / at) ** -power


@dataclass(frozen=True)
class Result:
    """A run as far as it is: weights of its matrices, tokens a step, tokens of the training part, steps of the whole
    run, and its record of step, loss_bits and validation_bits (bits a character)."""

    kind: str
    size: str
    weights: int
    learning_rate: float
    batch_tokens: int
    training_tokens: int
    steps: int
    record: list[dict[str, float]]
    seconds: float
    device: str


def train_all(data: str | Path, out: Path, plan: Plan, advance: Advance) -> list[Result]:
    """Train what is not finished in ``out``, and read all results, of runs that were stopped as far as they are."""
    refuse_other_plan(out, plan)
    left = [run for run in plan.runs if not (out / run.name / RUN_FILE).is_file()]
    if left:
        want_torch()
    _begin(data, out, plan)
    _start_all(out, plan, left, advance)
    return [_result_of(out, run) for run in plan.runs]


def _result_of(out: Path, run: Run) -> Result:
    for name in (RUN_FILE, RECORD_FILE):
        if (out / run.name / name).is_file():
            return read_result(out / run.name / name)
    raise LuternError(
        f"the run {run.name} was stopped before its first validation, so there is nothing to compare; give more "
        "--minutes, and the same command goes on with what is left."
    )


def refuse_other_plan(out: Path, plan: Plan) -> None:
    """Refuse a folder that holds something else, or runs that cannot be compared with those of ``plan``."""
    if out.exists() and not out.is_dir():
        raise LuternError(f"{out} is a file, but --out wants a folder for the runs; give another name.")
    before = read_json(out / PLAN_FILE, MAX_BYTES)
    if not before:
        if out.is_dir() and any(path.name != DATA and not path.name.startswith(UNFINISHED) for path in out.iterdir()):
            raise LuternError(f"{out} holds other files, and no scaling runs; give a new folder with --out.")
        return
    for name, value in plan.kept().items():
        if before.get(name) != value:
            raise LuternError(
                f"{out} holds runs with {name} {json.dumps(before.get(name))}, but now it is {json.dumps(value)}; give "
                "the same, or another --out."
            )


def read_result(path: Path) -> Result:
    """A run as its process wrote it."""
    values = read_json(path, MAX_BYTES)
    try:
        result = Result(**values)
        assert result.record and all({"step", "loss_bits", "validation_bits"} <= set(row) for row in result.record)
    except (TypeError, AssertionError, AttributeError) as error:
        raise LuternError(f"{path} is not what a run writes; remove {path.parent}, and it is trained anew.") from error
    return result


def _begin(data: str | Path, out: Path, plan: Plan) -> None:
    """Prepare the data, or find them prepared and the same; then write the plan, which says that all is ready."""
    new = not (out / PLAN_FILE).exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused_output(out, error) from error
    try:
        prepare(data, out, plan.train_options())
        refuse_short(load(out), data, plan.sequence_length, UNREAD_SHARE)
    except BaseException:
        if new:
            _remove(out)
        raise
    write_whole(out / PLAN_FILE, json.dumps(plan.kept(), indent=2) + "\n")


def _remove(out: Path) -> None:
    """What a beginning that was refused has left."""
    shutil.rmtree(out / DATA, ignore_errors=True)
    with suppress(OSError):
        out.rmdir()


def _start_all(out: Path, plan: Plan, left: list[Run], advance: Advance) -> None:
    """Each run in a process of its own, ``at_once`` beside each other; where one fails, the others go on, and
    when ``plan.minutes`` are over, all are ended."""
    count, total, began_s = len(plan.runs), len(plan.runs) * plan.steps, time.monotonic()
    waiting, failures = list(left), []
    working: dict[Run, subprocess.Popen[bytes]] = {}
    try:
        while (waiting or working) and not (plan.minutes and time.monotonic() - began_s > 60 * plan.minutes):
            while waiting and len(working) < plan.at_once:
                run = waiting.pop(0)
                working[run] = _start(out, run, plan)
            for run in [run for run, process in working.items() if process.poll() is not None]:
                process = working.pop(run)
                if process.returncode or not (out / run.name / RUN_FILE).is_file():
                    failures.append(_failed(out, run, process.returncode))
            finished = count - len(waiting) - len(working) - len(failures)
            done = finished * plan.steps + sum(_steps_of(out / run.name) for run in working)
            seconds = int(time.monotonic() - began_s)
            advance(done, total, f"{finished} of {count} runs, {seconds // 60}:{seconds % 60:02}")
            if working:
                time.sleep(POLL_S)
    finally:
        for process in working.values():
            process.terminate()
        for process in working.values():
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
    if failures:
        raise failures[0]


def _start(out: Path, run: Run, plan: Plan) -> subprocess.Popen[bytes]:
    folder = out / run.name
    folder.mkdir(exist_ok=True)
    # -P: a folder lutern/ where the command is given is not the package.
    command = [sys.executable, "-P", "-m", "lutern.train.scaling_run", str(out), run.name, plan.device]
    with (folder / LOG_FILE).open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _steps_of(folder: Path) -> int:
    """How far a run is, as of its last validation."""
    record = read_json(folder / RECORD_FILE, MAX_BYTES).get("record") or [{"step": 0}]
    return int(record[-1]["step"])


def _failed(out: Path, run: Run, status: int) -> LuternError:
    """What the last line of its log says."""
    lines = (out / run.name / LOG_FILE).read_text(errors="replace").strip().splitlines()
    reason = lines[-1].removeprefix("lutern: ").rstrip(".") if lines else f"it ended with status {status}"
    return LuternError(
        f"the run {run.name} failed: {reason}; the same command goes on with what is left ({out / run.name / LOG_FILE} "
        "has more)."
    )


def plan_of(out: Path, device: str) -> Plan:
    """The plan of a folder, for the process of one run."""
    values = read_json(out / PLAN_FILE, MAX_BYTES)
    values |= {"sizes": tuple(map(tuple, values["sizes"])), "factors": tuple(values["factors"])}
    return Plan(**values, device=device)


__all__ = ["KINDS", "LOG_FILE", "SIZES", "Advance", "Plan", "Result", "Run", "plan_of", "read_result", "train_all"]
