"""Defines the plan and the results of a scaling law: several sizes of two kinds of network under equal conditions.

    DATA ─► OUT/data ─► OUT/KIND-SIZE/, such as OUT/matmul-free-64x4/: one folder for every kind, size and learning rate

    OUT/plan.json                    options of all runs; a different plan for the same folder is refused
    OUT/KIND-SIZE/run.json           the losses of a finished run, which is not trained again
    OUT/KIND-SIZE/record.json        the losses of an unfinished run, up to its last validation
    OUT/KIND-SIZE/training           the saves of a run, from which the next call continues
    OUT/KIND-SIZE/log.txt            the messages of a run

scaling_all.py starts one process (scaling_run.py) for each run, and several processes run in parallel. All runs read
the same crops in the same order, so the runs differ only by kind, shape and learning rate. This module does not need
PyTorch.
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
"""Hidden size d and number of layers. With the published intermediate size of 2.75 d, these shapes have 0.2 to 29
million ternary weights."""
LEAST_SIZES = 3
WIDTH_STEP = 32
"""Number of channels of a Transformer's head. Hidden sizes must be multiples of this number."""
RATES = {"matmul-free": (8e-3, 600_000, 0.11), "transformer": (4e-3, 200_000, 0.25)}
"""For each kind of network: a learning rate, a number of weights, and a power. A network with W weights is trained with
the rate times (W / number of weights) ** -power. For the MatMul-free network, this formula yields the rates of the demo
and of the published 370M."""
PLAN_FILE, RUN_FILE, RECORD_FILE, LOG_FILE = "plan.json", "run.json", "record.json", "log.txt"
MAX_BYTES = 1 << 24
SAVES = 4
"""Number of saves in a run. So a stopped run repeats at most a quarter of its steps."""


@dataclass(frozen=True)
class Plan:
    """The networks to train. When a folder is continued, all fields except ``device``, ``at_once`` and ``minutes`` must
    be equal.

    Parameters
    ----------
    sizes: hidden size and number of layers of each network.
    factors: factors by which the learning rate of RATES is multiplied. Every size is trained with every factor.
    steps, batch, sequence_length, warmup_steps, dropout, tokenizer, seed, device: as in TrainOptions, for all runs.
    validations: number of measurements of each run on the validation text.
    at_once: number of runs in parallel.
    minutes: time after which all runs are stopped. None: no run is stopped.
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
        """The runs of every kind, size and factor. The largest network is first, so that the last runs are short."""
        cases = [(kind, size, factor) for size in self.sizes for kind in KINDS for factor in self.factors]
        runs = [Run(kind, *size, factor) for kind, size, factor in cases]
        return sorted(runs, key=lambda run: -run.shape(1).trits)

    def kept(self) -> dict[str, Any]:
        """Return the plan as it is stored in PLAN_FILE."""
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_KEPT}
        return json.loads(json.dumps(values))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Run:
    """One network to train: its kind, its shape, and its factor of the learning rate."""

    kind: str
    hidden_size: int
    layers: int
    factor: float

    @property
    def size(self) -> str:
        return f"{self.hidden_size}x{self.layers}"

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        rate = "" if self.factor == 1 else f"-rate{self.factor:g}"
        return f"{self.kind}-{self.size}{rate}"

    def shape(self, vocab_size: int) -> ModelConfig:
        """Return the shape of the network. In both kinds, the matrices have as many weights as this shape has trits."""
        width = self.hidden_size
        return ModelConfig(vocab_size, width, self.layers, width * 11 // 4)

    def learning_rate(self, weights: int) -> float:
        """Return the highest learning rate of the schedule."""
        rate, at, power = RATES[self.kind]
        return self.factor * rate * (weights / at) ** -power


@dataclass(frozen=True)
class Result:
    """The result of a run up to its present step.

    ``weights``: weights in the matrices. ``batch_tokens``: tokens per step. ``training_tokens``: tokens of the training
    part. ``steps``: steps of the whole run. ``record``: step, loss_bits and validation_bits (bits per character).
    """

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
    """Refuse a folder that contains other files, or runs that cannot be compared with the runs of ``plan``."""
    if out.exists() and not out.is_dir():
        raise LuternError(f"{out} is a file, but --out must be a folder for the runs; give another name.")
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
    """Read the result that the process of a run wrote."""
    values = read_json(path, MAX_BYTES)
    try:
        result = Result(**values)
        whole = bool(result.record) and all(
            {"step", "loss_bits", "validation_bits"} <= set(row) for row in result.record
        )
    except TypeError:
        whole = False
    if not whole:
        raise LuternError(f"{path} is not what a run writes; remove {path.parent}, and the run is trained again.")
    return result


def plan_of(out: Path, device: str) -> Plan:
    """Return the plan in a folder, for the process of one run."""
    values = read_json(out / PLAN_FILE, MAX_BYTES)
    values |= {"sizes": tuple(map(tuple, values["sizes"])), "factors": tuple(values["factors"])}
    return Plan(**values, device=device)


__all__ = ["KINDS", "SIZES", "Plan", "Result", "Run", "plan_of", "read_result", "refuse_other_plan"]
