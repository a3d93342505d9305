"""Defines the calls of ``import lutern``. These calls use all other packages, and the command line uses these calls.

models.py     opens a model by its name: text, logits, estimate         needs NumPy and the tokenizer
machines.py   runs a model on a machine, simulated or at a port         needs the descriptions of the gateware
writing.py    writes texts on a machine
ports.py      opens the port of a board, and finds its baud rate
chips.py      makes the estimate, bitstream and Verilog of a machine
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""A function that is called as ``progress(what, done, total)`` during long work. ``what`` is a short text. ``done`` and
``total`` count bytes of a model that is being loaded, or steps of a build."""


def no_progress(what: str, done: int, total: int) -> None:
    """Do nothing. This is the ``Progress`` of a caller that needs no reports."""


__all__ = ["Progress", "no_progress"]
