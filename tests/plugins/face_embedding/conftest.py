from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

WriteFolder = Callable[..., Path]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from threads, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def write_people(tmp_path: Path) -> WriteFolder:
    """Write this many images of each person: {"train/ada": 3} or {"ada": 3}; give the root."""

    def write(counts: Mapping[str, int], root: str = "people", numbered: bool = False) -> Path:
        generator = np.random.default_rng(0)
        for folder, count in counts.items():
            (tmp_path / root / folder).mkdir(parents=True)
            person = folder.rpartition("/")[2]
            for i in range(1, count + 1):
                name = f"{person}_{i:04d}" if numbered else f"{i}"
                pixels = generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / root / folder / f"{name}.png")
        return tmp_path / root

    return write


def cloud(
    identities: int, each: int, dimension: int = 16, noise: float = 0.6, seed: int = 0
) -> tuple[np.ndarray, list[str]]:
    """Make synthetic embeddings: unit vectors around a center for each identity."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(identities, dimension))
    vectors = np.repeat(centers, each, axis=0)
    vectors = vectors + noise * random.normal(size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"p{i // each:03d}" for i in range(len(vectors))]


@pytest.fixture(name="cloud", scope="session")
def cloud_fixture() -> Callable[..., tuple[np.ndarray, list[str]]]:
    return cloud
