"""Options of all commands: -h, --version, completion, defaults, and one meaning for each option. Also ports and the
cache."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from command_tree import COMMANDS
from lutern.boards import tool_state
from lutern.cli import ports
from lutern.cli.board import what_is_next
from lutern.cli.commands import COMMANDS as ENTRIES
from lutern.cli.commands import app
from lutern.cli.defaults import default_map
from lutern.cli.lazy import Entry
from lutern.cli.renamed import RENAMED
from lutern.cli.version import commit_of, version_text
from lutern.hw.presets import preset
from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command
from processes import lutern, run_python

ROOT = Path(__file__).parents[2]
TREE = typer.main.get_command(app)


def test_version() -> None:
    """`lutern --version` prints the version, and in a clone the commit."""
    done = lutern("--version")
    assert done.returncode == 0 and done.stdout == f"{version_text()}\n" and done.stdout.startswith("lutern 0.")
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
        assert f"(commit {head[:12]}" in done.stdout


def test_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == ""
    (tmp_path / ".git").write_text("damaged")
    assert commit_of(tmp_path) == ""


def test_the_list_of_commands() -> None:
    """The list needs no import of a command's modules, and at 80 columns no line is cut or folded."""
    program = "import sys; from lutern.cli.commands import run; run(); print({'numpy', 'amaranth'} & set(sys.modules))"
    done = run_python(f"import sys; sys.argv = ['lutern', '-h']; {program}")
    *shown, imported = done.stdout.splitlines()
    assert imported == "set()", done.stderr
    rows = shown[shown.index("Commands:") + 1 :]
    assert [row.split()[0] for row in rows] == list(ENTRIES) and all(len(row) <= 80 for row in rows)


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that imports a missing package reports an error when the command is used, but other commands work."""
    (tmp_path / "dreaming.py").write_text("import moonlight.shadows")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ENTRIES, "dream", Entry("dreaming", "dream", "Dream."))
    assert CliRunner().invoke(app, ["--version"]).exit_code == 0
    refused = CliRunner().invoke(app, ["dream"]).exception
    assert str(refused) == "the package moonlight is not installed; run `lutern doctor`, which says how to get it."


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_short_help(path: tuple[str, ...]) -> None:
    """-h of every command prints the same as --help."""
    short, long = (CliRunner().invoke(app, [*path, name]) for name in ("-h", "--help"))
    assert short.exit_code == 0 and short.output == long.output and "Usage: " in short.output


def test_completion() -> None:
    """A shell receives the commands, the options, and the values of --preset and --board."""
    for words, wanted in (
        ("lutern est", "estimate"),
        ("lutern estimate --pre", "--preset"),
        ("lutern estimate --preset resident-8", "resident-85f"),
        ("lutern build --board ulx3s-2", "ulx3s-25f"),
    ):
        environment = {
            "_LUTERN_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        assert wanted in lutern(**environment).stdout.split()


def test_each_short_option_has_one_meaning() -> None:
    """A short option has the same long name in all commands, and every option has a long name."""
    long_names = defaultdict(set)
    for path, command in COMMANDS.items():
        for param in command.params:
            names = [name for name in param.opts if name.startswith("-")]
            if not names:
                continue
            long = max(names, key=len)
            assert long.startswith("--"), f"{path}: {names}"
            for name in names:
                if not name.startswith("--"):
                    long_names[name].add(long)
    assert dict(long_names) == {"-o": {"--out"}, "-t": {"--temperature"}, "-n": {"--tokens"}}


@pytest.mark.parametrize(("command", "option"), RENAMED, ids=" ".join)
def test_old_options(command: str, option: str) -> None:
    """An old option is refused with a sentence of one line, which names the new option. The new option exists."""
    done = lutern(*command.split(), option, "x")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr == f"lutern: {RENAMED[command, option]}.\n"
    new = RENAMED[command, option].split("now ")[1].split()[0].rstrip(",")
    assert any(new in param.opts for param in COMMANDS[tuple(command.split())].params)


def file_of(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return {"LUTERN_CONFIG": str(path)}


def defaults_of(command: str, environment: dict[str, str]) -> dict[str, Any]:
    return dict(default_map(TREE, command, environment)[command])


def test_defaults(tmp_path: Path) -> None:
    """The order of priority is: a command's variable, the variable for all commands, the command's table, the top of
    the file."""
    env = file_of(tmp_path, 'board = "ulx3s-25f"\nstreams = 2\n[estimate]\nstreams = 4\n[power.log]\nrate = 3.5\n')
    estimate, build, power = (defaults_of(name, env) for name in ("estimate", "build", "power"))
    assert estimate["board_name"] == build["board_name"] == "ulx3s-25f"
    assert estimate["streams"] == 4 and defaults_of("cycles", env)["streams"] == 2
    assert power["log"]["rate"] == 3.5 and "rate" not in power["estimate"]
    env |= {"LUTERN_BOARD": "a", "LUTERN_ESTIMATE_BOARD": "b", "LUTERN_STREAMS": "8"}
    assert defaults_of("build", env)["board_name"] == "a"
    assert defaults_of("estimate", env).items() >= {"board_name": "b", "streams": "8"}.items()
    assert defaults_of("power", {"LUTERN_POWER_LOG_RATE": "2"})["log"]["rate"] == "2"


def test_variables_of_the_cache_are_no_defaults(tmp_path: Path) -> None:
    environment = {"LUTERN_CACHE": "x", "LUTERN_QUICK_BUILD": "1", "XDG_CONFIG_HOME": str(tmp_path)}
    assert defaults_of("estimate", environment) == defaults_of("generate", environment) == {}


def test_defaults_as_typed(tmp_path: Path) -> None:
    """A typed option has priority over a default. A wrong default is refused like a wrong option."""
    config = file_of(tmp_path, 'board = "ulx3s-25f"\nmodel = "demo-small"\n')
    assert lutern("estimate", **config).stdout.startswith("demo-small on resident-25f: ")
    assert lutern("estimate", "--board", "ulx3s-85f", **config).stdout.startswith("demo-small on resident-1024: ")
    done = lutern("estimate", LUTERN_STREAMS="99", **config)
    assert (done.returncode, done.stderr) == (1, "lutern: --streams is 99; give a whole number from 1 to 16.\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("boat = 3", ": boat outside of a table is no option of lutern; see lutern --help."),
        ("[estimate]\nseed = 3", ": seed [estimate] is no option of lutern estimate; see lutern estimate --help."),
        ("[nothing]\nseed = 3", ": nothing outside of a table is no option of lutern; see lutern --help."),
        ("board = ", " is no TOML ("),
        ("board = 2020-01-01", ": board has a value that no option takes; give a text, a number or a list."),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LuternError) as refused:
        default_map(TREE, None, file_of(tmp_path, text))
    assert said in str(refused.value)


def test_no_file(tmp_path: Path) -> None:
    assert defaults_of("estimate", {"XDG_CONFIG_HOME": str(tmp_path)}) == {}
    with pytest.raises(LuternError, match="of LUTERN_CONFIG cannot be read"):
        default_map(TREE, None, {"LUTERN_CONFIG": str(tmp_path / "none.toml")})


def test_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "builds" / "board-1"
    folder.mkdir(parents=True)
    (folder / "top.bit").write_bytes(bytes(1_500_000))
    (tmp_path / "mine.txt").write_text("not ours")
    cache = {"LUTERN_CACHE": str(tmp_path)}
    rows = {row["kind"]: row for row in json.loads(lutern("cache", "size", "--format", "json", **cache).stdout)}
    assert rows["builds"]["entries"] == 1 and rows["builds"]["bytes"] == rows["all"]["bytes"] == 1_500_000
    assert "builds\t1\t1500000\t" in lutern("cache", **cache).stdout
    refused = lutern("cache", "clear", "mine.txt", **cache)
    assert refused.returncode == 1 and "there is nothing called mine.txt in the cache; " in refused.stderr
    assert folder.is_dir()
    done = lutern("cache", "clear", **cache)
    assert f"{tmp_path / 'builds'}: 1 entries, 1.5 MB removed\n" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ports of the system are listed. A port at which no board answers is listed without a machine."""
    monkeypatch.setattr(ports.list_ports, "comports", lambda: [])
    assert "There is no serial port. Plug the board in. " in CliRunner().invoke(app, ["ports"]).output
    port = SimpleNamespace(device="/dev/none0", vid=0x0403, pid=0x6015, description="ULX3S")
    monkeypatch.setattr(ports.list_ports, "comports", lambda: [port])
    lines = CliRunner().invoke(app, ["ports"]).output.splitlines()
    assert lines[1].split("\t") == ["/dev/none0", "0403:6015", "ULX3S", ""]
    (row,) = json.loads(CliRunner().invoke(app, ["ports", "--ask", "--format", "json"]).output)
    assert row["machine"].startswith("none: ") and "/dev/none0" in row["machine"]


