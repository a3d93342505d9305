"""The command line in the surroundings of users: a terminal, a pipe, a full disk, another encoding, a folder with an
unusual name."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

LIMIT_S = 300.0
LUTERN = f"{sys.executable} -m lutern.cli.main"
GENERATE = f"{LUTERN} generate --model demo-small --on golden -n 4 -t 0"
PROMPT = "once upon a time"
FULL = "lutern: standard output cannot be written (No space left on device); make room, or send it elsewhere.\n"
ODD = "a [red]b[/red] :bus: é$x"
"""A folder name that would change if it were read as markup, as emoji codes, or by a shell."""

PROGRAM = """
import sys
from lutern.cli import commands, main
from lutern.cli.lazy import Entry

def write() -> None:
    {}

commands.COMMANDS["write"] = Entry("__main__", "write", "Write.")
sys.argv = ["lutern", "write"]
main.main()
"""


@contextlib.contextmanager
def started(command: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """Start a child. At the end of the block, the child and all its descendants are killed."""
    child = subprocess.Popen(command, text=True, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def shell(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, and return its status, output and errors."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(["bash", "-c", text], cwd=folder, env={**os.environ, **environment}, **pipes) as child:
        out, err = child.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(text, child.returncode, out, err)


def write_command(statement: str) -> str:
    """Return a line of bash that runs a Lutern command whose body is ``statement``."""
    return f"{sys.executable} -c '{PROGRAM.format(statement)}'"


def terminal(command: list[str], folder: Path, columns: int = 100) -> tuple[int, str]:
    """Run a command on a pseudo-terminal, and return its status and its screen."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with started(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        screen, end = b"", time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if not select.select([ours], [], [], 1.0)[0]:
                continue
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end has closed
                break
            if not part:
                break
            screen += part
        os.close(ours)
        status = child.wait(30)
    return status, screen.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the small demo in a folder with an unusual name."""
    folder = tmp_path_factory.mktemp("models") / ODD
    shutil.copytree(str(resources.files("lutern.firmware") / "models" / "demo-small"), folder)
    return folder


@pytest.mark.parametrize(
    ("where", "status", "sentence"),
    [
        ("> /dev/full", 1, FULL),
        (">&-", 1, "lutern: standard output is closed; send it to a terminal, a file or /dev/null.\n"),
        (">&- 2>&-", 1, ""),
        ("> /dev/full 2>&1", 1, ""),
    ],
)
@pytest.mark.parametrize("command", [GENERATE, f"{LUTERN} power log --help"], ids=["generate", "help"])
def test_output_that_cannot_be_written(tmp_path: Path, command: str, where: str, status: int, sentence: str) -> None:
    unbuffered = "1" if "2>" in where else ""
    done = shell(f"{command} {where}", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", sentence)


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-", "< /dev/null", "<&-"])
def test_other_streams_are_not_needed(tmp_path: Path, where: str) -> None:
    """The command does not fail if it cannot write progress and summary."""
    done = shell(f"{GENERATE} {where}", tmp_path)
    assert (done.returncode, done.stdout[: len(PROMPT)]) == (0, PROMPT), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ('print("begun", flush=True)', FULL),
        ('print("only in memory when the command ends", end="")', FULL),
        ('[print("x" * 100000) for _ in range(9)]', FULL),
        ('sys.stdout.write("in memory"); raise KeyboardInterrupt', ""),
    ],
)
def test_full_in_mid_text_and_at_the_end(tmp_path: Path, statement: str, sentence: str) -> None:
    done = shell(f"{write_command(statement)} > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1 if sentence else 130, sentence)


@pytest.mark.parametrize(
    "command", [f"{LUTERN} verilog --preset tiny", write_command('[print("x" * 999) for _ in range(9999)]')]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_closes_the_pipe(tmp_path: Path, command: str, unbuffered: str) -> None:
    """The command ends like any program in a pipe: without a message, and with the status that a shell gives to
    SIGPIPE."""
    done = shell(f"{command} | head -c 9; exit ${{PIPESTATUS[0]}}", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, len(done.stdout), done.stderr) == (141, 9, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_encoding_that_lacks_a_character(tmp_path: Path, encoding: str) -> None:
    """If the encoding lacks a character of the prompt, the command is refused before any work. If the encoding lacks a
    character of the output, the text before the character is written."""
    done = shell(f"{GENERATE} 'a \N{SNOWMAN}'", tmp_path, PYTHONIOENCODING=encoding)
    said = f"lutern: standard output is {encoding}, which has no character U+2603; set PYTHONIOENCODING=utf-8, or "
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith(said) and done.stderr.count("\n") == 1
    done = shell(write_command('print("well,"); print("so: \\u2603")'), tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (1, "well,\n") and done.stderr.startswith(said)


def test_encoding_that_lacks_characters_of_lutern(tmp_path: Path) -> None:
    """Help and tables are spelled in ASCII, and a path that is not UTF-8 is printed as its bytes."""
    done = shell(f"{LUTERN} cost --help > /dev/full", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (
        1,
        "lutern: nothing more can be written (No space left on device); make room.\n",
    )
    assert shell(f"{LUTERN} cost --help", tmp_path, PYTHONIOENCODING="ascii").returncode == 0
    done = shell(
        write_command('print("3 ± 1…", "a\\udce9".encode("utf-8", "surrogateescape") == b"a\\xe9")'),
        tmp_path,
        PYTHONIOENCODING="ascii",
    )
    assert (done.returncode, done.stdout) == (0, "3 +- 1... True\n"), done.stderr
    done = shell(f"{write_command('print(chr(0xdce9), end=str())')} | od -An -tx1", tmp_path)
    assert done.stdout.strip() == "e9", done.stderr


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LANG": "C", "LC_ALL": ""}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["LC_ALL=C", "LANG=C", "ascii"],
)
def test_locale_without_utf8(tmp_path: Path, model: Path, environment: dict[str, str]) -> None:
    """A text in ASCII is written, even if the locale lacks characters of the folder's name."""
    done = shell(f"{LUTERN} generate --model '{model}' --on golden -n 4 -t 0", tmp_path, **environment)
    assert (done.returncode, done.stdout[: len(PROMPT)]) == (0, PROMPT), done.stderr


