"""Text towers: networks from token ids to vectors, run in batches or with learned vectors of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from visiongraft.errors import BackboneError, OptionError, one_line
from visiongraft.text_encoders import (
    TextEncoder,
    TextEncoderInfo,
    TextNetwork,
    TextPrompts,
    Vectors,
)

AT_ONCE = 64  # texts per forward pass

# Both are functions, which copies of a network share.
Tokenize = Callable[[Sequence[str]], Tensor]
EncodeTokens = Callable[[nn.Module, Tensor], Tensor]


class TextTower(TextEncoder):
    """The text tower of a network of images and text.

    Args:
        info: Facts about the encoder.
        network: The network, in evaluation mode.
        embedding: The part of it that embeds token ids.
        tokenize: From texts to token ids, int64 (N, length), of one length for all texts.
        encode_tokens: From a network like this one and token ids to vectors (N, dim).
        decode: From a token id to the text that it stands for.
    """

    def __init__(
        self,
        info: TextEncoderInfo,
        network: nn.Module,
        embedding: nn.Module,
        tokenize: Tokenize,
        encode_tokens: EncodeTokens,
        decode: Callable[[int], str],
    ) -> None:
        super().__init__(info)
        self.network, self.embedding = network, embedding
        self.tokenize, self.encode_tokens, self.decode = tokenize, encode_tokens, decode

    def encode(self, texts: Sequence[str]) -> Vectors:
        found = []
        for start in range(0, len(texts), AT_ONCE):
            tokens = self.tokenize(list(texts[start : start + AT_ONCE]))
            with torch.no_grad():
                try:
                    found.append(self.encode_tokens(self.network, tokens).float())
                except IndexError as error:  # of a folder whose tokenizer is another network's
                    raise BackboneError(
                        f"{self.info.name}: its tokenizer does not belong to it: {one_line(error)}"
                    ) from error
        vectors: Vectors = torch.cat(found).numpy()
        return vectors

    def prompts(self, texts: Sequence[str], words: str) -> TextPrompts:
        return TowerPrompts(self, texts, words)

    def trainable(self) -> TextNetwork:
        return TrainableTower(deepcopy(self.network), self.tokenize, self.encode_tokens)


class TrainableTower(TextNetwork):
    """A text tower that is trained.

    Args:
        network: The network.
        tokenize: As for ``TextTower``.
        encode_tokens: As for ``TextTower``.
    """

    def __init__(self, network: nn.Module, tokenize: Tokenize, encode_tokens: EncodeTokens) -> None:
        super().__init__()
        self.network = network.requires_grad_(True)
        self.encode_tokens, self._tokenize = encode_tokens, tokenize
        self._freeze_the_rest()

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return self._tokenize(list(texts))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encode_tokens(self.network, tokens)

    def _freeze_the_rest(self) -> None:
        """Freeze parameters that compute no vector, such as the scale of cosines."""
        with torch.enable_grad():
            found = self(self.tokenize(["x"])).sum()
        named = dict(self.network.named_parameters())
        gradients = torch.autograd.grad(found, list(named.values()), allow_unused=True)
        for parameter, gradient in zip(named.values(), gradients, strict=True):
            parameter.requires_grad_(gradient is not None)


class TowerPrompts(TextPrompts):
    """Texts that a tower encodes with other vectors in place of their first words.

    The tower runs by its library's own code; a hook on its embedding puts the vectors in place.

    Args:
        tower: The tower.
        texts: The texts.
        words: What all of them begin with.
    """

    tokens: Tensor
    initial: Tensor

    def __init__(self, tower: TextTower, texts: Sequence[str], words: str) -> None:
        super().__init__()
        self.tower, self.network = tower, tower.network.requires_grad_(False)
        self.start, self.stop = _span(tower, words)
        tokens = tower.tokenize([f"{words} x", *texts])
        own = tokens[:, self.start : self.stop]
        apart = (own == own[0]).all(1)
        if not apart.all():
            text = ["", *texts][int(apart.int().argmin())]
            raise OptionError(f"text {text!r} does not begin with the tokens of {words!r}")
        self.register_buffer("tokens", tokens[1:], persistent=False)
        with torch.no_grad():
            initial = tower.embedding(own[0]).float()
        self.register_buffer("initial", initial, persistent=False)

    def forward(self, context: Tensor) -> Tensor:
        def put_in_place(module: nn.Module, arguments: object, embedded: Tensor) -> Tensor:
            words = context.to(embedded.dtype).expand(len(embedded), -1, -1)
            return torch.cat([embedded[:, : self.start], words, embedded[:, self.stop :]], dim=1)

        hook = self.tower.embedding.register_forward_hook(put_in_place)
        try:
            return self.tower.encode_tokens(self.network, self.tokens).float()
        finally:
            hook.remove()

    def nearest_words(self, context: Tensor) -> Sequence[str]:
        """Return the token whose vector has the least Euclidean distance, as CoOp's authors do."""
        known = cast("Tensor", self.tower.embedding.weight).float()
        nearest = torch.cdist(context.float(), known.to(context.device)).argmin(1)
        return [self.tower.decode(token).strip() for token in nearest.tolist()]


def _span(tower: TextTower, words: str) -> tuple[int, int]:
    """Return where the tokens of the first words of a text begin and end."""
    start, stop = (
        _first_difference(*tower.tokenize([f"{before}x", f"{before}y"]))
        for before in ("", f"{words} ")
    )
    if start is None or stop is None:
        raise OptionError(
            f"text encoder {tower.info.name!r} has no room for a class after {len(words.split())} words"
        )
    return start, stop


def _first_difference(one: Tensor, other: Tensor) -> int | None:
    different = (one != other).nonzero()
    return int(different[0]) if len(different) else None
