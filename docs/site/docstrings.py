"""Docstrings as Markdown: the sections that hardware has and NumPy's style lacks, and drawings.

    Members / Numerics / Latency / Reference / Contract ─► a bold title; members become a list
    a paragraph with box characters ─────────────────────► a block of code

An extension of Griffe, which reads the sources for mkdocstrings.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

OURS = re.compile(r"^(Members|Numerics|Latency|Reference|Contract|Cost)\n-{3,}$", re.MULTILINE)
"""A docstring that has one of these has no section for Griffe: it would take what follows for more parameters."""
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}\n(.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)", re.MULTILINE | re.DOTALL)
LISTS = ("Members", "Parameters")
DRAWN = re.compile("[─│┌┐└┘├┤┬┴►◄▲▼█║]")
ITEM = re.compile(r"^(\S[^:\n]*?)(?: : (.*))?$")


def markdown(text: str) -> str:
    """A docstring whose own sections and drawings are Markdown; NumPy's sections stay as they are."""
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
    """A sentence that names a character of drawings is no drawing."""
    return sum(bool(DRAWN.search(line)) for line in paragraph.splitlines()) * 2 < len(paragraph.splitlines())


class LuternDocstrings(Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called by Griffe for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
