"""Runs one run of a scaling law as a process: `python -m lutern.train.scaling_run OUT RUN DEVICE`. OUT contains the
plan.

OUT/data ─► Network or Transformer ─► fit ─┬─► OUT/RUN/record.json after every validation
                                           └─► OUT/RUN/run.json at the end
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import write_whole
from lutern.train.data import generator_of
from lutern.train.distributed import opened
from lutern.train.failures import explained
from lutern.train.fit import Record, Schedule, fit
from lutern.train.fit import Run as Fitted
from lutern.train.network import Network
from lutern.train.objective import Trainable
from lutern.train.outputs import TRAINING
from lutern.train.scaling import RECORD_FILE, RUN_FILE, Plan, Result, Run, plan_of
from lutern.train.trainer import Text, loaded


def train_one(out: Path, run: Run, plan: Plan) -> Result:
    """Train a network from the beginning or from its last save, and write its result."""
    options, folder, began_s = plan.train_options(), out / run.name, time.monotonic()
    torch.set_float32_matmul_precision("high")
    with opened(plan.device) as group, explained(folder / TRAINING, plan.batch, options, group):
        text = loaded(out, lambda vocab_size: run.shape(vocab_size), group)
        torch.manual_seed(plan.seed)
        network = _network(run, text, plan).to(group.device)
        rate = run.learning_rate(text.config.trits)
        schedule = Schedule(
            *(plan.steps, plan.batch, rate, min(plan.warmup_steps, plan.steps // 4)),
            *(options.weight_decay, options.gradient_clip, plan.seed),
        )

        def draw(step: int, part: slice) -> tuple[Tensor, Tensor]:
            return text.read.crops(plan.batch, plan.sequence_length, generator_of(plan.seed, 1, step), part)

        device = torch.cuda.get_device_name(group.device) if group.device.type == "cuda" else "CPU"

        def result_of(record: Record) -> Result:
            return Result(
                kind=run.kind,
                size=run.size,
                weights=text.config.trits,
                learning_rate=rate,
                batch_tokens=plan.batch * plan.sequence_length,
                training_tokens=len(text.data.training),
                steps=plan.steps,
                record=record,
                seconds=round(time.monotonic() - began_s, 1),
                device=f"{device}, PyTorch {torch.__version__}",
            )

        def noted(record: Record) -> None:
            write_whole(folder / RECORD_FILE, json.dumps(asdict(result_of(record))))

        settings = {"kind": run.kind, "size": run.size, "learning_rate": rate, "data": text.data.digest}
        settings |= {"steps": plan.steps, "batch": plan.batch}
        record = fit(
            Fitted(
                *(network, schedule, draw, run.name, folder / TRAINING, settings),
                *(text.validation, text.per_character, text.ahead, noted),
            ),
            group,
            options,
        )
    result = result_of(record)
    write_whole(folder / RUN_FILE, json.dumps(asdict(result), indent=2) + "\n")
    shutil.rmtree(folder / TRAINING, ignore_errors=True)
    (folder / RECORD_FILE).unlink(missing_ok=True)
    return result


def _network(run: Run, text: Text, plan: Plan) -> Trainable:
    if run.kind == "transformer":
        from lutern.train.transformer import Transformer

        return Transformer(text.config, plan.sequence_length, plan.dropout, text.ahead)
    return Network(text.config, dropout=plan.dropout)


def main(out: str, name: str, device: str) -> int:
    """Train the run ``name``. Return the exit status."""
    plan = plan_of(Path(out), device)
    run = next(run for run in plan.runs if run.name == name)
    try:
        train_one(Path(out), run, plan)
    except LuternError as error:
        print(f"lutern: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
