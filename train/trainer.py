"""``train``: from a text file to a checkpoint folder in the published format.

    text ─► training part 95 % ─┬─► read 98 %   ─► teachers ─► corpora ─► network ─┐
                                └─► unread 2 %  ─► temperatures ───────────────────┴─► checkpoint
            validation part 5 % ─────────────────► bits per character of the checkpoint as written

    OUT/config.json, model.safetensors (bfloat16), tokenizer.json      the checkpoint
    OUT/training_report.json                                           options, record, bits per character
    OUT/training.pt, teacher-*.pt                                      what resuming needs; may be deleted afterwards

Dropout makes a network too sure of itself once it is switched off: the noise it added took part in every norm.  So the
logits are divided by one temperature, fitted on text that nothing has read, and folded into a gain of the head.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.evaluate import bits_per_character, split
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.output_files import write_whole
from lutern.model_ref.text import read_text
from lutern.model_ref.tokenizer import TOKENIZER_FILE, Tokenizer
from lutern.train.bfloat16 import rounded_with_trits_kept
from lutern.train.data import Corpus, generator_of, make_ids
from lutern.train.distill import Ensemble, calibrated, labelled, written
from lutern.train.fit import Draw, Schedule, fit
from lutern.train.network import Network
from lutern.train.options import TrainOptions
from lutern.train.progress import Progress

UNREAD_SHARE = 0.02  # of the training part, its end: for the temperatures
VALIDATION_STREAMS = 64  # of the protocol in model_ref/evaluate.py

# Options that do not change what is learned, so that they may differ when a run is resumed.
_FREE_ON_RESUME = ("device", "compile", "save_every", "validate_every", "resume")
# Options that a teacher depends on, beside its own; what the model is asked does not change a teacher.
_SHARED_WITH_TEACHERS = ("sequence_length", "warmup_steps", "gradient_clip", "seed")

Record = list[dict[str, float]]


@dataclass(frozen=True)
class Text:
    """A text's parts as token numbers on the device."""

    tokenizer: Tokenizer
    read: Tensor
    unread: Tensor
    validation: NDArray[np.int64]
    characters: int

    @property
    def device(self) -> torch.device:
        return self.read.device


def train(text_path: str | Path, out_dir: str | Path, options: TrainOptions | None = None) -> dict[str, Any]:
    """Train a model on a text file, write its checkpoint to ``out_dir`` and return the report."""
    options = TrainOptions() if options is None else options
    out, began_s = Path(out_dir), time.monotonic()
    text = load_text(text_path, options)
    out.mkdir(parents=True, exist_ok=True)
    corpora, teacher_records = [(1.0, Corpus(text.read[None]))], []
    if options.teachers:
        trained = [train_teacher(index, text, out, options) for index in range(options.teachers)]
        teacher_records = [record for _, record in trained]
        corpora = distilled(calibrated([teacher for teacher, _ in trained], text.unread), text, options)
    network, record = train_network(corpora, text, out, options)
    del corpora
    report = finish(network, text, out, options)
    report |= {"record": record, "teachers": teacher_records, "seconds": round(time.monotonic() - began_s, 1)}
    write_whole(out / "training_report.json", json.dumps(report, indent=2) + "\n")
    return report


def load_text(text_path: str | Path, options: TrainOptions) -> Text:
    """Read the text and cut it in its parts."""
    torch.set_float32_matmul_precision("high")  # TF32: exact for codes and trits
    device = _device(options.device)
    ids, tokenizer = make_ids(read_text(text_path))
    training, validation = split(ids)
    cut = int(len(training) * (1 - UNREAD_SHARE))
    if len(validation) < 2 * VALIDATION_STREAMS or cut <= options.sequence_length:
        raise LuternError(
            f"{text_path} has {len(ids)} characters, too few for crops of {options.sequence_length} and "
            f"{VALIDATION_STREAMS} validation streams; give a longer text."
        )
    on_device = torch.from_numpy(training).to(device)
    return Text(tokenizer, on_device[:cut], on_device[cut:], validation, len(ids))


