"""Trains a model on data, and writes a checkpoint folder in the published format.

    DATA ─► OUT/data: training part ─┬─► 98 % for crops     ─► teachers ─► corpora ─► network ─┐
                                     └─► 2 % without crops  ─► temperatures ───────────────────┴─► checkpoint
                      validation part ──────────────────────► bits per character of the written checkpoint

    OUT/config.json, model.safetensors (bfloat16), tokenizer.json ...  the checkpoint
    OUT/training_report.json                                           options, record, bits per character
    OUT/training/, teacher-*/, data/                                   files for resuming, which may be deleted later

A network that was trained with dropout is overconfident without dropout, because the noise of dropout was part of every
norm in training. Therefore the logits are divided by a temperature. This temperature is fitted to the 2 % of the text
that no network has read, and is stored by dividing a gain of the head.

All processes of torchrun run this module. The first process prepares the data and writes the checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.evaluate import counted
from lutern.model_ref.output_files import write_whole
from lutern.train.data import Corpus, DeviceCorpus, MappedCorpus, generator_of, mixed
from lutern.train.distill import Ensemble, calibrated, labelled, nats_of, written
from lutern.train.distributed import Group, opened, refuse_uneven
from lutern.train.failures import explained
from lutern.train.finish import finish, start_weights
from lutern.train.fit import Record, Run, Schedule, fit
from lutern.train.network import Network
from lutern.train.options import TrainOptions
from lutern.train.outputs import REPORT_FILE, TEACHER, TRAINING, claim, release
from lutern.train.prepare import UNREAD_SHARE, VALIDATION_STREAMS, Data, load, prepare, refuse_short, shape_of
from lutern.train.progress import Progress
from lutern.train.saves import whole_network

UNREAD_TOKENS = 1 << 18  # the largest number of tokens to which the temperatures are fitted
DEVICE_TOKENS = 1 << 28  # a training part with more tokens is not copied to the device

# Options that a resumed run may change. Such an option does not change the result, or the data's digest includes it.
_FREE_ON_RESUME = {
    *("device", "compile", "save_every", "validate_every", "resume", "force", "accumulate", "checkpoint_activations"),
    *("lean", "parallel", "tokenizer", "separator", "column", "start_from"),
}
# Options of the model on which a teacher depends, in addition to the options teacher_...
_SHARED_WITH_TEACHERS = {"sequence_length", "warmup_steps", "gradient_clip", "seed"}


@dataclass(frozen=True)
class Text:
    """The data of a run in this process: crops, unread tokens, validation tokens."""

    data: Data
    config: ModelConfig
    read: Corpus
    unread: Tensor
    validation: Tensor
    per_character: float

    @property
    def ahead(self) -> tuple[int, ...]:
        return self.data.tokenizer.ahead


def train(text_path: str | Path, out_dir: str | Path, options: TrainOptions | None = None) -> dict[str, Any]:
    """Train a model on ``text_path`` (sources.py) and write its checkpoint to ``out_dir``.

    Returns the report, or {} in all processes except the first. Raises ``LuternError`` for wrong data or options.
    """
    options = TrainOptions() if options is None else options
    out, began_s = Path(out_dir), time.monotonic()
    torch.set_float32_matmul_precision("high")  # TF32, which is exact for codes and trits
    with opened(options.device) as group:
        text = load_text(text_path, out, options, group)
        with explained(out / TRAINING, options.batch, options, group):
            corpora: list[tuple[float, Corpus]] = [(1.0, text.read)]
            teacher_records: list[Record] = []
            together = None
            if options.teachers:
                trained = [train_teacher(index, text, out, options, group) for index in range(options.teachers)]
                teacher_records = [record for _, record in trained]
                ensemble = calibrated([teacher for teacher, _ in trained], text.unread)
                together = float(nats_of(ensemble, text.validation, [1.0])) / math.log(2) * text.per_character
                Progress.say(f"teachers together: {together:.4f} bits/character, temperature {ensemble.temperature}")
                corpora = distilled(ensemble, text, options)
                del trained, ensemble
            network, record = train_network(corpora, text, out, options, group)
            del corpora
            if group.size > 1:
                weights = whole_network(network, group)
                network = Network(text.config)
    if group.rank:
        return {}
    if group.size > 1:
        network.load_state_dict(weights)
    report = finish(network.to(group.device).eval(), text.data, text.unread, out)
    report |= {"options": asdict(options), "record": record, "processes": group.size}
    report |= {"teachers": teacher_records, "teachers_together_bits_per_character": together}
    report |= {"seconds": round(time.monotonic() - began_s, 1)}
    write_whole(out / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    return report


def load_text(text_path: str | Path, out: Path, options: TrainOptions, group: Group) -> Text:
    """Prepare the data once, and divide them into their parts. Wrong data and options are refused before training."""
    refuse_uneven(options.batch, options.accumulate, group.size)
    if options.teachers and group.size > 1:
        raise LuternError("teachers are trained by one process only; start without torchrun, or with --set teachers=0.")

    def begin() -> None:
        claim(out, options)
        try:
            data = prepare(text_path, out, options)
            refuse_short(data, text_path, options.sequence_length, UNREAD_SHARE)
            shape_of(options, data.tokenizer.vocab_size)
        except BaseException:
            release(out, options)
            raise

    group.first(begin)
    return loaded(out, lambda vocab_size: shape_of(options, vocab_size), group)


def loaded(out: Path, shape: Callable[[int], ModelConfig], group: Group) -> Text:
    """Return the prepared data of a folder, divided into their parts. ``shape`` returns the config for a vocabulary
    size."""
    data = load(out)
    training = len(data.training)
    cut = max(int(training * (1 - UNREAD_SHARE)), training - UNREAD_TOKENS)
    ahead, device = data.tokenizer.ahead, group.device
    read: Corpus
    if training <= DEVICE_TOKENS:
        ids = torch.from_numpy(data.training[:cut].astype(np.int32)).to(device)
        read = DeviceCorpus(ids[None], None, ahead)
    else:
        read = MappedCorpus(data.training[:cut], device, ahead)
    unread, validation = (torch.from_numpy(part.astype(np.int64)) for part in (data.training[cut:], data.validation))
    characters, tokens = counted(data.tokenizer, data.validation.astype(np.int64), VALIDATION_STREAMS)
    config = shape(data.tokenizer.vocab_size)
    return Text(data, config, read, unread.to(device), validation.to(device), tokens / characters)


def train_teacher(index: int, text: Text, out: Path, options: TrainOptions, group: Group) -> tuple[Network, Record]:
    """Train or restore one float teacher. Return the teacher and its validation record."""
    config = ModelConfig(
        text.config.vocab_size,
        options.teacher_hidden_size,
        options.teacher_num_hidden_layers,
        options.teacher_intermediate_size,
    )
    seed = options.seed + 1000 * (index + 1)
    torch.manual_seed(seed)
    teacher = Network(config, ternary=False, dropout=options.teacher_dropout).to(group.device)
    schedule = Schedule(
        options.teacher_steps,
        options.teacher_batch,
        options.teacher_learning_rate,
        options.warmup_steps,
        options.teacher_weight_decay,
        options.gradient_clip,
        seed,
    )

    def draw(step: int, part: slice) -> tuple[Tensor, Tensor]:
        generator = generator_of(seed, 0, step)
        return text.read.crops(options.teacher_batch, options.sequence_length, generator, part)

    depends = {name for name in asdict(options) if name.startswith("teacher_")} - {
        "teacher_top"
    } | _SHARED_WITH_TEACHERS
    settings = {name: value for name, value in asdict(options).items() if name in depends}
    settings["data"] = text.data.digest
    name, saves = f"teacher {index + 1} of {options.teachers}", out / TEACHER.format(index)
    run = Run(teacher, schedule, draw, name, saves, settings, text.validation, text.per_character, text.ahead)
    return teacher, fit(run, group, options)


def distilled(ensemble: Ensemble, text: Text, options: TrainOptions) -> list[tuple[float, Corpus]]:
    """Return the corpora from the teachers, each with its share of the crops: the labelled text, and the text that the
    teachers write."""
    if not isinstance(text.read, DeviceCorpus):
        raise LuternError(
            f"teachers need a text of at most {DEVICE_TOKENS:,} tokens; give a shorter text, or --set teachers=0."
        )
    ids = text.read.ids[0].long()
    share, top = options.synthetic_share if options.synthetic_tokens else 0.0, options.teacher_top
    text_itself = labelled(ensemble, ids, options.label_weight, top, options.seed, text.ahead)
    corpora: list[tuple[float, Corpus]] = [(1 - share, text_itself)]
    if share:
        corpora.append((share, written(ensemble, ids, options.synthetic_tokens, top, options.seed, text.ahead)))
    return corpora


def train_network(
    corpora: list[tuple[float, Corpus]], text: Text, out: Path, options: TrainOptions, group: Group
) -> tuple[Network, Record]:
    """Train or restore the ternary network. Return the network and its validation record."""
    torch.manual_seed(options.seed)
    network = Network(text.config, dropout=options.dropout, lean=options.lean).to(group.device)
    if options.start_from is not None:
        network.load_state_dict(start_weights(options.start_from))
    schedule = Schedule(
        options.steps,
        options.batch,
        options.rate(text.config.trits),
        options.warmup_steps,
        options.weight_decay,
        options.gradient_clip,
        options.seed,
        halved=options.schedule == "paper",
    )

    def draw(step: int, part: slice) -> tuple[Tensor, Tensor]:
        return mixed(corpora, options.batch, options.sequence_length, generator_of(options.seed, 1, step), part)

    settings = {name: value for name, value in asdict(options).items() if name not in _FREE_ON_RESUME}
    settings |= {name: getattr(text.config, name) for name in settings if hasattr(text.config, name)}
    settings |= {"learning_rate": schedule.learning_rate, "data": text.data.digest}
    saves = out / TRAINING
    run = Run(network, schedule, draw, "train", saves, settings, text.validation, text.per_character, text.ahead)
    return network, fit(run, group, options)


__all__ = ["Text", "load_text", "loaded", "train", "train_network", "train_teacher"]
