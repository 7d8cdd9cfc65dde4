"""Other classes for an exported classifier of texts, in a small file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visiongraft.class_file import ClassFile
from visiongraft.errors import OptionError
from visiongraft.lookup.text_encoders import load_text_encoder
from visiongraft.model import TransferModel
from visiongraft.text.prompts import Classes, class_texts, class_vectors
from visiongraft.text.zero_shot import CENTERED, ENCODER, FACT, TEMPLATE_FACT, TEXTS, centered_on


def save_classes(
    path: str | Path,
    model: TransferModel,
    classes: Classes,
    *,
    text: str | None = None,
    templates: str | Sequence[str] | None = None,
) -> None:
    """Write classes that a file exported with ``open_classes=True`` predicts in place of its own.

    Args:
        path: Where to.
        model: The model that was exported, which ``zero_shot`` made.
        classes: As for ``zero_shot``.
        text: The text encoder of the model, if its name does not tell where it is, as of a folder.
        templates: As for ``zero_shot``; those of the model if ``None``.

    Raises:
        OptionError: The model is not one that ``zero_shot`` made, or the encoder is another one.
        PluginError: There is no such text encoder.
        WeightsError: Its weights could not be downloaded or read.

    Examples:
        ``visiongraft.save_classes("birds.safetensors", model, ["robin", "magpie"])``, then
        ``visiongraft predict pets.onnx --classes birds.safetensors photos/``
    """
    facts, inputs = model.facts.get(FACT), model.task.open_inputs()
    if not isinstance(facts, dict) or not inputs:
        raise OptionError(
            "classes can be written for a model that zero_shot made and that has not been trained since"
        )
    state = model.network.head.state_dict()
    weight, bias = (state[tensor].double().cpu().numpy() for tensor in inputs.values())
    random = model.backbone_info.provenance.get("text: weights") == "random"
    encoder = load_text_encoder(text or facts[ENCODER], None if random else "pretrained")
    if encoder.info.name != facts[ENCODER]:
        raise OptionError(
            f"the model was made with text encoder {facts[ENCODER]!r}, not {encoder.info.name!r}"
        )
    own = class_vectors(encoder, facts[TEXTS])
    center = own.mean(axis=0) if facts.get(CENTERED) else np.zeros(own.shape[1])
    scale = float(np.linalg.norm(weight[0]))
    if not np.allclose(scale * centered_on(center, own), weight, atol=1e-3 * scale):
        raise OptionError(
            f"text encoder {encoder.info.name!r} has other weights than the model was made with"
        )
    texts = class_texts(classes, facts[TEMPLATE_FACT] if templates is None else templates)
    vectors = scale * centered_on(center, class_vectors(encoder, texts))
    # Classes without images have no penalty, and those of networks of images and text all have the same bias.
    biases = np.full(len(vectors), bias.max())
    values = dict(zip(inputs, (vectors.astype(np.float32), biases.astype(np.float32)), strict=True))
    ClassFile(tuple(texts), values).write(Path(path))
