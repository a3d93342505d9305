"""`lutern convert`: a checkpoint in, an image out, one tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.models import checkpoint_folder
from lutern.cli.progress import named_progress_bar
from lutern.firmware.image import convert as write_converted
from lutern.model_ref.checkpoint import load_checkpoint, load_tokenizer
from lutern.model_ref.tokenizer import TOKENIZER_FILE


def convert(
    checkpoint: Annotated[str, typer.Argument(help="demo, demo-small, or a checkpoint folder.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Image file to write.")],
) -> None:
    """Quantise a checkpoint into an image: the file that goes into the board's memory, whatever the board."""
    folder = checkpoint_folder(checkpoint)
    opened = load_checkpoint(folder)
    load_tokenizer(folder).check_fits(opened.config.vocab_size, checkpoint)
    tokenizer = (folder / TOKENIZER_FILE).read_bytes()
    with named_progress_bar("converting") as advance:
        digest = write_converted(out, opened, tokenizer, folder.resolve().name, advance=advance)
    marked = f", synthetic ({opened.synthetic})" if opened.synthetic else ""
    size = out.stat().st_size
    print(f"{out}: {size:,} bytes, {opened.config.trits:,} ternary weights, digest {digest[:16]}{marked}.")
