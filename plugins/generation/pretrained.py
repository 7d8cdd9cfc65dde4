"""Start from generators that others have trained: weights files of fully connected networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.errors import WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.generation.task import Generation
from visiongraft.saving.weights import file_provenance, read_weights

Layer = tuple[Tensor, Tensor]  # weight (outputs, inputs) and bias (outputs,)


def load_autoencoder(path: str | Path, size: tuple[int, int], **options: Any) -> TransferModel:
    """Load a fully connected variational autoencoder, as of PyTorch's examples.

    Args:
        path: Weights file with ``fc1`` (encoder), ``fc21`` and ``fc22`` (mean and log-variance of the
            latent), ``fc3`` and ``fc4`` (decoder), of gray images in 0..1. It is not unpickled.
        size: Height and width of the images.
        options: Further options of ``Generation``.

    Returns:
        A model to predict with, or to continue with: ``fit(..., start=model)``.

    Raises:
        WeightsError: The file cannot be read, or is of another network.
    """
    tensors = read_weights(Path(path))
    names = ("fc1", "fc21", "fc22", "fc3", "fc4")
    first, mean, variance, hidden, last = (_layer(tensors, name, Path(path)) for name in names)
    task = Generation(
        "vae", latents=mean[0].shape[0], generator="mlp", hidden=(hidden[0].shape[0],), **options
    )
    network = _network("generation/mlp_relu", task, size, Path(path))
    layers = {
        "backbone.layers.stem.dense": _of_unit_values(first),
        "head.posterior.mean": mean,
        "head.posterior.log_variance": variance,
        "head.generator.layers.0": hidden,
        "head.generator.layers.2": last,
    }
    return _loaded(network, layers, Path(path))


def load_adversarial(
    generator: str | Path, size: tuple[int, int], critic: str | Path | None = None, **options: Any
) -> TransferModel:
    """Load the generator of fully connected adversarial training, and its critic if there is one.

    Args:
        generator: Weights file of a sequence of layers ``0``, ``2``, ``4`` with ReLUs between them and a
            hyperbolic tangent at the end, of gray images in -1..1. It is not unpickled.
        size: Height and width of the images.
        critic: Weights file of a sequence ``0``, ``2``, ``4`` with leaky ReLUs of slope 0.2; a random
            critic if ``None``.
        options: Further options of ``Generation``.

    Returns:
        A model to predict with, or to continue with: ``fit(..., start=model)``.

    Raises:
        WeightsError: A file cannot be read, or is of another network.
    """
    path = Path(generator)
    tensors = read_weights(path)
    first, second, last = (_layer(tensors, name, path) for name in ("0", "2", "4"))
    hidden = (first[0].shape[0], second[0].shape[0])
    task = Generation("gan", latents=first[0].shape[1], generator="mlp", hidden=hidden, **options)
    network = _network("generation/mlp", task, size, path)
    drawing = {
        "head.generator.layers.0": first,
        "head.generator.layers.2": second,
        "head.generator.layers.4": (2 * last[0], 2 * last[1]),  # (tanh(x) + 1) / 2 = sigmoid(2x)
    }
    model = _loaded(network, drawing, path)
    if critic is not None:
        found = read_weights(Path(critic))
        names = ("backbone.layers.stem.dense", "backbone.layers.stage1.dense", "head.critic")
        layers = (_layer(found, name, Path(critic)) for name in ("0", "2", "4"))
        _loaded(network, dict(zip(names, layers, strict=True)), Path(critic))
    return model


def _network(backbone: str, task: Generation, size: tuple[int, int], path: Path) -> Network:
    built: Backbone = load_backbone(backbone, weights=None, in_channels=1, size=size)
    built.info = replace(built.info, provenance=file_provenance(path))
    return Network(built, task).eval()


def _loaded(network: Network, layers: Mapping[str, Layer], path: Path) -> TransferModel:
    """Copy layers into a network, all of them or none."""
    modules = {name: network.get_submodule(name) for name in layers}
    for name, module in modules.items():
        assert isinstance(module, nn.Linear)
        given, own = tuple(layers[name][0].shape), tuple(module.weight.shape)
        if given != own:
            raise WeightsError(
                f"weights file {path} does not fit: a layer has the shape {given}, not {own}; is it for "
                "images of another size?"
            )
    with torch.no_grad():
        for name, module in modules.items():
            assert isinstance(module, nn.Linear)
            module.weight.copy_(layers[name][0])
            module.bias.copy_(layers[name][1])
    return TransferModel(network)


def _layer(tensors: Mapping[str, Tensor], name: str, path: Path) -> Layer:
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise WeightsError(
            f"weights file {path} has no fully connected layer {name!r}, only {', '.join(sorted(tensors))}"
        )
    return weight.float(), bias.float()


def _of_unit_values(layer: Layer) -> Layer:
    """Make a layer of values in 0..1 one of values in -1..1, as the backbone gets them."""
    weight, bias = layer
    return weight / 2, bias + weight.sum(1) / 2
