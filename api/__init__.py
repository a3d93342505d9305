"""What ``import lutern`` offers, on top of all other packages; the command line is made of the same calls.

models.py     a model by its name: text, logits, estimate           needs NumPy and the tokenizer
machines.py   a machine that runs it: simulated, or at a port       needs the gateware's descriptions
writing.py    how texts are written on either of them
ports.py      the port of a board, and the rate of its line
chips.py      estimate, bitstream and Verilog of a machine
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` while something long is under way: ``what`` is a short text, ``done`` and
``total`` count bytes of a model that is loaded, or steps of a build."""


def no_progress(what: str, done: int, total: int) -> None:
    """Where nobody wants to know."""


__all__ = ["Progress", "no_progress"]
