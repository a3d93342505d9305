"""The texts of documents and sources that a reader sees, and the words of the code."""

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
# CHANGELOG.md says what was; it may name what is gone.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))
DOCUMENTS = [*PAGES, ROOT / "Makefile", ROOT / "pyproject.toml"]
OTHER_SUFFIXES = (".cpp", ".h", ".json", ".sv", ".v", ".vlt")
FENCE = re.compile(r"^ *```(.*?)^ *```$", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"[A-Za-z_]\w*")
SPAN = re.compile(r"(`+)([^`]+)\1")


@dataclass(frozen=True)
class Passage:
    """A text that a reader sees, and where it begins."""

    path: Path
    line: int
    text: str
    is_message: bool = False
    """Whether it is a string of the code, which a user may see, and not a docstring or a comment."""

    def place(self, offset: int = 0) -> str:
        """The file and line of a character of the text."""
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}, line {self.line + self.text.count(chr(10), 0, offset)}"

    def spans(self) -> Iterator[tuple[int, str]]:
        """Offset and text of each span between backticks, without code blocks."""
        prose = FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), self.text)
        for match in SPAN.finditer(prose):
            yield match.start(2), " ".join(match[2].split())

    def fences(self) -> Iterator[tuple[int, str]]:
        """Offset and text of each code block."""
        for match in FENCE.finditer(self.text):
            yield match.start(1), match[1]


@dataclass(frozen=True)
class Source:
    """A file of Python: what it says to a reader, and the words of its code."""

    docstrings: tuple[Passage, ...]
    comments: tuple[Passage, ...]
    strings: tuple[Passage, ...]
    words: frozenset[str]
    classes: dict[str, tuple[str, ...]]
    """The bases of each class, by name."""


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement of a file. Expressions are not searched, because that would take most of the time."""
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
    """All of the documents, docstrings and comments."""
    found = [Passage(path, 1, path.read_text()) for path in DOCUMENTS]
    for path in SOURCES:
        source = read_source(path)
        found += [*source.docstrings, *source.comments]
    return tuple(found)


@cache
def messages() -> tuple[Passage, ...]:
    """All strings of the sources that name a page or a command."""
    return tuple(text for path in SOURCES for text in read_source(path).strings)


@cache
def code_words() -> frozenset[str]:
    """Every word of the Python code without docstrings and comments, and every word of other files.

    The tests of documents are left out, because they have names that do not exist.
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
    """The files that define a class, by its name."""
    found: dict[str, list[Path]] = {}
    for path in SOURCES:
        for name in read_source(path).classes:
            found.setdefault(name, []).append(path)
    return found


def words_of_class(name: str) -> frozenset[str]:
    """The words of the files that define a class and its bases."""
    found: frozenset[str] = frozenset()
    for path in classes().get(name, []):
        source = read_source(path)
        found |= source.words
        for base in source.classes[name]:
            found |= words_of_class(base) if base != name else frozenset()
    return found
