"""`lutern power`: logs to joules, readings to coefficients, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lutern.cli.main import app
from lutern.measure.calibration import load
from lutern.model_ref.errors import LuternError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["power", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def log(path: Path, watts: float) -> Path:
    path.write_text("time,watts\n" + "".join(f"{i / 10},{watts + (i % 3 - 1) / 1000}\n" for i in range(101)))
    return path


def test_measured(tmp_path: Path) -> None:
    idle, loaded = log(tmp_path / "idle.csv", 0.5), log(tmp_path / "loaded.csv", 0.9)
    text = run("--idle", idle, "--loaded", loaded, "--tokens", 1000)
    assert text.startswith("measured: idle 0.5 W (0.")
    assert "4 mJ a token above idle (" in text and "9 mJ of all that the meter sees (" in text


def test_one_log_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"^one log is no measurement; give both --idle and --loaded, and"):
        run("--idle", log(tmp_path / "idle.csv", 0.5))


def test_a_run_without_tokens(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match="made 0 tokens"):
        run("--idle", log(tmp_path / "a.csv", 0.5), "--loaded", log(tmp_path / "b.csv", 0.9))


def test_calibration_of_another_part(tmp_path: Path) -> None:
    """Made by the command from readings, and then refused by it."""
    run("--designs", tmp_path / "designs")
    lines = (tmp_path / "designs" / "activity.csv").read_text().splitlines()
    rows = [line.replace(",,", f",{0.1 + 0.01 * index},", 1) for index, line in enumerate(lines[1:])]
    (tmp_path / "readings.csv").write_text("\n".join([lines[0], *rows, *rows]))
    file = tmp_path / "mine.json"
    text = run("--calibrate", tmp_path / "readings.csv", "--part", "LFE5U-25F", "-o", file)
    assert "net_toggle\t" in text and load(file).part == "LFE5U-25F"
    with pytest.raises(LuternError, match=r"^the calibration is of LFE5U-25F, but the chip is LFE5U-85F; give a file"):
        run("--calibration", file)
