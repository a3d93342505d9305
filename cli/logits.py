"""`lutern logits`: writes a model's logits for given tokens as arrays, for comparison with any other implementation."""

from __future__ import annotations

import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from lutern.api.models import NUMERICS, Numerics
from lutern.cli.models import open_model
from lutern.cli.output import plain_console
from lutern.cli.progress import progress_bar
from lutern.cli.prompts import collect_prompts
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import require_plain
from lutern.model_ref.output_files import output_file, refused_output, unfinished_folder

COPIED_BYTES = 1 << 20
WHOLE = "whole.npz"
_MENDED = "save a one-dimensional integer array with numpy.save"


def write_logits(
    model: Annotated[str, typer.Argument(help="demo, demo-small, demo-large, a checkpoint folder, or an image.")],
    tokens: Annotated[
        Path | None, typer.Option("--token-file", help="Token numbers: one integer array saved by numpy.save.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write, .npz.")] = None,
    numerics: Annotated[str, typer.Option(help="float, or integer as the gateware computes.")] = "integer",
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="A text in place of token numbers. Its token numbers are printed.")
    ] = None,
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", help="A file with the text, plain or .xz. - is standard input.")
    ] = None,
) -> None:
    """Write arrays for n tokens: logits [n, vocabulary], and hidden [n, layers + 1, hidden size], which has the
    embedding and the output of each layer."""
    if numerics not in NUMERICS:
        raise LuternError(f"there are no {numerics} numerics; give one of {', '.join(NUMERICS)}.")
    if out is None:
        raise LuternError("there is no file to write; give one with -o FILE.npz.")
    if not out.parent.is_dir():
        raise LuternError(f"{out} cannot be written, there is no folder {out.parent}; make it or choose another.")
    target = output_file(out)
    network = open_model(model)
    if sum(given is not None for given in (prompt, prompt_file, tokens)) != 1:
        raise LuternError("logits need one text; give one of --prompt TEXT, --prompt-file FILE, --token-file FILE.")
    if tokens is None:
        (prompt,) = collect_prompts(prompt, [], [] if prompt_file is None else [prompt_file], piped=False)
        coded = network.tokenizer.encode_prompt(prompt)
        print("tokens:", *coded)
        ids = np.array(coded, dtype=np.int64)
    else:
        ids = read_ids(tokens, network.config.vocab_size)
    rows = network.rows(ids, cast(Numerics, numerics))
    shapes = {
        "logits": (len(ids), network.config.vocab_size),
        "hidden": (len(ids), network.config.num_hidden_layers + 1, network.config.hidden_size),
    }
    kind = np.dtype("<f4" if numerics == "float" else "<f8")
    start = time.monotonic()
    try:
        with unfinished_folder(target.parent) as work, progress_bar(numerics) as advance:
            write_arrays(work, shapes, kind, rows, lambda count: advance(count, len(ids)))
            speed = len(ids) / (time.monotonic() - start)
            (work / WHOLE).replace(target)
    except OSError as error:
        raise refused_output(out, error) from error
    note = f" ({network.synthetic})" if network.synthetic else ""
    plain_console(soft_wrap=True).print(
        f"{out}: logits {list(shapes['logits'])}, hidden {list(shapes['hidden'])}; {speed:.1f} tokens/s{note}"
    )


def write_arrays(
    work: Path,
    shapes: dict[str, tuple[int, ...]],
    kind: np.dtype[Any],
    rows: Iterable[tuple[NDArray[Any], ...]],
    advance: Callable[[int], None],
) -> None:
    """Write an archive as numpy.savez does, from arrays that arrive row by row.

    Each array is first written into a file, since 10,000 tokens with 32,000 logits each may not fit into memory. The
    files are not memory-mapped, since a full disk kills a process that writes into a mapping.
    """
    with ExitStack() as stack:
        files = [stack.enter_context((work / name).open("wb")) for name in shapes]
        for file, shape in zip(files, shapes.values(), strict=True):
            write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})
        for index, row in enumerate(rows):
            for file, values in zip(files, row, strict=True):
                file.write(np.ascontiguousarray(values, kind).data)
            advance(index + 1)
    with zipfile.ZipFile(work / WHOLE, "w", zipfile.ZIP_STORED) as archive:
        for name in shapes:
            with (work / name).open("rb") as whole, archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                shutil.copyfileobj(whole, entry, COPIED_BYTES)
            (work / name).unlink()


def read_ids(path: Path, vocab_size: int) -> NDArray[np.int64]:
    """Return the token numbers of a file that numpy.save wrote, a one-dimensional array. Nothing is unpickled. A
    header is refused if it describes more data than the file contains.
    """
    require_plain(path, "file of token numbers")
    try:
        with warnings.catch_warnings(action="ignore"):  # NumPy warns about files of its old versions
            ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise LuternError(f"there is no file {path}; {_MENDED}.") from None
    except Exception as error:  # NumPy's header parser does not catch the errors of Python's own parser
        raise LuternError(f"{path} is no array that numpy.save wrote; {_MENDED}.") from error
    if not isinstance(ids, np.ndarray):
        raise LuternError(f"{path} holds several arrays; {_MENDED}.")
    if ids.dtype.kind not in "iu":
        raise LuternError(f"{path} holds {ids.dtype}, but token numbers are integers; {_MENDED}.")
    if ids.ndim != 1 or not ids.size:
        raise LuternError(f"{path} has shape {list(ids.shape)}, but must be [n] with at least one token; {_MENDED}.")
    wrong = (ids < 0) | (ids >= vocab_size)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise LuternError(
            f"{path}: token {ids[place]} at position {place} is outside the vocabulary of {vocab_size} tokens; "
            "encode the text with this model's tokenizer."
        )
    return ids.astype(np.int64)
