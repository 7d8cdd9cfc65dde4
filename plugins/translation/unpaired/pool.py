"""A pool of images that were made before, which keeps critics from forgetting them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CAPACITY = 50  # images, as in both papers


class ImagePool(nn.Module):
    """Mixes images that were just made with earlier ones (Shrivastava et al., 2017).

    Until it is full, the pool keeps each image and returns it. Then half of the images, at random, take
    the place of a random one in the pool, which is returned instead. Pool and random numbers are in
    checkpoints, so that a resumed run draws the same images.

    Args:
        size: Height and width of the images in pixels.
        capacity: Number of images that it holds.
    """

    images: Tensor
    held: Tensor

    def __init__(self, size: tuple[int, int], capacity: int = CAPACITY) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(capacity, 3, *size))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, made: Tensor) -> Tensor:
        """Exchange some images for earlier ones; in evaluation mode none.

        Args:
            made: float (N, 3, height, width), just made.

        Returns:
            As many images, without gradients.
        """
        made = made.detach()
        return torch.stack([self._exchanged(image) for image in made]) if self.training else made

    def _exchanged(self, image: Tensor) -> Tensor:
        held = int(self.held)
        if held < len(self.images):
            self.images[held] = image
            self.held += 1
            return image
        if float(torch.rand(())) < 0.5:
            return image
        position = int(torch.randint(held, ()))
        earlier = self.images[position].clone()
        self.images[position] = image
        return earlier