@pytest.mark.parametrize(
    ("log", "state"),
    [
        ("", ""),
        ("3.12. Executing OPT pass (performing simple optimizations).\nfoo\n", "3.12. OPT pass"),
        ("Info: Packing IOs..\nInfo:   at iteration #20, type X:  wirelen = 93\n", "placing, step 20"),
        ("Info: Running Static placer.\nInfo: overlap: COMB=9.1%, FF=8.2%\n", "placing"),
        (
            "Info: iter=31 steplen=9.9 a=1.2 penalty=[0.1, 0.2]\nInfo:    update_chains distance 787.56\n",
            "placing, step 31",
        ),
        (
            "Info:   at iteration #5: temp = 0.00, timing cost = 1354, wirelen = 99782\n",
            "refining the placement, step 5",
        ),
        ("Info: Routing globals...\nInfo: [  -918,   -1) |+\n", "routing"),
        (
            "Info:   145000 | 34161   110067 |  314   649 |     41799|       0.85      17.62|\n",
            "routing: 41,799 connections left",
        ),
        ("Info:     iter=12 wires=1193553 overused=2849 overuse=2859\n", "routing, pass 12: 2,849 nodes overused"),
        ("Info: Routing.." + "x" * 9000 + "\nInfo: Packing LUTs..\n", "packing"),
    ],
)
def test_the_state_of_a_tool(tmp_path: Path, log: str, state: str) -> None:
    """The state is taken from the end of the tool's log."""
    (tmp_path / "log").write_text(log)
    assert tool_state.state_of(tmp_path / "log") == state
    assert tool_state.state_of(tmp_path / "none") == ""


