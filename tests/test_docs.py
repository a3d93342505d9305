"""What documents, docstrings and comments name exists: files, modules, and what is in modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "api",
    "boards",
    "cli",
    "docs",
    "examples",
    "firmware",
    "hw",
    "lutern",
    "measure",
    "model_ref",
    "sim",
    "tests",
    "train",
)
SUFFIXES = r"cpp|h|json|md|png|py|sv|svg|toml|v|vlt"
PATH = re.compile(
    rf"(?<![\w/.~-])((?:{'|'.join(FOLDERS)})/(?:[\w.-]+/)*(?:[\w-]+\.(?:{SUFFIXES})\b|(?=[\s`|,.;:)]|$)))"
)
"""A path from the root: `folder/file.py`, or a folder with a slash at its end."""
FILE = re.compile(r"`(\w+\.py)`")
"""A file of any folder."""
ROOMS = "|".join(folder for folder in FOLDERS if folder != "lutern")
NAME = re.compile(rf"`(?:lutern\.)?((?:{ROOMS})\.[\w.]*\w)(?:\([^`]*\))?`")
"""A module, or something in it: `hw.config`, ``model_ref.norm.quantise``."""
PLACEHOLDERS = {"boards/NAME.py"}
"""What a reader is to put another name for."""

SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
NAMES = {path.name for path in SOURCES}
# CHANGELOG.md says what was; it may name what is gone.
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", ROOT / "pyproject.toml"]
DOCUMENTS += sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of all that a file says to a reader: docstrings and comments, or all of it."""
    text = path.read_text()
    if path.suffix != ".py":
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for line, code in enumerate(text.splitlines(), 1):
        yield line, code.partition("#")[2]


def is_there(name: str) -> bool:
    """Whether a dotted name is a folder, a module, or is followed through one by words that its file has."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            text = file.read_text()
            return all(re.search(rf"\b{part}\b", text) for part in parts[count:])
    return False


def missing(text: str) -> Iterator[tuple[int, str]]:
    """Line, and what a text names that does not exist."""
    for pattern, exists in (
        (PATH, lambda path: path in PLACEHOLDERS or (ROOT / path).exists()),
        (FILE, lambda file: file in NAMES),
        (NAME, lambda name: name.endswith(".py") or is_there(name)),
    ):
        for match in pattern.finditer(text):
            if not exists(match[1]):
                yield text.count("\n", 0, match.start()), match[1]


def test_what_is_named_exists() -> None:
    found = [
        f"{path.relative_to(ROOT)}, line {start + line}: there is no {name}"
        for path in [*DOCUMENTS, *SOURCES]
        if path != Path(__file__)
        for start, text in prose(path)
        for line, name in missing(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("see hw/top.py, `hw/norm/` and docs/engine.md.", []),
        ("see hw/tops.py and `hw/norms/`", ["hw/tops.py", "hw/norms/"]),
        ("`top.py`, `tops.py`", ["tops.py"]),
        ("``model_ref.norm.quantise``, `lutern.hw.norm`, ``hw.norm.RmsNorm``", []),
        ("``model_ref.norm.quantize``, `lutern.hw.norms`", ["model_ref.norm.quantize", "hw.norms"]),
    ],
)
def test_it_can_fail(text: str, names: list[str]) -> None:
    assert [name for _, name in missing(text)] == names
