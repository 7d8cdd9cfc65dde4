"""Typed predictions; numpy only, so that an exported model needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw


@dataclass(frozen=True)
class Located:
    """The points of one image.

    Attributes:
        points: By name, (x, y) in pixels from the top left corner, or ``None`` if it is not there.
        scores: By name, the probability that this, there or not there, is right; 0.5 or more.
    """

    points: dict[str, tuple[float, float] | None]
    scores: dict[str, float]


def predictions(arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[Located]:
    """Name decoded ``points`` (N, K, 2), ``found`` (N, K) and ``scores`` (N, K)."""
    names, batch = metadata["names"], []
    for rows in zip(*(arrays[n].tolist() for n in ("points", "found", "scores")), strict=True):
        points, found, scores = (dict(zip(names, row, strict=True)) for row in rows)
        batch.append(Located({n: tuple(points[n]) if found[n] else None for n in names}, scores))
    return batch


def draw_points(image: Image.Image, prediction: Located) -> Image.Image:
    """Draw the points, with their names, on an image."""
    image, r = image.convert("RGB"), max(image.size) / 40
    pen = ImageDraw.Draw(image)
    for name, (x, y) in ((n, p) for n, p in prediction.points.items() if p):
        pen.ellipse((x - r, y - r, x + r, y + r), outline="red", width=2)
        pen.text((x + r, y - r), name, fill="red", stroke_fill="white", stroke_width=1)
    return image
