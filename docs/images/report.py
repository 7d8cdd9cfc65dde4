"""Draw ``report-*.png`` and ``mistakes.png``: pages in Chromium, of crops of photographs.

Run it from anywhere: ``python docs/images/report.py``. It needs scikit-image, playwright and Chromium.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage import data

import visiongraft as vg

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("VISIONGRAFT_CHROMIUM") or shutil.which("chromium")


def write_crops(folder: Path, side: int = 24, count: int = 60) -> None:
    """Write a classification dataset of random crops, which are small enough to be confused."""
    generator = np.random.default_rng(0)
    photos = {"cat": data.chelsea(), "coffee": data.coffee(), "astronaut": data.astronaut()}
    for name, photo in photos.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            top, left = (int(generator.integers(0, n - side)) for n in photo.shape[:2])
            crop = Image.fromarray(photo[top : top + side, left : left + side])
            crop.save(folder / name / f"{number}.png")


def screenshot(browser: Any, page: Path, name: str, anchor: str, **context: Any) -> None:
    """Write the part of a page that is visible after a jump to an anchor, in few colors."""
    opened = browser.new_context(**context).new_page()
    opened.goto(page.resolve().as_uri())
    opened.wait_for_timeout(3000)  # until all figures are drawn
    opened.evaluate("anchor => document.getElementById(anchor).scrollIntoView()", anchor)
    opened.wait_for_timeout(500)
    path = HERE / name
    opened.screenshot(path=path)
    Image.open(path).quantize(128).save(path, optimize=True)


def write_wrong_labels(folder: Path) -> None:
    """Move some crops into the folder of another class."""
    for number in range(5):
        (folder / f"cat/{number}.png").rename(folder / f"coffee/cat-{number}.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        write_crops(Path(name, "photos"))
        vg.fit(
            Path(name, "photos"),
            task="classification",
            schedule="gradual",
            epochs=6,
            size=48,
            validation=0.4,
            out=Path(name, "photos-1"),
            device="cpu",
        )
        page = vg.report(Path(name, "photos-1"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            wide, phone = {"width": 1100, "height": 1000}, {"width": 390, "height": 780}
            screenshot(browser, page, "report-desktop.png", "headline", viewport=wide)
            screenshot(browser, page, "report-map.png", "map", viewport={**wide, "height": 640})
            screenshot(
                browser, page, "report-phone.png", "mistakes", viewport=phone, color_scheme="dark",
                device_scale_factor=2,
            )  # fmt: skip
            os.chdir(name)  # paths on the page are relative
            write_crops(Path("crops"), side=64, count=40)
            write_wrong_labels(Path("crops"))
            found = vg.find_mistakes("crops", task="classification", size=64)
            mistakes = Path("mistakes.html")
            mistakes.write_text(found.html(), encoding="utf-8")
            screenshot(
                browser, mistakes, "mistakes.png", "labels", viewport={**wide, "height": 640}
            )
