from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WriteSet = Callable[..., Path]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: tiny networks do not profit from more, and other processes run as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write_set(tmp_path: Path) -> WriteSet:
    """Return a function that writes images with given masks, such as {"train/a": [[0, 1]]}."""

    def write(
        masks: Mapping[str, Any],
        classes: str | None = "sky\nroad\n",
        *,
        root: str = "set",
        images: str = "images",
        folder: str = "masks",
        save: Callable[[NDArray[Any]], Image.Image] = Image.fromarray,
    ) -> Path:
        top = tmp_path / root
        for i, (name, values) in enumerate(masks.items()):
            mask = np.array(values, np.uint8)
            for path in (top / images / f"{name}.png", top / folder / f"{name}.png"):
                path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((*mask.shape[:2], 3), i, np.uint8)
            Image.fromarray(pixels).save(top / images / f"{name}.png")
            save(mask).save(top / folder / f"{name}.png")
        if classes is not None:
            (top / "classes.txt").write_text(classes, encoding="utf-8")
        return top

    return write


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of shapes drawn on photographs, with all three splits."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    return write_shapes(root, {"train": 60, "val": 10, "test": 20})


def write_shapes(root: Path, counts: Mapping[str, int], side: int = 64) -> Path:
    """Draw a disc and a square on crops of photographs, with masks and an ignored border."""
    photographs = [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.astronaut()]
    random = np.random.default_rng(0)
    for split, count in counts.items():
        for i in range(count):
            photo = photographs[i % 3]
            height, width = side, side + 16 * (i % 2)
            y, x = (
                int(random.integers(n - m))
                for n, m in zip(photo.shape[:2], (height, width), strict=True)
            )
            image = Image.fromarray(photo[y : y + height, x : x + width])
            mask = Image.new("P", image.size)
            brush, mask_brush = ImageDraw.Draw(image), ImageDraw.Draw(mask)
            for value, color in ((1, (230, 30, 40)), (2, (30, 60, 230))):
                size = int(random.integers(side // 3, side // 2))
                left = int(random.integers(width - size))
                top = int(random.integers(height - size))
                box = (left, top, left + size, top + size)
                if value == 1:
                    brush.ellipse(box, fill=color)
                    mask_brush.ellipse(box, fill=value)
                else:
                    brush.rectangle(box, fill=color)
                    mask_brush.rectangle(box, fill=value)
            mask_brush.line((0, 0, width, 0), fill=3)  # an unlabeled row
            mask.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255, 255, 255, 255])
            for kind, drawn in (("images", image), ("masks", mask)):
                path = root / kind / split / f"{i:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                drawn.save(path)
    (root / "classes.txt").write_text("ground\ndisc\nsquare\nvoid\n", encoding="utf-8")
    return root
