"""The shipped models: what their README and docs/models.md say about them, and which machines they fit."""

import re
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lutern.api.models import LARGE, SHIPPED, checkpoint_folder, load
from lutern.cli.commands import app
from lutern.firmware.image import OpenImage
from lutern.firmware.limits import reason_against
from lutern.hw.presets import preset
from lutern.model_ref.errors import LuternError

MODELS = Path(str(resources.files("lutern.firmware") / "models"))
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
MOST_BYTES = 12_000_000


@pytest.mark.parametrize("name", [*SHIPPED, LARGE])
def test_pages_of_the_models(name: str) -> None:
    text = (MODELS / name / "README.md").read_text()
    trits = f"{load(name).config.trits:,}"
    assert f"| ternary weights | {trits}, lm_head included |" in text
    bits = re.search(r"\| bits per character \| ([\d.]+) float", text)
    assert bits, "the README must state the bits per character"
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{name}` |"))
    assert row.split(" | ")[1] == trits and row.split(" | ")[3] == bits[1]


def test_large_model_is_an_image() -> None:
    model, text = load(LARGE), (MODELS / LARGE / "README.md").read_text()
    assert isinstance(model.source, OpenImage) and not model.source.calibrated
    assert model.source.path.stat().st_size <= MOST_BYTES
    assert f"{model.source.path.stat().st_size:,} bytes, digest {model.source.digest[:16]};" in text
    with pytest.raises(LuternError, match=r"^demo-large is an image already; give the checkpoint folder"):
        checkpoint_folder(LARGE)


def test_large_model_writes_the_text_of_its_page() -> None:
    written = "once upon a time" + "".join(load(LARGE).generate("once upon a time", tokens=24, seed=1))
    shown = (MODELS / LARGE / "README.md").read_text().split("## What it writes")[1].split("> ", 1)[1]
    assert " ".join(shown.replace("\n> ", " ").split()).startswith(" ".join(written.split()))


@pytest.mark.parametrize("name", ["sdram-x16", "sdram-x32"])
def test_sdram_of_8_mb_holds_the_large_model(name: str) -> None:
    config, machine = load(LARGE).config, preset(name)
    assert reason_against(config, machine) is not None, "the vocabulary must exceed the preset's max_vocab"
    assert reason_against(config, machine.with_(max_vocab=2048)) is None


def test_inspect_accepts_the_name_of_the_large_model() -> None:
    result = CliRunner().invoke(app, ["inspect", LARGE])
    assert result.exit_code == 0, result.output
    assert "words with ranges from calibration: none, all are proved" in result.stdout