def iterations(rams: list[float]) -> str:
    """Return a log of the static placer, with the overlap of block RAMs in each iteration."""
    lines = "Info: iter={} steplen=2.0 a=307.4 penalty=[68.1]\nInfo: overlap: COMB={}.1%, FF=0.2%, RAM={}%, MUL=0.0%\n"
    return "".join(lines.format(number, number % 7, ram) for number, ram in enumerate(rams))


@pytest.mark.parametrize(
    ("rams", "stuck"),
    [
        ([26.1] * tool_state.STUCK_ITERATIONS, "block RAMs, whose overlap stays at 26.1 %"),
        ([26.1] * (tool_state.STUCK_ITERATIONS - 1), ""),
        ([26.1] * 900 + [26.0], ""),
        ([0.0] * 900, ""),
    ],
)
def test_a_placer_that_hangs(tmp_path: Path, rams: list[float], stuck: str) -> None:
    (tmp_path / "log").write_text(iterations(rams))
    assert tool_state.stuck_on(tmp_path / "log") == stuck


def test_install_commands_name_the_clone() -> None:
    """Lutern is on no package index, so the printed command installs the clone from which the program runs."""
    command = install_command("build")
    assert command.startswith(f"{sys.executable} -m pip install -e ") and command.rstrip("'").endswith("[build]")
    assert (Path(command.split(" -e ")[1].strip("'").removesuffix("[build]")) / "pyproject.toml").is_file()
    wrong = re.compile(r"pip install .?lutern\[")
    folders = ("api", "boards", "cli", "docs", "firmware", "hw", "measure", "model_ref", "sim", "train")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    assert not [str(path) for path in [*files, ROOT / "README.md"] if wrong.search(path.read_text())]


def test_packages_that_only_tests_import() -> None:
    """Only tests import safetensors, so it must be a dependency of the tests only."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not any(text.startswith("safetensors") for text in project["dependencies"])
    assert any(text.startswith("safetensors") for text in project["optional-dependencies"]["test"])


def test_commands_after_lutern_board() -> None:
    """The output contains commands to copy, with a model that fits the machine."""
    lines = what_is_next(preset("sim-64"), "/dev/pts/7", 9000)
    assert lines[1] == "  lutern selftest --on /dev/pts/7"
    assert lines[2].startswith("  lutern generate --on /dev/pts/7    with demo; ")
    assert lines[3].startswith("  socat PTY,raw,echo=0,link=board TCP:127.0.0.1:9000 ")
    assert "--model MODEL" in what_is_next(preset("tiny"), "/dev/pts/7", None)[2]
