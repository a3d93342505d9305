"""`lutern board`: the simulated board at a port, for every program that wants a serial port."""

from __future__ import annotations

from typing import Annotated

from lutern.cli.machine import MachineOption, SetOption, machine_or_default, preset_option
from lutern.cli.numbers import whole
from lutern.hw.link import LOWEST_DIVISOR
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.pty_board import PtyBoard


def serve_board(
    preset_name: Annotated[str, preset_option("tiny, which is compiled in seconds")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    divisor: Annotated[
        int, whole("--divisor", least=LOWEST_DIVISOR, most=65_535, help="Cycles of a bit on the line.")
    ] = LOWEST_DIVISOR,
) -> None:
    """Serve the simulated board at a port of its own until Ctrl-C or SIGTERM: give that port to `lutern generate --on`.

    In the background of a script (`lutern board &`) Ctrl-C is ignored; `kill` ends it.
    """
    config = machine_or_default(preset_name, settings, machine_file, "tiny")
    with SimulatedBoard(simulated(config, divisor)) as board, PtyBoard(board) as served:
        print(served.port, flush=True)
        served.wait()
