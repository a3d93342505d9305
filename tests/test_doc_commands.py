"""Command lines in documents, docstrings and messages are accepted by `lutern`, make and pytest.

The parser of the command line parses each `lutern` line with the options of its command. Nothing is run.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from documents import ROOT, Passage, messages, passages
from lutern.boards.catalog import BOARDS
from lutern.cli.commands import app
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS
from lutern.model_ref.synthetic import PUBLISHED
from lutern.train.options import TrainOptions

LINE = re.compile(r"^ *(?:\$ )?(?:\S*torchrun .*)?(?:\.venv/bin/)?lutern (.*)$")
"""A `lutern` line in a code block, or in a drawing of a docstring."""
SELECTION = re.compile(r"pytest (?:-s )?((?:tests/\S+\.py\s+)+)-k\s+(\w+)")
"""A selection of the tests of a file by a part of their names or parameters."""
NAMES: dict[str, set[str]] = {
    "--preset": {*PRESETS},
    "--board": {*BOARDS},
    "--size": {*PUBLISHED},
    "--set": {field.name for kind in (HwConfig, TrainOptions) for field in dataclasses.fields(kind)},
}
"""The values that these options accept. A value in capitals is a placeholder."""
"""The sizes of the released models. An earlier `lutern new --preset` accepted these sizes."""
FOREIGN = {
    *("--placer", "--router", "--tmg-ripup", "--report", "--write"),  # nextpnr
    *("--nproc-per-node", "--no-python"),  # torchrun
    *("--cable", "--vid", "--pid", "--detect", "--alt", "--download"),  # openFPGALoader, dfu-util
}
"""Options of other programs, which documents also name."""
NO_COMMANDS = ("link record ", "fail")
"""Words after `lutern` that are no commands: the first line of a recording, and a command that a test defines."""


@cache
def root() -> Any:
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the first words name (None if these words name no command), and the words after this
    name."""
    command = root()
    while words and (commands := getattr(command, "commands", None)):
        if words[0] not in commands:
            break
        command, words = commands[words[0]], words[1:]
    return (None if command is root() else command), words


def words_of(line: str) -> list[str]:
    """Return the words of a command line, without the brackets and dots of a description."""
    line = re.sub(r"(?<=\s)\[(-[^\]]*)\]", r"\1", line)
    line = re.sub(r"(?<=\s)\.\.\.(?=\s|$)", "", line)
    words = shlex.split(line.replace("'s", " "), comments=True)
    for end in ("|", ">", "&", "<", "&&"):
        words = words[: words.index(end)] if end in words and end != "|" else [word for word in words if word != "|"]
    return words


def refused(line: str) -> str | None:
    """Return why `lutern` would refuse a line, or None if it accepts the line."""
    try:
        command, words = command_of(words_of(line))
    except ValueError as error:
        return str(error)
    if command is None:
        return f"there is no command {words[0] if words else ''}"
    if getattr(command, "commands", None):
        return f"{command.name} has no command {words[0]}" if words else None
    if words and words[-1].startswith("-") and words[-1] != "--help":
        option = next((known for known in command.params if words[-1] in (*known.opts, *known.secondary_opts)), None)
        words += ["X"] if option is not None and not option.is_flag else []
    parser = command.make_parser(type(command).context_class(command))
    try:
        values, rest, _ = parser.parse_args([word for word in words if word != "--help"])
    except Exception as error:  # an error class of the parser, which typer does not export
        return str(getattr(error, "message", error))
    if rest:
        return f"{rest[0]} is too much"
    for option in command.params:
        given = values.get(option.name)
        for value in given if isinstance(given, list) else [given]:
            if reason := wrong_value(option.opts[0], value):
                return reason
    return None