def train_teacher(index: int, text: Text, out: Path, options: TrainOptions) -> tuple[Network, Record]:
    """One float teacher, trained on the text or restored, and its validation record."""
    config = ModelConfig(
        text.tokenizer.vocab_size,
        options.teacher_hidden_size,
        options.teacher_num_hidden_layers,
        options.teacher_intermediate_size,
    )
    seed = options.seed + 1000 * (index + 1)
    torch.manual_seed(seed)
    teacher = Network(config, ternary=False, dropout=options.teacher_dropout).to(text.device)
    schedule = Schedule(
        options.teacher_steps,
        options.teacher_learning_rate,
        options.warmup_steps,
        options.teacher_weight_decay,
        options.gradient_clip,
        seed,
        options.save_every,
        options.validate_every,
    )
    corpus = Corpus(text.read[None])

    def draw(step: int) -> tuple[Tensor, Tensor]:
        return corpus.crops(options.teacher_batch, options.sequence_length, generator_of(seed, 0, step))

    settings = {n: v for n, v in asdict(options).items() if n.startswith("teacher_") or n in _SHARED_WITH_TEACHERS}
    settings["characters"] = text.characters
    name, save = f"teacher {index + 1} of {options.teachers}", out / f"teacher-{index}.pt"
    record = _fit(teacher, draw, schedule, name, save, settings, text, options)
    return teacher, record


def distilled(ensemble: Ensemble, text: Text, options: TrainOptions) -> list[tuple[float, Corpus]]:
    """What the network reads when there are teachers: the labelled text and the text they write, with their shares."""
    share = options.synthetic_share if options.synthetic_characters else 0.0
    corpora = [(1 - share, labelled(ensemble, text.read, options.label_weight))]
    if share:
        corpora.append((share, written(ensemble, text.read, options.synthetic_characters, options.seed)))
    return corpora


def train_network(
    corpora: list[tuple[float, Corpus]], text: Text, out: Path, options: TrainOptions
) -> tuple[Network, Record]:
    """The ternary network, trained or restored, and its validation record."""
    config = ModelConfig(
        text.tokenizer.vocab_size, options.hidden_size, options.num_hidden_layers, options.intermediate_size
    )
    torch.manual_seed(options.seed)
    network = Network(config, dropout=options.dropout).to(text.device)
    schedule = Schedule(
        options.steps,
        options.learning_rate,
        options.warmup_steps,
        options.weight_decay,
        options.gradient_clip,
        options.seed,
        options.save_every,
        options.validate_every,
    )

    def draw(step: int) -> tuple[Tensor, Tensor]:
        return _mixed(corpora, options.batch, options.sequence_length, generator_of(options.seed, 1, step))

    settings = {name: value for name, value in asdict(options).items() if name not in _FREE_ON_RESUME}
    settings["characters"] = text.characters
    record = _fit(network, draw, schedule, "train", out / "training.pt", settings, text, options)
    return network, record


def finish(network: Network, text: Text, out: Path, options: TrainOptions) -> dict[str, Any]:
    """Calibrate the network, write checkpoint and tokenizer, and measure what was written."""
    temperature = calibrated([network], text.unread).temperature
    network.divide_logits(temperature)
    write_checkpoint(network, out)
    write_whole(out / TOKENIZER_FILE, text.tokenizer.to_json())
    progress = Progress("evaluate", len(text.validation) // VALIDATION_STREAMS - 1)
    bits = bits_per_character(
        FloatModel(load_checkpoint(out)),
        text.validation,
        VALIDATION_STREAMS,
        lambda done, total: progress.show(done, "characters", end=done == total),
    )
    return {
        "options": asdict(options),
        "trits": network.config.trits,
        "characters": text.characters,
        "vocabulary": text.tokenizer.vocab_size,
        "validation_bits_per_character": bits,
        "temperature": temperature,
        "device": torch.cuda.get_device_name() if text.device.type == "cuda" else "CPU",
        "torch": torch.__version__,
    }


def write_checkpoint(network: Network, out: Path) -> None:
    """The network in the published format, bfloat16, every trit as trained."""
    tensors = {name: value.detach().float().cpu().numpy() for name, value in network.state_dict().items()}
    for name in network.config.projections:
        tensors[f"{name}.weight"] = rounded_with_trits_kept(tensors[f"{name}.weight"])
    save_checkpoint(out, network.config, tensors)


def _fit(
    network: Network,
    draw: Draw,
    schedule: Schedule,
    name: str,
    save: Path,
    settings: dict[str, Any],
    text: Text,
    options: TrainOptions,
) -> Record:
    compiled = text.device.type == "cuda" if options.compile is None else options.compile
    validation = torch.from_numpy(text.validation).to(text.device)
    return fit(network, draw, schedule, name, save, settings, options.resume, compiled, validation)


def _mixed(
    corpora: list[tuple[float, Corpus]], count: int, length: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A batch with every corpus's share of crops, in whole crops."""
    counts = [round(share * count) for share, _ in corpora]
    counts[0] = count - sum(counts[1:])
    parts = [corpus.crops(part, length, generator) for part, (_, corpus) in zip(counts, corpora, strict=True) if part]
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([targets for _, targets in parts])


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise LuternError("training: device is cuda, but PyTorch sees no GPU; use cpu or auto.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
