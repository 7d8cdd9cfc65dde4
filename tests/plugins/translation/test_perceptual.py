"""The perceptual loss compares images by the source backbone, which stays as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError, ReceiptError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.methods import find_transfer_loss
from visiongraft.network import Network
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.translation.task import Translation
from visiongraft.task import Task
from visiongraft.training.transfer.applying import Transfer


def network(task: Task, in_channels: int = 3) -> Network:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=32, in_channels=in_channels)
    preprocess = replace(backbone.info.preprocess, resize="stretch")
    backbone.info = replace(backbone.info, preprocess=preprocess)
    whole = Network(backbone, task)
    whole.transfer = Transfer([find_transfer_loss("perceptual(strength=2.0)")], whole)
    return whole.eval()


def batch(targets: Tensor) -> Batch:
    images = torch.zeros(len(targets), 3, 32, 32)
    sizes = torch.tensor([[32, 32]] * len(targets))
    return Batch(images, targets, sizes, torch.arange(len(targets)))


def test_images_that_are_their_targets_have_no_distance() -> None:
    whole = network(Translation(channels=8))
    for parameter in whole.head.parameters():
        torch.nn.init.zeros_(parameter)
    gray = torch.full((2, 32, 32, 3), 128, dtype=torch.uint8)
    noise = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        exact, far = (float(whole(batch(one))["perceptual.maps"]) for one in (gray, noise))
    assert exact < 0.01 * far


def test_the_distance_is_a_mean_over_images_by_the_source_and_not_by_the_backbone() -> None:
    whole = network(Translation(channels=8))
    targets = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        together = float(whole(batch(targets))["perceptual.maps"])
        each = [float(whole(batch(targets[i : i + 1]))["perceptual.maps"]) for i in range(3)]
    assert together == pytest.approx(sum(each) / 3, rel=1e-4)
    assert whole.transfer is not None
    before = [p.clone() for p in whole.transfer.source.parameters()]
    whole(batch(targets))["perceptual.maps"].backward()
    assert any(p.grad is not None and p.grad.any() for p in whole.head.parameters())
    assert all(p.grad is None for p in whole.transfer.source.parameters())
    whole.transfer.check("in a test")
    with torch.no_grad():
        before[0].add_(1)
        next(whole.transfer.source.parameters()).copy_(before[0])
    with pytest.raises(
        ReceiptError, match="the source backbone of transfer loss 'perceptual' changed"
    ):
        whole.transfer.check("in a test")


def test_the_critic_has_no_perceptual_loss() -> None:
    critic, generator = Translation(channels=8, adversarial_loss="hinge").optimizers()
    assert not critic.transfer_losses
    assert generator.transfer_losses


def test_tasks_and_backbones_without_color_images_are_refused() -> None:
    with pytest.raises(OptionError, match="task 'classification' does not have; use it with"):
        network(Classification(class_names=("a", "b")))
    with pytest.raises(OptionError, match="takes RGB images, not 1 channels"):
        network(Translation(channels=8), in_channels=1)