def test_prompt_in_a_locale_without_utf8(tmp_path: Path) -> None:
    """The prompt's bytes are read as UTF-8. The demo has no token for the character, and the error message fits one
    line."""
    done = shell(f"{GENERATE} 'caf\u00e9'", tmp_path, LC_ALL="C")
    assert done.returncode == 1 and "Traceback" not in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("option", ["", "--prompt "])
def test_prompt_that_is_no_utf8(tmp_path: Path, option: str) -> None:
    done = shell(f"{GENERATE} {option}$'caf\\xe9'", tmp_path)
    sentence = "lutern: the text has the byte 0xe9 at place 4, which is no UTF-8; give the text in UTF-8.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_names_with_markup(tmp_path: Path, model: Path) -> None:
    """Tables, bars, plain lines and errors print a user's text unchanged, in a pipe and on a terminal."""
    out = tmp_path / ODD
    out.mkdir(parents=True)
    for command in (
        ["estimate", "--model", str(model)],
        ["verilog", "--preset", "tiny", "-o", str(out / "x.v")],
        ["generate", "--model", f"{model}/none", "--on", "golden"],
    ):
        status, screen = terminal([sys.executable, "-m", "lutern.cli.main", *command], tmp_path, columns=400)
        assert ODD in screen and "Traceback" not in screen, screen
        assert status == (1 if "none" in command[2] else 0), screen


def test_help_with_markup(tmp_path: Path) -> None:
    """`i2c:BUS:...` is printed unchanged, without the emoji of a bus."""
    status, screen = terminal([sys.executable, "-m", "lutern.cli.main", "power", "log", "--help"], tmp_path)
    assert status == 0 and "i2c:BUS:ADDRESS:CHIP:OHM" in screen and "\N{BUS}" not in screen


def test_generate_on_a_terminal(tmp_path: Path) -> None:
    """The text comes first, and then the summary. No bar and no control sequence of a bar remains."""
    command = [
        sys.executable,
        "-m",
        "lutern.cli.main",
        "generate",
        "--model",
        "demo-small",
        "--on",
        "golden",
        "-n",
        "4",
    ]
    status, screen = terminal(command, tmp_path)
    assert status == 0 and screen.startswith(PROMPT) and "integer model: " in screen, screen


def test_commands_that_are_wrong(tmp_path: Path) -> None:
    """Each wrong command prints one sentence, whatever characters the given text contains."""
    for arguments, sentence in (
        ("'[red]x[/red]'", "lutern: No such command '[red]x[/red]'; see lutern --help.\n"),
        ("build", "lutern: Missing option '--board'; see lutern build --help.\n"),
        ("estimate --:bus: 3", "lutern: No such option: --:bus:; see lutern estimate --help.\n"),
        ("estimate --model $'a\\e[31mb'", "lutern: there is no model a\\x1b[31mb; give one of "),
    ):
        done = shell(f"{LUTERN} {arguments}", tmp_path)
        assert done.returncode in (1, 2) and done.stderr.startswith(sentence) and done.stderr.count("\n") == 1, (
            done.stderr
        )
