"""Advice as one HTML page without any other file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from visiongraft.advice.curves import LearningCurve
from visiongraft.errors import OptionError

WIDTH, HEIGHT, MARGIN = 520, 220, 40  # pixels of the drawing of a curve


@dataclass(frozen=True)
class Drawing:
    """A learning curve in pixels.

    Attributes:
        points: x, y, number of images and accuracy of each measured point.
        expected: The same of the extrapolation.
        low: y of the lower end of its interval.
        high: y of the upper end.
    """

    points: tuple[tuple[float, float, int, float], ...]
    expected: tuple[float, float, int, float]
    low: float
    high: float

    @classmethod
    def of(cls, curve: LearningCurve) -> Drawing:
        """Draw a curve: images on a logarithmic axis, accuracies from the lowest one to 1."""
        floor = max(0.0, min(*curve.accuracies, curve.low) - 0.02)
        widest = math.log(curve.expected_images / curve.images[0])

        def point(images: int, accuracy: float) -> tuple[float, float, int, float]:
            right = math.log(images / curve.images[0]) / widest
            up = (accuracy - floor) / (1 - floor)
            x = MARGIN + right * (WIDTH - 2 * MARGIN)
            return (
                round(x, 1),
                round(HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN), 1),
                images,
                accuracy,
            )

        measured = zip(curve.images, curve.accuracies, strict=True)
        return cls(
            tuple(point(images, accuracy) for images, accuracy in measured),
            point(curve.expected_images, curve.expected),
            point(curve.expected_images, curve.low)[1],
            point(curve.expected_images, curve.high)[1],
        )


def render(**values: Any) -> str:
    """Fill in the page; every value is escaped.

    Args:
        values: What the template ``page.html`` names.

    Returns:
        HTML.
    """
    environment = Environment(
        loader=PackageLoader("visiongraft.advice", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(width=WIDTH, height=HEIGHT, **values)


def check_page(path: str | Path) -> Path:
    """Return the path of a page.

    Raises:
        OptionError: Its suffix is not that of HTML, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise OptionError(f"html={path} is not a path of a file with the suffix .html")
    return path
