"""Training images as the network sees them: for the report, and before a run by ``show_batch``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.config import IMAGE_SETTINGS, settings_without
from visiongraft.data.loader import Item, SampleDataset
from visiongraft.data.samples import Samples, Transform
from visiongraft.errors import OptionError
from visiongraft.explaining.explaining import as_image
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.options import check_integer
from visiongraft.pages.grid import image_grid
from visiongraft.preparation.arguments import (
    completed_settings,
    new_settings,
    with_task_augmentation,
)
from visiongraft.seeds import preserved
from visiongraft.task_contract.checks import bound, read_splits
from visiongraft.task_contract.targets import describe_target
from visiongraft.training.batches.own_augmentation import find_function, training_transform


def show_batch(data: Any, *, count: int = 8, epoch: int = 0, **settings: Any) -> PillowImage.Image:
    """Show training images as the network will see them: augmented, resized and cropped.

    Args:
        data: As for ``fit``.
        count: Number of images, spread over the training set.
        epoch: Epoch that they are augmented for, from 0; another one augments them otherwise.
        settings: Settings of ``fit`` that decide on this: ``task``, ``task_options``, ``backbone``, ``weights``,
            ``validation``, ``augment``, ``size``, ``resize``, ``in_channels``, ``seed``.

    Returns:
        A grid of the images with their labels, which notebooks display; ``.save("batch.png")`` keeps it.

    Raises:
        OptionError: The samples of the task are no images, or a setting does not exist.
        DataError: The dataset cannot be read.

    Examples:
        ``visiongraft.show_batch("flowers", size=96)``
    """
    check_integer("count", count, 1)
    check_integer("epoch", epoch, 0)
    refused = settings_without((*IMAGE_SETTINGS, "augment"))
    given = completed_settings(show_batch, data, settings, without=(*refused, "learning_rate"))
    given = with_task_augmentation(given)
    config, task, _ = new_settings(given)
    if not task.inputs.has_size:
        raise OptionError(f"show_batch shows images; task {task.name!r} takes {task.inputs.name}")
    splits = read_splits(task, data, config.held_out, config.seed)
    task = bound(task, splits.train)
    with preserved():
        backbone = load_backbone(
            config.backbone,
            config.weights,
            in_channels=config.in_channels,
            size=config.size or task.input_size,
        )
        resize = config.resize or task.resize
        if resize is not None:
            prepared = replace(backbone.info.preprocess, resize=resize)
            backbone.info = replace(backbone.info, preprocess=prepared)
        network = Network(backbone, task)
        own = find_function(config.augment, given["augment"])
        transform = training_transform(task, network.preprocess.config, own)
        found = list(augmented(network, splits.train, transform, config.seed, count, epoch))
    return image_grid([(i, describe_target(task, splits.train.target(p))) for p, i in found])


def augmented(
    network: Network,
    samples: Samples,
    transform: Transform | None,
    seed: int,
    count: int,
    epoch: int = 0,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Prepare some training images as for a step.

    Args:
        network: What they are prepared for.
        samples: The training samples.
        transform: Their augmentation.
        seed: Seed of the run.
        count: How many to prepare, spread over all.
        epoch: Epoch that they are augmented for.

    Yields:
        Positions, and images uint8 (H, W, 3); unreadable ones are left out.
    """
    preprocess = network.preprocess_on_cpu()
    dataset = SampleDataset(samples, preprocess, transform, seed)
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int).tolist()
    for index in dict.fromkeys(chosen):
        item = dataset[(index, epoch)]
        if isinstance(item, Item):
            yield index, as_image(item.image, network)
