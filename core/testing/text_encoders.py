"""Checks of a source of text encoders, with the small encoder that it names as its example."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from visiongraft.errors import VisiongraftError
from visiongraft.lookup.text_encoders import find_text_source
from visiongraft.testing.report import Check, Checks, NotTried, expect, require, trying
from visiongraft.testing.trials import Trial, is_text
from visiongraft.text_encoders import TextEncoder, TextEncoderSource, Vectors

TEXTS = ("a photo of a cat", "a photo of a dog", "Ein Wägelchen, 小さな", "truck")
TOLERANCE = 1e-4


class TextEncoderTrial(Trial):
    """A source of text encoders under trial, by one of its names.

    Args:
        what: A source, or the name of an encoder of an installed source.
    """

    def __init__(self, what: str | TextEncoderSource) -> None:
        super().__init__(what)
        if isinstance(what, str):
            self.source, self.short = find_text_source(what)
            return
        with trying("to get the name of the example", see="text_encoders.TextEncoderSource"):
            self.source, self.short = what, what.example()

    @cached_property
    def encoder(self) -> TextEncoder:
        """The encoder with random weights; one whose library is missing is not tried."""
        with trying("to build the encoder", see="text_encoders.TextEncoderSource.build"):
            try:
                return self.source.build(self.short, pretrained=False)
            except VisiongraftError as error:
                raise NotTried(str(error)) from error

    def encode(self, texts: Sequence[str], words: str) -> Vectors:
        """Encode texts."""
        with trying(words, "vectors", see="text_encoders.TextEncoder.encode"):
            return self.encoder.encode(list(texts))


check = Checks(TextEncoderTrial.of)


@check("text_encoders.TextEncoderSource.names")
def names_are_listed(trial: TextEncoderTrial) -> None:
    """The source lists each name once, and accepts its example."""
    prefix, names = trial.source.prefix, list(trial.source.names())
    expect(":" not in prefix and is_text(prefix), "to read its prefix", repr(prefix), "a word")
    words = "to list the source's names"
    expect(bool(names) and all(map(is_text, names)), words, names[:3], "strings")
    expect(len(set(names)) == len(names), words, "a name twice", "each name once")
    accepted = trial.source.accepts(trial.short)
    expect(accepted, f"to ask for {trial.short!r}", "it is not accepted", "its example accepted")


@check("text_encoders.TextEncoder.encode")
def vectors_have_the_stated_length(trial: TextEncoderTrial) -> None:
    """Each text, short or very long, has a finite float32 vector of the stated length."""
    words = "to encode four texts, one of many words"
    texts = [*TEXTS[:3], "a very long text of many words " * 200]
    found, dim = trial.encode(texts, words), trial.encoder.info.dim
    expect(isinstance(found, np.ndarray), words, type(found).__name__, "an array")
    expected = f"a float32 array of shape {(4, dim)}"
    described = f"{found.dtype} {found.shape}"
    expect((described == f"float32 {(4, dim)}"), words, described, expected)
    expect(bool(np.isfinite(found).all()), words, "values that are not finite", "finite ones")


@check("text_encoders.TextEncoder.encode")
def a_vector_depends_on_its_text_alone(trial: TextEncoderTrial) -> None:
    """A text has the same vector alone, among others, and the second time."""
    words = "to encode texts together, in another order and alone"
    together = trial.encode(TEXTS, words)
    turned = trial.encode(TEXTS[::-1], words)[::-1]
    alone = np.concatenate([trial.encode([text], words) for text in TEXTS])
    scale = float(np.abs(together).max()) or 1.0
    worst = max(float(np.abs(each - together).max()) for each in (turned, alone))
    near = worst <= TOLERANCE * scale
    expect(near, words, f"a difference of {worst:.3g}", "equal vectors")


@check("text_encoders.TextEncoder.encode")
def different_texts_differ(trial: TextEncoderTrial) -> None:
    """Different texts have different vectors."""
    words = "to encode two different texts"
    one, other = trial.encode(TEXTS[:2], words)
    expect(not np.allclose(one, other), words, "equal vectors", "different ones")


@check("text_encoders.Pairing")
def a_pairing_fits(trial: TextEncoderTrial) -> None:
    """A pairing has a finite positive scale, and a projection that ends in the space of the texts."""
    pairing, words = trial.encoder.info.pairing, "to read how images and texts are compared"
    if pairing is None:
        raise NotTried("the encoder is not paired with a backbone")
    scales = np.isfinite([pairing.scale, pairing.bias]).all() and pairing.scale > 0
    expect(bool(scales), words, f"{pairing.scale}, {pairing.bias}", "finite numbers")
    if pairing.projection is not None:
        shape, dim = pairing.projection.shape, trial.encoder.info.dim
        expect(len(shape) == 2 and shape[0] == dim, words, shape, f"a projection ({dim}, ...)")


@check("text_encoders.TextEncoder.trainable")
def a_trainable_network_is_a_copy_with_the_same_vectors(trial: TextEncoderTrial) -> None:
    """A network to be trained computes the same vectors, is not shared, and learns in every parameter."""
    words = "to get the network that is to be trained"
    with trying(words, "a TextNetwork or None", see="text_encoders.TextEncoder.trainable"):
        network = trial.encoder.trainable()
    if network is None:
        raise NotTried("the encoder has no network that could be trained")
    before = trial.encode(TEXTS, "to encode texts")
    with trying("to tokenize texts and to compute their vectors", "vectors"):
        tokens, alone = network.tokenize(TEXTS), network.tokenize(TEXTS[:1])
        found = network.eval()(tokens)
        found.pow(2).sum().backward()
    expect(
        tokens.shape[1:] == alone.shape[1:],
        "to tokenize one text and several",
        tuple(alone.shape),
        "one length",
    )
    worst = float(np.abs(found.detach().float().numpy() - before).max())
    near = worst <= TOLERANCE * (float(np.abs(before).max()) or 1.0)
    expect(near, "to compute vectors", f"a difference of {worst:.3g}", "those of encode")
    idle = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    expect(not idle, "to compute gradients", f"none for {idle[:2]}", "some, or requires_grad=False")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    same = np.array_equal(trial.encode(TEXTS, "to encode texts"), before)
    expect(same, "to change the network", "other vectors of the encoder", "the same, as of a copy")


TEXT_ENCODER_CHECKS: tuple[Check[Any], ...] = tuple(check)


def check_text_encoder(what: str | TextEncoderSource) -> None:
    """Check everything that visiongraft requires of a source of text encoders.

    Args:
        what: A source, or the name of an encoder of an installed source.

    Raises:
        CheckError: A check failed.
    """
    require(TextEncoderTrial.of(what), TEXT_ENCODER_CHECKS)
