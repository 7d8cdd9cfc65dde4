"""Draw ``quick-start-*.png``, ``explain-nearest.png`` and ``show-batch.png``: type what the quick start says, and look at the pages in Chromium.

Run it from anywhere: ``python docs/images/quick_start.py [FOLDER]``. It needs scikit-image, playwright and Chromium. What
the commands print, and how long they take, goes to the terminal; the runs stay in FOLDER, if it is passed.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
import tempfile
import time
from pathlib import Path

from pages import HERE, launched, opened, screenshot
from PIL import Image

from visiongraft import nearest_images, show_batch
from visiongraft.cli import main as visiongraft

PAGE = HERE.parent / "quick-start.md"
WIDE, PHONE = {"width": 1100, "height": 800}, {"width": 390, "height": 780}


def script_of(text: str) -> str:
    """Return the script that makes the images."""
    found = re.search(r'^```python title="tiles\.py"\n(.*?)^```', text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def commands_of(text: str) -> list[list[str]]:
    """Return the commands of visiongraft on the page, in order, without those that open a window."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [[w for w in words[1:] if w != "--open"] for words in lines if words[0] == "visiongraft"]


def walk() -> None:
    """Make the images and run all commands in the current folder."""
    text = PAGE.read_text(encoding="utf-8")
    Path("tiles.py").write_text(script_of(text), encoding="utf-8")
    runpy.run_path("tiles.py")
    for words in commands_of(text):
        start = time.monotonic(), time.process_time()
        code = visiongraft(words)
        wall, own = time.monotonic() - start[0], time.process_time() - start[1]
        print(f"[{' '.join(words)}: exit code {code}, {wall:.0f} s, {own:.0f} CPU s]", flush=True)
        assert code == 0


def look(report: Path, comparison: Path) -> None:
    """Take pictures of the comparison and the report: its beginning, its worst mistakes, these on a phone."""
    with launched() as browser:
        wide = opened(browser, report, viewport=WIDE)
        screenshot(wide, "quick-start-report.png")
        screenshot(wide, "quick-start-mistakes.png", "mistakes")
        phone = opened(browser, report, viewport=PHONE, color_scheme="dark", device_scale_factor=2)
        screenshot(phone, "quick-start-phone.png", "mistakes")
        screenshot(opened(browser, comparison, viewport=WIDE), "quick-start-comparison.png")


def main() -> None:
    """Walk, and draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else name)
        os.chdir(folder)
        walk()
        look(Path("runs/probe/report.html"), Path("comparison.html"))
        (found,) = nearest_images("runs/probe", "photos/cat/96-144.png")
        found.draw().save(HERE / "explain-nearest.png")
        grid = show_batch("photos", task="classification", size=96)
        grid.save(HERE / "show-batch.png")
        tile = Image.open("photos/cat/96-192.png").convert("RGB").resize((192, 192))
        (explained,) = Path("explanations").iterdir()
        canvas = Image.new("RGB", (384, 192))
        canvas.paste(tile, (0, 0))
        canvas.paste(Image.open(explained).resize((192, 192)), (192, 0))
        canvas.quantize(128).save(HERE / "quick-start-explained.png", optimize=True)


if __name__ == "__main__":
    main()
