"""How far images are from what they should be."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

EPSILON = 1e-3  # of Charbonnier: below this difference it is quadratic

# Charbonnier: as in Lai et al., 2017, "Deep Laplacian Pyramid Networks".
REGRESSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda difference: difference.abs(),
    "l2": lambda difference: difference.square(),
    "charbonnier": lambda difference: (difference.square() + EPSILON**2).sqrt() - EPSILON,
}


class RegressionLoss(nn.Module):
    """A mean over the pixels of each image.

    Args:
        kind: A name in ``REGRESSIONS``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, made: Tensor, wanted: Tensor, inside: Tensor) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            made: float (N, 3, height, width), what the network made, in 0..1.
            wanted: float of the same shape, the targets.
            inside: float (N, 1, height, width), 0 where images are padded, otherwise 1.

        Returns:
            The loss by its name, a scalar.
        """
        distance = REGRESSIONS[self.kind](made - wanted) * inside
        counts = wanted.shape[1] * inside.sum((1, 2, 3))
        return {self.kind: (distance.sum((1, 2, 3)) / counts).mean()}
