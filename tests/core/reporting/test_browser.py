"""Reports in a real browser: nothing fails, sorting and hovering work, and no request leaves.

Needs Chromium, found as ``chromium`` on the path or by ``VISIONGRAFT_CHROMIUM``, and playwright, which
drives it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft
from tests.chromium import CHROMIUM

CLASSES, EACH = 200, 5  # a thousand validation images
PHONE = {"width": 390, "height": 844}
DRAWN = """Bokeh.documents.length === document.querySelectorAll("figure[aria-label]").length
    && Bokeh.documents.every(document => document.is_idle)"""

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run on a thousand validation images of 200 classes."""
    folder = tmp_path_factory.mktemp("browser")
    generator = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", EACH)):
        for label in range(CLASSES):
            own = folder / "data" / split / f"class {label:03d}"
            own.mkdir(parents=True)
            for i in range(count):
                noise = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(noise).resize((120, 96)).save(own / f"{i}.jpg")
    visiongraft.fit(
        folder / "data", task="classification", backbone="simple_cnn", weights=None, size=32, epochs=1,
        schedule="linear_probe", out=folder / "run", device="cpu", callbacks=(),
    )  # fmt: skip
    return visiongraft.report(folder / "run")


class Visit:
    """A page that is open, and what went wrong on it."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on(
            "console",
            lambda m: self.problems.append(m.text) if m.type in ("error", "warning") else None,
        )
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.resolve().as_uri())
        self.wait()

    def wait(self) -> None:
        """Wait until all figures are drawn."""
        for _ in range(300):  # the page's policy forbids what wait_for_function does
            if self.page.evaluate(DRAWN):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("figures are not drawn after 30 seconds")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1200, "height": 900}, PHONE])
def test_nothing_fails_and_no_request_leaves(
    browser: Any, page: Path, viewport: dict[str, int], scheme: str
) -> None:
    visit = Visit(browser, page, viewport=viewport, color_scheme=scheme)
    assert visit.problems == []
    outside = [url for url in visit.requests if not url.startswith("data:")]
    assert outside == [page.resolve().as_uri()]
    width = visit.page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"]


def test_the_page_is_small_and_opens_soon(browser: Any, page: Path) -> None:
    assert page.stat().st_size < 10e6
    visit = Visit(browser, page)
    times = []
    for _ in range(3):  # other processes may be busy
        visit.page.reload()
        entry = "performance.getEntriesByType('navigation')[0]"
        times.append(visit.page.evaluate(f"{entry}.loadEventEnd"))
        visit.wait()
    assert min(times) < 2000, times


def test_a_click_on_a_heading_sorts_the_table(browser: Any, page: Path) -> None:
    visit = Visit(browser, page)
    table = visit.page.locator("#classes table").first
    column = "rows => rows.slice(1).map(row => Number(row.cells[3].dataset.value ?? -1))"
    heading = table.locator("th button", has_text="f1")
    for descending in (False, True):
        heading.click()
        values = table.locator("tr").evaluate_all(column)
        assert len(values) == CLASSES
        assert values == sorted(values, reverse=descending)


def test_hovering_over_a_point_shows_its_image(browser: Any, page: Path) -> None:
    visit = Visit(browser, page)
    at = visit.page.evaluate(
        """() => {
          const place = document.querySelector("#map figure > div");
          place.scrollIntoView({block: "center"});
          const view = [...Bokeh.index].find(view => place.contains(view.el));
          const drawn = [...view.renderer_views.values()].find(each => each.glyph_view);
          const box = view.canvas_view.el.getBoundingClientRect();
          const x = drawn.coordinates.x_scale.compute(drawn.model.data_source.data.x[0]);
          const y = drawn.coordinates.y_scale.compute(drawn.model.data_source.data.y[0]);
          return [box.left + x, box.top + y];
        }"""
    )
    visit.page.mouse.move(at[0] - 3, at[1])
    visit.page.mouse.move(*at)
    image = visit.page.locator("img[alt='']").first
    image.wait_for(state="visible", timeout=5000)
    assert image.evaluate("image => image.naturalWidth") > 0
    assert visit.problems == []