def wrong_value(option: str, value: Any) -> str | None:
    """Return why ``NAMES`` does not allow a value, or None if the value is allowed."""
    allowed = NAMES.get(option)
    if allowed is None or not isinstance(value, str) or value.isupper() or value in ("X", "..."):
        return None
    wrong = [name for name in value.split("|") if name.partition("=")[0] not in allowed]
    return f"{option} takes no {wrong[0]}" if wrong else None


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the offset and the text of the `lutern ...` lines of a code block, without the text after two blanks."""
    joined = re.sub(r"\\\n", lambda _: "  ", text)
    start = 0
    for line in joined.splitlines(keepends=True):
        if match := LINE.match(line.rstrip("\n")):
            yield start, re.split(r"(?<=\S) {2,}(?=\S)", match[1].strip(), maxsplit=0 if "\\" in match[1] else 1)[0]
        start += len(line)


def commands(passage: Passage) -> Iterator[tuple[int, str]]:
    """Yield the offset and the text of the command lines of a passage, without the word `lutern`."""
    blocks: Iterable[tuple[int, str]] = ()
    if passage.path.suffix == ".md":
        blocks = passage.fences()
    elif passage.path.suffix == ".py" and not passage.is_message:
        blocks = [(0, passage.text)]
    for start, block in blocks:
        for offset, line in lines(block):
            yield start + offset, line
    for offset, code in passage.spans():
        if match := re.fullmatch(r"(?:\.venv/bin/)?lutern ([a-z].*)", code):
            yield offset, match[1]


def wrong(passage: Passage) -> Iterator[tuple[int, str]]:
    """Yield the offset of each command line or option that would be refused, and the reason."""
    for offset, line in commands(passage):
        if not line.startswith(NO_COMMANDS) and (reason := refused(line)):
            yield offset, f"lutern {line}: {reason}"
    for offset, code in passage.spans():
        if re.match(r"--[a-z]|-[a-zA-Z]\b", code):
            for option in re.findall(r"(?<![\w-])(--[a-z][\w-]*|-[a-zA-Z]\b)", code):
                if option not in every_option() | FOREIGN:
                    yield offset, f"{option} is an option of no command"
        if (match := re.fullmatch(r"make ([a-z-]+)", code)) and match[1] not in targets():
            yield offset, f"make {match[1]}: there is no such target"
        if match := re.search(r"python -m (lutern[\w.]+)", code):
            if not (ROOT / match[1].removeprefix("lutern.").replace(".", "/")).with_suffix(".py").exists():
                yield offset, f"there is no module {match[1]}"
    for match in SELECTION.finditer(passage.text):
        files = [ROOT / name for name in re.findall(r"tests/\S+\.py", match[1])]
        if not any(path.exists() and match[2] in path.read_text() for path in files):
            yield match.start(), f"no test of {match[1].strip()} is chosen by -k {match[2]}"


@cache
def every_option() -> frozenset[str]:
    found = {"--help"}
    waiting = [root()]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found.update(name for option in command.params for name in (*option.opts, *option.secondary_opts))
    return frozenset(found)


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_commands() -> None:
    found = [
        f"{passage.place(offset)}: {reason}"
        for passage in (*passages(), *messages())
        if passage.path != Path(__file__)
        for offset, reason in wrong(passage)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("`lutern build --board ulx3s-85f --seeds 4`, `lutern generate`, `lutern power table`", []),
        ("`lutern bild`", ["lutern bild: there is no command bild"]),
        ("`lutern power tables`", ["lutern power tables: power has no command tables"]),
        ("`lutern build --sedes 4`", ["lutern build --sedes 4: No such option: --sedes"]),
        ("`lutern cost --preset tinny`", ["lutern cost --preset tinny: --preset takes no tinny"]),
        ("`lutern estimate --set rowz=3`", ["lutern estimate --set rowz=3: --set takes no rowz=3"]),
        ("`lutern doctor now`", ["lutern doctor now: now is too much"]),
        ("`--seeds`, `-t 0`, `--sedes 4`", ["--sedes is an option of no command"]),
        ("`make tset`", ["make tset: there is no such target"]),
        ("`python -m lutern.measure.sample`", ["there is no module lutern.measure.sample"]),
        ("`pytest -s tests/test_docs.py -k links`", []),
        ("`pytest tests/test_docs.py -k chains`", ["no test of tests/test_docs.py is chosen by -k chains"]),
        (
            "```\n$ lutern bench --bord X   it does\nlutern bench\n```",
            ["lutern bench --bord X: No such option: --bord"],
        ),
        ("```\nlutern generate [--preset P] [--chat | --interactive] ...  text\n```", []),
    ],
)
def test_commands_can_be_wrong(text: str, reasons: list[str]) -> None:
    found = [reason.partition(" Did")[0].rstrip(".") for _, reason in wrong(Passage(ROOT / "page.md", 1, text))]
    assert found == reasons


def test_lines_are_found() -> None:
    """The report of a wrong line names the page and the line."""
    page = Passage(ROOT / "page.md", 1, "one\n\n```\nlutern bench\nlutern bench --bord X\n```\n")
    assert [page.place(offset) for offset, _ in wrong(page)] == ["page.md, line 5"]
    assert sum(1 for passage in passages() for _ in commands(passage)) > 200
