"""The parsers that get files and bytes from outside, each with inputs to begin with and a way to change them.

    seeds ─► mutate: a value of the JSON, or bytes ─► read ─► LuternError, or nothing ─► fine
                                                         └─► anything else, or memory ─► a fault

``fuzz.py`` drives them by coverage; ``test_fuzz.py`` runs a few seeded mutations, and the inputs in tests/data/fuzz
that once were faults.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import json
import os
import random
import resource
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lutern.boards import loader, report
from lutern.boards.board import FPGAS
from lutern.boards.cache import is_whole, kept_json
from lutern.cli.logits import read_ids
from lutern.firmware.identify import identify
from lutern.firmware.image import convert, read_image, seal
from lutern.firmware.image_format import METADATA_KEY
from lutern.firmware.slip import FrameDecoder, encode_frame
from lutern.hw.protocol import INFO
from lutern.measure import calibration, cost, meter
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import METADATA, open_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.file_kinds import refuse_foreign
from lutern.model_ref.output_files import unfinished_folder
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import write_random_checkpoint
from lutern.model_ref.text import read_text
from lutern.model_ref.tokenizer import load_tokenizer

MODEL = ModelConfig(vocab_size=5, hidden_size=3, num_hidden_layers=1, intermediate_size=4)
MORE_BYTES = 64 << 20
JSON_FACTOR = 20
LONGEST_SENTENCE = 1000
INTERESTING: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        0.5,
        1e308,
        -1e-308,
        float("inf"),
        float("nan"),
        "",
        "a",
        "\x1b[2J",
        "\ud800",
        [],
        {},
    ),
    *(2**31, 2**32, 2**62, 2**63, 2**64, 10**400, "x" * 100, [0] * 40, [[[[]]]], {"a": {"a": {}}}),
)


@dataclass(frozen=True)
class Target:
    """A parser: ``read`` gets the bytes of an input, and ``mutate`` changes one by a seeded generator."""

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]
    mutate: Callable[[bytes, random.Random], bytes]
    most_bytes: int = 1 << 16


def check(target: Target, data: bytes) -> None:
    """Read one input: only ``LuternError`` with a short printable sentence may escape, and memory is bounded.

    The peak of the process's memory is set back first, where Linux lets it, to what it has now.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        target.read(data)
    except LuternError as error:
        text = str(error)
        assert text.isprintable() and len(text) < LONGEST_SENTENCE, ascii(text)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown <= MORE_BYTES + JSON_FACTOR * len(data), f"{grown:,} bytes of memory for {len(data):,} of input"


# ------------------------------------------------------------------------------------- mutations


def change_bytes(data: bytes, generator: random.Random) -> bytes:
    """Flip, cut, repeat or insert."""
    found = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(found) + 1)
        kind = generator.randrange(5)
        if kind == 0 and found:
            found[place - 1] ^= 1 << generator.randrange(8)
        elif kind == 1:
            del found[place : place + generator.choice((1, 2, 8, 1 << 20))]
        elif kind == 2:
            found[place:place] = generator.randbytes(generator.choice((1, 2, 8)))
        elif kind == 3:
            found[place:place] = found[place : place + 64] * generator.choice((1, 2, 200))
        elif found:
            found[place - 1] = generator.choice((0, 255, 0x7F, 0x80, 0xC0, 0xDB, 34, 91, 123, 10, 44))
    return bytes(found[: 1 << 16])


def change_value(value: Any, generator: random.Random) -> Any:
    """Another value somewhere in a JSON value."""
    places: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict | list):
            keys = list(one) if isinstance(one, dict) else range(len(one))
            places += [(one, key) for key in keys]
            todo += [one[key] for key in keys]
    if not places or generator.random() < 0.02:
        return copy.deepcopy(generator.choice(INTERESTING))
    holder, key = generator.choice(places)
    kind = generator.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[generator.choice(("", "a", "\x1b", str(key) + "x"))] = holder.pop(key)
    elif kind == 2 and type(holder[key]) in (int, float):
        holder[key] = generator.choice((-holder[key], holder[key] + 1, 0.5, 1e999))
    elif kind == 3:
        other, name = generator.choice(places)
        holder[key] = copy.deepcopy(other.get(name)) if isinstance(other, dict) else None
    else:
        holder[key] = copy.deepcopy(generator.choice(INTERESTING))
    return value


