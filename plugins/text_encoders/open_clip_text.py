"""Text towers of open_clip, paired with the image towers of the same networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from visiongraft.errors import BackboneError, one_line
from visiongraft.plugins.backbones.hub import explained, is_published, shown, source_of
from visiongraft.plugins.backbones.open_clip_source import (
    OpenClipSource,
    license_of_weights,
    read_configuration,
    split_tag,
)
from visiongraft.plugins.text_encoders.logs import root_logger_kept
from visiongraft.text_encoders import (
    Pairing,
    TextEncoder,
    TextEncoderInfo,
    TextEncoderSource,
    Vectors,
)

AT_ONCE = 64  # texts per forward pass


class OpenClipTextSource(TextEncoderSource):
    """Provides the text towers of open_clip: ``model.weights``, ``hf-hub:org/name``, ``local-dir:PATH``."""

    prefix = "open_clip"

    def names(self) -> Sequence[str]:
        return OpenClipSource().names() or (self.example(),)

    def accepts(self, name: str) -> bool:
        return OpenClipSource().accepts(name)

    def example(self) -> str:
        return "ViT-S-32-alt"

    def build(self, name: str, *, pretrained: bool) -> TextEncoder:
        full = f"{self.prefix}/{shown(name)}"
        read_configuration(full, name)  # explains what is missing
        import open_clip

        kind = name if is_published(name) else name.partition(".")[0]
        tag = split_tag(full, name)[1] if pretrained else None
        with explained(full, source_of(name)), root_logger_kept():
            model = open_clip.create_model(
                kind, pretrained=tag, require_pretrained=pretrained, load_weights=pretrained
            ).eval()
            tokenize = open_clip.get_tokenizer(kind)
        model.visual = nn.Identity()  # the image tower is the backbone's
        provenance = {"source": f"open_clip {open_clip.__version__}", "weights": "random"}
        if pretrained:
            provenance |= {"weights": shown(name), "license": license_of_weights(name)}
        scale, bias = model.logit_scale.detach().exp(), getattr(model, "logit_bias", None)
        pairing = Pairing(full, float(scale), float(0 if bias is None else bias.detach()))
        encoder = OpenClipText(TextEncoderInfo(full, 0, provenance, pairing), model, tokenize)
        dim = encoder.encode(["a"]).shape[1]
        encoder.info = TextEncoderInfo(full, dim, provenance, pairing)
        return encoder


class OpenClipText(TextEncoder):
    """The text tower of a network of images and text.

    Args:
        info: Facts about the encoder.
        model: The network.
        tokenize: From texts to token ids, int64 (N, context length).
    """

    def __init__(self, info: TextEncoderInfo, model: Any, tokenize: Any) -> None:
        super().__init__(info)
        self.model, self.tokenize = model, tokenize

    def encode(self, texts: Sequence[str]) -> Vectors:
        found = []
        for start in range(0, len(texts), AT_ONCE):
            tokens = self.tokenize(list(texts[start : start + AT_ONCE]))
            with torch.no_grad():
                try:
                    found.append(self.model.encode_text(tokens).float())
                except IndexError as error:  # of a folder whose tokenizer is another network's
                    raise BackboneError(
                        f"{self.info.name}: its tokenizer does not belong to it: {one_line(error)}"
                    ) from error
        vectors: Vectors = torch.cat(found).numpy()
        return vectors
