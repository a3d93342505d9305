"""Every board, by the name that the command line takes."""

from __future__ import annotations

from lutern.boards import ulx3s
from lutern.boards.board import Board
from lutern.model_ref.errors import LuternError

BOARDS: dict[str, Board] = {board.name: board for board in (*ulx3s.BOARDS,)}


def find_board(name: str) -> Board:
    """The board of that name."""
    if name not in BOARDS:
        raise LuternError(f"there is no board {name}; choose one of {', '.join(BOARDS)}.")
    return BOARDS[name]
