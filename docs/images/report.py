"""Draw ``report-*.png``, ``mistakes.png`` and ``notebook.png``.

Pages in Chromium, of crops of photographs. Run it from anywhere: ``python docs/images/report.py``. It needs scikit-image,
playwright and Chromium.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from pages import launched, opened, screenshot
from PIL import Image
from skimage import data

import visiongraft as vg

WIDE, PHONE = {"width": 1100, "height": 1000}, {"width": 390, "height": 780}
LOW = {**WIDE, "height": 640}


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


def write_wrong_labels(folder: Path) -> None:
    """Move some crops into the folder of another class."""
    for number in range(5):
        (folder / f"cat/{number}.png").rename(folder / f"coffee/cat-{number}.png")


def write_notebook(run: Path, image: Path) -> Path:
    """Write what a notebook shows of a model, a prediction, an explanation and a certificate."""
    model = vg.load(run)
    (predicted,), (why,) = model.predict(image), vg.explain(model, image)
    shown = {
        "model": model,
        "model.predict(image)[0]": predicted,
        "vg.explain(model, image)[0]": why,
        "model.export('photos.onnx')": model.export(run / "photos.onnx"),
    }
    style = (
        "body { font: 15px sans-serif; margin: 1rem } table { border-collapse: collapse } td, th { padding: .2rem "
        ".8rem; text-align: left } tr:nth-child(even) { background: #f3f6f9 } pre { background: #f3f6f9; padding: "
        ".4rem } div { columns: 2 } section { break-inside: avoid } figure { margin: 0 }"
    )
    cells = "".join(
        f"<section><pre>{code}</pre>{each._repr_html_()}</section>" for code, each in shown.items()
    )
    page = run / "notebook.html"
    page.write_text(f"<style>{style}</style><div>{cells}</div>", encoding="utf-8")
    return page


def main() -> None:
    """Train on crops, and take the pictures."""
    write_crops(Path("photos"))
    run = Path("photos-1")
    vg.fit(
        "photos",
        task="classification",
        schedule="gradual",
        epochs=6,
        size=48,
        validation=0.4,
        out=run,
        device="cpu",
    )
    report = vg.report(run)
    write_crops(Path("crops"), side=64, count=40)
    write_wrong_labels(Path("crops"))
    mistakes = Path("mistakes.html")
    mistakes.write_text(vg.find_mistakes("crops", task="classification", size=64).html(), "utf-8")
    with launched() as browser:
        page = opened(browser, report, viewport=WIDE)
        screenshot(page, "report-desktop.png", "headline")
        page = opened(browser, report, viewport=LOW)
        screenshot(page, "report-map.png", "map")
        page = opened(browser, report, viewport=PHONE, color_scheme="dark", device_scale_factor=2)
        screenshot(page, "report-phone.png", "mistakes")
        screenshot(opened(browser, mistakes, viewport=LOW), "mistakes.png", "labels")
        notebook = write_notebook(run, Path("photos/cat/7.png"))
        short = {**WIDE, "height": 490}
        screenshot(opened(browser, notebook, viewport=short), "notebook.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # paths on the pages are relative
        main()
