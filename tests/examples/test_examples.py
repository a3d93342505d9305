"""Every example runs as its first lines say, and the examples of a block and of a board do what they promise."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from letters import save_letters
from lutern.boards.build import make_plan
from lutern.hw.presets import preset
from processes import run

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {
    "compare.py": r"tiny: 432 logits equal the integer model's\nrelative RMS error against float32 0\.\d{4};",
    "generate.py": r"tiny: [\d,]+ cycles a token, [\d,]+ tokens/s at its clock\n[\d,]+ values equal the integer",
    "own_block.py": r"SquaredRelu equals its model, with a latency of 4 cycles$",
    "own_board.py": r'tiny at 75 MHz, link at 1,000,000 baud\nLOCATE COMP "clk25_0__io" SITE "P3";[^$]*netlist: [1-9]',
    "quantise.py": r"524,288 bytes of float32 are 26,215 bytes of trits; 31\.\d% are zero\n256 sums, .* are exact",
}
"""The output of each example, as a regular expression."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_letters(tmp_path / "model")


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an example as a module; the Python of the simulator can also import it by its name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module(name)


def test_every_example_is_tested() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(SAID)


@pytest.mark.parametrize("name", SAID)
def test_runs(name: str, folder: Path, tmp_path: Path) -> None:
    """Each example runs outside the checkout, with a small model and a small machine if it needs them."""
    arguments = [folder, "tiny"] if name in ("compare.py", "generate.py") else []
    done = run([sys.executable, EXAMPLES / name, *arguments], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(SAID[name], done.stdout.strip()), done.stdout


def test_block_with_a_wrong_limit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench of the example has its own copy of the model, so only the component is wrong here."""
    block = loaded("own_block", monkeypatch)
    monkeypatch.setattr(block, "LIMIT", block.LIMIT - 1)
    with pytest.raises(AssertionError, match=r"squared_relu: index \d+, cycle \d+: got 0x.* seed 3"):
        block.check(shift=8, seed=3)


def test_block_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("own_block", monkeypatch).check(pause="random", count=200, seed=4)


def test_board_has_its_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without synthesis, the constraints name every pin, and the bridge can produce the rate of the link."""
    board = loaded("own_board", monkeypatch).BOARD
    plan = make_plan(board, board.config("tiny"))
    assert plan.config.rows == preset("tiny").rows and plan.baud == 1_000_000
    for pin in "P3 H18 J17 U16 U17 U18 V17".split():
        assert f'SITE "{pin}"' in plan.constraints
