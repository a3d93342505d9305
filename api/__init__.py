"""The calls of ``import lutern``, on top of all other packages; the command line uses the same ones.

models.py     a model by its name: text, logits, estimate           needs NumPy and the tokenizer
machines.py   a machine that runs it: simulated, or at a port       needs the descriptions of the gateware
writing.py    how texts are written on a machine
ports.py      the port of a board, and the rate of its line
chips.py      estimate, bitstream and Verilog of a machine
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` during long work: ``what`` is a short text; ``done`` and ``total`` count
bytes of a model that is being loaded, or steps of a build."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing: the ``Progress`` of a caller that wants none."""


__all__ = ["Progress", "no_progress"]
