"""The pages in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from charembed.explore.app import State, create_app
from charembed.report.page import Page as Report
from charembed.report.page import Sample, Section
from charembed.report.writing import report_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs a browser: apt-get install chromium", allow_module_level=True)
pytest.importorskip("playwright")
uvicorn = pytest.importorskip("uvicorn")
if importlib.util.find_spec("usearch") is None:  # importing it before ONNX Runtime would crash the latter
    pytest.skip("needs usearch", allow_module_level=True)
pytest.importorskip("matplotlib")

SECONDS = 60_000
"""Time that anything may take on a busy machine, in milliseconds."""
POINTS = "#map [id^=map-points-] use"
"""The occurrences on the map."""
WIDTHS = {"laptop": (1366, 768), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=SECONDS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(state: State) -> Iterator[str]:
    """The page, as the command serves it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(state), log_level="warning", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


class Opened:
    """A page, and what it wrote to the console or asked other machines for."""

    def __init__(self, browser: Any, address: str, width: str = "laptop", scheme: str = "light") -> None:
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        self._context = browser.new_context(viewport=size, color_scheme=scheme, offline=address.startswith("file:"))
        self._context.set_default_timeout(SECONDS)
        self.problems: list[str] = []
        self.page = self._context.new_page()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url, address))
        self.page.goto(address)

    def _check(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:")):
            self.problems.append(f"the page asks for {url}")

    def close(self) -> None:
        self._context.close()


def wait_until(page: Any, expression: str) -> None:
    """Wait until JavaScript is true. Playwright's own function for it would need `eval`, which the page forbids."""
    end = time.monotonic() + SECONDS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        page.wait_for_timeout(20)


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opened]:
    one = Opened(browser, address)
    one.page.wait_for_selector("body[data-ready]")
    yield one
    one.close()
    assert one.problems == []


def test_keyboard_alone_suffices(opened: Opened) -> None:
    page = opened.page
    page.focus("#text")
    page.keyboard.press("Control+A")
    page.keyboard.type("The quick dog")
    page.keyboard.press("Control+Enter")
    wait_until(page, "document.querySelectorAll('.word').length === 3")
    assert page.locator("#words .tag").count() == 3
    # From the text: its button, and the words.
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.firstChild.textContent") == "dog"
    page.keyboard.press("Enter")
    page.wait_for_selector("#neighbors li")
    assert page.locator(".word[aria-pressed='true']").evaluate_all("all => all.map(one => one.firstChild.data)") == [
        "dog"
    ]
    # The surprise of each direction is one stop of the Tab key each.
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#character").startswith('"h": ')
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.inner_text("#character").endswith("bits backward")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("lazy dog")
    page.keyboard.press("Enter")
    wait_until(page, f"document.querySelectorAll({POINTS!r}).length === 18")
    page.focus("#map svg")
    page.keyboard.press("ArrowDown")
    assert page.locator("#map .chosen").count() == 1
    assert page.inner_text("#occurrence").strip() == "The lazy dog number 1 jumps over the quick fox."


def test_hostile_text_stays_text(opened: Opened) -> None:
    page = opened.page
    hostile = "<img src=x onerror='document.title=3'><script>document.title=4</script> <b>fox</b>"
    page.fill("#text", hostile)
    page.click("#reader button")
    wait_until(page, "document.querySelector('#words').textContent.includes('onerror')")
    page.locator(".word", has_text="fox").first.click()
    page.wait_for_selector("#neighbors li")
    page.fill("#map-words", "fox img")
    page.click("#mapper button")
    wait_until(page, f"document.querySelectorAll({POINTS!r}).length === 12")
    page.locator(POINTS).first.hover()
    assert "<img src=x onerror=" in page.inner_text("#occurrence")
    assert page.title() == "charembed explore"
    assert page.locator("main img, main script, #words b").count() == 0


def test_awkward_text_is_shown(opened: Opened) -> None:
    page = opened.page
    for text in ("שלום, עולם: مرحبا بالعالم", "👩‍🔬 never seen: ꙮ", "two\nlines", ""):
        page.fill("#text", text)
        page.click("#reader button")
        wait_until(page, f"shown !== null && shown.text === {json.dumps(text)}")
        assert page.inner_text("#error") == ""
        assert page.evaluate("document.querySelectorAll('.heat span').length") == 2 * len(text)
    # Right to left, although the page is left to right; unknown characters are marked.
    page.fill("#text", "שלום עולם")
    page.click("#reader button")
    wait_until(page, "shown.text.startsWith('ש')")
    assert page.evaluate("getComputedStyle(document.querySelector('#words')).direction") == "rtl"
    assert page.locator(".heat .unknown").count() == 2 * 8


def test_text_that_is_too_long_is_refused_in_words(opened: Opened) -> None:
    opened.page.fill("#text", "x" * 6000)
    opened.page.click("#reader button")
    wait_until(opened.page, "document.querySelector('#error').textContent.includes('at most 5,000')")


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_the_screen(browser: Any, address: str, width: str, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text(report_page([ROOT / "tests/data/run-0.1.0/out"]).html(), encoding="utf-8")
    for place, ready in ((address, "body[data-ready]"), (report.as_uri(), "figure svg")):
        opened = Opened(browser, place, width, "dark")
        opened.page.wait_for_selector(ready)
        assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, place
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 23, 29)"
        opened.close()
        assert opened.problems == []


def test_a_report_runs_nothing(browser: Any, tmp_path: Path) -> None:
    hostile = "<script>document.title='run'</script>"
    path = tmp_path / "report.html"
    path.write_text(Report(hostile, [Section(hostile, samples=[Sample(hostile, hostile)])]).html(), encoding="utf-8")
    opened = Opened(browser, path.as_uri())
    assert opened.page.title() == hostile
    assert opened.page.inner_text("h1") == hostile
    assert opened.page.locator("script").count() == 0
    opened.close()
    assert opened.problems == []
