"""Other classes for an exported classifier of texts, in a small file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visiongraft.class_file import ClassFile
from visiongraft.errors import OptionError
from visiongraft.model import TransferModel
from visiongraft.text.origin import text_origin
from visiongraft.text.prompts import Classes, class_texts
from visiongraft.text.zero_shot import TEMPLATE_FACT


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
        templates: As for ``zero_shot``; those of the model if ``None``. Learned words (``learn_prompts``) stand
            in place of those of the model's first template, and leave no choice.

    Raises:
        OptionError: The model is not one that ``zero_shot`` made, or the encoder is another one.
        PluginError: There is no such text encoder.
        WeightsError: Its weights could not be downloaded or read.

    Examples:
        ``visiongraft.save_classes("birds.safetensors", model, ["robin", "magpie"])``, then
        ``visiongraft predict pets.onnx --classes birds.safetensors photos/``
    """
    origin = text_origin(model, text)
    if templates is not None and origin.learned is not None:
        raise OptionError("learned words stand in place of a template's; leave out templates")
    texts = class_texts(classes, origin.facts[TEMPLATE_FACT] if templates is None else templates)
    vectors = origin.weights(texts)
    # Classes without images have no penalty, and those of networks of images and text all have the same bias.
    biases = np.full(len(vectors), origin.biases.max())
    inputs = model.task.open_inputs()
    values = dict(zip(inputs, (vectors.astype(np.float32), biases.astype(np.float32)), strict=True))
    ClassFile(tuple(texts), values).write(Path(path))
