"""`lutern board`: serves the simulated board at a port, for every program that uses a serial port."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Annotated

from lutern.api.machines import largest_shipped
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, machine_or_default, preset_option
from lutern.cli.numbers import whole
from lutern.hw.config import HwConfig
from lutern.hw.link import LOWEST_DIVISOR
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.pty_board import PtyBoard
from lutern.sim.tcp_bridge import HOST, TcpBridge


def serve_board(
    preset_name: Annotated[str, preset_option(DEFAULT)] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    divisor: Annotated[
        int, whole("--divisor", least=LOWEST_DIVISOR, most=65_535, help="Clock cycles per bit on the line.")
    ] = LOWEST_DIVISOR,
    tcp: Annotated[
        int | None,
        whole("--tcp", least=0, most=65_535, help=f"Also serve this TCP port of {HOST}; 0 chooses a free port."),
    ] = None,
) -> None:
    """Serve the simulated board at a port of its own until Ctrl-C or SIGTERM. `lutern generate --on` takes this port.

    In the background of a script (`lutern board &`) Ctrl-C is ignored, so use `kill`. The first line of standard output
    is the port, the second line is the TCP port. On a terminal, the commands to type next follow.
    """
    config = machine_or_default(preset_name, settings, machine_file, DEFAULT)
    with ExitStack() as stack:
        board = stack.enter_context(SimulatedBoard(simulated(config, divisor)))
        served = stack.enter_context(PtyBoard(board))
        bridge = None if tcp is None else stack.enter_context(TcpBridge(served.port, tcp))
        print(served.port, flush=True)
        if bridge is not None:
            print(f"{HOST}:{bridge.number}", flush=True)
        if sys.stderr.isatty():
            for line in what_is_next(config, served.port, None if bridge is None else bridge.number):
                print(line, file=sys.stderr, flush=True)
        served.wait()


def what_is_next(config: HwConfig, port: str, tcp: int | None) -> list[str]:
    """Return the lines that tell which commands to type in another terminal."""
    model = largest_shipped(config)
    writes = f"lutern generate --on {port}" + ("" if model else " --model MODEL")
    lines = [f"{config.name} is simulated at {port}; in another terminal:", f"  lutern selftest --on {port}"]
    if model:
        lines.append(f"  {writes}    with {model}; loading takes a while, because the line is simulated bit by bit")
    else:
        lines.append(f"  {writes}    no shipped model fits {config.name}")
    if tcp is not None:
        lines.append(
            f"  socat PTY,raw,echo=0,link=board TCP:{HOST}:{tcp}    a serial port ./board from the TCP port {tcp}"
        )
    return lines


__all__ = ["serve_board"]
