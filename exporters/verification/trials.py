"""Compare two sides on real, random and plain images, in batches of several sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visiongraft.certificate import Comparison
from visiongraft.data.nearest import Size
from visiongraft.exporters.verification.trial_images import (
    BATCHES,
    PLAIN,
    RealImage,
    RealImages,
    plain_images,
    random_images,
    sizes_around,
    stack_common,
)
from visiongraft.verification.engine import Pair, RunningComparison


@dataclass(frozen=True)
class Trials:
    """Comparisons of a pair, each on another kind of images.

    Attributes:
        pair: Both sides.
        network_size: Height and width of the network's input.
        channels: Number of channels of the images.
        fixed_size: Height and width of all images, or ``None`` for any.
    """

    pair: Pair
    network_size: Size
    channels: int
    fixed_size: Size | None

    def in_batches(self, real: RealImages, batch: int, most: int) -> Comparison:
        """Compare on at most so many real images, in batches of images next to each other."""
        running = RunningComparison(self.pair, "real", batch)
        group: list[RealImage] = []
        first: list[RealImage] = []
        for image in real.load(real.indices(most)):
            group.append(image)
            if len(first) < batch:
                first.append(image)
            if len(group) == batch:
                _add(running, group, batch)
                group = []
        if group:  # filled up with the first images, so that every batch has the same length
            _add(running, (group + first * batch)[:batch], len(group))
        return running.result()

    def on_random(self, batch: int) -> Comparison:
        """Compare on random images of several sizes."""
        running = RunningComparison(self.pair, "random", batch)
        random = np.random.default_rng(batch)
        around = sizes_around(*self.network_size)[: 4 if batch <= BATCHES[0] else 2]
        for height, width in [self.fixed_size] if self.fixed_size else around:
            images = random_images(random, batch, height, width, self.channels)
            names = [f"random image {i + 1} of {batch}" for i in range(batch)]
            running.add(self.pair.inputs.from_images(images), names, names)
        return running.result()

    def on_plain(self, batch: int) -> Comparison:
        """Compare on images without content, where a division by zero shows."""
        plain = plain_images(*(self.fixed_size or self.network_size), self.channels)
        images = self.pair.inputs.from_images(plain)
        names = [f"a {name} image" for name in PLAIN]
        running = RunningComparison(self.pair, "plain", batch)
        for start in range(0, len(images), batch):
            some = slice(start, start + batch)
            running.add(images[some], names[some], names[some], ties_allowed=True)
        return running.result()


def _add(running: RunningComparison, group: list[RealImage], count: int) -> None:
    images = stack_common([image.pixels for image in group], running.pair.inputs)
    positions = [image.position for image in group]
    running.add(images, positions, [image.name for image in group], count)
