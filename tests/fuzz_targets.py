"""The parsers that read files and bytes from outside, each with first inputs and a way to change these inputs.

    seeds ─► mutate: a value of the JSON, or bytes ─► read ─► LuternError, or nothing ─► fine
                                                         └─► anything else, or memory ─► a fault

``fuzz.py`` runs the parsers with inputs that are guided by coverage. ``test_fuzz.py`` runs a few seeded mutations, and
the inputs in tests/data/fuzz that caused faults in the past.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import lzma
import os
import random
import resource
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from fuzz_answers import CALLS, SCRIPTS, read_answers, read_wants
from fuzz_mutations import (
    change_bytes,
    change_container,
    change_image_body,
    change_json,
    change_recording,
    change_value,
)
from lutern.boards import loader, report
from lutern.boards.board import FPGAS
from lutern.boards.cache import is_whole, kept_json
from lutern.cli.link import dump_recording
from lutern.cli.logits import read_ids
from lutern.firmware.identify import identify
from lutern.firmware.image import convert, read_image
from lutern.firmware.link_dump import HEAD
from lutern.firmware.slip import FrameDecoder, encode_frame
from lutern.hw.protocol import DAMAGE_DONE, INFO, RESPONSE, SETUP, WANT, Opcode
from lutern.measure import calibration, cost, meter
from lutern.measure.toggles import parse_flat, parse_saif
from lutern.model_ref.chat import render
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import open_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.file_kinds import refuse_foreign
from lutern.model_ref.output_files import unfinished_folder
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import write_random_checkpoint
from lutern.model_ref.text import read_text
from lutern.model_ref.tokenizer import load_tokenizer
from lutern.sim.verilate import _noted

MODEL = ModelConfig(vocab_size=5, hidden_size=3, num_hidden_layers=1, intermediate_size=4)
MORE_BYTES = 64 << 20
JSON_FACTOR, TEXT_FACTOR = 20, 6
"""Bytes of memory that a parser may use for each byte of a JSON file and of a text file. If a text contains a single
wide character, every character of the text needs four bytes."""
LONGEST_SENTENCE = 1000
RESET_BYTES = 8 << 20
"""The peak of the process's memory is reset after it has grown by this number of bytes. A reset for every input would
take too long."""


@dataclass(frozen=True)
class Target:
    """A parser: ``read`` parses the bytes of an input, and ``mutate`` changes an input with a seeded generator.

    ``factor``: the bytes of memory that ``read`` may use for each byte of an input, in addition to ``MORE_BYTES``.
    """

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]
    mutate: Callable[[bytes, random.Random], bytes]
    most_bytes: int = 1 << 13
    factor: int = 1


_lowest_peak = 0


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check(target: Target, data: bytes) -> None:
    """Read one input. Only a ``LuternError`` with a short printable sentence may be raised, and memory is limited.

    Where Linux allows it, the peak of the process's memory is sometimes reset to its present size.
    """
    global _lowest_peak
    before = _peak_bytes()
    if before > _lowest_peak + RESET_BYTES:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        _lowest_peak = before = _peak_bytes()
    try:
        target.read(data)
    except LuternError as error:
        text = str(error)
        assert text.isprintable() and len(text) < LONGEST_SENTENCE, ascii(text)
    grown = _peak_bytes() - before
    assert grown <= MORE_BYTES + target.factor * len(data), f"{grown:,} bytes of memory for {len(data):,} of input"


# --------------------------------------------------------------------------------------- parsers

_STACK = contextlib.ExitStack()
_HERE = _STACK.enter_context(
    unfinished_folder(Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()))
)
atexit.register(_STACK.close)


def _write(path: str, data: bytes) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(number, data)
    os.close(number)


def of_file(read: Callable[[Path], object], name: str = "input") -> Callable[[bytes], object]:
    """Return a function that writes bytes to a file and reads this file with ``read``."""
    path = _HERE / name

    def read_bytes(data: bytes) -> object:
        _write(str(path), data)
        return read(path)

    return read_bytes


def of_folder(name: str, read: Callable[[Path], object], without: str = "") -> Callable[[bytes], object]:
    """Return a function that reads a checkpoint folder in which file ``name`` has the given bytes and ``without`` is
    missing."""
    folder = _HERE / f"with-{name}"
    shutil.copytree(_HERE / "whole", folder)
    if without:
        (folder / without).unlink()
    path = str(folder / name)

    def read_bytes(data: bytes) -> object:
        _write(path, data)
        return read(folder)

    return read_bytes


def read_checkpoint(folder: Path) -> object:
    return integer_weights(load_checkpoint(folder))


@lru_cache(4096)
def quantised(config: ModelConfig, folder: Path) -> object:
    """Return integer weights, which are computed once for each readable config."""
    return integer_weights(load_checkpoint(folder))


def read_config(folder: Path) -> object:
    return quantised(load_checkpoint(folder).config, folder)


def read_tensors(path: Path) -> object:
    file = open_container(path)
    return [file.map(name).sum() for name in file.entries if file.entries[name].dtype != "F64"]


def read_tokenizer(folder: Path) -> object:
    tokenizer = load_tokenizer(folder).limit_to(MODEL.vocab_size)
    return tokenizer.describe(), tokenizer.decode(tokenizer.encode("ab"))


def read_chat(folder: Path) -> object:
    return render(load_tokenizer(folder), [{"role": "user", "content": "ab"}])


def read_frames(data: bytes) -> object:
    """Read frames in pieces, as a serial line delivers them: memory stays limited, and a whole frame is found after any
    bytes."""
    decoder = FrameDecoder()
    for start in range(0, len(data), 61):
        decoder.feed(data[start : start + 61])
        assert len(decoder._rest) <= 1 << 12, "the decoder must drop an unfinished frame that is too long"
    wanted = encode_frame(1, 2, b"whole")
    assert (1, 2, b"whole") in decoder.feed(wanted + wanted)
    return decoder


def read_machine(data: bytes) -> object:
    return identify(INFO.unpack(data[: INFO.byte_count].ljust(INFO.byte_count, b"\0")))


def read_kept(data: bytes) -> object:
    """Read files that a cache keeps: reports of tools, manifests and digests."""
    text = data.decode("utf-8", "replace")
    clocks = {"clk": report.Clock("sync", 60e6)}
    for parse in (
        lambda: report.parse_route(text, 1, clocks, next(iter(FPGAS.values()))),
        lambda: cost.parse_stat("x", text),
        lambda: cost.parse_report("x", text, 1),
        lambda: cost.parse_packed("x", text),
    ):
        with contextlib.suppress(LuternError):
            parse()
    path = _HERE / "digests.json"
    _write(str(path), data)
    return is_whole(_HERE, ("other",)), kept_json(path), _noted(path)


def read_toggles(data: bytes) -> object:
    """Read the toggle counts of a simulated netlist, in the flat form and in the form by instances."""
    text = data.decode("utf-8", "replace")
    return parse_saif(text, {}), parse_flat(text)


def read_recording(path: Path) -> object:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        dump_recording(path)
    assert all(line.isprintable() for line in said.getvalue().split("\n"))
    return said


def _recording() -> bytes:
    """Return a recording with commands and answers of each kind, an ERROR, and a change of the baud rate."""
    frames = [(">", Opcode.INFO, b""), ("<", Opcode.INFO | RESPONSE, bytes(INFO.byte_count))]
    frames += [(">", Opcode.SETUP, bytes(SETUP.byte_count)), ("<", Opcode.ERROR, bytes([12]))]
    frames += [("<", Opcode.DAMAGE | RESPONSE, bytes(DAMAGE_DONE.byte_count))]
    frames += [(">", Opcode.RUN, bytes(17)), ("<", Opcode.RUN | RESPONSE, bytes(20))]
    frames += [("<", Opcode.RECORDS | RESPONSE, bytes(WANT.byte_count))]
    lines = [f"{at}.5 {way} {encode_frame(code, at, body).hex()}" for at, (way, code, body) in enumerate(frames)]
    return "\n".join([HEAD, *lines, "9.5 = 3000000", ""]).encode()


def _route() -> dict[str, object]:
    """Return a report of nextpnr, as a kept build contains it."""
    return {
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


def _make_targets() -> dict[str, Target]:
    write_random_checkpoint(_HERE / "whole", MODEL, 1, "test")
    convert(_HERE / "image", load_checkpoint(_HERE / "whole"), b"{}", "test")
    np.save(_HERE / "ids.npy", np.arange(5))
    files = {path.name: path.read_bytes() for path in (_HERE / "whole").iterdir()}
    texts = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "add_bos_token": True,
        "chat_template": "{{ messages }}",
        "added_tokens_decoder": {"1": {"content": "x", "special": True}},
    }
    special = {"bos_token": "<s>", "unk_token": {"content": "<unk>", "lstrip": False}}
    templates = (
        b"{% for message in messages %}{{ message.content | trim }}{% endfor %}",
        b"{{ bos_token }}{{ messages[0]['role'] + 'a' * 3 }}{% if add_generation_prompt %}{{ 7 // 2 }}{% endif %}",
        b"{{ raise_exception('no') }}",
    )
    generation = {"temperature": 0.5, "top_k": 5, "eos_token_id": [2], "bos_token_id": 1, "stop_strings": ["x"]}
    numbers = {"part": "ECP5", "source": "s", "date": "d"}
    event = {"value": 1e-13, "low": 0, "high": 1e-12}
    log = b"time,watts\n" + b"".join(b"%d,1.5\n" % second for second in range(9))
    readings = b"design,watts,net_toggle\nidle,0.3,0\nnets,0.4,1e9\n"
    frame = encode_frame(3, 4, bytes(range(200)))
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<IB", 7, 1)
    names = load_checkpoint(_HERE / "whole").tensors
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-1-of-1.safetensors")}
    shutil.copy(_HERE / "whole" / "model.safetensors", _HERE / "whole" / "model-1-of-1.safetensors")
    saif = b"(SAIFILE (INSTANCE TOP (NET (a\\[0\\] (T0 1) (TC 7)))\n(INSTANCE b (NET\n(c (T0 1) (TC 3))\n))))\n"
    change_header = partial(change_container, inner=change_value)
    return {
        "config": Target((files["config.json"],), of_folder("config.json", read_config), change_json, 2048),
        "safetensors": Target((files["model.safetensors"],), of_file(read_tensors), change_header),
        "checkpoint": Target(
            (files["model.safetensors"],), of_folder("model.safetensors", read_checkpoint), change_header
        ),
        "index": Target(
            (json.dumps(index).encode(),),
            of_folder("model.safetensors.index.json", load_checkpoint, without="model.safetensors"),
            change_json,
            4096,
        ),
        "tokenizer": Target((files["tokenizer.json"],), of_folder("tokenizer.json", read_tokenizer), change_json, 2048),
        "tokenizer-config": Target(
            (json.dumps(texts).encode(),), of_folder("tokenizer_config.json", read_tokenizer), change_json, 1024
        ),
        "special-tokens": Target(
            (json.dumps(special).encode(),), of_folder("special_tokens_map.json", read_tokenizer), change_json, 1024
        ),
        "generation-config": Target(
            (json.dumps(generation).encode(),), of_folder("generation_config.json", read_tokenizer), change_json, 1024
        ),
        "chat-template": Target(templates, of_folder("chat_template.jinja", read_chat), change_bytes, 512),
        "image": Target(
            ((_HERE / "image").read_bytes(),), of_file(read_image), partial(change_container, inner=change_image_body)
        ),
        "frames": Target((frame, frame + frame[:50], b"\xc0\xdb\xdc\xdb\xdd\xc0"), read_frames, change_bytes, 1500),
        "machine": Target((bytes(INFO.byte_count),), read_machine, change_bytes, 64),
        "answers": Target(
            tuple(bytes([call]) + script for call in range(len(CALLS)) for script in SCRIPTS),
            read_answers,
            change_bytes,
            256,
        ),
        "wants": Target((bytes(WANT.byte_count + 1),), read_wants, change_bytes, 128),
        "recording": Target((_recording(),), of_file(read_recording), change_recording, 2048),
        "calibration": Target(
            (json.dumps({**numbers, "coefficients": {"net_toggle": event, "static_watts": event}}).encode(),),
            of_file(calibration.load),
            change_json,
            1024,
        ),
        "readings": Target((readings,), of_file(calibration.read_readings), change_bytes, 1024),
        "meter": Target((log,), of_file(meter.read_csv), change_bytes, 1024),
        "kept": Target((json.dumps(_route()).encode(),), read_kept, change_json, 2048),
        "toggles": Target((saif,), read_toggles, change_bytes, 1024),
        "bitstream": Target(
            (bytes.fromhex("ffffbdb3ffffffffe200000041113043"),), of_file(loader.bitstream_idcode), change_bytes, 1024
        ),
        "foreign": Target(
            (gguf, b"\x80\x02", b"<html>"), of_file(lambda path: refuse_foreign(path, "thing")), change_bytes, 1024
        ),
        "text": Target((b"the cat\r\n", "é".encode("utf-16")), of_file(read_text), change_bytes, 1024),
        "packed-text": Target(
            (lzma.compress(b"the cat"), bytes.fromhex("fd377a585a000004e6d6b4460200210116000000742fe5a3")),
            of_file(read_text, "input.xz"),
            change_bytes,
            1024,
        ),
        "tokens": Target(
            ((_HERE / "ids.npy").read_bytes(),), of_file(lambda path: read_ids(path, 5)), change_bytes, 512
        ),
    }


def _factor(name: str, target: Target) -> int:
    if name in ("text", "packed-text"):
        return TEXT_FACTOR
    return 1 if target.mutate in (change_bytes, change_recording) else JSON_FACTOR


TARGETS = {name: replace(target, factor=_factor(name, target)) for name, target in _make_targets().items()}
"""All parsers, by name."""
