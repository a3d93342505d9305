"""`lutern convert`: quantises a checkpoint into an image, one tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.models import checkpoint_folder, open_checkpoint
from lutern.cli.numbers import one_of
from lutern.cli.progress import named_progress_bar
from lutern.firmware.image_writer import LARGEST_EMBEDDING_ERROR
from lutern.firmware.image_writer import convert as write_converted
from lutern.model_ref.calibrate import TEXT_CHARACTERS, text_tokens
from lutern.model_ref.checkpoint import load_tokenizer
from lutern.model_ref.embedding import EMBEDDING_BITS, WIDE_BITS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.text import read_text
from lutern.model_ref.weight_files import file_for_folder


def convert(
    checkpoint: Annotated[str, typer.Argument(help="demo, demo-small, or a checkpoint folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Image file to write.")],
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Text for calibration, plain or .xz. Its first 2,048 tokens are used, not random tokens."),
    ] = None,
    embedding_bits: Annotated[
        int,
        one_of(
            "--embedding-bits",
            choices=EMBEDDING_BITS,
            help="Bits of an element of an embedding; 12 bits save a quarter of its memory and cost some accuracy.",
        ),
    ] = WIDE_BITS,
) -> None:
    """Quantise a checkpoint into an image, the file for a board's memory. One image serves all boards."""
    folder = checkpoint_folder(checkpoint)
    opened = open_checkpoint(checkpoint)
    if out.is_file() and file_for_folder(out):
        raise LuternError(f"{out} is a file of a checkpoint and is not replaced; give another name for the image.")
    tokenizer = load_tokenizer(folder).limit_to(opened.config.vocab_size)
    tokens = None
    if calibrate:
        tokens = text_tokens(tokenizer.encode(read_text(calibrate)[:TEXT_CHARACTERS], begin=False), tokenizer.ahead)
        if tokens.shape[0] <= len(tokenizer.ahead):
            raise LuternError(f"{calibrate} contains no text; give a text of 2,048 tokens or more.")
    with named_progress_bar("converting") as advance:
        done = write_converted(
            out,
            opened,
            tokenizer.to_json().encode(),
            folder.resolve().name,
            tokens,
            advance,
            tokenizer.conventions,
            embedding_bits,
        )
    marked = f", synthetic ({opened.synthetic})" if opened.synthetic else ""
    size = out.stat().st_size
    print(f"{out}: {size:,} bytes, {opened.config.trits:,} ternary weights, digest {done.digest[:16]}{marked}.")
    print(f"embeddings coded in {embedding_bits} bits with a relative error of {done.embedding_error:.1e}.")
    if done.embedding_error > LARGEST_EMBEDDING_ERROR and embedding_bits == WIDE_BITS:
        print(f"warning: that is above {LARGEST_EMBEDDING_ERROR:.1e}; compare with the checkpoint by `lutern eval`.")
    if tokens is not None:
        print(f"calibrated on {tokens.size:,} tokens of {calibrate}; `lutern inspect` prints the activations.")
    if done.calibrated:
        print(f"warning: the ranges of {len(done.calibrated)} words are calibrated, not proved (see `lutern inspect`).")
