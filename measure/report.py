"""Writes one HTML file with everything measured, which can be read offline, in wide and narrow windows.

    Section(title, parts) ─► render ─► page: style, tables and SVG are inside, no script, nothing is loaded

The module also finds the newest builds, and the page shows their resources, clocks, floorplan and manifest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lutern.boards import cache
from lutern.boards.build import FLOORPLAN, MANIFEST, REPORT
from lutern.hw.config import HwConfig
from lutern.measure.bench import Row
from lutern.measure.pictures import Roof

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1b1b1b; background: #fff; max-width: 76rem;
       margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.4rem; border-top: 1px solid #ccc; padding-top: 0.8rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.3rem; }
p { margin: 0.4rem 0; max-width: 48rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.82rem; }
th, td { padding: 0.2rem 0.4rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e6e6e6; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } th { border-bottom: 1px solid #888; }
tr:hover td { background: #f5f7fa; }
table.facts td:last-child { text-align: left; white-space: normal; }
figure { margin: 0.8rem 0; } figcaption { font-size: 0.9rem; color: #555; }
figure svg { display: block; width: 100%; height: auto; min-width: 40rem; }
figure.half svg { max-width: 46rem; }
@media (max-width: 40rem) { body { padding: 0.6rem; font-size: 15px; } h1 { font-size: 1.3rem; } }
@media print { .scroll { overflow: visible; } figure svg { min-width: 0; } }
"""


@dataclass(frozen=True)
class Section:
    """A heading and the HTML parts below it."""

    title: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class BuildFound:
    """The results of a build; ``floorplan`` is SVG."""

    folder: Path
    manifest: dict[str, Any]
    best: dict[str, Any]
    floorplan: str


def text(words: str) -> str:
    """Return a paragraph as HTML."""
    return f"<p>{escape(words)}</p>"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Return a table as HTML, which scrolls sideways in a narrow window."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values)

    head = f"<thead><tr>{cells('th', headings)}</tr></thead>" if headings else ""
    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>\n{body}\n</tbody></table></div>'


def figure(svg: str, caption: str, kind: str = "") -> str:
    """Return a picture and its caption as HTML."""
    return f'<figure class="{kind}"><div class="scroll">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def render(title: str, introduction: str, sections: Sequence[Section]) -> str:
    """Return the whole page as HTML."""
    names = [f"section-{index}" for index in range(len(sections))]
    links = "\n".join(
        f'<a href="#{name}">{escape(section.title)}</a>' for name, section in zip(names, sections, strict=True)
    )
    body = "\n".join(
        f'<section id="{name}"><h2>{escape(section.title)}</h2>\n' + "\n".join(section.parts) + "</section>"
        for name, section in zip(names, sections, strict=True)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{text(introduction)}\n<nav>{links}</nav>\n"
        f"{body}\n</body></html>\n"
    )


def newest_builds(most: int = 3) -> list[BuildFound]:
    """Return the newest build of each board and preset, newest first; builds that cannot be read are skipped."""
    found: dict[tuple[str, str], BuildFound] = {}
    for path in cache.newest("builds", f"*/{MANIFEST}"):
        folder = path.parent
        try:
            manifest, best = cache.kept_json(path), cache.kept_json(folder / REPORT)["best"]
            floorplan = cache.kept_text(folder / FLOORPLAN)
            if floorplan is not None:
                build = BuildFound(folder, manifest, best, floorplan)
                found.setdefault((manifest["board"], manifest["preset"]), build)
        except (KeyError, TypeError):
            continue  # the build is damaged, or made by another release
    return list(found.values())[:most]


def build_parts(build: BuildFound) -> list[str]:
    """Return HTML of a build: resources, clocks, floorplan and manifest."""
    manifest, best = build.manifest, build.best
    plan = build.floorplan[build.floorplan.index("<svg") :]
    width, height = (plan.split(f'{side}="', 1)[1].split('"', 1)[0] for side in ("width", "height"))
    if "viewBox" not in plan:
        plan = plan.replace("<svg ", f'<svg viewBox="0 0 {width} {height}" ', 1)
    facts = [
        [name, json.dumps(value) if isinstance(value, dict | list) else str(value)] for name, value in manifest.items()
    ]
    return [
        f"<h3>{escape(manifest['board'])}, {escape(manifest['preset'])}</h3>",
        table(
            ["resource", "used", "of", "share"],
            [[name, f"{used:,}", f"{total:,}", f"{used / total:.0%}"] for name, (used, total) in best["used"].items()],
        ),
        table(
            ["clock", "MHz", "wanted"],
            [
                [clock["domain"], f"{clock['achieved_hz'] / 1e6:.2f}", f"{clock['target_hz'] / 1e6:.2f}"]
                for clock in best["clocks"]
            ],
        ),
        figure(plan, "Floorplan: every tile in the colour of the part of the machine that fills it.", "half"),
        table([], facts, "facts"),
    ]


def roof(row: Row, model: str, config: HwConfig) -> Roof:
    """Return the two bounds of a machine, and the trits/byte and trits/s that a row of the bench reached."""
    per_cycle = config.word_bytes * row.words_per_cycle + (config.beat_bytes if config.source == "resident" else 0)
    return Roof(
        f"{row.preset}, {model}, {row.what} of {row.streams}",
        row.trits * row.streams / row.bytes_read,
        row.trits * row.tokens_per_second,
        row.lanes * config.streams * row.clock_hz,
        per_cycle * row.clock_hz,
    )
