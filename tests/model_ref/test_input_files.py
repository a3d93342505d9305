"""Every reader of the project immediately refuses a path that is not a plain file, with one sentence."""

from __future__ import annotations

import os
import shutil
import socket
import tracemalloc
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from lutern.boards.catalog import BOARDS
from lutern.boards.loader import check_file
from lutern.cli.logits import read_ids
from lutern.cli.models import open_model
from lutern.firmware.image import open_image
from lutern.measure import calibration, meter
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import open_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import open_plain, read_plain
from lutern.model_ref.text import read_text
from lutern.model_ref.tokenizer import load_tokenizer
from lutern.model_ref.weight_files import weight_map

PEAK_BYTES = 4 << 20
MODEL = Path(str(resources.files("lutern.firmware") / "models" / "demo-small"))


def in_a_folder(name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return a reader of a checkpoint folder whose file ``name`` is a link to the given path."""

    def read_folder(path: Path) -> object:
        folder = path.parent / "checkpoint"
        shutil.copytree(MODEL, folder)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(path)
        return read(folder)

    return read_folder


READERS: dict[str, Callable[[Path], object]] = {
    "config": ModelConfig.from_json,
    "config of a checkpoint": in_a_folder("config.json", load_checkpoint),
    "weights": in_a_folder("model.safetensors", load_checkpoint),
    "index": weight_map,
    "tokenizer": in_a_folder("tokenizer.json", load_tokenizer),
    "generation config": in_a_folder("generation_config.json", load_tokenizer),
    "safetensors": open_container,
    "model": lambda path: open_model(str(path)),
    "image": open_image,
    "text": read_text,
    "tokens": lambda path: read_ids(path, 10),
    "bitstream": lambda path: check_file(next(iter(BOARDS.values())), path),
    "calibration": calibration.load,
    "readings": calibration.read_readings,
    "log of a meter": meter.read_csv,
}


@pytest.fixture(params=["pipe", "socket", "folder", "zero", "null", "link to nothing"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "place"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(tmp_path)  # the path of a socket must be short
            server.bind("place")
            os.chdir(here)
    elif request.param == "folder":
        path.mkdir()
    else:
        path.symlink_to({"zero": "/dev/zero", "null": "/dev/null"}.get(request.param, "nowhere"))
    return path


@pytest.mark.parametrize("reader", READERS)
def test_no_plain_file(place: Path, reader: str) -> None:
    """A reader that waits or reads without end would make this test hang, or use more memory than allowed."""
    if place.is_dir() and reader == "model":
        pytest.skip("a model is a folder")
    tracemalloc.start()
    with pytest.raises(LuternError) as refused:
        READERS[reader](place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    text = str(refused.value)
    assert "\n" not in text and len(text) < 500 and peak < PEAK_BYTES, (text, peak)
    missing = reader == "tokenizer" or not place.exists() or reader == "image"
    assert "no plain file" in text or missing, text


def test_a_pipe_that_takes_the_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a pipe appears between the check and the opening, it is opened without waiting, checked again and closed."""
    path = tmp_path / "file"
    os.mkfifo(path)
    monkeypatch.setattr("lutern.model_ref.input_files.require_plain", lambda path, wanted: None)
    with pytest.raises(LuternError, match="is a named pipe, no plain file, so it is no thing; give a thing"):
        open_plain(path, "thing")


def test_sizes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    assert read_plain(path, 100, "thing") == bytes(100)
    with pytest.raises(LuternError, match="is larger than 99 bytes, so it is no thing; give a thing"):
        read_plain(path, 99, "thing")
    assert read_plain(Path("/proc/self/comm"), 100, "thing"), "a file that reports size 0 must be read to its end"
    with pytest.raises(LuternError, match="is larger than 1 bytes"):
        read_plain(Path("/proc/self/comm"), 1, "thing")
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "none", 1, "thing")
