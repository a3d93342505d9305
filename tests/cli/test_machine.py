"""Every command that has one of the options --preset, --set and --machine has all three, with the same meaning."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from command_tree import COMMANDS, options_of
from lutern.api.ports import known_machines
from lutern.boards.build import MANIFEST
from lutern.boards.cache import keep
from lutern.cli.commands import app
from lutern.hw.machines import choose_machine
from lutern.hw.presets import PRESETS
from lutern.model_ref.errors import LuternError

NO_MACHINE = {"new"}
"""Commands that once had an option --preset with another meaning."""


OF_BOARD = ["--board", "ulx3s-85f"]
WITH_MACHINE = [path for path in COMMANDS if "--preset" in options_of(path) and path[0] not in NO_MACHINE]


def test_commands_with_a_machine_are_found() -> None:
    assert len(WITH_MACHINE) >= 12


@pytest.mark.parametrize("path", WITH_MACHINE, ids=" ".join)
def test_all_three_options(path: tuple[str, ...]) -> None:
    """Each command refuses a wrong field with an error message, before any work."""
    assert {"--preset", "--set", "--machine"} <= options_of(path)
    required = {"build": OF_BOARD, "go": OF_BOARD, "inject": ["weights"], "report": ["-o", "page.html"]}
    done = CliRunner().invoke(app, [*path, *required.get(path[0], []), "--set", "lines=3"])
    assert isinstance(done.exception, LuternError), done.exception
    assert str(done.exception).startswith(
        "--set lines=3 changes no field of a machine; give NAME=VALUE, choose one of "
    )


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_estimate_with_more_rows() -> None:
    """The depths of memories follow the number of lanes, so more lanes for the same weights need no more block RAMs."""
    text = run("estimate", "--set", "rows=32")
    config = choose_machine("sim-64", ["rows=32"]).config
    assert f"demo on {config.name}: " in text and f"machine: {config.name} (sim-64 with rows=32)" in text
    block_rams = next(line for line in text.splitlines() if line.startswith("block")).split()
    assert any(part in ("295", "299") for part in block_rams), block_rams


def test_estimate_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('from = "resident-85f"\nrows = 16\n')
    assert "demo on mine: " in run("estimate", "--machine", tmp_path / "mine.toml")
    assert "demo on mine: " in run("estimate", "--board", "ulx3s-85f", "--machine", tmp_path / "mine.toml")


def test_a_board_keeps_the_clock_that_is_given() -> None:
    text = run("estimate", "--board", "ecpix5-85f", "--preset", "ddr3-x16", "--set", "clock_hz=50000000")
    assert " at 50 MHz, " in text


def test_verilog_of_a_derived_machine() -> None:
    text = run("verilog", "--preset", "tiny", "--set", "rows=8")
    assert text.startswith(f"// lutern verilog of machine {choose_machine('tiny', ['rows=8']).config.name}\n")


def test_chips_of_machines_that_were_built_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip is recognized if its machine is in the manifest of a kept build, even if the machine is no preset. Damaged
    manifests are ignored."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    (tmp_path / "builds").mkdir()
    built = choose_machine("resident-25f", ["rows=4"]).config.with_(debug_tap=False, cells="ecp5")
    for name, machine in (("b-1", asdict(built)), ("b-2", {"rows": 3}), ("b-3", None)):
        keep(
            tmp_path / "builds" / name,
            (MANIFEST,),
            lambda work, machine=machine: (work / MANIFEST).write_text(json.dumps({"machine": machine})),
        )
    assert [config for config in known_machines() if config.name not in PRESETS] == [built]
