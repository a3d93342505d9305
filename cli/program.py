"""`lutern program`: loads a bitstream into a board with ``lutern.boards``."""

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
    file: Annotated[Path | None, typer.Argument(help="Bitstream; default: the newest build of the board.")] = None,
    flash: Annotated[
        bool, typer.Option("--flash", help="Write into the board's flash, which keeps the bitstream without power.")
    ] = False,
) -> None:
    """Compare the IDCODEs of a bitstream and a board, and load the bitstream into the board."""
    board = find_board(board_name)
    path = file or newest_build(board) / BITSTREAM
    check_file(board, path)
    if not board.loader:
        raise LuternError(
            f"{board.title} is loaded by its own bootloader, which does not report the chip: hold the board's "
            f"button while you plug the board in, then run: dfu-util --alt 0 --download {path}"
        )
    loader = find_program()
    check_part(board, detect(loader, board))
    load(loader, board, path, flash)
    print(f"{board.title}: loaded {path}")
