"""`lutern board`: the simulated board at a port, for every program that wants a serial port."""

from __future__ import annotations

from typing import Annotated

import typer

from lutern.cli.numbers import whole
from lutern.hw.link import LOWEST_DIVISOR
from lutern.hw.presets import PRESETS, preset
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.pty_board import PtyBoard


def serve_board(
    preset_name: Annotated[str, typer.Option("--preset", help=f"Machine: {', '.join(PRESETS)}.")] = "tiny",
    divisor: Annotated[
        int, whole("--divisor", least=LOWEST_DIVISOR, most=65_535, help="Cycles of a bit on the line.")
    ] = LOWEST_DIVISOR,
) -> None:
    """Serve the simulated board at a port of its own until Ctrl-C or SIGTERM: give that port to `lutern generate --on`.

    In the background of a script (`lutern board &`) Ctrl-C is ignored; `kill` ends it.
    """
    with SimulatedBoard(simulated(preset(preset_name), divisor)) as board, PtyBoard(board) as served:
        print(served.port, flush=True)
        served.wait()
