"""Networks that make images of latents."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

SMALLEST = 4  # height and width in pixels, about, that a convolutional generator begins with
MOST_WIDER = 8  # times the channels of the last layer that the first ones have


class ConvGenerator(nn.Module):
    """Doubles the size of a small map until it is an image (Radford et al., 2016, "DCGAN").

    Maps are enlarged and then convolved, because transposed convolutions leave checkerboards (Odena et
    al., 2016, "Deconvolution and checkerboard artifacts").

    Args:
        latents: Values of a latent.
        channels: Channels of the images.
        size: Height and width of the images in pixels.
        width: Channels of the last map; coarser ones have up to eight times as many.
    """

    def __init__(self, latents: int, channels: int, size: tuple[int, int], width: int) -> None:
        super().__init__()
        doublings = max(int(math.log2(max(min(size) / SMALLEST, 1))), 0)
        widths = [width * min(2**i, MOST_WIDER) for i in reversed(range(doublings + 1))]
        self.size = size
        self.first_size = tuple(math.ceil(side / 2**doublings) for side in size)
        first = widths[0] * self.first_size[0] * self.first_size[1]
        self.first = nn.Linear(latents, first, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.Sequential(*(_doubling(*pair) for pair in pairwise(widths)))
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Make images.

        Args:
            latents: float (N, D).

        Returns:
            float (N, C, height, width), logits of values in 0..1.
        """
        maps = self.first(latents).unflatten(1, (-1, *self.first_size))
        maps = self.blocks(self.norm(maps).relu())
        images: Tensor = self.last(maps[:, :, : self.size[0], : self.size[1]])
        return images


class MlpGenerator(nn.Module):
    """Makes images by fully connected layers with ReLUs between them.

    Args:
        latents: Values of a latent.
        channels: Channels of the images.
        size: Height and width of the images in pixels.
        hidden: Width of each hidden layer.
    """

    def __init__(
        self, latents: int, channels: int, size: tuple[int, int], hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.shape = (channels, *size)
        widths = (latents, *hidden, math.prod(self.shape))
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, latents: Tensor) -> Tensor:
        """Make images; see ``ConvGenerator.forward``."""
        images: Tensor = self.layers(latents).unflatten(1, self.shape)
        return images


class LatentMapping(nn.Module):
    """Moves latents to where a generator makes images of the kind wanted; begins as the identity.

    Trained alone, before a frozen generator, it finds in it what suits a few images (Wang et al., 2020,
    "MineGAN").

    Args:
        latents: Values of a latent.
    """

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.first = nn.Linear(latents, latents)
        self.last = nn.Linear(latents, latents)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, latents: Tensor) -> Tensor:
        """Move latents, float (N, D)."""
        moved: Tensor = latents + self.last(self.first(latents).relu())
        return moved


def _doubling(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
