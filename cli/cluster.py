"""Defines the option that names a cluster, for every command that spreads work over computers."""

from __future__ import annotations

from typing import Annotated

import typer

SchedulerOption = Annotated[
    str,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the workers of this Dask scheduler, tcp://HOST:8786 (docs/exploring.md).",
    ),
]

__all__ = ["SchedulerOption"]
