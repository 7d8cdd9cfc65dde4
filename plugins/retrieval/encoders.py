"""The text encoder of a task: loaded once, and recognized when a trained model needs it again."""

from __future__ import annotations

import logging
from copy import deepcopy
from functools import lru_cache
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.lookup.text_encoders import load_text_encoder
from visiongraft.text_encoders import TextEncoder, TextNetwork, unit_vectors

log = logging.getLogger("visiongraft")

MARKED = "two dogs on a red boat"  # a text by which encoders are told apart
NUMBERS = 8  # of its vector, and
DIGITS = 4  # of each: other machines round otherwise, and other encoders differ by more
REMEDY = (
    "if its folder has moved, pass where it is: load(..., text_encoder=NAME), --text-encoder NAME"
)

Mark = tuple[float, ...]


@lru_cache(maxsize=2)
def encoder_named(name: str, weights: str | None = "pretrained") -> TextEncoder:
    """Load a text encoder once."""
    return load_text_encoder(name, weights)


def trainable_network(name: str, pretrained: bool = True) -> TextNetwork:
    """Return a copy of a text encoder's network, to be trained.

    Args:
        name: Name of the encoder.
        pretrained: Whether with its weights, or with random ones that others will replace.

    Raises:
        OptionError: The encoder has none.
    """
    encoder = encoder_named(name, "pretrained" if pretrained else None)
    network = encoder.trainable()
    if network is None:
        raise OptionError(
            f"text encoder {encoder.info.name!r} has no network that could be trained; train_text=True needs a "
            "text tower such as those of open_clip and transformers"
        )
    return network


def mark_of(encoder: TextEncoder | TextNetwork) -> Mark:
    """Return what tells an encoder from others.

    Args:
        encoder: An encoder, whose vectors tell; or a network that is trained, whose token ids do, and the
            vector that it computes with fixed weights, for activations and the like have none.
    """
    if isinstance(encoder, TextNetwork):
        tokens = encoder.tokenize([MARKED])
        return (*map(float, tokens[0].tolist()), *_rounded(_with_fixed_weights(encoder, tokens)))
    return _rounded(unit_vectors(encoder, [MARKED])[0])


def _rounded(vector: NDArray[np.float32]) -> Mark:
    return tuple(round(float(value), DIGITS) for value in vector[:NUMBERS])


def _with_fixed_weights(network: TextNetwork, tokens: Tensor) -> NDArray[np.float32]:
    """Compute a vector, of mean square 1, with weights that depend on their names and shapes alone."""
    generator = torch.Generator().manual_seed(0)
    network = deepcopy(network).eval()
    with torch.no_grad():
        for name, value in sorted(network.named_parameters(), key=itemgetter(0)):
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1:
                noise = noise / value.shape[-1] ** 0.5
            elif name.endswith("weight"):  # of a normalization
                noise = 1 + noise / 10
            value.copy_(noise)
        vector = network(tokens)[0].float()
    found: NDArray[np.float32] = (vector / vector.square().mean().sqrt()).numpy()
    return found


def known_encoder(name: str, mark: Mark) -> TextEncoder:
    """Load the encoder that a model was trained with.

    Args:
        name: Its name.
        mark: Its mark; empty if nothing was trained yet.

    Raises:
        OptionError: It cannot be loaded, or is another one.
    """
    if not mark:
        return encoder_named(name)
    try:
        encoder = encoder_named(name)
    except VisiongraftError as error:
        raise _not_found(name, error) from error
    _check(name, mark, mark_of(encoder), "vectors")
    return encoder


def known_network(name: str, mark: Mark) -> TextNetwork:
    """Return a network like the one that a model trained, with random weights; see ``known_encoder``.

    Models of earlier versions, whose marks are empty or lack the vector, are loaded with a warning.
    """
    try:
        network = trainable_network(name, pretrained=False)
    except VisiongraftError as error:
        raise _not_found(name, error) from error
    found = mark_of(network)
    tokens = network.tokenize([MARKED]).shape[1]
    if len(mark) <= tokens:
        log.warning(
            "the model was trained by an earlier version: whether text encoder %r is the one that it was "
            "trained with cannot be checked",
            name,
        )
    if mark:
        _check(name, mark[:tokens], found[:tokens], "tokens")
    if len(mark) > tokens:
        _check(name, mark[tokens:], found[tokens:], "layers")
    return network


def _not_found(name: str, error: VisiongraftError) -> OptionError:
    return OptionError(f"text encoder {name!r} of the model cannot be loaded; {REMEDY} ({error})")


def _check(name: str, mark: Mark, found: Mark, what: str) -> None:
    alike = len(found) == len(mark) and np.allclose(found, mark, atol=2 * 10.0**-DIGITS)
    if not alike:
        raise OptionError(
            f"text encoder {name!r} is not the one that the model was trained with: its {what} are others; {REMEDY}"
        )
