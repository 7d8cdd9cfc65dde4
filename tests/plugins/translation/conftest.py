from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

WriteImages = Callable[[Mapping[str, tuple[int, int]]], Path]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: tiny networks do not profit from more, and other processes run as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write_images(tmp_path: Path) -> WriteImages:
    """Return a function that writes random images of given heights and widths, by relative path."""

    def write(sizes: Mapping[str, tuple[int, int]]) -> Path:
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        random = np.random.default_rng(len(sizes))
        for name, size in sizes.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
        return root

    return write


@pytest.fixture(scope="session")
def settings() -> dict[str, Any]:
    """Settings of ``fit`` for a tiny network."""
    return {
        "backbone": "simple_cnn",
        "weights": None,
        "size": 32,
        "batch_size": 8,
        "device": "cpu",
        "callbacks": (),
    }
