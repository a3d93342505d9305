"""The page of `lutern serve` loads nothing from other servers, and a browser shows the text and its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lutern
from browser import Browser, browser, find_browser
from lutern.api.serving import Service
from served import Served, served

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "api" / "serving" / "page"
PROGRAM = find_browser()
PROMPT = "once upon a time"


def test_page_loads_nothing_from_other_servers() -> None:
    """The page has no address of another server, and no inline style or script, which its content policy would
    refuse."""
    for path in PAGE.iterdir():
        text = path.read_text()
        addresses = re.findall(r"https?://[^\s\"']+", text)
        assert [one for one in addresses if one != "http://www.w3.org/2000/svg"] == [], path.name
        assert not re.search(r"<style|style=|<script>|\son\w+=|@import|url\((?!#)", text), path.name


def test_the_picture_is_that_of_the_documents() -> None:
    assert (PAGE / "machine.svg").read_text() == (ROOT / "docs" / "machine.svg").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(Service(lutern.load("demo-small"))) as server:
        yield server


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium is installed")
    with browser(PROGRAM, tmp_path_factory.mktemp("profile")) as page:
        yield page


def write(page: Browser) -> None:
    """Press the button, and wait for the end of the text."""
    page.value("delete document.body.dataset.done; document.getElementById('write').click()")
    page.until("document.body.dataset.done === 'yes'")


def text_of(page: Browser, element: str) -> str:
    return str(page.value(f"document.getElementById('{element}').textContent"))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 360])
def test_a_text(server: Served, page: Browser, tmp_path: Path, width: int) -> None:
    """The page shows the text of `generate`, and nothing is wider than the window."""
    page.size(width, 900)
    page.open(server.address)
    page.until("document.getElementById('model').textContent === 'demo-small, integer model'")
    page.value("document.getElementById('tokens').value = 60; document.getElementById('seed').value = 5")
    write(page)
    wanted = "".join(lutern.load("demo-small").generate(PROMPT, tokens=60, seed=5))
    assert text_of(page, "text") == PROMPT + wanted
    assert text_of(page, "count") == "60" and float(text_of(page, "speed")) > 0
    assert text_of(page, "cycles") == "none", "the integer model must show no cycles"
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("document.querySelector('img').naturalWidth") > 0
    assert page.value("document.getElementById('error').hidden") is True
    assert {re.match("https?://[^/]*/", address)[0] for address in page.requested} == {server.address}  # type: ignore[index]
    page.picture(tmp_path / f"page-{width}.png")


@pytest.mark.slow
def test_errors_are_shown(server: Served, page: Browser) -> None:
    page.open(server.address)
    page.value("document.getElementById('prompt').value = '<b>$</b>'")
    write(page)
    assert text_of(page, "error").startswith("the tokenizer has no token for '<' at position 0")
    assert page.value("document.querySelectorAll('#text b').length") == 0, "the page must not read a text as HTML"


@pytest.mark.slow
def test_a_text_is_stopped(server: Served, page: Browser) -> None:
    page.open(server.address)
    page.value("document.getElementById('tokens').value = 1024; document.getElementById('write').click()")
    page.until("document.getElementById('count').textContent !== '0'")
    page.value("document.getElementById('stop-writing').click()")
    page.until("document.body.dataset.done === 'yes'")
    assert int(text_of(page, "count").replace(",", "")) < 1024 and page.value("document.getElementById('error').hidden")
    while server.service.engine._open:
        pass


@pytest.mark.slow
def test_a_key_is_asked_for(page: Browser) -> None:
    with served(Service(lutern.load("demo-small"), key="abc")) as server:
        page.open(server.address)
        page.until("!document.getElementById('error').hidden")
        assert text_of(page, "error").startswith("the key is missing or wrong")
        page.value("document.getElementById('key').value = 'abc'; document.getElementById('tokens').value = 3")
        write(page)
        assert len(text_of(page, "text")) == len(PROMPT) + 3
