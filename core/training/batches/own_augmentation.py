"""Augmentation of the user's own in place of the task's: transforms of torchvision or albumentations, functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image as PillowImage
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from visiongraft.data.digests import digest_of
from visiongraft.data.loader import Item, SampleDataset
from visiongraft.data.samples import Samples, Transform
from visiongraft.errors import OptionError, near_matches, shorten
from visiongraft.network import Network
from visiongraft.preprocess import Preprocess, PreprocessConfig
from visiongraft.registry.sources import import_file
from visiongraft.task import Task
from visiongraft.training.batches.by_albumentations import (
    augment_by_albumentations,
    is_of_albumentations,
)

Augment = Callable[..., Any]
Parts = dict[str, Any]

OBJECT = "object "  # before the description of an object in the settings
TRIED, VIEWS = 8, 2  # images, and augmentations of each, that are tried before training
LONGEST = 500  # characters of a description


@dataclass(frozen=True)
class OwnAugmentation:
    """Augments a sample with what the user passed, and brings the image to the size of the network's input.

    Attributes:
        function: Takes an image and, if targets have positions, what of them moves with it.
        task: Knows what of a target moves.
        preprocess: How the network's images are prepared.
    """

    function: Augment
    task: Task
    preprocess: PreprocessConfig

    def __call__(self, image: Any, target: Any) -> tuple[Tensor, Any]:
        """Augment a sample.

        Args:
            image: ``tv_tensors.Image`` uint8 (C, H, W), or ``tv_tensors.Video``.
            target: Its target.

        Returns:
            The image, 0..255, in the size of the network's input unless ``resize="pad"``, and the target.

        Raises:
            OptionError: The function returned something else than an augmented image.
        """
        sample, parts = self.task.augmentable(image, target)
        if is_of_albumentations(self.function):
            changed, parts = augment_by_albumentations(self.function, sample, parts)
        elif self.task.whole_image_targets:
            changed = self.function(sample)
        else:
            changed, parts = _pair(self.function(sample, parts))
        pixels = _checked(changed, sample)
        height, width = pixels.shape[-2:]
        target = self.task.augmented(target, parts, (height, width), self.preprocess)
        return self._resized(pixels), target

    def _resized(self, pixels: Tensor) -> Tensor:
        """Resize an image as without augmentation, unless it has the right size."""
        if tuple(pixels.shape[-2:]) == tuple(self.preprocess.size):
            return pixels
        planes = pixels if pixels.ndim == 4 else pixels[None]
        resized = Preprocess(self.preprocess).resize(planes.permute(0, 2, 3, 1))
        return resized if pixels.ndim == 4 else resized[0]


def training_transform(
    task: Task, preprocess: PreprocessConfig, own: Augment | None
) -> Transform | None:
    """Return the augmentation of training samples: the user's own, or else the task's.

    Args:
        task: The task.
        preprocess: How the network's images are prepared.
        own: What the user passed.
    """
    if own is not None:
        return OwnAugmentation(own, task, preprocess)
    return task.train_transform(preprocess)


# ---- the setting ----


def names_function(value: object) -> bool:
    """Check whether the setting is a function in a file, ``FILE.py:NAME``."""
    return isinstance(value, str) and re.fullmatch(r".+\.py:[^\W\d]\w*", value) is not None


def stored_augment(value: Any) -> str | None:
    """Return what the settings of a run hold of the argument ``augment``.

    Args:
        value: A callable, ``"FILE.py:NAME"`` or ``None``.

    Returns:
        The text, or a description of the object, by which a resumed run recognizes it.

    Raises:
        OptionError: It is something else.
    """
    if value is None or names_function(value):
        return None if value is None else str(value)
    if not callable(value) or isinstance(value, type):
        raise OptionError(
            f"augment={shorten(repr(value))} is neither a callable, nor 'FILE.py:NAME', nor a value of the "
            "task's option augment"
        )
    return f"{OBJECT}{describe_function(value)}"


def describe_function(value: Augment) -> str:
    """Describe a callable without its address in memory.

    Examples:
        >>> from torchvision.transforms import v2
        >>> describe_function(v2.RandomHorizontalFlip(p=0.3))
        'RandomHorizontalFlip(p=0.3)'
        >>> describe_function(sorted)
        'builtins.sorted'
    """
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    text = " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... {digest_of(text)[:8]}"


def find_function(setting: str | None, passed: Any) -> Augment | None:
    """Return the augmentation of a run.

    Args:
        setting: What its settings hold.
        passed: The argument, whose object the settings only describe.

    Raises:
        OptionError: The file has no such function, or the object was not passed again.
        PluginError: The file cannot be imported.
    """
    if setting is None:
        return None
    if not names_function(setting):
        if callable(passed):
            return cast(Augment, passed)
        raise OptionError(
            f"the run augments images by an {shorten(setting)}: pass it again as augment"
        )
    file, _, name = setting.rpartition(":")
    known: dict[str, Augment] = {
        own: value
        for own, value in vars(import_file(Path(file))).items()
        if callable(value) and not isinstance(value, type) and not own.startswith("_")
    }
    if name not in known:
        raise OptionError(
            f"augment={setting!r}: {file} has no function or transform {name!r}{near_matches(name, known)}"
        )
    return known[name]


def try_augmentation(function: Augment, network: Network, samples: Samples, seed: int) -> None:
    """Augment a few samples, each twice, so that what does not work is known before training.

    Args:
        function: The augmentation.
        network: The network.
        samples: Training samples.
        seed: Seed of the run.

    Raises:
        OptionError: It fails, the task does not support it, or the same seeds give other images.
    """
    config = network.preprocess.config
    transform = OwnAugmentation(function, network.task, config)
    dataset = SampleDataset(samples, network.preprocess_on_cpu(), transform, seed)
    for index in range(min(TRIED, len(samples))):
        for view in range(VIEWS):
            first, second = dataset[(index, view)], dataset[(index, view)]
            if not isinstance(first, Item):
                raise OptionError(f"augment: {first.reason}")
            if not isinstance(second, Item):
                raise OptionError(f"augment: {second.reason}")
            if digest_of((first.image, first.target)) != digest_of((second.image, second.target)):
                raise OptionError(
                    "augment gives other images for the same seeds, so that a run could not be repeated; draw "
                    "random numbers from torch, numpy.random or random, which are seeded for each image, not "
                    "from generators of its own"
                )


# ---- what is returned ----


def _pair(returned: Any) -> tuple[Any, Parts]:
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        return returned[0], dict(returned[1])
    raise OptionError(
        f"augment returned {type(returned).__name__}, not the pair (image, parts); the targets of this task have "
        "positions, so that augment takes and returns both"
    )


def _checked(changed: Any, image: Tensor) -> Tensor:
    """Return an augmented image as a plain tensor, or refuse it."""
    if isinstance(changed, PillowImage.Image):
        changed = tv.pil_to_tensor(changed)
    if not isinstance(changed, Tensor):
        raise OptionError(
            f"augment returned {type(changed).__name__}, not an image as it gets one, a tensor uint8 (C, H, W)"
        )
    if changed.dtype != torch.uint8:
        raise OptionError(
            f"augment returned an image of {changed.dtype}, not of torch.uint8 from 0 to 255; leave out ToTensor, "
            "ToDtype and Normalize, since the network's own preprocessing follows"
        )
    if changed.ndim != image.ndim or changed.shape[:-2] != image.shape[:-2] or 0 in changed.shape:
        raise OptionError(
            f"augment returned the shape {tuple(changed.shape)} for an image {tuple(image.shape)}; only height "
            "and width may change"
        )
    return changed.as_subclass(Tensor)
