"""A generator is pulled back to its start, most in the weights that its images depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.generation.ewc import GeneratorEWC
from visiongraft.plugins.generation.example import make_dataset
from visiongraft.plugins.generation.task import Generation
from visiongraft.training.transfer_losses import TransferStep

TASK = Generation("gan", latents=4, generator="mlp", hidden=(6,), features_size=32)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(load_backbone("generation/mlp", weights=None, size=8), TASK)


def test_a_weight_that_images_do_not_depend_on_is_free(network: Network) -> None:
    generator: Any = network.head.get_submodule("generator")
    with torch.no_grad():
        generator.layers[2].weight[:, 0] = 0  # of the first hidden value
    loss = GeneratorEWC(network.backbone, network.backbone, samples=8)
    loss.set_up(network)
    batch: Any = None  # it draws its own images
    with torch.no_grad():
        loss.prepare([TransferStep(network.backbone, network.head, network.backbone, batch, TASK)])
    hidden = loss.importance[: 6 * 4].view(6, 4)
    assert (hidden[0] == 0).all() and (hidden[1:] > 0).any()
    assert loss.importance.mean() == pytest.approx(1)


def test_it_is_for_generators_only() -> None:
    with pytest.raises(OptionError, match=r"generator_ewc.* is for generators"):
        visiongraft.fit(
            [(image, i % 2) for i, image in enumerate(make_dataset(Path(), 8, seed=0))],
            task="classification",
            backbone="simple_cnn",
            weights=None,
            transfer_loss="generator_ewc",
            epochs=1,
            workers=0,
            callbacks=(),
        )


def test_a_strong_one_keeps_the_generator_where_it_was() -> None:
    def moved(transfer_loss: str | None) -> float:
        torch.manual_seed(0)
        model = visiongraft.fit(
            make_dataset(Path(), 8, seed=0),
            start=start,
            schedule="full(learning_rate=1e-2)",
            transfer_loss=transfer_loss,
            epochs=2,
            batch_size=4,
            workers=0,
            device="cpu",
            callbacks=(),
        )
        after = model.network.state_dict()
        return sum(float((after[n] - t).square().sum()) for n, t in before.items())

    torch.manual_seed(1)
    start: Any = visiongraft.model.TransferModel(
        Network(load_backbone("generation/mlp", weights=None, size=8), TASK).eval()
    )
    before = {n: t.clone() for n, t in start.network.state_dict().items() if ".generator." in n}
    assert moved("generator_ewc(strength=1000.0)") < 0.5 * moved(None)
