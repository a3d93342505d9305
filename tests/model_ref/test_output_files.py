"""Outputs appear complete or not at all: errors, full disks, signals, and the files of a killed process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import (
    UNFINISHED,
    atomic_file,
    clear_unfinished,
    output_file,
    unfinished_folder,
    write_whole,
)
from processes import finish, run_python, started

WORKING = """
import sys, time
from pathlib import Path
from lutern.model_ref.output_files import unfinished_folder

with unfinished_folder(Path(sys.argv[1])) as work:
    (work / "large").write_bytes(bytes(1 << 20))
    print("begun", flush=True)
    time.sleep(600)
"""


def entries(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def fail_midway(path: Path, error: BaseException) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise error


def test_outputs_appear_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "é")
    with atomic_file(tmp_path / "a") as file:
        file.write(b"new")
        assert (tmp_path / "a").read_text() == "é"
    assert (tmp_path / "a").read_bytes() == b"new" and entries(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), LuternError("x"), ValueError()])
def test_an_error_leaves_the_old_file(error: BaseException, tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "old")
    with pytest.raises(type(error)):
        fail_midway(tmp_path / "a", error)
    assert (tmp_path / "a").read_text() == "old" and entries(tmp_path) == ["a"]


def test_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"/a cannot be written \(No space left on device\); choose a folder that"):
        fail_midway(tmp_path / "a", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert entries(tmp_path) == []


def test_the_largest_file_that_is_allowed(tmp_path: Path) -> None:
    """The limit is that of `ulimit -f`."""
    program = f"""
import resource
from pathlib import Path
from lutern.model_ref.output_files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_whole(Path({str(tmp_path / "a")!r}), bytes(1000))
write_whole(Path({str(tmp_path / "b")!r}), bytes(1001))
"""
    assert "/b cannot be written (File too large); choose" in run_python(program).stderr
    assert entries(tmp_path) == ["a"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write into every folder")
def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(LuternError, match=r"cannot be written \(Permission denied\)"):
        write_whole(tmp_path / "a", "")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/full", "/dev/null", "/proc/self/fd/1", "/dev/fd/1"])
def test_devices(name: str) -> None:
    """A device is refused as an output. Standard output is also refused: it may be a plain file, and a new file would
    replace that one during the output."""
    with pytest.raises(LuternError, match=rf"^{name} is no plain file, so an output cannot replace it; give the"):
        output_file(Path(name))


def test_names(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"^the name x{40}\.\.\. is too long for a file; give another name\."):
        output_file(tmp_path / ("x" * 300))
    with pytest.raises(LuternError, match=r"/none/a cannot be written \(No such file or directory\); choose"):
        write_whole(tmp_path / "none" / "a", "")
    write_whole(tmp_path / "a", "")
    with pytest.raises(LuternError, match=r"/a/b cannot be written \(Not a directory\); choose"):
        write_whole(tmp_path / "a" / "b", "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_folders_of_a_killed_process_are_removed_at_the_next_start(number: signal.Signals, tmp_path: Path) -> None:
    """The folder of a killed process is removed at the next start, but the folder of a running process is kept."""
    with started([sys.executable, "-c", WORKING, tmp_path]) as child:
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        (left,) = entries(tmp_path)
        assert left.startswith(UNFINISHED)
        write_whole(tmp_path / "a", "")
        assert entries(tmp_path) == [left, "a"], "the folder of a running process must be kept"
        child.send_signal(number)
        finish(child)
    assert entries(tmp_path) == ([left, "a"] if number == signal.SIGKILL else ["a"])
    with unfinished_folder(tmp_path) as work:
        assert entries(tmp_path) == [work.name, "a"]
    assert entries(tmp_path) == ["a"]


def test_only_unfinished_ones_are_cleared(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / f"{UNFINISHED}file").write_text("")
    (tmp_path / f"{UNFINISHED}link").symlink_to(outside)
    os.mkfifo(tmp_path / f"{UNFINISHED}pipe")
    with unfinished_folder(tmp_path) as work:
        clear_unfinished(tmp_path)
        assert work.is_dir()
    assert {"folder", "outside"} <= set(entries(tmp_path)) and f"{UNFINISHED}file" not in entries(tmp_path)
    assert entries(outside) == ["kept"]
    clear_unfinished(tmp_path / "none")


def test_a_new_folder_that_another_process_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process removes a new folder because it takes it for an abandoned one, a second folder is made."""
    make, made = os.mkdir, []

    def mkdir(path: str, mode: int = 0o777) -> None:
        make(path, mode)
        made.append(path)
        if len(made) == 1:
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with unfinished_folder(tmp_path) as work:
        assert len(made) == 2 and str(work) == made[1]


def test_a_new_folder_that_another_process_locks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new folder that another process is about to remove is not used, although it still exists."""
    make, made, locks = tempfile.mkdtemp, [], []

    def mkdtemp(**options: Any) -> str:
        made.append(make(**options))
        if len(made) == 1:
            locks.append(os.open(made[0], os.O_RDONLY))
            fcntl.flock(locks[0], fcntl.LOCK_EX)
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with unfinished_folder(tmp_path) as work:
        assert len(made) == 2 and str(work) == made[1]
    os.close(locks[0])