def change_json(data: bytes, generator: random.Random) -> bytes:
    """A value of JSON, or its bytes."""
    try:
        value = json.loads(data) if generator.random() < 0.8 else None
        for _ in range(generator.choice((1, 1, 1, 2, 4))):
            value = change_value(value, generator)
        if value is not None:
            return json.dumps(value).encode()[: 1 << 16]
    except (ValueError, RecursionError):
        pass
    return change_bytes(data, generator)


def change_container(data: bytes, generator: random.Random, inner: Callable[[Any, random.Random], Any]) -> bytes:
    """The header of a safetensors file, with its length made right, or bytes anywhere."""
    length = int.from_bytes(data[:8], "little")
    try:
        if generator.random() < 0.3:
            return change_bytes(data, generator)
        header = json.loads(data[8 : 8 + length])
        text = json.dumps(inner(header, generator)).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return change_bytes(data, generator)


def change_image_body(header: Any, generator: random.Random) -> Any:
    """The metadata of an image under a digest that is right, or the header around them."""
    if generator.random() < 0.3:
        return change_value(header, generator)
    body = json.loads(header[METADATA][METADATA_KEY])
    body.pop("digest", None)
    header[METADATA][METADATA_KEY] = seal(change_value(body, generator))
    return header


# --------------------------------------------------------------------------------------- parsers

_STACK = contextlib.ExitStack()
_HERE = _STACK.enter_context(
    unfinished_folder(Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()))
)
atexit.register(_STACK.close)


def of_file(read: Callable[[Path], object], data: bytes, name: str = "input") -> object:
    """A reader of a file, with these bytes in it."""
    path = _HERE / name
    path.write_bytes(data)
    return read(path)


def of_folder(name: str, read: Callable[[Path], object], data: bytes) -> object:
    """A reader of a checkpoint folder one of whose files has these bytes in it."""
    path = _HERE / "whole" / name
    before = path.read_bytes() if path.exists() else None
    try:
        path.write_bytes(data)
        return read(path.parent)
    finally:
        path.unlink() if before is None else path.write_bytes(before)


def read_checkpoint(folder: Path) -> object:
    return integer_weights(load_checkpoint(folder))


def read_tensors(path: Path) -> object:
    file = open_container(path)
    return [file.map(name).sum() for name in file.entries if file.entries[name].dtype != "F64"]


def read_tokenizer(folder: Path) -> object:
    tokenizer = load_tokenizer(folder).limit_to(MODEL.vocab_size)
    return tokenizer.describe(), tokenizer.decode(tokenizer.encode("ab"))


def of_tokenizer(name: str) -> Callable[[bytes], object]:
    return partial(of_folder, name, read_tokenizer)


def read_frames(data: bytes) -> object:
    """In pieces, as a line brings them: memory stays bounded, and a whole frame is found after any bytes."""
    decoder = FrameDecoder()
    for start in range(0, len(data), 61):
        decoder.feed(data[start : start + 61])
        assert len(decoder._rest) <= 1 << 12, "an unfinished frame is kept without end"
    wanted = encode_frame(1, 2, b"whole")
    assert (1, 2, b"whole") in decoder.feed(wanted + wanted)
    return decoder


def read_machine(data: bytes) -> object:
    return identify(INFO.unpack(data[: INFO.byte_count].ljust(INFO.byte_count, b"\0")))


def read_kept(data: bytes) -> object:
    """What tools wrote and a cache kept: reports, manifests and digests."""
    text = data.decode("utf-8", "replace")
    clocks = {"clk": report.Clock("sync", 60e6)}
    for parse in (
        lambda: report.parse_route(text, 1, clocks, next(iter(FPGAS.values()))),
        lambda: cost.parse_stat("x", text),
        lambda: cost.parse_report("x", text, 1),
        lambda: cost.parse_packed("x", text),
    ):
        try:
            parse()
        except LuternError:
            pass
    path = _HERE / "digests.json"
    path.write_bytes(data)
    return is_whole(_HERE, ("other",)), kept_json(path)


