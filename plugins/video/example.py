"""Synthetic clips: one color per class, which moves through the scene."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visiongraft.inputs import Clips

COLORS = ("blue", "green", "red")


def make_dataset(
    folder: Path, count: int, seed: int, class_names: tuple[str, ...], inputs: Clips
) -> list[tuple[NDArray[np.uint8], str]]:
    """Make clips in memory.

    Args:
        folder: Not used.
        count: Number of clips, spread evenly over the classes.
        seed: Seed of the clips.
        class_names: Class names; names of colors if empty.
        inputs: What the task takes; clips are at least as long.

    Returns:
        Data for ``Video.read``: clips uint8 (T, H, W, 3), with their classes.
    """
    names = class_names or COLORS
    random = np.random.default_rng(seed)
    shortest = max(inputs.length, (inputs.frames - 1) * inputs.stride + 1)
    return [
        (_clip(random, shortest + i % 3, i % len(names) / len(names)), names[i % len(names)])
        for i in range(count)
    ]


def _clip(random: np.random.Generator, length: int, hue: float) -> NDArray[np.uint8]:
    """Draw a bar of one color that moves over noise."""
    height, width = (int(side) for side in random.integers(20, 40, 2))
    frames = random.integers(60, 120, (length, height, width, 3))
    color = (180 * np.array(colorsys.hsv_to_rgb(2 / 3 - hue, 1, 1))).astype(int)
    bar = max(width // 2, 1)
    for i, frame in enumerate(frames):
        left = i * (width - bar) // length
        frame[:, left : left + bar] = frame[:, left : left + bar] // 2 + color
    return frames.astype(np.uint8)
