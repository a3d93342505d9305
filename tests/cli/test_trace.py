"""`lutern generate --trace` refuses bad input before the gateware is compiled. tests/sim/test_waves.py tests the
waves."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from command_tree import options_of
from lutern.cli.commands import app
from lutern.cli.trace import check_trace
from lutern.model_ref.errors import LuternError


def test_range_of_cycles(tmp_path: Path) -> None:
    assert options_of(("generate",)) >= {"--trace", "--cycles", "--signal"}
    assert check_trace(tmp_path / "out.vcd", "100:400", None, "sim") == (100, 400)
    assert check_trace(None, "0:10000", None, "golden") == (0, 10000)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--cycles", "1:2"),
            "--cycles and --signal need --trace; give a file with --trace, or leave out --cycles and --signal.",
        ),
        (
            ("--signal", "clk"),
            "--cycles and --signal need --trace; give a file with --trace, or leave out --cycles and --signal.",
        ),
        (
            ("--trace", "out.vcd", "--on", "golden"),
            "--trace records the simulated board, but --on golden is not simulated; ",
        ),
        (
            ("--trace", "out.vcd", "--cycles", "5"),
            "--cycles is '5'; give the first cycle and the cycle after the last, ",
        ),
        (("--trace", "out.vcd", "--cycles", "5:5"), "--cycles 5:5 contains no cycle; give the smaller number first."),
        (("--trace", "out.wav"), "out.wav "),
    ],
)
def test_refused(arguments: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["generate", "ab", *arguments])
    assert isinstance(done.exception, LuternError), done.output
    assert str(done.exception).startswith(text) and "\n" not in str(done.exception) and not list(tmp_path.iterdir())
