"""Defines options that take a number in a range. A number outside the range is refused before any work.

    seed: Annotated[int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of the sampler.")] = 1
    temperature: Annotated[float, real("-t", least=0, most=16, help="0 chooses the likeliest.")] = 0.8

NaN and infinity are outside every range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import typer

from lutern.model_ref.errors import LuternError

LARGEST_SEED = (1 << 32) - 1
"""The largest seed, since the generators on the chip have 32 bits."""
LARGEST_COUNT = 1_000_000_000
"""The largest number of tokens, steps, words and other counted things."""
BAUDS = (300, 100_000_000)
"""The lowest and the highest baud rate of a serial port."""


def check_number(name: str, value: float, least: float, most: float) -> None:
    """Refuse a value that is not from ``least`` to ``most``."""
    if not (math.isfinite(value) and least <= value <= most):
        kind = "a whole number" if isinstance(value, int) else "a number"
        raise LuternError(f"{name} is {value}; give {kind} from {least:,} to {most:,}.")


def whole(*names: str, help: str, least: int, most: int) -> Any:
    """Return an option that takes a whole number from ``least`` to ``most``."""
    return _option("int", names, help, least, most)


def real(*names: str, help: str, least: float, most: float) -> Any:
    """Return an option that takes a finite number from ``least`` to ``most``."""
    return _option("float", names, help, least, most)


def one_of(*names: str, help: str, choices: Sequence[int]) -> Any:
    """Return an option that takes one of a few whole numbers."""

    def check(param: typer.CallbackParam, value: int | None) -> int | None:
        if value is not None and value not in choices:
            raise LuternError(f"{max(param.opts, key=len)} is {value}; give {' or '.join(map(str, choices))}.")
        return value

    return typer.Option(*names, help=help, metavar=f"<{'|'.join(map(str, choices))}>", callback=check)


def baud_option() -> Any:
    """Return the option ``--baud``. If the option is not given, the host tries several baud rates until the chip
    answers."""
    return whole(
        "--baud",
        least=BAUDS[0],
        most=BAUDS[1],
        help="Rate of the port in baud; default: the first rate at which the chip answers.",
    )


def _option(kind: str, names: tuple[str, ...], help: str, least: float, most: float) -> Any:
    metavar = f"<{kind}, {least:,} to {most:,}>"
    return typer.Option(*names, help=help, metavar=metavar, callback=_checked(least, most))


def _checked(least: float, most: float) -> Callable[..., Any]:
    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None:
            check_number(max(param.opts, key=len), value, least, most)
        return value

    return check
