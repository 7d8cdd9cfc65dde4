"""The built site in a real browser: no broken link, no error, nothing too wide, and readable by all.

Needs Chromium, found as ``chromium`` on the path or by ``VISIONGRAFT_CHROMIUM``. axe-core, which comes with
axe-playwright-python, judges texts of images, contrast, headings, names of links and the like.
"""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest

from tests.chromium import CHROMIUM

ROOT = Path(__file__).parents[1]
WIDTHS = {"phone": 390, "tablet": 820, "desktop": 1440}
SERIOUS = {"serious", "critical"}
BASE = "http://site/"  # stands for the place where the pages are

pytestmark = [pytest.mark.exhaustive, pytest.mark.slow]
in_browser = pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """What a page refers to, what others may refer to, and its headings and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.headings: list[int] = []
        self.without_text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [values[key] or "" for key in ("href", "src") if key in values]
        self.anchors |= {values[key] or "" for key in ("id", "name") if key in values}
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.headings.append(int(tag[1]))
        if tag == "img" and not values.get("alt"):
            self.without_text.append(values.get("src") or "")


def pages_of(site: Path) -> dict[str, Page]:
    """Return all pages by their path below the site."""
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


def broken_links(pages: dict[str, Page], site: Path) -> list[str]:
    """Return the references inside of the site that lead nowhere, each with its page."""
    broken = []
    for name, page in pages.items():
        for link in page.links:
            address, fragment = urldefrag(urljoin(BASE + name, link))
            if not address.startswith(BASE) or name == "404.html":
                continue
            target = unquote(urlparse(address).path).removeprefix("/")
            if target == "" or target.endswith("/"):
                target += "index.html"
            found = (site / target).is_file()
            if found and fragment and target in pages:
                found = unquote(fragment) in pages[target].anchors
            if not found:
                broken.append(f"{name}: {link}")
    return broken


def test_no_link_inside_of_the_site_is_broken(site: Path) -> None:
    pages = pages_of(site)
    assert len(pages) > 50
    assert broken_links(pages, site) == []


def test_a_broken_link_is_caught(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text('<h1 id="there"></h1>')
    links = ["b/", "b/#there", "b/#missing", "c/", "style.css"]
    (tmp_path / "index.html").write_text("".join(f'<a href="{link}"></a>' for link in links))
    broken = broken_links(pages_of(tmp_path), tmp_path)
    assert broken == ["index.html: b/#missing", "index.html: c/", "index.html: style.css"]


def test_every_image_has_a_text_and_every_page_one_first_heading(site: Path) -> None:
    pages = {name: page for name, page in pages_of(site).items() if name != "404.html"}
    assert {name: page.without_text for name, page in pages.items() if page.without_text} == {}
    assert [name for name, page in pages.items() if page.headings.count(1) != 1] == []


def test_what_can_be_copied_has_no_prompt(site: Path) -> None:
    texts = [ROOT / "README.md", ROOT / "docs" / "index.md", ROOT / "docs" / "quick-start.md"]
    for path in texts:
        blocks = path.read_text(encoding="utf-8").split("```bash\n")[1:]
        assert blocks, path
        assert [b for b in blocks if b.startswith("$") or "\n$ " in b.partition("```")[0]] == []


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


class Visits:
    """One tab, and what went wrong in it on each page."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.problems: dict[str, list[str]] = defaultdict(list)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on(
            "response", lambda r: self._note(f"{r.status} {r.url}") if r.status >= 400 else None
        )
        self.page.on("request", self._request)

    def _note(self, problem: str) -> None:
        self.problems[self.page.url].append(problem)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._note(message.text)

    def _request(self, request: Any) -> None:
        if urlparse(request.url).hostname not in ("127.0.0.1", None):
            self._note(f"asks {request.url}")


@in_browser
def test_no_page_has_an_error_or_is_wider_than_the_screen(
    browser: Any, address: str, site: Path, tmp_path: Path
) -> None:
    visits = Visits(browser)
    wide = []
    for name in pages_of(site):
        if name == "404.html":
            continue
        visits.page.goto(address + name, wait_until="load")
        for screen, width in WIDTHS.items():
            visits.page.set_viewport_size({"width": width, "height": 900})
            if visits.page.evaluate("document.documentElement.scrollWidth") > width:
                wide.append(f"{name} on a {screen}")
    assert dict(visits.problems) == {}
    assert wide == []


@in_browser
@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_home_page_is_drawn_at_three_widths(
    browser: Any, address: str, screen: str, scheme: str, tmp_path: Path
) -> None:
    visits = Visits(browser, viewport={"width": WIDTHS[screen], "height": 900}, color_scheme=scheme)
    visits.page.goto(address, wait_until="load")
    for image in visits.page.locator("article img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    shown = visits.page.screenshot(path=tmp_path / "home.png")
    assert len(shown) > 20_000  # an empty page has a fraction of it
    assert dict(visits.problems) == {}


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_barrier(browser: Any, address: str, site: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visits = Visits(
        browser, viewport={"width": WIDTHS["desktop"], "height": 900}, color_scheme=scheme
    )
    names = [name for name in pages_of(site) if name != "404.html"]
    found = []
    for name in names if scheme == "light" else names[::8]:
        visits.page.goto(address + name, wait_until="load")
        for violation in axe.run(visits.page).response["violations"]:
            if violation["impact"] in SERIOUS:
                nodes = [node["html"][:120] for node in violation["nodes"][:3]]
                found.append(f"{name}: {violation['id']}: {nodes}")
    assert found == []


@in_browser
def test_a_barrier_is_caught(browser: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = browser.new_page()
    page.set_content(
        '<html lang="en"><title>x</title><img src="data:,"><p style="color:#ddd">faint</p>'
    )
    found = {violation["id"] for violation in axe.run(page).response["violations"]}
    assert found >= {"image-alt", "color-contrast"}
