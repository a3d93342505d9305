"""Compiled boards in the cache: a damaged board is compiled again, and no other board."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lutern.boards.cache import SEAL, is_whole
from lutern.hw.presets import preset
from lutern.hw.top import Top
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import UNFINISHED
from lutern.sim import verilate
from lutern.sim.verilate import LIBRARY

CONTENT = bytes(range(256)) * 100


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each elaboration and compilation. The test has its own cache and a quick
    compiler."""
    done: list[str] = []

    def convert(component: object) -> str:
        done.append("elaborated")
        return "text"

    def compile_quickly(name: str, verilog_text: str, header: str, work: Path, *rest: object) -> None:
        done.append("compiled")
        (work / LIBRARY).write_bytes(CONTENT)
        (work / "top.v").write_text(verilog_text)

    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    monkeypatch.setattr(verilate, "convert_rtlil", convert)
    monkeypatch.setattr(verilate, "convert_verilog", lambda text: "verilog")
    monkeypatch.setattr(verilate, "registered_resets", lambda text: text)
    monkeypatch.setattr(verilate, "_compile", compile_quickly)
    return done


def board() -> Path:
    return verilate.verilate(Top(preset("tiny")))


def note_of(library: Path) -> Path:
    (note,) = library.parents[1].glob("note-*")
    return note


def into_folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


OTHER = "other"


def into_link(path: Path, *, to_folder: bool) -> None:
    """Replace a path by a link to another file or folder, which belongs to the user."""
    path.unlink()
    other = path.parents[1] / OTHER
    other.mkdir() if to_folder else other.write_text(OTHER)
    path.symlink_to(other)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "a bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "random": lambda path: path.write_bytes(b"\xff\x00\xfe" * 100),
    "a folder": into_folder,
    "a pipe": into_pipe,
    "a link to a folder": lambda path: into_link(path, to_folder=True),
    "a link to a file": lambda path: into_link(path, to_folder=False),
    "not there": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [LIBRARY, "top.v", SEAL])
def test_a_damaged_board_is_compiled_again(compiled: list[str], name: str, damage: str) -> None:
    library = board()
    assert board() == library and compiled == ["elaborated", "compiled"]
    DAMAGES[damage](library.parent / name)
    assert board() == library and library.read_bytes() == CONTENT
    assert compiled == 2 * ["elaborated", "compiled"]
    assert board() == library and len(compiled) == 4


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_note_costs_an_elaboration(compiled: list[str], damage: str) -> None:
    library = board()
    DAMAGES[damage](note_of(library))
    assert board() == library and compiled == ["elaborated", "compiled", "elaborated"]
    assert board() == library and len(compiled) == 3, "the note must be written again"
    other = note_of(library).parents[1] / OTHER
    assert not other.is_file() or other.read_text() == OTHER, "a file outside the cache must not be written"


def test_a_note_of_another_board(compiled: list[str]) -> None:
    """A note that names a board of other gateware is ignored, even if that board is complete."""
    library = board()
    note = note_of(library)
    other = library.parents[1] / "board-other"
    shutil.copytree(library.parent, other)
    note.write_text(note.read_text().replace(library.parent.name, other.name))
    assert board() == library and is_whole(other, (LIBRARY,))


def test_folders_of_a_killed_process_are_removed(compiled: list[str]) -> None:
    library = board()
    (library.parents[1] / f"{UNFINISHED}left").mkdir()
    board()
    assert sorted(path.name[:6] for path in library.parents[1].iterdir()) == [
        "board-",
        "note-" + note_of(library).name[5],
    ]


def test_no_room(compiled: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message is right both if our files do not fit the disk and if the compiler's files do not fit."""

    def full(name: str, verilog_text: str, header: str, work: Path, *rest: object) -> None:
        (work / LIBRARY).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(name: str, verilog_text: str, header: str, work: Path, *rest: object) -> None:
        (work / "build.log").write_text("x\ncc1plus: fatal error: error writing to x.s: No space left on device\n")
        raise verilate._failed(name, 2, work / "build.log")

    monkeypatch.setattr(verilate, "_compile", full)
    with pytest.raises(LuternError, match=r"^Nothing more can be written in .* \(No space left on device\); make room"):
        board()
    monkeypatch.setattr(verilate, "_compile", fails)
    with pytest.raises(
        LuternError, match=r"^[\w-]+ cannot be compiled \(No space left on device in .*\); make room, or set"
    ):
        board()
    assert list((tmp_path / "boards").iterdir()) == []
