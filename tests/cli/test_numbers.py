"""Numbers on the command line: a number outside the option's range is refused with one sentence before any work."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, get_args, get_type_hints

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from command_tree import COMMANDS
from lutern.cli.commands import app
from lutern.cli.numbers import check_number, real, whole
from lutern.firmware.conversations import Sampling
from lutern.firmware.serial_port import PortError, SerialPort
from lutern.model_ref.errors import LuternError

ABSURD = str(10**25)


def refusal(*arguments: str) -> str:
    """Run a command that must be refused, and return the error message."""
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, LuternError), (arguments, result.output, result.exception)
    assert not result.output
    return str(result.exception)


def number_options() -> list[tuple[str, str, list[str]]]:
    """Return command, option and required arguments of every option whose value is an int or a float."""
    found = []
    for path, command in COMMANDS.items():
        hints = get_type_hints(command.callback)
        parameters = [parameter for parameter in command.params if parameter.name in hints]
        required: list[str] = []
        for parameter in parameters:
            if parameter.required:
                required += ["given"] if parameter.param_type_name == "argument" else [parameter.opts[-1], "given"]
        for parameter in parameters:
            kind = hints[parameter.name]
            if {int, float} & {kind, *get_args(kind)}:
                found.append((" ".join(path), max(parameter.opts, key=len), required))
    return found


OPTIONS = number_options()
SAMPLING = ("temperature", "top-k", "top-p", "min-p", "repetition-penalty")


def test_options_are_found() -> None:
    assert {("generate", "--seed"), ("build", "--frequency"), ("power log", "--rate")} <= {item[:2] for item in OPTIONS}
    assert len(OPTIONS) > 20


@pytest.mark.parametrize("value", ["-1", ABSURD])
@pytest.mark.parametrize(("command", "option", "required"), OPTIONS, ids=lambda item: item if item else "")
def test_every_option_has_a_range(command: str, option: str, required: list[str], value: str) -> None:
    if option.removeprefix("--") in SAMPLING:  # Sampling checks these numbers, because Python users set them too
        what = option.removeprefix("--").replace("-", "[- ]")
        assert re.match(rf"(the )?{what} is -?1[+.0-9e]*[;,] .*give ", refusal(*command.split(), option, value))
        return
    assert re.match(
        f"{option} is {value[0]}{'1' if value == '-1' else ''}[+.0-9e]*; give (a|16) ",
        refusal(*command.split(), *required, option, value),
    )


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "-nan"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("build", "--board", "ulx3s-85f"), "--frequency"),
        (("power", "log", "hwmon"), "--seconds"),
        (("power", "log", "hwmon"), "--rate"),
    ],
)
def test_values_that_are_no_finite_numbers(command: tuple[str, ...], option: str, value: str) -> None:
    assert refusal(*command, f"{option}={value}").startswith(f"{option} is {float(value)}; give a number from ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("generate", "--on", "golden", "--seed", "-5"), "--seed is -5; give a whole number from 0 to 4,294,967,295."),
        (("generate", "--on", "/dev/ttyX", "--baud", "0"), "--baud is 0; give a whole number from 300 to 100,000,000."),
        (("build", "--board", "ulx3s-85f", "--frequency", "0"), "--frequency is 0.0; give a number from 1 to 1,000."),
        (("build", "--board", "ulx3s-85f", "--seeds", "0"), "--seeds is 0; give a whole number from 1 to 1,000."),
        (("train", "t", "--out", "o", "--set", "weight_decay=nan"), "--set weight_decay is nan; give a number from "),
        (("train", "t", "--out", "o", "--set", "dropout=inf"), "--set dropout is inf; give a number from "),
        (("estimate", "--set", f"clock_hz={ABSURD}"), f"--set clock_hz is {ABSURD}; give a whole number from 0 to "),
        (("generate", "-t", "nan"), "the temperature is nan; give 0 (the likeliest) or a positive number."),
        (("generate", "--top-k", "3", "-t", "nan"), "the temperature is nan; give 0 (the likeliest) or a positive num"),
        (("generate", "-t", "inf"), "the temperature is inf; give 0 (the likeliest) or a positive number."),
        (("generate", "--on", "golden", "-t", "20"), "the temperature is 20.0; give 0 (the likeliest) to 15."),
    ],
)
def test_sentences(arguments: tuple[str, ...], sentence: str) -> None:
    assert refusal(*arguments).startswith(sentence)


@settings(derandomize=True, deadline=None)
@given(
    least=st.integers(-(10**6), 10**6),
    size=st.integers(0, 10**6),
    value=st.integers() | st.floats(),
    as_int=st.booleans(),
)
def test_any_range(least: int, size: int, value: float, as_int: bool) -> None:
    """A number in the range passes. Any other number is refused with the option's name and the range."""
    if as_int and math.isfinite(value):
        value = int(value)
    if math.isfinite(value) and least <= value <= least + size:
        check_number("--x", value, least, least + size)
    else:
        with pytest.raises(LuternError, match=rf"^--x is .*; give a .*number from {least:,} to {least + size:,}\.$"):
            check_number("--x", value, least, least + size)


def test_the_range_is_in_the_help() -> None:
    own = typer.Typer()

    @own.command()
    def show(
        count: Annotated[int | None, whole("-c", "--count", least=1, most=5000, help="How many.")] = None,
        share: Annotated[float, real("--share", least=0, most=1, help="How much.")] = 0.5,
    ) -> None:
        typer.echo(f"{count} {share}")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(own, arguments, env={"COLUMNS": "120"})

    assert run().output == "None 0.5\n" and run("-c", "5000", "--share", "1").output == "5000 1.0\n"
    assert "<int, 1 to 5,000>" in run("--help").output and "<float, 0 to 1>" in run("--help").output


@pytest.mark.parametrize("given", [{"temperature": math.nan}, {"temperature": math.inf, "top_k": 3}, {"seed": -1}])
def test_sampling_refuses_values_that_are_no_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(LuternError, match=r"^the (temperature|seed) is "):
        Sampling(**given)


def test_port_with_rate_zero() -> None:
    with pytest.raises(PortError, match=r"^The port /dev/ttyX cannot be used at 0 baud; give the gateware's rate\.$"):
        SerialPort("/dev/ttyX", 0)