def _make_targets() -> dict[str, Target]:
    write_random_checkpoint(_HERE / "whole", MODEL, 1, "test")
    convert(_HERE / "image", load_checkpoint(_HERE / "whole"), b"{}", "test")
    np.save(_HERE / "ids.npy", np.arange(5))
    files = {path.name: path.read_bytes() for path in (_HERE / "whole").iterdir()}
    route = {
        "fmax": {"$glbnet$clk": {"achieved": 80.0}},
        "utilization": {cell: {"used": 1, "available": 9} for cell in (*report.RESOURCES.values(), "TRELLIS_FF")},
        "critical_paths": [
            {
                "from": "posedge $glbnet$clk",
                "to": "posedge $glbnet$clk",
                "path": [{"type": "logic", "delay": 0.5, "net": "n", "to": {"cell": "c"}}],
            }
        ],
        "design": {"num_cells_by_type": {"LUT4": 5}},
        "baud": 1,
    }
    texts = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "add_bos_token": True,
        "chat_template": "{{ messages }}",
        "added_tokens_decoder": {"1": {"content": "x", "special": True}},
    }
    generation = {"temperature": 0.5, "top_k": 5, "eos_token_id": [2], "bos_token_id": 1, "stop_strings": ["x"]}
    numbers = {"part": "ECP5", "source": "s", "date": "d"}
    event = {"value": 1e-13, "low": 0, "high": 1e-12}
    log = b"time,watts\n" + b"".join(b"%d,1.5\n" % second for second in range(9))
    readings = b"design,watts,net_toggle\nidle,0.3,0\nnets,0.4,1e9\n"
    frame = encode_frame(3, 4, bytes(range(200)))
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<IB", 7, 1)
    return {
        "config": Target((files["config.json"],), partial(of_folder, "config.json", read_checkpoint), change_json),
        "safetensors": Target(
            (files["model.safetensors"],), partial(of_file, read_tensors), partial(change_container, inner=change_value)
        ),
        "checkpoint": Target(
            (files["model.safetensors"],),
            partial(of_folder, "model.safetensors", read_checkpoint),
            partial(change_container, inner=change_value),
        ),
        "tokenizer": Target(
            (files["tokenizer.json"],), partial(of_folder, "tokenizer.json", read_tokenizer), change_json
        ),
        "tokenizer-config": Target((json.dumps(texts).encode(),), of_tokenizer("tokenizer_config.json"), change_json),
        "generation-config": Target(
            (json.dumps(generation).encode(),), of_tokenizer("generation_config.json"), change_json
        ),
        "image": Target(
            ((_HERE / "image").read_bytes(),),
            partial(of_file, read_image),
            partial(change_container, inner=change_image_body),
        ),
        "frames": Target((frame, frame + frame[:50], b"\xc0\xdb\xdc\xdb\xdd\xc0"), read_frames, change_bytes, 2048),
        "machine": Target((bytes(INFO.byte_count),), read_machine, change_bytes),
        "calibration": Target(
            (json.dumps({**numbers, "coefficients": {"net_toggle": event, "static_watts": event}}).encode(),),
            partial(of_file, calibration.load),
            change_json,
        ),
        "readings": Target((readings,), partial(of_file, calibration.read_readings), change_bytes),
        "meter": Target((log,), partial(of_file, meter.read_csv), change_bytes),
        "kept": Target((json.dumps(route).encode(),), read_kept, change_json),
        "bitstream": Target(
            (bytes.fromhex("ffffbdb3ffffffffe200000041113043"),),
            partial(of_file, loader.bitstream_idcode),
            change_bytes,
        ),
        "foreign": Target(
            (gguf, b"\x80\x02", b"<html>"), partial(of_file, lambda path: refuse_foreign(path, "thing")), change_bytes
        ),
        "text": Target((b"the cat\r\n", "é".encode("utf-16")), partial(of_file, read_text), change_bytes),
        "packed-text": Target(
            (bytes.fromhex("fd377a585a000004e6d6b4460200210116000000742fe5a3"),),
            partial(of_file, read_text, name="input.xz"),
            change_bytes,
        ),
        "tokens": Target(
            ((_HERE / "ids.npy").read_bytes(),), partial(of_file, lambda path: read_ids(path, 5)), change_bytes
        ),
    }


TARGETS = _make_targets()
"""Every parser by its name."""
