"""`lutern program`: load a bitstream into a board. The work is done by lutern.boards, this prints it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.boards.build import BITSTREAM, newest_build
from lutern.boards.catalog import find_board
from lutern.boards.loader import check_file, check_part, detect, find_program, load
from lutern.cli.machine import board_option
from lutern.model_ref.errors import LuternError


def program(
    board_name: Annotated[str, board_option("Board")],
    file: Annotated[Path | None, typer.Argument(help="Bitstream, if not the newest that was built.")] = None,
    flash: Annotated[
        bool, typer.Option("--flash", help="Write the board's flash, which keeps the bitstream without power.")
    ] = False,
) -> None:
    """Load a bitstream into a board, after the IDCODEs of both were compared."""
    board = find_board(board_name)
    path = file or newest_build(board) / BITSTREAM
    check_file(board, path)
    if not board.loader:
        raise LuternError(
            f"{board.title} is loaded by its own bootloader, which cannot be asked for the part: hold "
            f"its button while you plug it in, then run: dfu-util --alt 0 --download {path}"
        )
    loader = find_program()
    check_part(board, detect(loader, board))
    load(loader, board, path, flash)
    print(f"{board.title}: loaded {path}")
