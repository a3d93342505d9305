"""Pages of the site that are no files of docs/, and links that leave it.

    CONTRIBUTING.md, CHANGELOG.md, SECURITY.md ─► pages of those names
    lutern/__init__.py, hw/ ────────────────────► docs/reference/: what is public, block by block
    measure/token_picture.py ───────────────────► token.svg
    docs/ ──────────────────────────────────────► pages that mkdocs.yml does not name, put where they belong

A hook of MkDocs. A link to a file outside of docs/ becomes a link to its page, or plain text where it has none.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import lutern
from lutern.measure.token_picture import token_picture

ROOT = Path(__file__).parents[2]
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
OUTSIDE["README.md"] = "index.md"
PICTURE = "token.svg"
MARK = re.compile(r"^<!-- (components of|names of|picture of) (\S+)(?: token)? -->$", re.MULTILINE)
"""Where a page has what is made here; elsewhere the page is read without it."""
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Name the pages of docs/ that mkdocs.yml does not name."""
    named = set(_names(config["nav"]))
    for path in sorted((ROOT / "docs").rglob("*.md"), key=lambda path: (path.stem != "README", path)):
        name = path.relative_to(ROOT / "docs").as_posix()
        if name not in named:
            section = "Decisions" if name.startswith("decisions/") else "How it works"
            _section(config["nav"], section).append(name)
    config["nav"] = [item for item in config["nav"] if item not in ({"Decisions": []},)]
    return config


def _names(items: list[Any]) -> list[str]:
    found: list[str] = []
    for item in items:
        for value in item.values() if isinstance(item, dict) else [item]:
            found += _names(value) if isinstance(value, list) else [value]
    return found


def _section(items: list[Any], title: str) -> list[Any]:
    (section,) = (item[title] for item in items if title in item)
    assert isinstance(section, list)
    return section


def on_files(files: Files, config: Any) -> Files:
    """Add what is made here."""
    pages = {page: (ROOT / name).read_text() for name, page in OUTSIDE.items() if name != "README.md"}
    pages[PICTURE] = token_picture(lutern.load("demo").config, lutern.preset("resident-85f"))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _front_door() -> str:
    """Every name of ``import lutern``, in the order of its packages."""
    tree = ast.parse((ROOT / "lutern" / "__init__.py").read_text())
    (modules,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_MODULES"
    )
    return "\n".join(f"::: {module}.{name}\n" for module, names in modules.items() for name in names)


def _components(path: Path) -> list[str]:
    """The public components of a file."""
    return [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(ast.unparse(base).endswith("Component") for base in node.bases)
    ]


def _family(folder: str) -> str:
    """The components of every file of a folder, each below what the file says of itself."""
    text = ""
    for path in sorted((ROOT / folder).glob("*.py")):
        if classes := _components(path):
            module = ".".join(("lutern", *path.relative_to(ROOT).with_suffix("").parts))
            text += f"::: {module}\n    options:\n      members: [{', '.join(classes)}]\n\n"
    return text


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files outside of docs/."""
    place = page.file.src_uri
    source = {page: name for name, page in OUTSIDE.items()}.get(place) if place != "index.md" else None

    def inside(match: re.Match[str]) -> str:
        mark, text, target, anchor = match.groups()
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(source or f"docs/{place}"), target))
        if whole.startswith("docs/"):
            found = whole.removeprefix("docs/")
        elif whole in OUTSIDE:
            found = OUTSIDE[whole]
        else:
            return text
        return f"{mark}[{text}]({posixpath.relpath(found, posixpath.dirname(place) or '.')}{anchor or ''})"

    prose = (text if text.startswith("```") else LINK.sub(inside, text) for text in FENCE.split(markdown))
    return MARK.sub(_made, "".join(prose))


def _made(match: re.Match[str]) -> str:
    """What a mark of a page stands for."""
    kind, name = match.groups()
    if kind == "components of":
        return _family(name)
    return _front_door() if kind == "names of" else f"![One token: its phases, and a layer's matrices]({PICTURE})"
