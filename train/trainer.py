"""``train``: from a text file to a checkpoint folder in the published format.

    OUT/config.json, model.safetensors (bfloat16), tokenizer.json      the checkpoint
    OUT/training_report.json                                           options, record, bits per character as shipped
    OUT/training.pt, teacher-*.pt                                      what resuming needs; may be deleted afterwards
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.evaluate import bits_per_character, split
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.tokenizer import TOKENIZER_FILE

from .data import Corpus, generator_of, make_ids, read_text
from .distill import labelled, written
from .fit import Schedule, fit
from .network import Network
from .options import TrainOptions
from .progress import Progress

# Options that do not change what is learned, so that they may differ when a run is resumed.
_FREE_ON_RESUME = ("device", "compile", "save_every", "validate_every", "resume")


def train(text_path: str | Path, out_dir: str | Path, options: TrainOptions | None = None) -> dict[str, Any]:
    """Train a model on a text file, write its checkpoint to ``out_dir`` and return the report."""
    options = TrainOptions() if options is None else options
    out, began_s = Path(out_dir), time.monotonic()
    device = _device(options.device)
    compiled = device.type == "cuda" if options.compile is None else options.compile
    torch.set_float32_matmul_precision("high")  # TF32: exact for codes and trits
    ids, tokenizer = make_ids(read_text(text_path))
    training, validation = split(ids)
    if len(validation) < 128 or len(training) <= options.sequence_length:
        raise LuternError(
            f"{text_path} has {len(ids)} characters, too few for crops of {options.sequence_length} and 64 validation "
            "streams; give a longer text."
        )
    out.mkdir(parents=True, exist_ok=True)
    training_ids, validation_ids = torch.from_numpy(training).to(device), torch.from_numpy(validation).to(device)
    config = ModelConfig(
        tokenizer.vocab_size, options.hidden_size, options.num_hidden_layers, options.intermediate_size
    )
    settings = {name: value for name, value in asdict(options).items() if name not in _FREE_ON_RESUME}
    settings["characters"] = len(ids)

    corpora, teacher_records = [(1.0, Corpus(training_ids[None]))], []
    if options.teachers:
        teachers, teacher_records = _teachers(
            training_ids, validation_ids, tokenizer.vocab_size, out, options, settings, compiled
        )
        corpora = [(1 - options.synthetic_share, labelled(teachers, training_ids, options.label_weight))]
        if options.synthetic_share and options.synthetic_characters:
            pool = written(teachers, training_ids, options.synthetic_characters, options.seed)
            corpora.append((options.synthetic_share, pool))
        del teachers

    torch.manual_seed(options.seed)
    network = Network(config, dropout=options.dropout).to(device)
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

    record = fit(
        network, draw, schedule, "train", out / "training.pt", settings, options.resume, compiled, validation_ids
    )

    write_checkpoint(network, out)
    write_atomically(out / TOKENIZER_FILE, tokenizer.to_json().encode())
    progress = Progress("evaluate", len(validation) // 64 - 1)
    shipped = bits_per_character(
        FloatModel(load_checkpoint(out)), validation, progress=lambda done, total: progress.show(done, "characters")
    )
    report = {
        "options": asdict(options),
        "trits": config.trits,
        "characters": len(ids),
        "vocabulary": tokenizer.vocab_size,
        "validation_bits_per_character": shipped,
        "record": record,
        "teachers": teacher_records,
        "seconds": round(time.monotonic() - began_s, 1),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
    }
    write_atomically(out / "training_report.json", (json.dumps(report, indent=2) + "\n").encode())
    return report


def write_checkpoint(network: Network, folder: Path) -> None:
    """The network's parameters as a checkpoint in the published format, bfloat16."""
    tensors = {name: value.detach().float().cpu().numpy() for name, value in network.state_dict().items()}
    save_checkpoint(folder, network.config, tensors)


def _teachers(
    training: Tensor,
    validation: Tensor,
    vocab_size: int,
    out: Path,
    options: TrainOptions,
    settings: dict[str, Any],
    compiled: bool,
) -> tuple[list[Network], list[list[dict[str, float]]]]:
    """The teachers, trained on the text or restored, and their validation records."""
    config = ModelConfig(
        vocab_size,
        options.teacher_hidden_size,
        options.teacher_num_hidden_layers,
        options.teacher_intermediate_size,
    )
    corpus = Corpus(training[None])
    # What the student is asked does not change a teacher.
    own = {name: value for name, value in settings.items() if name.startswith("teacher_")}
    own |= {name: settings[name] for name in ("sequence_length", "warmup_steps", "gradient_clip", "seed", "characters")}
    teachers, records = [], []
    for index in range(options.teachers):
        seed = options.seed + 1000 * (index + 1)
        torch.manual_seed(seed)
        teacher = Network(config, ternary=False, dropout=options.teacher_dropout).to(training.device)
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

        def draw(step: int, seed: int = seed) -> tuple[Tensor, Tensor]:
            crops = corpus.crops(options.teacher_batch, options.sequence_length, generator_of(seed, 0, step))
            return crops

        path = out / f"teacher-{index}.pt"
        name = f"teacher {index + 1} of {options.teachers}"
        records.append(fit(teacher, draw, schedule, name, path, own, options.resume, compiled, validation))
        teachers.append(teacher)
    return teachers, records


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
