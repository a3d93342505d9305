"""Writes a trained network into a checkpoint folder, and reads a checkpoint's weights as the start of a training.

network ─► fit a temperature ─► round to bfloat16, keep the trits ─► write all files ─► move the files to OUT ─► measure
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from lutern.model_ref.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_checkpoint, save_checkpoint
from lutern.model_ref.evaluate import bits_per_character, counted
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.output_files import refused_output, unfinished_folder, write_whole
from lutern.model_ref.ternarise import one_magnitude
from lutern.train.bfloat16 import rounded_with_trits_kept
from lutern.train.distill import calibrated
from lutern.train.network import Network
from lutern.train.outputs import clear_stale
from lutern.train.prepare import VALIDATION_STREAMS, Data
from lutern.train.progress import Progress

MEASURED_PRODUCTS = 1 << 41
"""A checkpoint is measured on the CPU with at most this number of products, so a large model is measured on less
text."""


def finish(network: Network, data: Data, unread: torch.Tensor, out: Path) -> dict[str, Any]:
    """Fit the network's temperature, write checkpoint and tokenizer, and measure the written checkpoint. Return the
    figures."""
    temperature = calibrated([network], unread).temperature
    network.divide_logits(temperature)
    write_checkpoint(network, out, data.files, data.keys)
    least = 2 * VALIDATION_STREAMS
    validation = data.validation[: max(least, MEASURED_PRODUCTS // network.config.trits)].astype("int64")
    ahead = data.tokenizer.ahead
    progress = Progress("evaluate", len(validation) // VALIDATION_STREAMS - 1 + len(ahead))
    bits = bits_per_character(
        FloatModel(load_checkpoint(out)),
        validation,
        VALIDATION_STREAMS,
        lambda done, total: progress.show(done, "tokens", end=done == total),
        ahead,
    )
    characters, tokens = counted(data.tokenizer, validation, VALIDATION_STREAMS)
    device = unread.device
    return {
        "trits": network.config.trits,
        "tokens": len(data.training) + len(data.validation),
        "vocabulary": data.tokenizer.vocab_size,
        "validation_tokens": tokens,
        "validation_bits_per_token": bits,
        "validation_bits_per_character": bits * tokens / characters,
        "temperature": temperature,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
    }


def write_checkpoint(network: Network, out: Path, files: dict[str, bytes], keys: dict[str, Any]) -> None:
    """Write the network in the published format: bfloat16, without changing a trit.

    ``files`` are the files of its tokenizer, and ``keys`` are additional keys of config.json. All files are first
    written into an unfinished folder inside ``out``, and then moved to ``out``. config.json is moved last, so it marks
    the folder as finished.
    """
    tensors = {name: value.detach().float().cpu().numpy() for name, value in network.state_dict().items()}
    for name in network.config.projections:
        tensors[f"{name}.weight"] = rounded_with_trits_kept(tensors[f"{name}.weight"])
    try:
        with unfinished_folder(out) as work:
            save_checkpoint(work, network.config, tensors)
            config = json.loads((work / CONFIG_FILE).read_text())
            write_whole(work / CONFIG_FILE, json.dumps({**config, **keys}, indent=2) + "\n")
            for name, content in files.items():
                write_whole(work / name, content)
            (out / CONFIG_FILE).unlink(missing_ok=True)
            clear_stale(out, files)
            for name in (WEIGHTS_FILE, *files, CONFIG_FILE):
                os.replace(work / name, out / name)
    except OSError as error:
        raise refused_output(out, error) from error


def start_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint as the start of a training.

    If a matrix is already ternary, its magnitude is its scale, but in training the scale is the mean of all magnitudes.
    Therefore such a matrix is divided by its share of nonzero weights. After that, the mean of its magnitudes equals
    the scale.
    """
    found = {}
    checkpoint = load_checkpoint(folder)
    projections = checkpoint.config.projections
    for name, value in checkpoint.tensors.items():
        if name.removesuffix(".weight") in projections and one_magnitude(value) is not None:
            value = value * (value.size / (value != 0).sum())
        found[name] = torch.from_numpy(value.astype("float32"))
    return found


__all__ = ["finish", "start_weights", "write_checkpoint"]
