"""The plan and the results of a scaling law: several sizes of two kinds of network, trained in the same way. Needs no
PyTorch.

    DATA ─► OUT/data ─┬─► OUT/matmul-free-64x4/   ─► run.json: loss on the validation text, step by step
                      ├─► OUT/transformer-64x4/   ─► ...
                      └─► a folder for every kind, size and learning rate

    OUT/plan.json                    options that all runs have in common; another plan in the same folder is refused
    OUT/KIND-SIZE/run.json           a finished run: kept, not trained again
    OUT/KIND-SIZE/record.json        the same for an unfinished run, up to its last validation
    OUT/KIND-SIZE/training, log.txt  its saves, from which the next call continues, and its messages

scaling_all.py starts a process for each run (scaling_run.py), several of them in parallel.  All read the same
crops in the same order, so that sizes differ by nothing but their shape and learning rate.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import UNFINISHED
from lutern.model_ref.text import read_json
from lutern.train.options import TrainOptions
from lutern.train.prepare import DATA

_NOT_KEPT = ("device", "at_once", "minutes")
KINDS = ("matmul-free", "transformer")
SIZES = ((64, 4), (96, 5), (160, 5), (256, 5), (384, 6), (512, 9))
"""Hidden size and layers: 0.2 to 29 million ternary weights with an intermediate size of 2.75 d, as published."""
LEAST_SIZES = 3
WIDTH_STEP = 32
"""Hidden sizes are multiples of this number: the channels of a Transformer's head."""
RATES = {"matmul-free": (8e-3, 600_000, 0.11), "transformer": (4e-3, 200_000, 0.25)}
"""Learning rate at a number of weights, and the power of this number by which the rate falls: for the MatMul-free
network from the demo's to the published 370M's."""
PLAN_FILE, RUN_FILE, RECORD_FILE, LOG_FILE = "plan.json", "run.json", "record.json", "log.txt"
MAX_BYTES = 1 << 24
SAVES = 4
"""Saves of a run, so that a stopped run continues from its last quarter."""


@dataclass(frozen=True)
class Plan:
    """The networks to train. All fields except ``device``, ``at_once`` and ``minutes`` must be the same when a folder
    is continued.

    Parameters
    ----------
    sizes: hidden size and layers of each. factors: of the learning rate of RATES; every size is trained with each.
    steps, batch, sequence_length, warmup_steps, dropout, tokenizer, seed: as in TrainOptions, the same for all runs.
    validations: how often each run is measured on the validation text. device: as in TrainOptions. at_once: number of
    runs in parallel. minutes: time after which all runs are stopped where they are; None lets them finish.
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
        self.train_options()  # refuses the values that training refuses
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
        """Return the options of the training loop."""
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
        """Runs of every kind, size and rate, the largest first, so that the last ones to start are short."""
        cases = [(kind, size, factor) for size in self.sizes for kind in KINDS for factor in self.factors]
        runs = [Run(kind, *size, factor) for kind, size, factor in cases]
        return sorted(runs, key=lambda run: -run.shape(1).trits)

    def kept(self) -> dict[str, Any]:
        """Return the plan as PLAN_FILE holds it."""
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
        """The name of its folder."""
        rate = "" if self.factor == 1 else f"-rate{self.factor:g}"
        return f"{self.kind}-{self.size}{rate}"

    def shape(self, vocab_size: int) -> ModelConfig:
        """Return the shape of the network; both kinds have as many weights in their matrices as this shape has
        trits."""
        width = self.hidden_size
        return ModelConfig(vocab_size, width, self.layers, width * 11 // 4)

    def learning_rate(self, weights: int) -> float:
        """Return the learning rate at the top of the schedule."""
        rate, at, power = RATES[self.kind]
        return self.factor * rate * (weights / at) ** -power


@dataclass(frozen=True)
class Result:
    """A run up to its present step: weights of its matrices, tokens a step, tokens of the training part, steps of the
    whole run, and its record of step, loss_bits and validation_bits (bits a character)."""

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


def refuse_other_plan(out: Path, plan: Plan) -> None:
    """Refuse a folder with other files, or with runs that cannot be compared with the runs of ``plan``."""
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
    """Read a run as its process wrote it."""
    values = read_json(path, MAX_BYTES)
    try:
        result = Result(**values)
        whole = bool(result.record) and all(
            {"step", "loss_bits", "validation_bits"} <= set(row) for row in result.record
        )
    except TypeError:
        whole = False
    if not whole:
        raise LuternError(f"{path} is not what a run writes; remove {path.parent}, and it is trained anew.")
    return result


def plan_of(out: Path, device: str) -> Plan:
    """Return the plan of a folder, for the process of one run."""
    values = read_json(out / PLAN_FILE, MAX_BYTES)
    values |= {"sizes": tuple(map(tuple, values["sizes"])), "factors": tuple(values["factors"])}
    return Plan(**values, device=device)


__all__ = ["KINDS", "SIZES", "Plan", "Result", "Run", "plan_of", "read_result", "refuse_other_plan"]
