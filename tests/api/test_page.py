"""The code of docs/python.md and README.md runs with a small model and machine, and docs/python.md lists every name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lutern
from letters import save_letters
from lutern.hw.link import LOWEST_DIVISOR
from lutern.hw.presets import PRESETS
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.pty_board import PtyBoard

ROOT = Path(__file__).parents[2]
PAGE, README = ((ROOT / name).read_text() for name in ("docs/python.md", "README.md"))
BLOCKS = re.findall(r"^```python\n(.*?)^```$", f"{PAGE}\n{README}", re.MULTILINE | re.DOTALL)
FOUR = lutern.preset("tiny").with_(name="tiny-four", streams=4, max_state=512, counters=True)
"""The machine of tests/cli/test_report.py, so that no other machine must be compiled."""
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_letters(tmp_path / "model")


def test_the_code_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The code runs from top to bottom, as one program. The call of `lutern.build` is checked, but nothing is built."""
    called = []
    signature = inspect.signature(lutern.build)

    def build(*arguments: Any, **options: Any) -> SimpleNamespace:
        called.append(signature.bind(*arguments, **options).arguments)
        return SimpleNamespace(bitstream="top.bit", best=SimpleNamespace(met=True))

    monkeypatch.setattr(lutern, "build", build)
    monkeypatch.setitem(PRESETS, "sim-64", FOUR)
    with SimulatedBoard(simulated(lutern.preset("tiny"), LOWEST_DIVISOR)) as board, PtyBoard(board) as served:
        program = "\n".join(BLOCKS).replace('load("demo")', f'load("{folder}")').replace("/dev/ttyUSB0", served.port)
        assert str(folder) in program and served.port in program
        names: dict[str, Any] = {}
        exec(compile(program, "docs/python.md", "exec"), names)
    assert [call["board"] for call in called] == ["ulx3s-85f"]
    assert names["logits"].shape == names["exact"].shape == (16, 27)
    assert "clock cycles a token" in capsys.readouterr().out


def test_every_name_is_on_the_page() -> None:
    """The page quotes all names of the package, and all public names of the classes whose objects the package
    returns."""
    quoted = set(re.findall(r"\w[\w.]*", " ".join(re.findall(r"`([^`]+)`", PROSE))))
    assert {f"lutern.{name}" for name in lutern.__all__} <= quoted
    for kind in (lutern.Model, lutern.Machine, lutern.Figures, lutern.Token, lutern.Talk, lutern.Build):
        names = {name for name in (*vars(kind), *getattr(kind, "__annotations__", {})) if not name.startswith("_")}
        missing = {name for name in names if name not in quoted and f"{kind.__name__.lower()}.{name}" not in quoted}
        assert not missing, f"{kind.__name__}: {missing}"


def test_every_name_on_the_page_exists() -> None:
    for name in set(re.findall(r"\blutern\.(\w+)", " ".join(re.findall(r"`[^`]+`", PROSE)))) - {"X"}:
        assert name in lutern.__all__, name
