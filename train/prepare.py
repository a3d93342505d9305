"""Converts data into token numbers, once for each run. All processes of the run map the files in OUT/data.

    documents ─► vocabulary ─► <s> document </s> ... ─► the first 95 % for training, the last 5 % for validation

    OUT/data/train.npy, validation.npy   token numbers, with 16 bits each if 16 bits are enough
    OUT/data/tokenizer.json ...          the tokenizer and the files that belong to it
    OUT/data/data.json                   the sources of the data, so that a resumed run reads the same data

A single text is stored unchanged, without special tokens. Instead, every crop of it begins with the tokens that the
tokenizer puts before a text (data.py). A token file is not copied, but data.json contains its path. This module does
not need PyTorch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError, quoted
from lutern.model_ref.evaluate import split
from lutern.model_ref.output_files import refused_output, unfinished_folder
from lutern.model_ref.text import read_json
from lutern.model_ref.tokenizer import TOKENIZER_FILE, Tokenizer, load_tokenizer
from lutern.train.options import TrainOptions
from lutern.train.sources import Document, Source, documents, find_source, map_tokens
from lutern.train.vocabulary import COMPANIONS, Vocabulary, byte_pairs, characters, given, pieces_of

DATA = "data"
VALIDATION_TOKENS = 1 << 20
"""The largest number of tokens for validation. Further tokens are not read."""
UNREAD_SHARE = 0.02
"""The share of the training part that is not used for crops. This text is the end of the training part, and the
temperatures are fitted to it."""
VALIDATION_STREAMS = 64  # number of streams in model_ref/evaluate.py
VOCABULARY_CHARACTERS = 200_000_000
"""Number of characters of a large data set in which pieces are searched."""
BATCH_CHARACTERS = 1 << 20
"""Number of characters that are encoded together."""
PART_CHARACTERS = 1 << 16
SAMPLE_BYTES = 1 << 24
"""Number of bytes at the beginning and at the end of a token file that identify the file, together with its length."""
MAX_NOTE_BYTES = 1 << 22


@dataclass(frozen=True)
class Data:
    """The data of a run: the tokenizer, and the token numbers for training and for validation.

    ``files``: the tokenizer's files by name, which are copied into the checkpoint. ``keys``: the tokenizer's keys in
    config.json. ``digest``: the digest of the data.
    """

    tokenizer: Tokenizer
    training: NDArray[Any]
    validation: NDArray[Any]
    digest: str
    files: dict[str, bytes]
    keys: dict[str, Any]


def prepare(path: str | Path, out: Path, options: TrainOptions) -> Data:
    """Write OUT/data. For a resumed run, use OUT/data if it was made from the same files and options.

    Raises ``LuternError`` if the data cannot be read, or if a resumed run began with other data.
    """
    source, folder = find_source(path), out / DATA
    key = _key(source, options)
    note = read_json(folder / "data.json", MAX_NOTE_BYTES)
    if options.resume and note.get("key") == key:
        return load(out)
    chosen = _vocabulary(source, options)
    try:
        with unfinished_folder(out) as work:
            new = work / DATA
            new.mkdir()
            _write(new, source, chosen, options, key)
            digest = read_json(new / "data.json", MAX_NOTE_BYTES)["digest"]
            if options.resume and note and note.get("digest") != digest:
                raise LuternError(
                    f"{out} was begun with other data or another tokenizer than {path} gives now; resume with the "
                    "same, or train anew in another folder."
                )
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(new, folder)
    except OSError as error:
        raise refused_output(folder, error) from error
    return load(out)


def load(out: Path) -> Data:
    """Map the files that ``prepare`` wrote."""
    folder = out / DATA
    note = read_json(folder / "data.json", MAX_NOTE_BYTES)
    tokenizer = load_tokenizer(folder)
    if note["tokens"]:
        training, validation = split(map_tokens(Path(note["tokens"])))
    else:
        training, validation = map_tokens(folder / "train.npy"), map_tokens(folder / "validation.npy")
    present = [name for name in (TOKENIZER_FILE, *COMPANIONS) if (folder / name).is_file()]
    files = {name: (folder / name).read_bytes() for name in present}
    keys = read_json(folder / "config.json", MAX_NOTE_BYTES)
    return Data(tokenizer, training, validation[:VALIDATION_TOKENS], note["digest"], files, keys)


def refuse_short(data: Data, path: str | Path, sequence_length: int, unread_share: float) -> None:
    """Raise ``LuternError`` if the data are too short for a crop or for the validation."""
    training, validation = len(data.training), len(data.validation)
    if validation < 2 * VALIDATION_STREAMS or int(training * (1 - unread_share)) <= sequence_length:
        raise LuternError(
            f"{path} has {training:,} tokens to train on and {validation:,} to validate, too few for crops of "
            f"{sequence_length} and {VALIDATION_STREAMS} validation streams; give a longer text, or shorten "
            "sequence_length."
        )


def _key(source: Source, options: TrainOptions) -> dict[str, Any]:
    """Return all names and options on which the prepared files depend."""
    tokenizer = options.tokenizer or ""
    if Path(tokenizer).exists():
        tokenizer = str(Path(tokenizer).resolve())
    start = str(Path(options.start_from).resolve()) if options.start_from else ""
    named = {"tokenizer": tokenizer, "start_from": start, "separator": options.separator, "column": options.column}
    return {"files": source.key(), **named}


def _vocabulary(source: Source, options: TrainOptions) -> Vocabulary:
    """Return the tokenizer of the options, which is read from a file or made from the data."""
    if options.start_from is not None:
        return _of_checkpoint(options.start_from, options.tokenizer)
    name = options.tokenizer or "character"
    pieces = pieces_of(name)
    if name != "character" and pieces is None:
        return given(name)
    if source.kind == "tokens":
        raise LuternError(
            f"{source.path} holds token numbers, which only their own tokenizer explains; name its tokenizer.json with "
            "--tokenizer FILE."
        )
    several = source.kind == "rows" or _count(_read(source, options), 2) == 2
    if pieces is None:
        everything = itertools.chain(_read(source, options), _read(source, options, validation=True))
        return characters((_text(document, name) for document in everything), several)
    return byte_pairs(_training_texts(source, options, several, name), pieces)


def _of_checkpoint(folder: str, name: str | None) -> Vocabulary:
    """Return the tokenizer of the file ``name``. If ``name`` is empty, return the tokenizer of the checkpoint from
    which training begins."""
    config = load_checkpoint(folder).config
    if name is not None and (name == "character" or pieces_of(name)):
        raise LuternError(
            f"--from {folder} has a vocabulary of its own, which --tokenizer {name} would replace; leave --tokenizer "
            "out."
        )
    chosen = given(folder if name is None else name)
    chosen.tokenizer.limit_to(config.vocab_size)
    return chosen


def _read(source: Source, options: TrainOptions, validation: bool = False) -> Iterator[Document]:
    files = source.validation if validation else source.training
    return documents(files, source.kind, options.separator, options.column)


def _count(items: Iterable[Any], most: int) -> int:
    return sum(1 for _ in itertools.islice(items, most))


def _text(document: Document, name: str) -> str:
    if isinstance(document, str):
        return document
    raise LuternError(
        f"the data hold token numbers ({quoted(document, 30)}), from which --tokenizer {name} cannot be made; name "
        "their tokenizer.json with --tokenizer FILE, or a column of texts with --set column=NAME."
    )


def _training_texts(source: Source, options: TrainOptions, several: bool, name: str) -> Iterator[str]:
    """Yield the texts in which pieces are searched. Texts for validation are left out, and at most about
    ``VOCABULARY_CHARACTERS`` characters are read."""
    room = VOCABULARY_CHARACTERS
    for document in _read(source, options):
        text = _text(document, name)
        if not several:
            text = text[: len(text) - len(text) // 20]
        yield text[:room]
        room -= len(text)
        if room <= 0:
            return


def _write(folder: Path, source: Source, chosen: Vocabulary, options: TrainOptions, key: dict[str, Any]) -> None:
    """Write all files of OUT/data."""
    for name, content in chosen.files.items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps(chosen.keys))
    digest = hashlib.sha256(chosen.files[TOKENIZER_FILE])
    tokens = ""
    if source.kind == "tokens":
        tokens = str(source.path.resolve())
        parts = [map_tokens(source.path)]
        _refuse_unknown(parts[0], _vocabulary_size(chosen, options), source.path)
    else:
        parts = _tokenise(folder, source, chosen, options)
    for part in parts:
        digest.update(f"{len(part)} {part.dtype.str}".encode())
        edge = SAMPLE_BYTES // part.dtype.itemsize
        digest.update(np.ascontiguousarray(part[:edge]).tobytes())
        digest.update(np.ascontiguousarray(part[-edge:]).tobytes())
    (folder / "data.json").write_text(json.dumps({"key": key, "digest": digest.hexdigest(), "tokens": tokens}))


def _vocabulary_size(chosen: Vocabulary, options: TrainOptions) -> int:
    if options.start_from is None:
        return chosen.tokenizer.vocab_size
    return load_checkpoint(options.start_from).config.vocab_size


def _tokenise(folder: Path, source: Source, chosen: Vocabulary, options: TrainOptions) -> list[NDArray[Any]]:
    """Write train.npy and validation.npy, and return the mapped files."""
    size = _vocabulary_size(chosen, options)
    whole = folder / "train.npy"
    _write_tokens(whole, _read(source, options), source, chosen, size)
    if source.validation:
        _write_tokens(folder / "validation.npy", _read(source, options, validation=True), source, chosen, size)
    else:
        training, validation = split(map_tokens(whole))
        np.save(folder / "validation.npy", validation)
        _shorten(whole, len(training))
    return [map_tokens(whole), map_tokens(folder / "validation.npy")]


def _write_tokens(path: Path, found: Iterator[Document], source: Source, chosen: Vocabulary, size: int) -> None:
    """Write the token numbers of all documents, one document after another. If there are several documents, the special
    tokens of beginning and end are added to each document.
    """
    kind = np.dtype("<u2" if size <= 1 << 16 else "<u4")
    first, second = next(found, None), next(found, None)
    one = second is None and source.kind == "text"
    ahead = [] if one else list(chosen.tokenizer.ahead)
    end = [] if one else chosen.end
    given_documents = (document for document in (first, second) if document is not None)
    with path.open("wb") as file:
        _write_header(file, kind, 0)
        count = 0
        for ids in _encoded(itertools.chain(given_documents, found), chosen, ahead, end):
            if ids and max(ids) >= size:
                _refuse_unknown(np.array(ids), size, source.path)
            file.write(np.array(ids, kind).tobytes())
            count += len(ids)
        file.seek(0)
        _write_header(file, kind, count)


def _encoded(found: Iterator[Document], chosen: Vocabulary, ahead: list[int], end: list[int]) -> Iterator[list[int]]:
    """Yield the token numbers of each document. Several short texts are encoded in one call. A long text is encoded in
    parts if this does not change its tokens."""
    encode = chosen.tokenizer.encode_documents
    waiting: list[str] = []

    def flush() -> Iterator[list[int]]:
        parts = [list(_parts(text)) if chosen.splits_lines else [text] for text in waiting]
        ids = iter(encode([part for text in parts for part in text]))
        for text in parts:
            yield [*ahead, *itertools.chain.from_iterable(itertools.islice(ids, len(text))), *end]
        waiting.clear()

    room = BATCH_CHARACTERS
    for document in found:
        if isinstance(document, list):
            yield from flush()
            yield [*ahead, *document, *end] if document[: len(ahead)] != ahead else document
            continue
        waiting.append(document)
        room -= len(document)
        if room <= 0:
            yield from flush()
            room = BATCH_CHARACTERS
    yield from flush()


def _parts(text: str) -> Iterator[str]:
    """Yield parts of a text of at least ``PART_CHARACTERS`` characters. Each part ends at the end of a line."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + PART_CHARACTERS)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def _write_header(file: Any, kind: np.dtype[Any], count: int) -> None:
    """Write the header of a .npy file. NumPy pads the header, so that its length does not depend on ``count``."""
    npy.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": (count,)})


