"""Methods of generators' models: drawing samples, and reconstructing images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from visiongraft.inputs.samples import InputSamples
from visiongraft.model import TransferModel
from visiongraft.plugins.generation.head import AutoencoderHead
from visiongraft.plugins.generation.prediction import Generated, predictions


def sample(
    model: TransferModel, count: int, *, seed: int = 0, save: str | Path | None = None
) -> list[Generated]:
    """Make images of random latents, the same for equal seeds.

    Args:
        model: The model.
        count: Number of images.
        seed: Of the latents.
        save: Folder to write the images to.

    Returns:
        One image each.
    """
    drawn: list[Generated] = model.predict(model.task.inputs.draw(count, seed), save=save)
    return drawn


def reconstruct(model: TransferModel, images: Any) -> list[Generated]:
    """Encode images by an autoencoder, and make images of the means of their latents.

    Args:
        model: The model of an autoencoder.
        images: Anything that models for images predict: paths, a folder, arrays, tensors.

    Returns:
        One image each, of the network's size.

    Raises:
        DataError: An image cannot be read.
    """
    network = model.network.eval()
    head, preprocess = network.head, network.preprocess
    assert isinstance(head, AutoencoderHead)
    samples = InputSamples.of(images)
    found: list[Generated] = []
    for index in range(len(samples)):
        pixels = torch.from_numpy(samples.load(index, len(preprocess.config.mean)))[None]
        with torch.no_grad():
            image = preprocess.images(pixels.to(preprocess.mean.device))
            logits = head.generate(head(network.backbone(image))["mean"])
        found += predictions({"images": logits.float().sigmoid().cpu().numpy()}, {})
    return found
