"""`lutern inspect`: prints the parts of a checkpoint or an image, and which machines hold the model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lutern.api.models import is_image
from lutern.boards.catalog import find_board
from lutern.cli.machine import board_option
from lutern.cli.models import open_checkpoint, open_image_file, open_model
from lutern.cli.output import printable
from lutern.cli.progress import named_progress_bar
from lutern.cli.table import Column, FormatOption, Printer, fixed, percent, printing
from lutern.firmware.contents import Tensor, bfloat16_bytes, grouped, image_bytes, parts_of
from lutern.firmware.image import OpenImage
from lutern.firmware.image_writer import image_size
from lutern.firmware.limits import STATE_BYTES, memory_bytes, reason_against, state_elements
from lutern.hw.presets import PRESETS
from lutern.measure.fits import sentence
from lutern.model_ref.checkpoint import CONFIG_FILE, Checkpoint, load_tokenizer
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.conventions import Conventions
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.tokenizer import TOKENIZER_FILE

TENSORS = (
    Column("tensor", left=True),
    Column("shape", folds=True),
    Column("count"),
    Column("stored_as", folds=True),
    Column("zero_share", "zeros", percent(1)),
    Column("bits_per_weight", show=fixed(2)),
    Column("bytes"),
)
ACTIVATIONS = (
    Column("activation", left=True),
    Column("word_holds", show=lambda value: f"{value:g}"),
    Column("rests_on", folds=True),
    Column("largest", show=lambda value: f"{value:.3g}"),
    Column("rms", "RMS", lambda value: f"{value:.3g}"),
)
MACHINES = (
    Column("preset", left=True),
    Column("image_memory_bytes", "image memory, bytes"),
    Column("state_bytes", "state, bytes"),
    Column("fits"),
    Column("reason", folds=True),
)
H_BITS, I_BITS = 32, 18  # bits of the word h, and of the words i and gate


def inspect(
    model: Annotated[str, typer.Argument(help="demo, demo-small, demo-large, a checkpoint folder, or an image.")],
    every: Annotated[bool, typer.Option("--all", help="Print one line for each tensor of each layer.")] = False,
    board_name: Annotated[str, board_option("Print what this board lacks for the model")] = "",
    form: FormatOption = "text",
) -> None:
    """Print tensors, sizes and notes of a model, the memory that the model needs, and the machines that hold it."""
    board = find_board(board_name) if board_name else None
    opened: OpenImage | Checkpoint
    opened = open_image_file(model) if is_image(model) else open_checkpoint(model)
    with named_progress_bar("reading") as advance:
        parts = parts_of(opened, advance)
    with printing(form) as printer:
        print_parts(printer, opened, parts, every)
        print_text_convention(printer, model, opened)
        bits = opened.embedding_bits if isinstance(opened, OpenImage) else WIDE_BITS
        printer.say()
        printer.table("machines", MACHINES, [machine_cells(opened.config, name, bits) for name in PRESETS])
        printer.say(f"{model} {sentence(opened.config, board, bits)}")


def print_parts(printer: Printer, opened: OpenImage | Checkpoint, parts: list[Tensor], every: bool) -> None:
    """Print the tensors, and the shape and sizes of the whole model."""
    printer.table("tensors", TENSORS, [part_cells(part) for part in (parts if every else grouped(parts))])
    printer.say()
    for line in [*totals(opened, parts), *what_was_read(opened)]:
        printer.say(line)


def print_text_convention(printer: Printer, model: str, opened: OpenImage | Checkpoint) -> None:
    """Print how the model reads a text, and the results of a calibration on a text."""
    if isinstance(opened, OpenImage) or (opened.folder / TOKENIZER_FILE).is_file():
        printer.say(printable(open_model(model).tokenizer.describe()))
    if isinstance(opened, OpenImage) and opened.activations:
        printer.say()
        rows = [activation_cells(opened, name) for name in opened.activations]
        printer.table("activations", ACTIVATIONS, rows)


def part_cells(part: Tensor) -> list[Any]:
    """Return the values of a tensor's line."""
    shape = " x ".join(map(str, part.shape)) or "1"
    share = None if part.kind.endswith("text") else part.zeros / max(1, part.elements)
    return [part.name, shape, part.count, part.kind, share, part.bits, part.byte_count]


