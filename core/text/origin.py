"""The text encoder of a classifier of texts, loaded again and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.lookup.text_encoders import load_text_encoder
from visiongraft.model import TransferModel
from visiongraft.text.learned import LearnedWords
from visiongraft.text.prompts import class_vectors
from visiongraft.text.zero_shot import (
    CENTERED,
    ENCODER,
    FACT,
    TEMPLATE_FACT,
    TEXTS,
    centered_on,
)
from visiongraft.text_encoders import TextEncoder


@dataclass(frozen=True)
class TextOrigin:
    """What a classifier of texts was made of.

    Attributes:
        encoder: The text encoder.
        facts: What ``zero_shot`` noted.
        center: float64 (dim,), what is subtracted from vectors of classes.
        scale: Factor of the cosines.
        biases: float64 (C,).
        learned: The words that were learned since, if any were.
    """

    encoder: TextEncoder
    facts: dict[str, Any]
    center: NDArray[np.float64]
    scale: float
    biases: NDArray[np.float64]
    learned: LearnedWords | None

    def weights(self, texts: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
        """Compute the weights of a last layer for classes, float64 (C, dim), from texts by class."""
        if self.learned is None:
            found = class_vectors(self.encoder, texts)
        else:
            found = self.learned.class_vectors(self.encoder, texts)
        return self.scale * centered_on(self.center, found)


def text_origin(model: TransferModel, text: str | None = None) -> TextOrigin:
    """Load the text encoder of a model, and check that the classes of the model are its vectors.

    Args:
        model: A model that ``zero_shot`` made.
        text: The text encoder, if its name does not tell where it is, as of a folder.

    Raises:
        OptionError: The model is not one that ``zero_shot`` made, or the encoder is another one.
        PluginError: There is no such text encoder.
        WeightsError: Its weights could not be downloaded or read.
    """
    facts, inputs = model.facts.get(FACT), model.task.open_inputs()
    if not isinstance(facts, dict) or not inputs:
        raise OptionError(
            "this needs a model that zero_shot made and that has not been trained since"
        )
    state = model.network.head.state_dict()
    weight, biases = (state[tensor].double().cpu().numpy() for tensor in inputs.values())
    random = model.backbone_info.provenance.get("text: weights") == "random"
    try:
        encoder = load_text_encoder(text or facts[ENCODER], None if random else "pretrained")
    except VisiongraftError as error:
        if text is not None:
            raise
        raise OptionError(
            f"text encoder {facts[ENCODER]!r} of the model cannot be loaded; if it is a folder, pass its path: "
            f"text=NAME, --text NAME ({error})"
        ) from error
    if encoder.info.name != facts[ENCODER]:
        raise OptionError(
            f"the model was made with text encoder {facts[ENCODER]!r}, not {encoder.info.name!r}"
        )
    center = np.zeros(encoder.info.dim)
    if facts.get(CENTERED):
        center = class_vectors(encoder, facts[TEXTS]).mean(axis=0)
    scale = float(np.linalg.norm(weight[0]))
    learned = LearnedWords.read(model.facts, facts[TEMPLATE_FACT][0])
    origin = TextOrigin(encoder, facts, center, scale, biases, learned)
    expected = origin.weights(facts[TEXTS])
    if expected.shape != weight.shape or not np.allclose(expected, weight, atol=1e-3 * scale):
        raise OptionError(
            f"the classes of the model are not the vectors that text encoder {encoder.info.name!r} has for "
            "their texts: the model was trained since, or the encoder has other weights"
        )
    return origin
