"""The prose of documents and sources, and the words of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
# CHANGELOG.md is left out, because it describes the past and may name files that no longer exist.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))
DOCUMENTS = [*PAGES, ROOT / "Makefile", ROOT / "pyproject.toml"]
OTHER_SUFFIXES = (".cpp", ".h", ".json", ".sv", ".v", ".vlt")
FENCE = re.compile(r"^ *```(.*?)^ *```$", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"[A-Za-z_]\w*")
SPAN = re.compile(r"(`+)([^`]+)\1")


@dataclass(frozen=True)
class Passage:
    """A text that a reader sees, with the file and the line where it begins."""

    path: Path
    line: int
    text: str
    is_message: bool = False
    """Whether the text is a string of the code that a user may see, and not a docstring or a comment."""

    def place(self, offset: int = 0) -> str:
        """Return the file and line of a character of the text."""
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}, line {self.line + self.text.count(chr(10), 0, offset)}"

    def spans(self) -> Iterator[tuple[int, str]]:
        """Yield the offset and the text of each code span between backticks, but not of code blocks."""
        prose = FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), self.text)
        for match in SPAN.finditer(prose):
            yield match.start(2), " ".join(match[2].split())

    def fences(self) -> Iterator[tuple[int, str]]:
        """Yield the offset and the text of each code block."""
        for match in FENCE.finditer(self.text):
            yield match.start(1), match[1]


@dataclass(frozen=True)
class Source:
    """The docstrings, comments and messages of a Python file, and the words of its code."""

    docstrings: tuple[Passage, ...]
    comments: tuple[Passage, ...]
    strings: tuple[Passage, ...]
    words: frozenset[str]
    classes: dict[str, tuple[str, ...]]
    """The base classes of each class, by the name of the class."""


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield every statement of a file. Expressions are not searched, because this would take most of the time."""
    for node in body:
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, field, []))
        for handler in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            yield from _statements(handler.body)


def _strings(path: Path, tree: ast.Module, docstrings: set[int]) -> Iterator[Passage]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.lineno not in docstrings:
            yield Passage(path, node.lineno, node.value, is_message=True)


@cache
def read_source(path: Path) -> Source:
    text = path.read_text()
    tree = ast.parse(text)
    lines = text.splitlines()
    docstrings, classes = [], {}
    for node in _statements(tree.body):
        if isinstance(node, ast.ClassDef):
            classes[node.name] = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.append(Passage(path, node.lineno, node.value.value))
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    code = "\n".join(line.partition(" #")[0] for line in lines if not line.lstrip().startswith("#"))
    comments = [Passage(path, number, line.partition("#")[2]) for number, line in enumerate(lines, 1) if "#" in line]
    speaks = ROOT / "tests" not in path.parents and ("`lutern" in code or "docs/" in code)
    strings = _strings(path, tree, {passage.line for passage in docstrings}) if speaks else ()
    return Source(tuple(docstrings), tuple(comments), tuple(strings), frozenset(WORD.findall(code)), classes)


@cache
def passages() -> tuple[Passage, ...]:
    """Return all documents, docstrings and comments."""
    found = [Passage(path, 1, path.read_text()) for path in DOCUMENTS]
    for path in SOURCES:
        source = read_source(path)
        found += [*source.docstrings, *source.comments]
    return tuple(found)


@cache
def messages() -> tuple[Passage, ...]:
    """Return all strings of the sources that name a page or a command."""
    return tuple(text for path in SOURCES for text in read_source(path).strings)


@cache
def code_words() -> frozenset[str]:
    """Return every word of the Python code without docstrings and comments, and every word of the other files.

    The tests of documents are left out, because they contain names that must not exist.
    """
    found: set[str] = set()
    for path in SOURCES:
        if not path.name.startswith("test_doc"):
            found |= read_source(path).words
    for folder in FOLDERS:
        for suffix in OTHER_SUFFIXES:
            for path in (ROOT / folder).rglob(f"*{suffix}"):
                if ROOT / "tests" / "data" in path.parents:
                    continue
                found.update(WORD.findall(path.read_text()))
    for name in ("pyproject.toml", "Makefile"):
        found.update(WORD.findall((ROOT / name).read_text()))
    return frozenset(found)


@cache
def classes() -> dict[str, list[Path]]:
    """Return the files that define each class, by the name of the class."""
    found: dict[str, list[Path]] = {}
    for path in SOURCES:
        for name in read_source(path).classes:
            found.setdefault(name, []).append(path)
    return found


def words_of_class(name: str) -> frozenset[str]:
    """Return the words of the files that define a class and its base classes."""
    found: frozenset[str] = frozenset()
    for path in classes().get(name, []):
        source = read_source(path)
        found |= source.words
        for base in source.classes[name]:
            found |= words_of_class(base) if base != name else frozenset()
    return found
