"""Turns docstrings into Markdown: drawings, and sections of hardware blocks that NumPy's style does not have.

    Members / Numerics / Latency / Reference / Contract ─► a bold title; members become a list
    a paragraph with box characters ─────────────────────► a block of code

An extension of Griffe, which reads the sources for mkdocstrings.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

OURS = re.compile(r"^(Members|Numerics|Latency|Reference|Contract|Cost)\n-{3,}$", re.MULTILINE)
"""If a docstring has one of these titles, Griffe is given none of its sections, because Griffe would take the lines
below such a title for more parameters."""
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n(.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)", re.MULTILINE | re.DOTALL)
LISTS = ("Members", "Parameters")
DRAWN = re.compile("[─│┌┐└┘├┤┬┴►◄▲▼█║]")
ITEM = re.compile(r"^(\S[^:\n]*?)(?: : (.*))?$")


def markdown(text: str) -> str:
    """Return a docstring with its drawings as Markdown. If it has a title of ``OURS``, all its sections become Markdown
    too; otherwise they are NumPy's, and stay as they are."""
    if OURS.search(text):
        text = SECTION.sub(_section, text)
    return "\n\n".join(_drawing(paragraph) for paragraph in text.split("\n\n"))


def _section(match: re.Match[str]) -> str:
    title, body = match[1], match[2].strip("\n")
    return f"**{title}**\n\n{_items(body) if title in LISTS else body}\n\n"


def _items(body: str) -> str:
    """``name : text`` or a name with indented text below it, as items of a list; prose stays."""
    lines: list[str] = []
    for line in body.splitlines():
        named = None if line.startswith(" ") else ITEM.match(line)
        if named and re.fullmatch(r"[\w`*., ]+", named[1]) and len(named[1]) < 60:
            names = ", ".join(f"`{name.strip(' `')}`" for name in named[1].split(","))
            lines.append(f"- {names}: {named[2] or ''}".rstrip())
        elif line.startswith(" "):
            begins = lines and lines[-1].startswith("- ") and line.strip()[:1].isupper()
            if begins and lines[-1][-1].isalnum():  # shape and direction, then a sentence
                lines[-1] += "."
            lines.append("    " + line.strip())
        else:
            lines.append(line)
    return "\n".join(lines)


def _drawing(paragraph: str) -> str:
    if not DRAWN.search(paragraph) or "```" in paragraph or _is_prose(paragraph):
        return paragraph
    lines = paragraph.splitlines()
    indented = all(line.startswith("    ") or not line.strip() for line in lines)
    return paragraph if indented else "\n".join(f"    {line}" for line in lines)


def _is_prose(paragraph: str) -> bool:
    """Return whether fewer than half of the lines have a character of drawings: prose may name such a character."""
    return sum(bool(DRAWN.search(line)) for line in paragraph.splitlines()) * 2 < len(paragraph.splitlines())


class LuternDocstrings(Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called by Griffe for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
