"""What is explained of class logits has a gradient wherever it depends on the image."""

from __future__ import annotations

import torch
from torch import Tensor

from visiongraft.task_contract.explained import explain_logits


def with_background(logits: Tensor) -> Tensor:
    """Return logits of two classes, as binary segmentation has them: that of the background is 0."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def test_the_background_of_a_binary_mask_can_be_explained() -> None:
    logits = torch.tensor([[[[2.0, -3.0], [-1.0, -1.0]]]], requires_grad=True)
    names = ["background", "disc"]
    background, disc = explain_logits(with_background, logits, names, None)
    assert (background.name, disc.name) == ("background", "disc")
    (slope,) = torch.autograd.grad(background.score(None, logits).sum(), logits)  # type: ignore[arg-type]
    torch.testing.assert_close(slope, torch.tensor([[[[0.0, -1 / 3], [-1 / 3, -1 / 3]]]]))
    (slope,) = torch.autograd.grad(disc.score(None, logits).sum(), logits)  # type: ignore[arg-type]
    torch.testing.assert_close(slope, torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]))
