"""Text encoders behind one interface: texts in, vectors out, and how images get among them.

Classes that are described in words can be recognized without any image of them: see
``visiongraft.zero_shot``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from visiongraft.errors import OptionError, PluginError, VisiongraftError, type_and_message

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Pairing:
    """How embeddings of images and texts are compared by a network that was trained on both.

    Logits are ``scale * cosine + bias``, where the cosine is that of the text's vector and of the
    image's embedding, projected if there is a projection.

    Attributes:
        backbone: Full name of the backbone that embeds the images.
        scale: Factor of the cosine.
        bias: What is added to it.
        projection: float32 (dim, embedding_dim), from the embedding of an image to the space of the
            texts; ``None`` if the embedding is in it.
    """

    backbone: str
    scale: float
    bias: float = 0.0
    projection: Vectors | None = None


@dataclass(frozen=True)
class TextEncoderInfo:
    """The facts about a text encoder.

    Attributes:
        name: Full name, such as ``"open_clip/ViT-B-32.openai"``.
        dim: Length of a vector.
        provenance: Where the weights came from: ``source``, ``weights``, ``license``, as far as known.
        pairing: The backbone whose embeddings are in the same space; ``None`` if there is none.
    """

    name: str
    dim: int
    provenance: dict[str, str] = field(default_factory=dict)
    pairing: Pairing | None = None


class TextPrompts(nn.Module, ABC):
    """Texts in which learned vectors stand in place of the words that all begin with.

    Attributes:
        initial: float32 (M, width), the vectors of these words.
    """

    initial: Tensor

    @abstractmethod
    def forward(self, context: Tensor) -> Tensor:
        """Compute the vectors of the texts, differentiable with respect to the context.

        Args:
            context: (M, width), in place of the words; ``initial`` computes what ``encode`` does.

        Returns:
            (N, dim), of any length.
        """

    def nearest_words(self, context: Tensor) -> Sequence[str]:
        """Return the word whose vector is nearest to each vector of a context, for people to read.

        Args:
            context: (M, width).

        Returns:
            M words or parts of words, as the encoder's vocabulary has them; none if it cannot tell, as by
            default.
        """
        return ()


class TextNetwork(nn.Module, ABC):
    """The network of a text encoder, to be trained beside a backbone.

    It contains what computes vectors of texts and nothing else. Parameters that do not take part, such as
    the scale of cosines, require no gradient.
    """

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Convert texts to token ids.

        Args:
            texts: At least one; longer ones than the encoder takes are cut.

        Returns:
            int64 (N, length), of one length for all texts.
        """

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the vectors of texts, differentiable with respect to the parameters.

        Args:
            tokens: int64 (N, length), from ``tokenize``.

        Returns:
            (N, dim), of any length.
        """


class TextEncoder(ABC):
    """Computes one vector for each text.

    Args:
        info: What is known about it.
    """

    def __init__(self, info: TextEncoderInfo) -> None:
        self.info = info

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Vectors:
        """Compute the vectors of texts.

        The vector of a text must not depend on the other texts, up to rounding.

        Args:
            texts: At least one; longer ones than the encoder takes are cut.

        Returns:
            float32 (N, dim), of any length.
        """

    def prompts(self, texts: Sequence[str], words: str) -> TextPrompts | None:
        """Prepare texts for learning vectors in place of the words that they begin with (prompt learning).

        Args:
            texts: At least one.
            words: What each of them begins with, such as ``"a photo of a"``.

        Returns:
            The texts, which contain the encoder's network, not a copy of it; ``None``, the default, if
            this encoder has no vectors of words that could be learned.

        Raises:
            OptionError: The words are not apart from what follows, or too many.
        """
        return None

    def trainable(self) -> TextNetwork | None:
        """Return the network that computes the vectors, to be trained.

        Returns:
            A copy, whose vectors are those of ``encode``; ``None``, the default, if this encoder has no
            network that could be trained.
        """
        return None


class TextEncoderSource(ABC):
    """A family of text encoders under one prefix; plugins register these.

    Attributes:
        prefix: The part of the full name before the slash. The prefix alone stands for the first of
            ``names()``.
    """

    prefix: str

    @abstractmethod
    def names(self) -> Sequence[str]:
        """List names after the slash, without building anything; at least some that are worth knowing."""

    def accepts(self, name: str) -> bool:
        """Check whether this source provides an encoder, without building or downloading anything.

        The default looks the name up in ``names()``.

        Args:
            name: The part of a full name after the prefix and the slash.
        """
        return name in self.names()

    def lacks(self, name: str) -> str:
        """Say what must be installed before this source can provide a name that it does not accept.

        Args:
            name: The part of a full name after the prefix and the slash.

        Returns:
            A line with the remedy; nothing by default.
        """
        return ""

    def example(self) -> str:
        """Return the name of a small encoder, for ``visiongraft.testing`` to try the source on."""
        return self.names()[0]

    @abstractmethod
    def build(self, name: str, *, pretrained: bool) -> TextEncoder:
        """Make one text encoder.

        Args:
            name: A name that it accepts.
            pretrained: Load published weights; random ones otherwise.

        Raises:
            BackboneError: A library is missing, or there is no such encoder.
            WeightsError: The weights could not be downloaded or read.
        """


def unit_vectors(encoder: TextEncoder, texts: Sequence[str]) -> NDArray[np.float64]:
    """Compute vectors of texts, of length 1.

    Args:
        encoder: The encoder.
        texts: The texts.

    Returns:
        float64 (N, dim).

    Raises:
        OptionError: The encoder knows nothing of a text, so that its vector is zero.
        PluginError: The encoder failed or returned something else.
    """
    what = f"text encoder {encoder.info.name!r}"
    try:
        found = np.asarray(encoder.encode(list(texts)), dtype=np.float64)
    except VisiongraftError:
        raise
    except Exception as error:  # a third-party encoder may raise any error
        raise PluginError(f"{what} failed: {type_and_message(error)}") from error
    expected = (len(texts), encoder.info.dim)
    if found.shape != expected:
        raise PluginError(f"{what} returned an array of shape {found.shape}, not {expected}")
    if not np.isfinite(found).all():
        raise PluginError(
            f"{what} returned numbers that are not finite; its weights are damaged, fetch them again"
        )
    lengths = np.linalg.norm(found, axis=1)
    if not lengths.all():
        unknown = texts[int(np.flatnonzero(lengths == 0)[0])]
        raise OptionError(f"{what} has no vector for {unknown!r}; describe it in other words")
    unit: NDArray[np.float64] = found / lengths[:, None]
    return unit
