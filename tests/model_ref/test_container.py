"""A file is replaced as a whole, a link is followed, and only files are replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lutern.model_ref.container import atomic_file
from lutern.model_ref.errors import LuternError


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for target in (tmp_path / "inner" / "old", tmp_path / "inner" / "new"):
        link = tmp_path / f"to-{target.name}"
        link.symlink_to(target)
    (tmp_path / "inner" / "old").write_bytes(b"old")
    for name in ("old", "new"):
        with atomic_file(tmp_path / f"to-{name}") as file:
            file.write(b"content")
        assert (tmp_path / f"to-{name}").is_symlink() and (tmp_path / "inner" / name).read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path / "inner")) == ["new", "old"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe", "link to itself"])
def test_only_files_are_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "place"
    if kind == "folder":
        place.mkdir()
    elif kind == "link to itself":
        place.symlink_to("place")
    else:
        os.mkfifo(place)
    out = place
    if kind == "link to a pipe":
        out = tmp_path / "out"
        out.symlink_to("place")
    before, entries = place.lstat(), sorted(os.listdir(tmp_path))
    with pytest.raises(LuternError, match="give the name of a file"), atomic_file(out) as file:
        file.write(b"content")
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert sorted(os.listdir(tmp_path)) == entries
