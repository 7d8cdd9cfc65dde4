"""Pages in an installed Chromium, for the scripts beside this one that take pictures of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("VISIONGRAFT_CHROMIUM") or shutil.which("chromium")
PATIENCE = 180_000  # milliseconds that a page may take to open on a busy machine
DRAWN = """!window.Bokeh || (
    Bokeh.documents.length === document.querySelectorAll("figure[aria-label]").length
    && Bokeh.documents.every(document => document.is_idle)
)"""


@contextmanager
def launched() -> Iterator[Any]:
    """Yield a browser."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def opened(browser: Any, path: Path, **context: Any) -> Any:
    """Open a file, and wait until its figures are drawn.

    Args:
        browser: From ``launched``.
        path: The page.
        context: What the browser shows it with, such as ``viewport``.
    """
    return opened_address(browser, path.resolve().as_uri(), **context)


def opened_address(browser: Any, address: str, **context: Any) -> Any:
    """Open a page of a server on this machine; otherwise like ``opened``."""
    page = browser.new_context(**context).new_page()
    page.goto(address, timeout=PATIENCE)
    while not page.evaluate(DRAWN):  # the policy of our pages forbids what wait_for_function does
        page.wait_for_timeout(200)
    return page


def screenshot(page: Any, name: str, anchor: str | None = None, **options: Any) -> None:
    """Write what is visible of a page beside this file, in few colors.

    Args:
        page: From ``opened``.
        name: Name of the .png file.
        anchor: Name of the part to show; ``None`` for what is visible now.
        options: Further ones of the browser, such as ``clip``.
    """
    if anchor is not None:
        page.evaluate("anchor => document.getElementById(anchor).scrollIntoView()", anchor)
        page.wait_for_timeout(500)
    path = HERE / name
    page.screenshot(path=path, timeout=PATIENCE, **options)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
