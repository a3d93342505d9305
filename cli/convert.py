"""`lutern convert`: a checkpoint in, an image out, one tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.models import checkpoint_folder
from lutern.cli.progress import named_progress_bar
from lutern.firmware.image_writer import LARGEST_EMBEDDING_ERROR
from lutern.firmware.image_writer import convert as write_converted
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
        done = write_converted(out, opened, tokenizer, folder.resolve().name, advance=advance)
    marked = f", synthetic ({opened.synthetic})" if opened.synthetic else ""
    size = out.stat().st_size
    print(f"{out}: {size:,} bytes, {opened.config.trits:,} ternary weights, digest {done.digest[:16]}{marked}.")
    print(f"embeddings coded with a relative error of {done.embedding_error:.1e}.")
    if done.embedding_error > LARGEST_EMBEDDING_ERROR:
        print(f"warning: that is above {LARGEST_EMBEDDING_ERROR:.1e}; compare with the checkpoint by `lutern eval`.")
    if done.calibrated:
        print(f"warning: {len(done.calibrated)} words rest on calibration, see `lutern inspect`; they may saturate.")
