from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A real photograph, (40, 60, 3), with all its corners different."""
    cropped: NDArray[np.uint8] = np.ascontiguousarray(data.chelsea()[60:100, 100:160])
    return cropped


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Write an image in memory; lossless unless the format says otherwise."""

    def encoded(source: Image.Image | NDArray[Any], format: str = "PNG", **options: Any) -> bytes:
        image = source if isinstance(source, Image.Image) else Image.fromarray(source)
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture
def write_images(tmp_path: Path, encode: Encode) -> Callable[..., list[Path]]:
    """Write images that all differ, and return their paths."""

    def write(count: int, start: int = 0) -> list[Path]:
        paths = []
        for i in range(start, start + count):
            pixels = np.random.default_rng(i).integers(0, 256, (6 + i % 3, 8, 3), dtype=np.uint8)
            paths.append(tmp_path / f"{i:04d}.png")
            paths[-1].write_bytes(encode(pixels))
        return paths

    return write
