"""Text towers of transformers (CLIP, SigLIP), paired with the image towers of the same networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from visiongraft.errors import BackboneError
from visiongraft.plugins.backbones.hf_source import CONFIG, HfSource, require_transformers
from visiongraft.plugins.backbones.hub import check_reachable, explained, license_of
from visiongraft.text_encoders import (
    Pairing,
    TextEncoder,
    TextEncoderInfo,
    TextEncoderSource,
    Vectors,
)

AT_ONCE = 64  # texts per forward pass
# How the tokenizers of each kind of network pad: SigLIP was trained on texts of full length.
PADDING: dict[str, bool | str] = {"clip": True, "siglip": "max_length", "siglip2": "max_length"}


class HfTextSource(TextEncoderSource):
    """Provides text towers of transformers: ``hf/org/name``, or a local folder."""

    prefix = "hf"

    def names(self) -> Sequence[str]:
        return ("openai/clip-vit-base-patch32", "google/siglip-base-patch16-224")

    def accepts(self, name: str) -> bool:
        return HfSource().accepts(name)

    def build(self, name: str, *, pretrained: bool) -> TextEncoder:
        full = HfSource().full_name(name)
        require_transformers(full)
        import transformers

        if not Path(name).is_dir():
            check_reachable(full, name, [CONFIG])
        with explained(full, name):
            config = transformers.AutoConfig.from_pretrained(name)
            if config.model_type not in PADDING:
                raise BackboneError(
                    f"{full} is a network of the type {config.model_type!r}; text encoders are those of "
                    f"{', '.join(PADDING)}"
                )
            tokenizer = transformers.AutoTokenizer.from_pretrained(name)
            if pretrained:
                model = transformers.AutoModel.from_pretrained(name, dtype=torch.float32)
            else:
                model = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        provenance = {"source": f"transformers {transformers.__version__}", "weights": "random"}
        if pretrained:
            weights = Path(name).name if Path(name).is_dir() else name
            provenance |= {"weights": weights, "license": license_of(name)}
        model.eval()
        info = TextEncoderInfo(full, _width(model), provenance, _pairing(full, model))
        del model.vision_model  # it is the backbone's
        return HfText(info, model, tokenizer)


class HfText(TextEncoder):
    """The text tower of a network of images and text.

    Args:
        info: Facts about the encoder.
        model: The network.
        tokenizer: Its tokenizer.
    """

    def __init__(self, info: TextEncoderInfo, model: Any, tokenizer: Any) -> None:
        super().__init__(info)
        self.model, self.tokenizer = model, tokenizer

    def encode(self, texts: Sequence[str]) -> Vectors:
        config, found = self.model.config, []
        for start in range(0, len(texts), AT_ONCE):
            tokens = self.tokenizer(
                list(texts[start : start + AT_ONCE]),
                padding=PADDING[config.model_type],
                max_length=config.text_config.max_position_embeddings,
                truncation=True,
                return_tensors="pt",
            )
            if config.model_type != "clip":  # SigLIP attends to the padding, too
                tokens.pop("attention_mask", None)
            with torch.no_grad():
                found.append(self.model.get_text_features(**tokens).pooler_output)
        vectors: Vectors = torch.cat(found).numpy()
        return vectors


def _width(model: Any) -> int:
    """Return the length of a text's vector."""
    layer = getattr(model, "text_projection", None) or model.text_model.head
    return int(layer.out_features)


def _pairing(full: str, model: Any) -> Pairing:
    bias, layer = getattr(model, "logit_bias", None), getattr(model, "visual_projection", None)
    return Pairing(
        full,
        float(model.logit_scale.detach().exp()),
        float(0 if bias is None else bias.detach()),
        None if layer is None else layer.weight.detach().numpy(),
    )
