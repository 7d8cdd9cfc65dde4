"""Generators of others are loaded from weights files of stated keys, and continued with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import visiongraft
from visiongraft.errors import WeightsError
from visiongraft.plugins.dense.made_image import as_images
from visiongraft.plugins.generation.pretrained import load_adversarial, load_autoencoder

SIZE = (8, 8)
OPTIONS: dict[str, Any] = {"features_size": 32}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    layers = (nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 64), nn.Tanh())
    network = nn.Sequential(*layers)
    path = tmp_path_factory.mktemp("weights") / "generator.pth"
    torch.save(network.state_dict(), path)
    return network, path


@pytest.fixture(scope="module")
def critic(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(1)
    slope = nn.LeakyReLU(0.2)
    network = nn.Sequential(
        nn.Linear(64, 256), slope, nn.Linear(256, 256), slope, nn.Linear(256, 1)
    )
    path = tmp_path_factory.mktemp("weights") / "critic.pth"
    torch.save(network.state_dict(), path)
    return network, path


def test_a_generator_draws_what_it_drew_before(generator: tuple[nn.Module, Path]) -> None:
    network, path = generator
    model = load_adversarial(path, SIZE, **OPTIONS)
    latents = model.task.inputs.draw(3)
    with torch.no_grad():
        values = (network(torch.from_numpy(latents)).unflatten(1, (1, *SIZE)) + 1) / 2
    drawn = np.stack([one.image for one in model.predict(latents)]).astype(int)
    assert np.abs(drawn - as_images(values.numpy())).max() <= 1


def test_a_critic_scores_as_it_did_before(
    generator: tuple[nn.Module, Path], critic: tuple[nn.Module, Path]
) -> None:
    network, path = critic
    model = load_adversarial(generator[1], SIZE, critic=path, **OPTIONS)
    images = torch.rand(4, 1, *SIZE) * 2 - 1
    with torch.no_grad():
        scores = model.network.head(model.network.backbone(images))
        assert torch.allclose(scores, network(images.flatten(1)), atol=1e-5)


def test_an_autoencoder_encodes_and_decodes_as_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shapes = {"fc1": (64, 400), "fc21": (400, 3), "fc22": (400, 3), "fc3": (3, 9), "fc4": (9, 64)}
    layers = nn.ModuleDict({name: nn.Linear(*shape) for name, shape in shapes.items()})
    torch.save(layers.state_dict(), tmp_path / "vae.pth")
    model = load_autoencoder(tmp_path / "vae.pth", SIZE, **OPTIONS)
    values, latents = torch.rand(2, 1, *SIZE), torch.randn(2, 3)
    with torch.no_grad():
        hidden = layers["fc1"](values.flatten(1)).relu()
        found = model.network.head(model.network.backbone(values * 2 - 1))
        assert torch.allclose(found["mean"], layers["fc21"](hidden), atol=1e-5)
        assert torch.allclose(found["log_variance"], layers["fc22"](hidden), atol=1e-5)
        drawn = model.network.head.get_submodule("generator")(latents)
        expected = layers["fc4"](layers["fc3"](latents).relu())
        assert torch.allclose(drawn.flatten(1), expected, atol=1e-5)


def test_lower_layers_of_the_critic_stay_frozen_with_a_receipt(
    generator: tuple[nn.Module, Path], critic: tuple[nn.Module, Path]
) -> None:
    model = load_adversarial(generator[1], SIZE, critic=critic[1], **OPTIONS)
    before = {n: t.clone() for n, t in model.network.state_dict().items()}
    adapted = visiongraft.fit(
        [np.full((8, 8, 3), value, np.uint8) for value in range(0, 240, 20)],
        start=model,
        schedule="last_n(n=1, learning_rate=1e-2)",
        epochs=1,
        batch_size=4,
        workers=0,
        device="cpu",
        callbacks=(),
    )
    after = adapted.network.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert not any(name.startswith("backbone.layers.stem") for name in changed)
    assert {"backbone.layers.stage1.dense.weight", "head.critic.weight"} <= changed
    assert "head.generator.layers.0.weight" in changed


@pytest.mark.parametrize("content", ["other layers", "another size", "code"])
def test_other_files_are_refused_in_one_line(
    generator: tuple[nn.Module, Path], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "weights.pth"
    if content == "code":
        torch.save(generator[0], path)
    elif content == "other layers":
        torch.save(nn.Sequential(nn.Conv2d(1, 1, 3)).state_dict(), path)
    else:
        path = generator[1]
    with pytest.raises(WeightsError, match=path.name):
        load_adversarial(path, (9, 9), **OPTIONS)
