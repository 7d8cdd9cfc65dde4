"""The text encoder of a task: loaded once, and recognized when a trained model needs it again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.lookup.text_encoders import load_text_encoder
from visiongraft.text_encoders import TextEncoder, TextNetwork, unit_vectors

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
        encoder: An encoder, whose vectors tell; or a network that is trained, whose token ids do.
    """
    if isinstance(encoder, TextNetwork):
        return tuple(map(float, encoder.tokenize([MARKED])[0].tolist()))
    vector = unit_vectors(encoder, [MARKED])[0, :NUMBERS]
    return tuple(round(float(value), DIGITS) for value in vector)


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
    """Return a network like the one that a model trained, with random weights; see ``known_encoder``."""
    if not mark:
        return trainable_network(name, pretrained=False)
    try:
        network = trainable_network(name, pretrained=False)
    except VisiongraftError as error:
        raise _not_found(name, error) from error
    _check(name, mark, mark_of(network), "tokens")
    return network


def _not_found(name: str, error: VisiongraftError) -> OptionError:
    return OptionError(f"text encoder {name!r} of the model cannot be loaded; {REMEDY} ({error})")


def _check(name: str, mark: Mark, found: Mark, what: str) -> None:
    alike = len(found) == len(mark) and np.allclose(found, mark, atol=2 * 10.0**-DIGITS)
    if not alike:
        raise OptionError(
            f"text encoder {name!r} is not the one that the model was trained with: its {what} are others; {REMEDY}"
        )
