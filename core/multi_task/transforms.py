"""One augmentation of an image for the targets of several heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from visiongraft.data.samples import Transform
from visiongraft.errors import DataError, OptionError
from visiongraft.preprocess import Preprocess, PreprocessConfig
from visiongraft.seeds import seeded
from visiongraft.task import Task


@dataclass(frozen=True)
class MultiTransform:
    """Augments an image once, and moves the targets that have positions with it.

    Targets of the image as a whole stay as they are. Several heads with positions each augment the same
    image with the same random numbers; if the images come out differently, no target fits.

    Attributes:
        moving: The augmentation of each head whose targets have positions.
        others: The augmentations of other heads, for images without such a target.
        preprocess: How images are prepared that no head augments.
    """

    moving: Mapping[str, Transform]
    others: Mapping[str, Transform]
    preprocess: PreprocessConfig

    def __call__(self, image: Any, targets: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Augment an image, ``tv_tensors.Image`` uint8 (C, H, W), and its targets by head."""
        own = [head for head in targets if head in self.moving]
        if not own:
            return self._as_whole(image, targets), dict(targets)
        seed = int(torch.randint(2**31, ()))
        results = {head: _run(self.moving[head], seed, image, targets[head]) for head in own}
        changed = results[own[0]][0]
        for head in own[1:]:
            if not torch.equal(torch.as_tensor(changed), torch.as_tensor(results[head][0])):
                raise DataError(
                    f"heads {own[0]!r} and {head!r} both have targets with positions, and augment images "
                    "differently, so that no image fits both; switch off the augmentation of both"
                )
        return changed, {**targets, **{head: target for head, (_, target) in results.items()}}

    def _as_whole(self, image: Any, targets: Mapping[str, Any]) -> Any:
        """Augment an image whose targets have no positions."""
        head = next((head for head in targets if head in self.others), None)
        if head is not None:
            return self.others[head](image, targets[head])[0]
        pixels = torch.as_tensor(image).as_subclass(torch.Tensor)
        return Preprocess(self.preprocess).resize(pixels.permute(1, 2, 0)[None])[0]


def combined_transform(
    heads: Mapping[str, Task], preprocess: PreprocessConfig
) -> MultiTransform | None:
    """Combine the augmentations of heads.

    Args:
        heads: The task of each head.
        preprocess: How the network's images are prepared without augmentation.

    Returns:
        The augmentation; ``None`` if no head augments, or if a head does not whose targets have
        positions.

    Raises:
        OptionError: Of several heads with positions only some augment.
    """
    made = {name: task.train_transform(preprocess) for name, task in heads.items()}
    moving = {name: made[name] for name, task in heads.items() if not task.whole_image_targets}
    still = [name for name, transform in moving.items() if transform is None]
    augmenting = {name: transform for name, transform in moving.items() if transform is not None}
    if still and augmenting:
        raise OptionError(
            f"head {next(iter(augmenting))!r} augments images, and head {still[0]!r}, whose targets have "
            "positions too, does not; set the same augmentation for both, or none"
        )
    others = {
        name: transform
        for name, transform in made.items()
        if name not in moving and transform is not None
    }
    if still or not (augmenting or others):
        return None
    return MultiTransform(augmenting, others, preprocess)


def _run(transform: Transform, seed: int, image: Any, target: Any) -> tuple[Any, Any]:
    with seeded(seed, "heads"):
        return transform(image, target)
