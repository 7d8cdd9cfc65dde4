"""Learned words: vectors that stand in place of the words before each class, see prompt learning."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.errors import ArtifactError, OptionError
from visiongraft.text.prompts import PLACE
from visiongraft.text_encoders import TextEncoder, TextPrompts

FACT = "prompt learning"  # the fact of the model that tells what was learned
INITIAL, VECTORS, COUNT = "initial words", "learned vectors", "vectors"  # and what it contains
FILLER = "x"  # a word of one token, in whose place random vectors are learned


@dataclass(frozen=True)
class LearnedWords:
    """Vectors in place of words.

    Attributes:
        vectors: float32 (M, width).
        template: The text about each class, with ``{}`` in place of it.
        at_random: Whether they began at random, and not as the words before the class.
    """

    vectors: NDArray[np.float32]
    template: str
    at_random: bool

    def facts(self) -> dict[str, Any]:
        """Return what ``read`` reads, as JSON values."""
        content = base64.b64encode(np.ascontiguousarray(self.vectors, "<f4").tobytes()).decode()
        began = {} if self.at_random else {INITIAL: words_before(self.template)}
        return {**began, COUNT: len(self.vectors), VECTORS: content}

    @classmethod
    def read(cls, facts: Mapping[str, Any], template: str) -> LearnedWords | None:
        """Read the words that a model was made with.

        Args:
            facts: Of the model.
            template: The first text about each class.

        Returns:
            The words; ``None`` if none were learned, or they were not kept.

        Raises:
            ArtifactError: They are damaged.
        """
        noted = facts.get(FACT)
        if not isinstance(noted, Mapping) or VECTORS not in noted:
            return None
        try:
            content = np.frombuffer(base64.b64decode(noted[VECTORS], validate=True), "<f4")
            vectors = content.reshape(int(noted[COUNT]), -1).astype(np.float32)
        except (binascii.Error, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the learned words of the model are damaged: {error}") from error
        return cls(vectors, template, INITIAL not in noted)

    def class_vectors(
        self, encoder: TextEncoder, texts: Mapping[str, Sequence[str]]
    ) -> NDArray[np.float64]:
        """Compute the vectors of classes with the learned words.

        Args:
            encoder: The encoder that they were learned with.
            texts: Texts by class, the first of which begins with the words of the template.

        Returns:
            float64 (C, dim), of length 1.

        Raises:
            OptionError: The encoder is another one.
        """
        count = len(self.vectors) if self.at_random else None
        prompts = prepare_prompts(encoder, texts, self.template, count)
        if prompts.initial.shape != self.vectors.shape:
            raise OptionError(f"text encoder {encoder.info.name!r} has other vectors of words")
        with torch.no_grad():
            found = prompts(torch.from_numpy(self.vectors)).double().numpy()
        unit: NDArray[np.float64] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


def words_before(template: str) -> str:
    """Return the words before the class.

    Examples:
        >>> words_before("a photo of a {}.")
        'a photo of a'
    """
    return template.partition(PLACE)[0].rstrip()


def prepare_prompts(
    encoder: TextEncoder, texts: Mapping[str, Sequence[str]], template: str, count: int | None
) -> TextPrompts:
    """Prepare the first text about each class, to exchange what is before the class.

    Args:
        encoder: A text tower.
        texts: Texts by class, the first of which begins with the words of the template.
        template: The first text about each class, with ``{}`` in place of it.
        count: Number of vectors that begin at random; ``None`` for those of the words before the class.

    Raises:
        OptionError: There are no words before the class, or the encoder has no vectors of words.
    """
    words = words_before(template)
    if count is None and not words:
        raise OptionError(
            f"template {template!r} has no words before the class; pass context=N, a number of vectors"
        )
    first = [each[0] for each in texts.values()]
    if count is not None:
        filler = " ".join([FILLER] * count)
        first = [f"{filler} {text[len(words) :].lstrip()}" for text in first]
        words = filler
    prompts = encoder.prompts(first, words)
    if prompts is None:
        raise OptionError(
            f"text encoder {encoder.info.name!r} has no vectors of words that could be learned; prompt "
            "learning needs a text tower such as those of open_clip and transformers"
        )
    if count is not None and len(prompts.initial) != count:
        raise OptionError(
            f"text encoder {encoder.info.name!r} makes {len(prompts.initial)} tokens of {count} words"
        )
    return prompts
