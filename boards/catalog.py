"""Lists every board by its name on the command line."""

from __future__ import annotations

from lutern.boards import (
    butterstick,
    colorlight,
    ecp5_evn,
    ecpix5,
    icepi_zero,
    icesugar_pro,
    logicbone,
    orangecrab,
    ulx3s,
    ulx4m,
    versa_ecp5,
)
from lutern.boards.board import Board
from lutern.model_ref.errors import LuternError

BOARDS: dict[str, Board] = {
    board.name: board
    for module in (
        ulx3s,
        icepi_zero,
        icesugar_pro,
        colorlight,
        orangecrab,
        ecpix5,
        versa_ecp5,
        butterstick,
        logicbone,
        ulx4m,
        ecp5_evn,
    )
    for board in module.BOARDS
}


def find_board(name: str) -> Board:
    """Return the board with this name."""
    if name not in BOARDS:
        raise LuternError(f"there is no board {name}; choose one of {', '.join(BOARDS)}.")
    return BOARDS[name]
