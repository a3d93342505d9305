"""The page is complete and safe, loads nothing from outside, and shows the newest builds."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lutern.boards.build import FLOORPLAN, MANIFEST, REPORT
from lutern.boards.cache import seal
from lutern.hw.presets import preset
from lutern.measure import report
from lutern.measure.bench import Row
from lutern.measure.report import Section

SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"><rect/></svg>\n'
VOID = ("meta", "br", "img", "link")


class Checker(HTMLParser):
    """Tracks open tags, and collects ids, links, and addresses that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag in ("script", "link", "iframe")
        for name, value in attrs:
            if name == "id" and value:
                assert value not in self.ids, value
                self.ids.add(value)
            if name in ("src", "href", "xlink:href") and value:
                self.links.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(page: str) -> Checker:
    """Check that every tag is closed, and that every link leads to a place of the page itself."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == [] and checker.scripts == 0
    assert [link for link in checker.links if link.removeprefix("#") not in checker.ids] == []
    assert "@import" not in page and "url(http" not in page
    return checker


def build(folder: Path, board: str, preset_name: str, age_s: float, **more: object) -> None:
    folder.mkdir(parents=True)
    manifest = {"board": board, "preset": preset_name, "clocks_hz": {"sync": 75e6}, "model": None, **more}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    best = {"used": {"LUT": [100, 24288]}, "clocks": [{"domain": "sync", "target_hz": 75e6, "achieved_hz": 80.5e6}]}
    (folder / REPORT).write_text(json.dumps({"best": best}))
    (folder / FLOORPLAN).write_text(SVG)
    seal(folder)
    stamp = 1_700_000_000 - age_s
    os.utime(folder / MANIFEST, (stamp, stamp))


def test_page() -> None:
    sections = [
        Section("One & two", (report.text("a < b"), report.table(["x", "y"], [["1", "<2>"]]))),
        Section("Three", (report.figure("<svg></svg>", "it's"),)),
    ]
    page = report.render("Title <x>", "First.", sections)
    check(page)
    assert "<h1>Title &lt;x&gt;</h1>" in page and "<td>&lt;2&gt;</td>" in page and 'href="#section-1"' in page
    assert 'name="viewport"' in page and "@media (max-width" in page


def test_newest_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    assert report.newest_builds() == []
    builds = tmp_path / "builds"
    build(builds / "a", "ulx3s-25f", "tiny", 300, seed=1)
    build(builds / "b", "ulx3s-25f", "tiny", 200, seed=2)
    build(builds / "c", "ulx3s-85f", "resident-85f", 100)
    for number in range(3):
        build(builds / f"old-{number}", "ecpix5-45f", f"p{number}", 1000 + number)
    (builds / "d").mkdir()
    (builds / "d" / MANIFEST).write_text("{")  # an unfinished manifest
    found = report.newest_builds()
    assert [item.folder.name for item in found] == ["c", "b", "old-0"]
    page = report.render("t", "i", [Section("Builds", tuple(report.build_parts(found[1])))])
    check(page)
    assert all(
        item in page
        for item in ("ulx3s-25f, tiny", "24,288", "80.50", 'viewBox="0 0 300 200"', "{&quot;sync&quot;: 75000000.0}")
    )
    assert "<?xml" not in page


def test_roof() -> None:
    """20 lanes at 100 MHz reach at most 2,000 million trits/s, and words of 2 bytes reach 200 MB/s."""
    config = preset("stream-x16")
    row = Row("stream-x16", "decode", 8, 8, 100_000, None, 20, 1_000_000, 90_000, False, 250_000, 100_000_000)
    roof = report.roof(row, "demo", config)
    assert (roof.trits_per_byte, roof.trits_per_second) == (32.0, 8e9)
    assert (roof.lanes_per_second, roof.bytes_per_second) == (16e9, 200e6)
