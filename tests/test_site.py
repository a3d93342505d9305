"""`make docs` builds the site without a warning. The site contains its pages and pictures, and loads nothing from other
servers."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import lutern
from processes import run

ROOT = Path(__file__).parents[1]
FETCHED = re.compile(r"""<(?:script|img|iframe|link rel="stylesheet")[^>]*(?:src|href)=["']?https?:""")


def loaded(name: str) -> ModuleType:
    """Import and return a module of docs/site/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sections_of_hardware_become_markdown() -> None:
    text = (
        "Block.\n\nParameters\n----------\nshape\n    its size\n\nMembers\n-------\ni, o : streams\n    Of values.\n"
        "\nLatency\n-------\n3 cycles.\n\na ─► b\n     └─► c"
    )
    assert loaded("docstrings").markdown(text) == (
        "Block.\n\n**Parameters**\n\n- `shape`:\n    its size\n\n**Members**\n\n- `i`, `o`: streams.\n    Of values.\n"
        "\n**Latency**\n\n3 cycles.\n\n    a ─► b\n         └─► c\n\n"
    )


def test_sections_of_functions_stay() -> None:
    text = "Adds.\n\nParameters\n----------\na : int\n    one\n\nReturns\n-------\nint\n    both"
    assert loaded("docstrings").markdown(text) == text


@pytest.mark.slow
def test_site(tmp_path: Path) -> None:
    """The build is strict: a broken link, or a page that no list contains, makes the build fail."""
    assert run(["make", "build/typing/lutern/__init__.py"], cwd=ROOT).returncode == 0
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path / "site"]
    done = run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert not [name for name, text in pages.items() if FETCHED.search(text)]
    for name in set(lutern.__all__) - {"__version__"}:
        assert f".{name}" in pages["reference/lutern.html"], name
    for block in ("Mlgru", "Residual", "TernaryUnit"):
        assert f".{block}" in pages["reference/engine.html"]
    assert "token.svg" in pages["token.html"] and (tmp_path / "site" / "token.svg").is_file()
