from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.plugins.classification.colored import CLASSES, photo

WriteFolder = Callable[[Mapping[str, int]], Path]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: tiny networks do not profit from more, and other processes run as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write_folder(tmp_path: Path) -> WriteFolder:
    """Return a function that writes images, such as 3 for ``{"train/cat": 3}``."""

    def write(counts: Mapping[str, int]) -> Path:
        root = tmp_path / "images"
        generator = np.random.default_rng(0)
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (8, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / f"{i:03d}.png")
        return root

    return write


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a CSV file; its images need not exist, as none is decoded."""

    def write(*lines: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images of one color each: eight to train on and two to validate, by class."""
    folder = tmp_path_factory.mktemp("colors")
    generator = np.random.default_rng(0)
    for color, name in enumerate(CLASSES):
        for split, count in (("train", 8), ("val", 2)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(photo(color, generator)).save(folder / split / name / f"{i}.png")
    return folder