def totals(opened: OpenImage | Checkpoint, parts: list[Tensor]) -> list[str]:
    """Return the shape and sizes of the whole model."""
    config = opened.config
    names = {f"{name}.weight" for name in config.projections}
    ternary = [part for part in parts if part.name in names]
    ternary_bytes = sum(part.byte_count for part in ternary)
    released = bfloat16_bytes(config)
    lines = [
        f"{config.num_hidden_layers} layer{'s' * (config.num_hidden_layers > 1)}, hidden size {config.hidden_size}, "
        f"intermediate size {config.intermediate_size}, {config.vocab_size} tokens: {config.trits:,} ternary weights, "
        f"{sum(part.zeros for part in ternary) / config.trits:.1%} of them zero"
    ]
    if isinstance(opened, OpenImage):
        lines += [
            f"image of {opened.path.stat().st_size:,} bytes, {released / opened.path.stat().st_size:.2f} times smaller "
            f"than bfloat16; ternary weights {2 * config.trits / ternary_bytes:.2f} times",
            f"embeddings of {opened.embedding_bits} bits",
            f"made from {printable(opened.source)}, digest {opened.digest}",
            f"words with ranges from calibration: {', '.join(sorted(opened.calibrated)) or 'none, all are proved'}",
        ]
    else:
        stored = sum(path.stat().st_size for path in opened.files)
        text, conventions = b"", Conventions()
        if (opened.folder / TOKENIZER_FILE).is_file():
            tokenizer = load_tokenizer(opened.folder)
            text, conventions = tokenizer.to_json().encode(), tokenizer.conventions
        of_image = image_size(opened, text, opened.folder.resolve().name, conventions)
        more = f" and {len(opened.files) - 1} more" if len(opened.files) > 1 else ""
        lines += [
            f"{stored:,} bytes in {printable(opened.files[0].name)}{more}; as an image {of_image:,}"
            f"{'' if text else ' and its tokenizer'}, {stored / of_image:.2f} times smaller; ternary weights "
            f"{ternary_bytes / image_bytes(config)[1]:.2f} times"
        ]
    if opened.synthetic:
        lines.append(f"synthetic: {printable(opened.synthetic)}")
    return lines


def what_was_read(opened: OpenImage | Checkpoint) -> list[str]:
    """Return notes on what was read in an unexpected way, and on what was assumed because the files do not say it."""
    lines = [f"read: {printable(note)}" for note in opened.notes]
    if isinstance(opened, Checkpoint):
        lines += [f"{CONFIG_FILE}: {printable(text)}" for text in opened.assumed]
    return lines


def activation_cells(image: OpenImage, name: str) -> list[Any]:
    """Return the values of one line for a calibrated image: the range that a word can hold, and the largest value and
    the RMS that calibration measured.
    """
    word, frac_bits = (H_BITS, image.h_frac_bits) if name == "h" else (I_BITS, image.matrix(name).frac_bits)
    rests_on = "calibration" if name in image.calibrated else "proof"
    seen = image.activations[name]
    return [name, 2.0 ** (word - 1 - frac_bits), rests_on, float(seen.largest), float(seen.rms)]


def machine_cells(model_config: ModelConfig, name: str, embedding_bits: int) -> list[Any]:
    """Return the values of a preset's line."""
    hw_config = PRESETS[name]
    memory = memory_bytes(model_config, hw_config, embedding_bits)
    state = state_elements(model_config) * STATE_BYTES
    reason = reason_against(model_config, hw_config, embedding_bits)
    return [name, memory, state, reason is None, reason]
