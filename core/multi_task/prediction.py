"""Typed predictions of several heads, and drawing them; without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.comparison import Arrays
from visiongraft.html import html_text
from visiongraft.multi_task.names import of_head
from visiongraft.task_contract.functions import DRAWINGS, PREDICTIONS, task_function

Draw = Callable[[PillowImage.Image, Any], PillowImage.Image]


@dataclass(frozen=True)
class MultiPrediction:
    """What each head predicts for one image; ``prediction.kind`` is that of the head ``kind``.

    Attributes:
        heads: The prediction of each head: of the type of its task or, if no plugin provides that, a
            dict of arrays.
        tasks: The name of each head's task.
    """

    heads: Mapping[str, Any]
    tasks: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        heads = self.__dict__.get("heads", {})  # not there yet while a copy is being made
        if name in heads:
            return heads[name]
        raise AttributeError(f"the prediction has no head {name!r}; it has {', '.join(heads)}")

    def files(self) -> dict[str, bytes]:
        """Return the files of the heads' predictions by their endings."""
        return {
            f"{head}.{ending}": content
            for head, one in self.heads.items()
            if callable(getattr(one, "files", None))
            for ending, content in one.files().items()
        }

    def summary(self) -> str:
        """Return a line for the command line."""
        return "; ".join(f"{head}: {_summary(one)}" for head, one in self.heads.items())

    def _repr_html_(self) -> str:
        return "".join(
            f"<section><b>{html_text(head)}</b>{_shown(one)}</section>"
            for head, one in self.heads.items()
        )


def predictions(arrays: Arrays, metadata: Mapping[str, Any]) -> list[MultiPrediction]:
    """Convert decoded results to predictions, by the functions of each head's task.

    Args:
        arrays: The decoded results of all heads.
        metadata: ``heads``, the name of each head's task, and what the heads' predictions need, named
            ``head.name``.

    Returns:
        One per image.
    """
    count = len(next(iter(arrays.values())))
    found: dict[str, list[Any]] = {}
    for head, task in metadata["heads"].items():
        own = of_head(head, arrays)
        function = task_function(PREDICTIONS, task)
        if function is None:
            found[head] = [_row(own, index) for index in range(count)]
        else:
            found[head] = function(own, of_head(head, metadata))
    return joined(found, metadata["heads"])


def joined(found: Mapping[str, list[Any]], tasks: Mapping[str, str]) -> list[MultiPrediction]:
    """Make one prediction for each image of those of the heads."""
    return [
        MultiPrediction(dict(zip(found, row, strict=True)), dict(tasks))
        for row in zip(*found.values(), strict=True)
    ]


def draw(image: PillowImage.Image, prediction: MultiPrediction) -> PillowImage.Image:
    """Draw the predictions of all heads whose plugin draws them."""
    functions = {head: task_function(DRAWINGS, task) for head, task in prediction.tasks.items()}
    return draw_all(image, prediction, {h: f for h, f in functions.items() if f is not None})


def draw_all(
    image: PillowImage.Image, prediction: MultiPrediction, functions: Mapping[str, Draw]
) -> PillowImage.Image:
    """Draw the predictions of heads on one image.

    A drawing of another size than the image, such as one with a caption, is made on a copy of its own;
    such copies are placed below each other.
    """
    copies = []
    for head, function in functions.items():
        drawn = function(image, prediction.heads[head])
        if drawn.size == image.size:
            image = drawn
        else:
            copies.append(head)
    drawings = [functions[head](image, prediction.heads[head]) for head in copies]
    return _stacked(drawings) if drawings else image


def _stacked(images: list[PillowImage.Image]) -> PillowImage.Image:
    size = max(image.width for image in images), sum(image.height for image in images)
    canvas = PillowImage.new("RGB", size)
    top = 0
    for image in images:
        canvas.paste(image, (0, top))
        top += image.height
    return canvas


def _row(arrays: Arrays, index: int) -> dict[str, NDArray[Any]]:
    return {name: values[index] for name, values in arrays.items()}


def _summary(prediction: Any) -> str:
    """Return a prediction's own summary, or its fields that are strings and numbers."""
    own = getattr(prediction, "summary", None)
    if callable(own):
        return str(own())
    values = prediction if isinstance(prediction, Mapping) else getattr(prediction, "__dict__", {})
    plain = {n: v for n, v in values.items() if isinstance(v, str | int | float)}
    return ", ".join(
        f"{n} {v:.4f}" if isinstance(v, float) else f"{n} {v}" for n, v in plain.items()
    )


def _shown(prediction: Any) -> str:
    """Return what notebooks show of one head's prediction."""
    own = getattr(prediction, "_repr_html_", None)
    return str(own()) if callable(own) else f"<p>{html_text(_summary(prediction))}</p>"
