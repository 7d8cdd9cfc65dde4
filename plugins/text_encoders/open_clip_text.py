"""Text towers of open_clip, paired with the image towers of the same networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from visiongraft.plugins.backbones.hub import explained, is_published, shown, source_of
from visiongraft.plugins.backbones.logs import root_logger_kept
from visiongraft.plugins.backbones.open_clip_source import (
    OpenClipSource,
    license_of_weights,
    read_configuration,
    split_tag,
)
from visiongraft.plugins.text_encoders.tower import TextTower
from visiongraft.text_encoders import (
    Pairing,
    TextEncoder,
    TextEncoderInfo,
    TextEncoderSource,
)


class OpenClipTextSource(TextEncoderSource):
    """Provides the text towers of open_clip: ``model.weights``, ``hf-hub:org/name``, ``local-dir:PATH``."""

    prefix = "open_clip"

    def names(self) -> Sequence[str]:
        return OpenClipSource().names() or (self.example(),)

    def accepts(self, name: str) -> bool:
        return OpenClipSource().accepts(name)

    def lacks(self, name: str) -> str:
        return OpenClipSource().lacks(name)

    def example(self) -> str:
        return "ViT-S-32-alt"

    def build(self, name: str, *, pretrained: bool) -> TextEncoder:
        full = f"{self.prefix}/{shown(name)}"
        read_configuration(full, name)  # explains what is missing
        import open_clip

        kind = name if is_published(name) else name.partition(".")[0]
        tag = split_tag(full, name)[1] if pretrained else None
        with explained(full, source_of(name)), root_logger_kept(quiet=not pretrained):
            model = open_clip.create_model(
                kind, pretrained=tag, require_pretrained=pretrained, load_weights=pretrained
            ).eval()
            tokenizer = open_clip.get_tokenizer(kind)
        model.visual = nn.Identity()  # the image tower is the backbone's
        provenance = {"source": f"open_clip {open_clip.__version__}", "weights": "random"}
        if pretrained:
            provenance |= {"weights": shown(name), "license": license_of_weights(name)}
        scale, bias = model.logit_scale.detach().exp(), getattr(model, "logit_bias", None)
        pairing = Pairing(full, float(scale), float(0 if bias is None else bias.detach()))
        info = TextEncoderInfo(full, 0, provenance, pairing)

        def tokenize(texts: Sequence[str]) -> Tensor:
            return cast("Tensor", tokenizer(list(texts)))

        vocabulary: Any = getattr(tokenizer, "tokenizer", tokenizer)  # of transformers, or its own

        def decode(token: int) -> str:
            return str(vocabulary.decode([token]))

        encoder = TextTower(info, model, _embedding(model), tokenize, _encode, decode)
        encoder.info = replace(info, dim=encoder.encode(["a"]).shape[1])
        return encoder


def _encode(model: Any, tokens: Tensor) -> Tensor:
    return cast("Tensor", model.encode_text(tokens))


def _embedding(model: Any) -> nn.Module:
    """Return the part of a network that embeds token ids."""
    text = getattr(model, "text", model)
    if hasattr(text, "token_embedding"):
        return cast("nn.Module", text.token_embedding)
    return cast("nn.Module", text.transformer.get_input_embeddings())  # a network of transformers
