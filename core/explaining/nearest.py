"""Explanations by example: the training images that are nearest to an image in the eyes of a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.averaging.members import Model, load_models
from visiongraft.config import HELD_OUT, FitConfig
from visiongraft.data.check import check_samples
from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError
from visiongraft.explaining.explaining import NEAREST
from visiongraft.html import html_figure
from visiongraft.inputs.samples import InputSamples
from visiongraft.model import TransferModel
from visiongraft.options import check_integer
from visiongraft.pages.grid import SIDE, image_grid
from visiongraft.pages.parts import data_uri, pillow_image
from visiongraft.saving.files import numbered
from visiongraft.task import Task
from visiongraft.task_contract.checks import read_splits
from visiongraft.task_contract.targets import describe_prediction, describe_target
from visiongraft.training.embedding import decode_and_embed, embed_samples, unit_rows
from visiongraft.training.resuming.run_samples import read_run_samples

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Neighbor:
    """A training image that is near to another image.

    Attributes:
        image: Its name.
        label: Its target in words, such as the class; empty if the task cannot tell.
        distance: Cosine distance of the embeddings, from 0 to 2.
        shown: uint8 (height, width, 3), the image, reduced.
    """

    image: str
    label: str
    distance: float
    shown: NDArray[np.uint8]


@dataclass(frozen=True)
class NearestImages:
    """The training images that are nearest to an image.

    Attributes:
        image: Name of the image.
        target: What is predicted for it.
        shown: uint8 (height, width, 3), the image, reduced.
        neighbors: Training images, the nearest first.
    """

    image: str
    target: str
    shown: NDArray[np.uint8]
    neighbors: tuple[Neighbor, ...]

    def draw(self) -> PillowImage.Image:
        """Draw the image and, right of it, the training images."""
        beside = [(n.shown, f"{n.label} {n.distance:.2f}".strip()) for n in self.neighbors]
        found = [(self.shown, self.target), *beside]
        return image_grid(found, len(found))

    def to_json(self) -> dict[str, Any]:
        """Return all but the images as JSON values."""
        found = [
            {"image": n.image, "label": n.label, "distance": n.distance} for n in self.neighbors
        ]
        return {"image": self.image, "target": self.target, "method": NEAREST, "neighbors": found}

    def summary(self) -> str:
        """Describe it in one line."""
        found = ", ".join(
            f"{n.image} ({f'{n.label}, ' if n.label else ''}{n.distance:.2f})"
            for n in self.neighbors
        )
        return f"{f'{self.target}; ' if self.target else ''}nearest training images: {found}"

    def _repr_html_(self) -> str:
        wide = (1 + len(self.neighbors)) * SIDE
        return html_figure(data_uri(self.draw(), wide), f"{self.image}: {self.summary()}")


def nearest_images(
    model: Model,
    images: Any,
    *,
    training: Any = None,
    count: int = 5,
    batch_size: int = 32,
    save: str | Path | None = None,
    task: type[Task] | None = None,
) -> list[NearestImages]:
    """Explain results by examples: the training images that the model embeds nearest to each image.

    If a prediction is wrong and its neighbors have its class, the model takes the image for one of them; if
    their labels look wrong, the fault may be in the data.

    Args:
        model: A model, or the folder of a saved model or a run.
        images: As for ``TransferModel.predict``.
        training: The training data, in any form that ``fit`` takes, of which the training split is used;
            ``None`` for those of the run that the model came out of.
        count: How many training images to return for each image.
        batch_size: Images per forward pass.
        save: Folder for images with their neighbors beside them.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        One entry for each image.

    Raises:
        OptionError: The training data are not known, or the task has no images or embeddings.
        DataError: An image, or the training data, cannot be read.

    Examples:
        ``visiongraft.nearest_images("runs/flowers", "a.jpg")[0].draw()``
    """
    check_integer("count", count, 1)
    check_integer("batch_size", batch_size, 1)
    (loaded,) = load_models([model], task)[1]
    queries = InputSamples.of(images, loaded.task.inputs)
    references = _training_samples(loaded, training)
    seen: dict[int, tuple[Any, Floats]] = {}
    for decoded, vectors, positions in decode_and_embed(loaded.network, queries, batch_size):
        both = zip(loaded.task.predictions(decoded), vectors, strict=True)
        seen.update(zip(positions, both, strict=True))
    predicted, rows = zip(*(seen[i] for i in range(len(queries))), strict=True)
    others = embed_samples(loaded.network, references, batch_size)
    made = []
    for index, found in enumerate(nearest_rows(np.stack(rows), others, count)):
        neighbors = [
            Neighbor(
                references.name(position),
                describe_target(loaded.task, references.target(position)),
                distance,
                _thumbnail(loaded, references, position),
            )
            for position, distance in found
        ]
        target, shown = describe_prediction(predicted[index]), _thumbnail(loaded, queries, index)
        made.append(NearestImages(queries.name(index), target, shown, tuple(neighbors)))
    if save is not None:
        _save(made, Path(save))
    return made


def nearest_rows(
    queries: Floats, references: Floats, count: int
) -> Iterator[list[tuple[int, float]]]:
    """Find the vectors that are nearest to others by the angle between them.

    Args:
        queries: (N, D).
        references: (M, D).
        count: How many to find.

    Yields:
        For each query the positions of references and their cosine distances, the nearest first, the first of
        equal ones.

    Examples:
        >>> list(nearest_rows(np.array([[2.0, 0]]), np.array([[0.0, 1], [3, 0]]), 5))
        [[(1, 0.0), (0, 1.0)]]
    """
    units = unit_rows(references)
    for query in unit_rows(queries):
        distances = 1 - units @ query
        order = np.argsort(distances, kind="stable")[:count]
        yield [(int(i), float(max(distances[i], 0.0))) for i in order]


def _training_samples(model: TransferModel, training: Any) -> Samples:
    """Return the training samples that were passed, or those of the run."""
    channels = model.backbone_info.in_channels
    if training is not None:
        splits = read_splits(model.task, training, HELD_OUT, seed=0)
        checked = check_samples(
            splits.train, splits.validation, channels=channels, save=False, inputs=model.task.inputs
        )
        return checked.train
    folder = model.run_folder
    if folder is None:
        raise OptionError(
            "the training images of this model are not known; pass them, training=DATA (--training DATA)"
        )
    config = FitConfig.read(folder)
    if config.data is None:
        raise OptionError(
            f"the data of run {folder} were in memory; pass them, training=DATA (--training DATA)"
        )
    return read_run_samples(folder, config, model.task, channels).train


def _thumbnail(model: TransferModel, samples: Samples, index: int) -> NDArray[np.uint8]:
    shown = model.task.inputs.shown(
        np.asarray(samples.load(index, model.backbone_info.in_channels))
    )
    if shown is None:
        raise OptionError(f"{model.task.inputs.name} cannot be shown beside each other")
    image = pillow_image(shown).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)


def _save(made: Sequence[NearestImages], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, each in enumerate(made):
        each.draw().save(folder / f"{numbered(i, each.image)}-{NEAREST}.png")