def _shorten(path: Path, count: int) -> None:
    """Keep the first ``count`` numbers of a .npy file with one axis."""
    kind = map_tokens(path).dtype
    with path.open("r+b") as file:
        _write_header(file, kind, count)
        file.truncate(file.tell() + count * kind.itemsize)


def _refuse_unknown(tokens: NDArray[Any], size: int, path: Path) -> None:
    """Raise ``LuternError`` for token numbers outside the vocabulary. The file is read in parts."""
    for start in range(0, len(tokens), SAMPLE_BYTES):
        part = tokens[start : start + SAMPLE_BYTES]
        if part.size and not 0 <= int(part.min()) <= int(part.max()) < size:
            wrong = int(part.min()) if part.min() < 0 else int(part.max())
            raise LuternError(
                f"{path} holds token {wrong}, but the vocabulary has {size} tokens; name the tokenizer that made them."
            )


def shape_of(options: TrainOptions, vocab_size: int) -> ModelConfig:
    """Return the config to train: the given shape, or the shape of the checkpoint from which training begins.

    Raises ``LuternError`` if the given shape differs from the shape of the checkpoint.
    """
    names = ("hidden_size", "num_hidden_layers", "intermediate_size")
    if options.start_from is None:
        hidden_size, layers, intermediate_size = (options.shape(name) for name in names)
        return ModelConfig(vocab_size, hidden_size, layers, intermediate_size)
    config = load_checkpoint(options.start_from).config
    for name in names:
        wanted, found = getattr(options, name), getattr(config, name)
        if wanted is not None and wanted != found:
            raise LuternError(
                f"--from {options.start_from} has {name} {found}, but {wanted} is asked for; leave {name} out, or "
                "begin with a checkpoint of that shape."
            )
    return config


__all__ = ["DATA", "UNREAD_SHARE", "VALIDATION_STREAMS", "Data", "load", "prepare", "refuse_short", "shape_of"]
