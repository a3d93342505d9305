"""Figures as files: every format contains the picture and its provenance, and the CSV has the numbers of the
picture."""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lutern.hw.presets import preset
from lutern.measure import figures, provenance
from lutern.measure.pictures import Bar, Roof
from lutern.model_ref.config import ModelConfig

pytest.importorskip("matplotlib", reason='needs the extra "report"')
BARS = [Bar("embed", 1.5, 1.0, 2.0), Bar("layer 0", 3.25, 3.0, 4.0)]
ROOFS = [Roof("sim-64, demo, decode of 1", 4.0, 3e9, 5e9, 1e9), Roof("tiny", 8.0, 1e9, 2e9, 1e9)]
DRAWINGS = [figures.energy("joules", BARS, "uJ, estimated"), figures.roofline(ROOFS)]
FACTS = [("version", "lutern 1.2.3"), ("command", "lutern report <&>")]
BEGINS = {"svg": b"<?xml", "pdf": b"%PDF-", "png": b"\x89PNG"}


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: str(drawing.name))
@pytest.mark.parametrize("kind", figures.FORMATS)
def test_pictures(drawing: figures.Drawing, kind: str) -> None:
    """A picture has the same bytes each time, and contains its provenance."""
    picture = drawing.picture(kind, FACTS)
    assert picture.startswith(BEGINS[kind]) and picture == drawing.picture(kind, FACTS)
    assert picture != drawing.picture(kind, FACTS[:1])
    if kind == "svg":
        texts = " ".join(ElementTree.fromstring(picture).itertext())
        assert "version: lutern 1.2.3; command: lutern report <&>" in texts
    else:
        assert b"lutern 1.2.3" in picture


def test_csv_has_the_drawn_data() -> None:
    energy, roofs = (list(csv.DictReader(io.StringIO(drawing.csv()))) for drawing in DRAWINGS)
    assert energy[1] == {"part": "layer 0", "uJ": "3.25", "low": "3.0", "high": "4.0"}
    assert roofs[0]["machine"] == "sim-64, demo, decode of 1" and float(roofs[0]["trits_per_second"]) == 3e9


def test_files(tmp_path: Path) -> None:
    assert figures.write_all(DRAWINGS, tmp_path, FACTS) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{kind}" for name in ("joules", "roofline") for kind in ("csv", "pdf", "png", "svg")
    ]
    files = figures.write_drawing(DRAWINGS[0], tmp_path / "one.pdf", FACTS)
    assert [path.name for path in files] == ["one.pdf", "one.csv"]
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "joules.csv").read_text()


def test_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "a").write_bytes(b"one ")
    config = ModelConfig(vocab_size=27, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    monkeypatch.setattr("sys.argv", ["lutern", "report", "-o", "a b.html"])
    files = [tmp_path / "b", tmp_path / "a"]
    facts = dict(provenance.provenance([("x", config, files)], [preset("tiny")]))
    assert list(facts) == ["version", "commit", "command", "date", "computer", "model x", "machine tiny"]
    assert facts["command"] == "lutern report -o 'a b.html'" and facts["machine tiny"] == preset("tiny").digest
    assert provenance.digest_of(files) == provenance.digest_of(files[::-1]) == hashlib.sha256(b"one two").hexdigest()
    assert f"config {config.digest}, files sha256 {provenance.digest_of(files)}" == facts["model x"]
    assert "cores" in facts["computer"] and provenance.digest_of([]) == "none"


def test_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is that of the checkout, with a mark if files were changed. Without a checkout there is no commit."""
    place = tmp_path / "measure" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(place))
    assert provenance.commit() == "none: installed without its repository"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    place.parent.mkdir()
    place.write_text("one")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *arguments], check=True)
    found = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert provenance.commit() == found
    place.write_text("two")
    assert provenance.commit() == f"{found}, with changes"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == "unknown: git does not say"
