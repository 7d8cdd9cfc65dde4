"""Text towers of transformers (CLIP, SigLIP), paired with the image towers of the same networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from visiongraft.errors import BackboneError, WeightsError, name_some
from visiongraft.plugins.backbones.hf_backbone import quiet
from visiongraft.plugins.backbones.hf_source import HfSource, check_source, require_transformers
from visiongraft.plugins.backbones.hub import explained, license_of
from visiongraft.plugins.text_encoders.tower import TextTower
from visiongraft.text_encoders import (
    Pairing,
    TextEncoder,
    TextEncoderInfo,
    TextEncoderSource,
)

SHOWN = 3  # missing tensors in a message
OLD_END = (
    2  # in configurations of CLIP whose texts end with the token of the highest number instead
)
KINDS = ("clip", "siglip", "siglip2")  # of networks


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

        check_source(full, name)
        with explained(full, name), quiet():
            config = transformers.AutoConfig.from_pretrained(name)
            if config.model_type not in KINDS:
                raise BackboneError(
                    f"{full} is a network of the type {config.model_type!r}; text encoders are those of "
                    f"{', '.join(KINDS)}"
                )
            tokenizer = _tokenizer(full, name)
            if pretrained:
                model = _pretrained(full, name)
            else:
                model = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        provenance = {"source": f"transformers {transformers.__version__}", "weights": "random"}
        if pretrained:
            weights = Path(name).name if Path(name).is_dir() else name
            provenance |= {"weights": weights, "license": license_of(name)}
        model.eval()
        info = TextEncoderInfo(full, _width(model), provenance, _pairing(full, model))
        del model.vision_model  # it is the backbone's
        if hasattr(model, "visual_projection"):
            del model.visual_projection

        def tokenize(texts: Sequence[str]) -> Tensor:
            # At full length, as SigLIP was trained.
            tokens = tokenizer(
                list(texts),
                padding="max_length",
                max_length=config.text_config.max_position_embeddings,
                truncation=True,
                return_tensors="pt",
            )
            return cast("Tensor", tokens["input_ids"])

        def decode(token: int) -> str:
            return str(tokenizer.decode([token]))

        embedding = model.text_model.get_input_embeddings()
        return TextTower(info, model, embedding, tokenize, _encode, decode)


def _encode(model: Any, tokens: Tensor) -> Tensor:
    # Without a mask: SigLIP attends to the padding, and CLIP to nothing after the end of a text.
    if model.config.model_type == "clip":
        tokens = _shortened(tokens, model.config.text_config.eos_token_id)
    return cast("Tensor", model.get_text_features(input_ids=tokens).pooler_output)


def _shortened(tokens: Tensor, end: int) -> Tensor:
    """Cut off what follows the end of the longest text, which only takes time."""
    ends = tokens.argmax(1) if end == OLD_END else (tokens == end).int().argmax(1)
    return tokens[:, : int(ends.max()) + 1]


def _tokenizer(full: str, name: str) -> Any:
    """Load a tokenizer, and check that it is not the empty one of a folder without its files."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    one, other = tokenizer(["x", "y"])["input_ids"]
    if one == other:
        raise BackboneError(
            f"{full}: the tokenizer of {name} knows no words; its files are missing, such as vocab.json"
        )
    return tokenizer


def _pretrained(full: str, name: str) -> Any:
    """Load a network, and check that its text tower is complete."""
    import transformers

    model, report = transformers.AutoModel.from_pretrained(
        name, dtype=torch.float32, output_loading_info=True
    )
    lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    lacking = {key for key in lacking if not key.startswith("vision_model.")}
    if lacking:
        raise WeightsError(
            f"{full}: {name} has no complete text tower; missing {name_some(sorted(lacking), SHOWN)}"
        )
    return model


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
