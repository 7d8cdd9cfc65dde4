"""The critic, which judges patches of an image, and the loss of pix2pix, where it sees its input as well."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from visiongraft.plugins.adversarial.losses import ADVERSARIAL_LOSSES
from visiongraft.plugins.translation.loss import RegressionLoss

COLORS = 3  # images that networks make are RGB
CRITIC = "critic"  # name of its optimizer
WIDTHS = (64, 128, 256, 512)  # of its layers: all but the last halve height and width
MIN_SIDE = 24  # pixels; of smaller inputs no score is left
SLOPE = 0.2


class PatchCritic(nn.Module):
    """A PatchGAN: one score for each patch of 70 pixels (Isola et al., 2017).

    Instance normalization takes the place of batch normalization, with which it coincides for batches
    of one image as in the paper: scores then depend on no other image.

    Args:
        images: How many images it sees side by side.
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = COLORS * images
        for i, width in enumerate(WIDTHS):
            last = width == WIDTHS[-1]
            layers.append(nn.Conv2d(before, width, 4, stride=1 if last else 2, padding=1))
            if i:
                layers.append(nn.InstanceNorm2d(width, affine=True))
            layers.append(nn.LeakyReLU(SLOPE))
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, padding=1))

    def forward(self, *images: Tensor) -> Tensor:
        """Score images.

        Args:
            images: float (N, 3, height, width) in 0..1, made or real; of pix2pix first what they were
                made of.

        Returns:
            float32 (N, 1, h, w), higher for real images.
        """
        scores: Tensor = self.layers(2 * torch.cat(images, dim=1) - 1)
        return scores.float()


class Pix2PixLoss(nn.Module):
    """A regression loss, and the loss of a critic that is trained against it.

    Args:
        regression: How far images are from their targets.
        kind: A name in ``ADVERSARIAL_LOSSES``.
        weight: Weight of the adversarial part in the generator's loss.
    """

    def __init__(self, regression: RegressionLoss, kind: str, weight: float) -> None:
        super().__init__()
        self.regression, self.kind, self.weight = regression, kind, weight
        self.critic = PatchCritic(2)

    def forward(
        self, made: Tensor, wanted: Tensor, inside: Tensor, inputs: Tensor
    ) -> dict[str, Tensor]:
        """Compute the generator's loss; see ``RegressionLoss``.

        Args:
            made: float (N, 3, height, width).
            wanted: float of the same shape.
            inside: float (N, 1, height, width).
            inputs: float (N, 3, height, width) in 0..1, what the images were made of.

        Returns:
            The regression loss by its name, and ``adversarial``.
        """
        scores = self.critic(inputs, made * inside)
        adversarial = self.weight * ADVERSARIAL_LOSSES[self.kind].generator(scores)
        return {**self.regression(made, wanted, inside), "adversarial": adversarial}

    def judged(
        self, made: Tensor, wanted: Tensor, inside: Tensor, inputs: Tensor
    ) -> Mapping[str, Tensor]:
        """Compute the critic's loss, halved as in the paper, which slows the critic down.

        Returns:
            ``real`` and ``fake``.
        """
        loss = ADVERSARIAL_LOSSES[self.kind]
        return {
            "real": 0.5 * loss.real(self.critic(inputs, wanted * inside)),
            "fake": 0.5 * loss.fake(self.critic(inputs, made.detach() * inside)),
        }
