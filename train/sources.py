"""Reads the data of a run: a text, rows with a column of text, or token numbers. This module does not need PyTorch.

    DATA ─┬─ text file, plain or .xz ────────────────────────────► documents, divided at the separator
          ├─ .jsonl, .parquet, .arrow, or a folder of one kind ──► documents: text or token numbers of a column
          └─ .npy, .bin ─────────────────────────────────────────► token numbers, mapped from the file

A folder is a Hugging Face data set, as it is downloaded or as ``save_to_disk`` writes it. The name of a file or of its
folder determines its use. If the name begins with one of ``VALIDATION``, the file is for validation. If the name begins
with one of ``LEFT_OUT``, the file is not read. All other files are for training.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.errors import LuternError, named, quoted, reason_of
from lutern.model_ref.file_kinds import refuse_foreign
from lutern.model_ref.input_files import require_plain
from lutern.model_ref.text import read_text

Document = str | list[int]

TOKENS = (".npy", ".bin")
ROWS = (".jsonl", ".jsonl.gz", ".parquet", ".arrow")
VALIDATION = ("validation", "valid", "val-", "dev")
LEFT_OUT = ("test", "cache-")
"""Files of a data set that are not used: its test part, and cache files of the library ``datasets``."""
NO_PYARROW = "{path} is read by the package pyarrow, which is not installed; run pip install pyarrow, or give .jsonl."
ARROW_ROWS = 1024
"""Number of rows that are read together."""


@dataclass(frozen=True)
class Source:
    """The files of a run's data, of one kind: "text", "rows" or "tokens". If the data have no validation part,
    ``validation`` is empty."""

    path: Path
    kind: str
    training: tuple[Path, ...]
    validation: tuple[Path, ...] = ()

    def key(self) -> list[list[Any]]:
        """Return the names, sizes and times of the files, so that a changed file is recognised."""
        files = (*self.training, *self.validation)
        return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def find_source(path: str | Path) -> Source:
    """Find the files that ``path`` names. Raises ``LuternError`` if there are no data for training."""
    path = Path(path)
    if path.is_dir():
        return _find_in_folder(path)
    if not path.exists() and not path.is_symlink():
        raise LuternError(f"there is no {path}; give a text, a token file (.npy, .bin) or a folder of a data set.")
    require_plain(path, "text or data set")
    if path.suffix in TOKENS:
        return Source(path, "tokens", (path,))
    return Source(path, "rows" if path.name.endswith(ROWS) else "text", (path,))


def _find_in_folder(folder: Path) -> Source:
    """Find the data set's files in a folder. All files must be of one kind."""
    files = sorted(file for file in folder.rglob("*") if file.name.endswith(ROWS))
    kinds = [kind for kind in ROWS if any(file.name.endswith(kind) for file in files)]
    if not kinds:
        listed = ", ".join(ROWS)
        raise LuternError(f"{folder} has no file of a data set ({listed}); give such a folder, or a text file.")
    if len(kinds) > 1 and kinds != [".jsonl", ".jsonl.gz"]:
        raise LuternError(f"{folder} has files of several kinds ({', '.join(kinds)}); give a folder with one of them.")
    training, validation = [], []
    for file in files:
        names = [part.lower() for part in file.relative_to(folder).parts]
        if any(name.startswith(VALIDATION) for name in names):
            validation.append(file)
        elif not any(name.startswith(LEFT_OUT) for name in names):
            training.append(file)
    if not training:
        raise LuternError(f"{folder} has no file to train on, only a test or validation part; add the training part.")
    return Source(folder, "rows", tuple(training), tuple(validation))


def documents(files: tuple[Path, ...], kind: str, separator: str, column: str) -> Iterator[Document]:
    """Yield the documents of files in order. Empty documents are left out. A text without separators is one
    document."""
    for file in files:
        found: Iterator[Any]
        if kind == "text":
            refuse_foreign(file, "text") if file.suffix != ".xz" else None
            text = read_text(file)
            # A text without separators is not changed. Line ends around separators are removed.
            found = (part.strip("\n") for part in text.split(separator)) if separator in text else iter((text,))
        elif file.name.endswith((".jsonl", ".jsonl.gz")):
            found = _json_lines(file, column)
        else:
            found = _arrow_rows(file, column)
        yield from (_checked(document, file, column) for document in found if document)


def _checked(document: Any, file: Path, column: str) -> Document:
    if isinstance(document, str) or (
        isinstance(document, list) and all(type(token) is int and token >= 0 for token in document)
    ):
        return document
    raise LuternError(
        f"{file}: column {named(column)} holds {quoted(document)}, but must contain texts or lists of token numbers; "
        "name another with --set column=NAME."
    )


def _json_lines(file: Path, column: str) -> Iterator[Any]:
    """Yield the column of a file with one JSON object per line."""
    require_plain(file, "data set")
    try:
        with (
            gzip.open(file, "rt", encoding="utf-8-sig")
            if file.suffix == ".gz"
            else file.open(encoding="utf-8-sig") as lines
        ):
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or column not in row:
                    columns = ", ".join(map(named, itertools.islice(row, 8))) if isinstance(row, dict) else "no columns"
                    raise LuternError(
                        f"{file}, line {number}: a row must have the column {named(column)}, but this row has {columns}"
                        "; name the column with --set column=NAME."
                    )
                yield row[column]
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise LuternError(f"{file} is not JSON with one object a line ({reason_of(error)}); restore it.") from error


def _arrow_rows(file: Path, column: str) -> Iterator[Any]:
    """Yield the column of a .parquet file, or of an .arrow file in stream or file format."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise LuternError(NO_PYARROW.format(path=file)) from error
    refuse_foreign(file, "data set")
    try:
        if file.suffix == ".parquet":
            table = pyarrow.parquet.ParquetFile(file)
            names = table.schema_arrow.names
            batches = table.iter_batches(ARROW_ROWS, columns=[column]) if column in names else iter(())
        else:
            mapped = pyarrow.memory_map(str(file))
            try:
                stream = pyarrow.ipc.open_stream(mapped)
                names, batches = stream.schema.names, iter(stream)
            except pyarrow.ArrowInvalid:
                table = pyarrow.ipc.open_file(mapped)
                names = table.schema.names
                batches = (table.get_batch(index) for index in range(table.num_record_batches))
        if column not in names:
            raise LuternError(
                f"{file} has the columns {', '.join(map(named, names[:8]))}, but not {named(column)}; name one with "
                "--set column=NAME."
            )
        for batch in batches:
            yield from batch.column(column).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise LuternError(f"{file} cannot be read ({reason_of(error)}); restore it.") from error


def map_tokens(path: Path) -> NDArray[Any]:
    """Return the memory-mapped token numbers of a file: a one-dimensional array of integers (.npy), or numbers of 16
    bits (.bin).

    Raises ``LuternError`` for any other file.
    """
    require_plain(path, "token file")
    try:
        if path.suffix == ".bin":
            if path.stat().st_size % 2:
                raise LuternError(
                    f"{path} has an odd number of bytes, but a .bin holds 16 bits a token; give wider tokens as .npy."
                )
            return np.memmap(path, "<u2", "r")
        refuse = f"{path} is no .npy file with one axis of integers; write one with numpy.save."
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise LuternError(f"{path} cannot be read as token numbers ({reason_of(error)}); write it anew.") from error
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype.kind not in "ui":
        raise LuternError(refuse)
    return tokens


__all__ = ["NO_PYARROW", "Document", "Source", "documents", "find_source", "map_tokens"]
