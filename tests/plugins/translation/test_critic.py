"""A critic is trained against the network, each by its own optimizer, and runs resume between the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft
from visiongraft.data.batch import Batch, StepInfo
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.adversarial.losses import ADVERSARIAL_LOSSES
from visiongraft.plugins.translation.critic import CRITIC, MIN_SIDE, PatchCritic
from visiongraft.plugins.translation.example import write_example
from visiongraft.plugins.translation.task import Translation

OPTIONS: dict[str, Any] = {"adversarial_loss": "hinge", "channels": 8}


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=32)
    preprocess = replace(backbone.info.preprocess, resize="stretch")
    backbone.info = replace(backbone.info, preprocess=preprocess)
    whole = Network(backbone, Translation(**OPTIONS))
    for parameter in whole.parameters():
        parameter.requires_grad_(True)
    return whole


def batch_for(optimizer: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    targets = torch.randint(0, 256, (2, 20, 28, 3), generator=generator, dtype=torch.uint8)
    step = StepInfo(optimizer)
    return Batch(images, targets, torch.tensor([[20, 28]] * 2), torch.arange(2), step)


@pytest.mark.parametrize(
    ("optimizer", "parts"), [(CRITIC, {"real", "fake"}), ("generator", {"l1", "adversarial"})]
)
def test_each_optimizer_has_its_own_loss(network: Network, optimizer: str, parts: set[str]) -> None:
    network.zero_grad()
    found = network.train()(batch_for(optimizer))
    assert set(found) == parts
    torch.stack([*found.values()]).sum().backward()
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert trained == ({"loss"} if optimizer == CRITIC else {"backbone", "head", "loss"})


def test_scores_are_of_patches_and_depend_on_no_other_image() -> None:
    torch.manual_seed(0)
    critic = PatchCritic(2)
    images = torch.rand(3, 3, 64, 48)
    scores = critic(images, images.flip(1))
    assert scores.shape == (3, 1, 6, 4)
    assert torch.allclose(scores[:1], critic(images[:1], images[:1].flip(1)), atol=1e-5)
    assert critic(images[..., :MIN_SIDE, :MIN_SIDE], images[..., :MIN_SIDE, :MIN_SIDE]).numel() == 3
    grown = images.clone().requires_grad_()
    critic(grown, grown)[0, 0, 0, 0].backward()
    assert grown.grad is not None and not grown.grad[1:].any()


@pytest.mark.parametrize("kind", ADVERSARIAL_LOSSES)
def test_a_critic_learns_to_tell_images_from_noise(kind: str) -> None:
    torch.manual_seed(0)
    critic, loss = PatchCritic(2), ADVERSARIAL_LOSSES[kind]
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    real, noise = torch.full((2, 3, 32, 32), 0.5), torch.rand(2, 3, 32, 32)
    for _ in range(5):
        optimizer.zero_grad()
        (loss.real(critic(real, real)) + loss.fake(critic(real, noise))).backward()
        optimizer.step()
    assert critic(real, real).mean() > critic(real, noise).mean()


def test_small_inputs_and_other_channels_are_refused() -> None:
    task = Translation(**OPTIONS)
    with pytest.raises(OptionError, match=r"size=\(16, 32\): a critic needs images of 24 pixels"):
        task.build_head(load_backbone("simple_cnn", weights=None, size=(16, 32)))
    with pytest.raises(
        OptionError, match="adversarial_loss='hinge' takes images of 1 or 3 channels"
    ):
        task.build_head(load_backbone("simple_cnn", weights=None, size=32, in_channels=4))


@pytest.mark.parametrize("wrong", [{"adversarial_loss": "wgan"}, {"adversarial_weight": 0}])
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Translation(**wrong)


class Killed(Translation):
    """Ends the process between an update of the critic and one of the network."""

    left = 2

    def training_step(self, network: Network, batch: Batch) -> Any:
        if batch.step.optimizer != CRITIC:
            Killed.left -= 1
            if not Killed.left:
                raise KeyboardInterrupt
        return super().training_step(network, batch)


@pytest.fixture
def killed_once() -> Iterator[None]:
    Killed.left = 2
    yield
    Killed.left = 0


def test_a_run_that_was_killed_between_critic_and_network_resumes_exactly(
    tmp_path: Path, settings: dict[str, Any], killed_once: None
) -> None:
    data = write_example(tmp_path / "pairs", 20, seed=0)
    given = {**settings, "epochs": 1, "schedule": "full", "transfer_loss": "perceptual"}

    def run(out: str, **more: Any) -> TransferModel:
        task = Killed(**OPTIONS)
        return visiongraft.fit(data, task=task, out=tmp_path / out, **given, **more)

    with pytest.raises(KeyboardInterrupt):
        run("killed", checkpoint_every=1)
    resumed = run("killed", resume=True)
    whole = run("whole")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_what_is_kept_has_no_critic(tmp_path: Path, settings: dict[str, Any]) -> None:
    data = write_example(tmp_path / "pairs", 10, seed=0)
    model = visiongraft.fit(
        data, task=Translation(**OPTIONS), epochs=1, schedule="full", **settings
    )
    model.save(tmp_path / "model")
    size = sum(path.stat().st_size for path in (tmp_path / "model").glob("*.safetensors"))
    critic = sum(parameter.numel() for parameter in PatchCritic(2).parameters())
    assert size < critic
    (made,) = visiongraft.load(tmp_path / "model").predict([np.zeros((20, 24, 3), np.uint8)])
    assert made.image.shape == (20, 24, 3)
