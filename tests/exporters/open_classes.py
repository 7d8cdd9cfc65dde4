"""A classifier of pets by their names, and a file of birds that exported files of it can take instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import visiongraft as vg
from tests.plugins.text_encoders import tiny_clip

OWN, OTHERS = ["cat", "dog", "truck"], ["robin", "magpie", "heron", "swan", "owl"]


@dataclass(frozen=True)
class Pets:
    """A model without training, and other classes for it.

    Attributes:
        text: Name of its text encoder.
        model: Knows ``OWN``.
        others: A file of ``OTHERS``.
    """

    text: str
    model: vg.TransferModel
    others: Path


def make_pets(folder: Path) -> Pets:
    """Make a tiny CLIP in a folder, and of it the model and the file."""
    text = f"open_clip/local-dir:{tiny_clip.write_open_clip(folder / 'tiny')}"
    model, others = vg.zero_shot(OWN, text), folder / "birds.safetensors"
    vg.save_classes(others, model, OTHERS, text=text)
    return Pets(text, model, others)


def images() -> list[np.ndarray]:
    """Return three images of noise."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3)]


def probabilities(model: Any) -> np.ndarray:
    """Predict the images, (3, classes)."""
    return np.array([list(p.probabilities.values()) for p in model.predict(images())])
