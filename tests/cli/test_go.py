"""Each board's machine has a model that fits, builds that cannot fit are refused, and `lutern go` runs all steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from lutern.api.machines import check_held, largest_shipped
from lutern.api.models import load
from lutern.boards.catalog import BOARDS
from lutern.boards.routing import ROUTED, was_routed
from lutern.cli import build, cycles, generate, go
from lutern.cli.commands import app
from lutern.firmware.limits import lacks
from lutern.hw.presets import PRESETS, preset
from lutern.measure.fits import chip_lacks
from lutern.model_ref.errors import LuternError


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("name", BOARDS)
def test_the_default_model_of_a_board(name: str) -> None:
    """The default machine of a board fits the board's chip. The model that commands choose without --model fits the
    machine."""
    config = BOARDS[name].config()
    assert not chip_lacks(config, BOARDS[name])
    chosen = largest_shipped(config)
    assert chosen is not None and not lacks(load(chosen).config, config)


def test_the_25f_holds_the_small_model() -> None:
    assert largest_shipped(preset("resident-25f")) == "demo-small" and largest_shipped(preset("resident-85f")) == "demo"
    assert largest_shipped(preset("tiny")) is None
    with pytest.raises(
        LuternError, match=r"^demo does not fit resident-25f: .*; of the shipped models demo-small fits\.$"
    ):
        check_held(load("demo"), preset("resident-25f"))


class Chip:
    """A chip at a port that refuses to load any model."""

    config = preset("resident-25f").with_(debug_tap=False, cells="ecp5")
    where = "/dev/none0"

    def __enter__(self) -> Chip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def load(self, model: Any, **_: Any) -> None:
        raise LuternError(f"{model.name} was to be loaded")


@pytest.mark.parametrize("command", [generate, cycles])
def test_the_default_model_of_a_chip_at_a_port(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --model, a command loads the largest shipped model that fits the chip at the port. With --model, it loads
    the given model."""
    monkeypatch.setattr(command, "open_machine", lambda *_, **__: Chip())
    words = [command.__name__.rpartition(".")[2], "--on", Chip.where]
    words += ["--prompt", "once"] if command is generate else []
    assert str(run(*words).exception) == "demo-small was to be loaded"
    assert str(run(*words, "--model", "demo").exception) == "demo was to be loaded"


def test_a_build_that_cannot_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate refuses the build before any file is written."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build, "build_bitstream", lambda *_, **__: pytest.fail("it was begun"))
    for words in (["--preset", "resident-85f"], ["--set", "trit_beats=20000"]):
        done = run("build", "--board", "ulx3s-25f", *words)
        assert isinstance(done.exception, LuternError)
        assert " block RAMs, the LFE5U-25F of ulx3s-25f has 56" in str(done.exception)
        assert "; build one of resident-25f, sdram-x16, host, or build for a board with" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that fails leaves no folder in the cache."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lutern.boards.synthesis.run_tool", lambda *_, **__: fail())

    def fail() -> None:
        raise LuternError("the tool ended.")

    done = run("build", "--board", "ulx3s-25f", "--preset", "tiny")
    assert str(done.exception) == "The synthesis failed: the tool ended."
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".log"] == []
    assert not [path for path in (tmp_path / "cache" / "builds").iterdir() if path.is_dir()]


def test_machines_that_were_never_routed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build prints a note that the machine was never routed, except for a preset in the table of bitstreams."""
    monkeypatch.chdir(tmp_path)

    def stop(*_: Any, progress: Any, **__: Any) -> None:
        progress("plan", 0, 3)
        progress("synthesis", 0, 3)
        progress("synthesis: more", 0, 3)
        raise LuternError("begun")

    monkeypatch.setattr(build, "build_bitstream", stop)
    for words, never in (
        ([], False),
        (["--set", "gain_fifo_words=32"], True),
        (["--preset", "host"], True),
        (["--counters"], True),
    ):
        done = run("build", "--board", "ulx3s-25f", *words)
        assert str(done.exception) == "begun"
        assert done.stderr.count("was never placed and routed on an LFE5U-25F in a CABGA381, so ") == never, words
    page = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text()
    rows = {line.split("|")[2].strip() for line in page.splitlines() if line.count("|") == 12}
    assert {name for name, _, _ in ROUTED} - {"tiny"} == rows - {"preset", "---"}
    assert not was_routed(PRESETS["sdram-x32"], BOARDS["ulx3s-85f"])


def test_place_of_a_bitstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bitstream is written to build/BOARD-MACHINE.bit or to -o. A missing folder is refused before the build."""
    monkeypatch.chdir(tmp_path)
    assert build.place_of(None, "b", "m") == tmp_path / "build" / "b-m.bit"
    assert build.place_of(Path("x.bit"), "b", "m") == tmp_path / "x.bit"
    monkeypatch.setattr(build, "build_bitstream", lambda *_, **__: pytest.fail("it was begun"))
    done = run("build", "--board", "ulx3s-25f", "-o", "nowhere/x.bit")
    assert str(done.exception).startswith("nowhere/x.bit cannot be written, there is no folder nowhere; ")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "top.bit").write_bytes(b"bits")
    (kept / "manifest.json").write_text("{}")
    built: Any = SimpleNamespace(bitstream=kept / "top.bit", folder=kept)
    build.copy_bitstream(built, tmp_path / "x.bit")
    assert (tmp_path / "x.bit").read_bytes() == b"bits" and (tmp_path / "x.json").read_text() == "{}"


def test_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps build, program, selftest and generate run in this order. The steps selftest and generate use the only
    USB port."""
    calls: list[tuple[Any, ...]] = []
    for name in ("build", "program", "selftest"):
        monkeypatch.setattr(go, name, lambda *words, name=name: calls.append((name, *words)))
    monkeypatch.setattr(go, "generate_text", lambda prompt, on: calls.append(("generate", prompt, on)))
    monkeypatch.setattr(go, "START_SECONDS", 0)
    monkeypatch.setattr(go, "find_program", lambda: "loader")
    port = SimpleNamespace(device="/dev/ttyUSB7", vid=1)
    monkeypatch.setattr(go.list_ports, "comports", lambda: [port, SimpleNamespace(device="/dev/ttyS0", vid=None)])
    done = run("go", "--board", "ulx3s-25f", "once", "--set", "gain_fifo_words=32")
    assert done.exit_code == 0, done.output
    assert calls == [
        ("build", "ulx3s-25f", "", ["gain_fifo_words=32"], None),
        ("program", "ulx3s-25f"),
        ("selftest", "/dev/ttyUSB7"),
        ("generate", "once", "/dev/ttyUSB7"),
    ]
    assert "$ lutern build --board ulx3s-25f --set gain_fifo_words=32\n" in done.stderr
    monkeypatch.setattr(go.list_ports, "comports", lambda: [])
    done = run("go", "--board", "ulx3s-25f")
    assert "this computer has no USB serial port; plug the board in, and give its port" in str(done.exception)
    assert len(calls) == 4 and run("go", "--board", "ulx3s-25f", "--dry-run").exit_code == 0 and len(calls) == 4
