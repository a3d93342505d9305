"""Every name that a test replaces in the gateware exists there. Otherwise a mutant would mutate nothing, or a slow test
would fail and only make test-all would show it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent
GATEWARE = "lutern.hw"
FILES = sorted(path for path in FOLDER.rglob("*.py") if GATEWARE in path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> dict[str, Any]:
    """Return the classes and modules of the gateware that a file imports, by their names in this file."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(GATEWARE):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                value = getattr(module, alias.name)
                if isinstance(value, type | ModuleType):
                    found[alias.asname or alias.name] = value
    return found


def replaced(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield owner and name of everything that a file reads, sets or overrides in a class or module."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                yield owner, name
            case ast.Call(
                func=ast.Attribute(attr="setattr" | "delattr"), args=[ast.Name(id=owner), ast.Constant(value=name), *_]
            ):
                yield owner, name
            case ast.ClassDef(bases=[ast.Name(id=owner)], body=body):
                for method in body:
                    if isinstance(method, ast.FunctionDef) and method.name.startswith("_"):
                        yield owner, method.name


def missing(text: str) -> list[str]:
    """Return the names that the gateware lacks."""
    tree = ast.parse(text)
    owners = imported(tree)
    return [f"{owner}.{name}" for owner, name in replaced(tree) if owner in owners and not hasattr(owners[owner], name)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_replaced_names_exist(path: Path) -> None:
    assert missing(path.read_text(encoding="utf-8")) == [], f"{path.name} replaces names that do not exist"


@pytest.mark.parametrize(
    "line", ["Lane._none", "monkeypatch.setattr(lane, '_none', 0)", "class Wrong(Lane):\n    def _none(self): ..."]
)
def test_a_missing_name_is_found(line: str) -> None:
    text = f"from lutern.hw import lane\nfrom lutern.hw.code_memory import CodeMemory as Lane\n{line}\n"
    assert [name.split(".")[1] for name in missing(text)] == ["_none"]
