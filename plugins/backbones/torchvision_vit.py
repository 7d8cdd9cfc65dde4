"""torchvision's vision transformers: tokens in, one map and the class token out."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from visiongraft.backbone import Backbone, BackboneInfo, Features, name_stages
from visiongraft.plugins.backbones.blocks import repeated_blocks
from visiongraft.plugins.backbones.dry_run import dry_run
from visiongraft.plugins.backbones.stages import tensor_names
from visiongraft.preprocess import PreprocessConfig

POSITIONS = "encoder.pos_embedding"
HIDDEN_LAYERS = {"linear_1": "0", "linear_2": "3"}  # old to new names in torchvision's checkpoints


class VitBackbone(Backbone):
    """A torchvision vision transformer without its heads; each encoder layer is a stage.

    Args:
        info: Facts about the backbone.
        model: The transformer; its heads are removed.
    """

    def __init__(self, info: BackboneInfo, model: VisionTransformer) -> None:
        super().__init__(info)
        self.model = model

    @classmethod
    def around(
        cls,
        model: VisionTransformer,
        name: str,
        preprocess: PreprocessConfig,
        default_size: tuple[int, int],
        provenance: dict[str, str],
    ) -> VitBackbone:
        """Wrap a model; the arguments are those of ``ChainBackbone.around``.

        Args:
            model: A torchvision model, built for the size in ``preprocess``.
            name: Full name of the backbone.
            preprocess: Preprocessing, with number of channels and size.
            default_size: Not used: the patch size is the stride at every size.
            provenance: Where the weights come from.

        Returns:
            The backbone, in training mode.
        """
        del model.heads
        channels = len(preprocess.mean)
        dry_run(name, model, lambda images: _forward(model, images), channels, preprocess.size)
        info = BackboneInfo(
            name=name,
            stage_of=name_stages({n: _layer(n, model) for n in tensor_names(model)}, "model."),
            channels=(model.hidden_dim,),
            strides=(model.patch_size,),
            embedding_dim=model.hidden_dim,
            preprocess=preprocess,
            in_channels=channels,
            provenance=provenance,
        )
        return cls(info, model)

    def forward(self, images: Tensor) -> Features:
        return _forward(self.model, images)

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        return repeated_blocks(self.model)

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        converted = {
            re.sub(r"linear_[12]\b", lambda m: HIDDEN_LAYERS[m[0]], n.removeprefix("model.")): t
            for n, t in weights.items()
            if not n.startswith("heads.")
        }
        positions = converted.get(POSITIONS)
        if positions is not None and positions.ndim == 3:
            try:
                interpolate_embeddings(self.model.image_size, self.model.patch_size, converted)
            except ValueError:  # not square; they are reported as reshaped
                pass
        return {f"model.{n}": t for n, t in converted.items()}


def _forward(model: VisionTransformer, images: Tensor) -> Features:
    patches = model.conv_proj(images)
    tokens = torch.cat(
        [model.class_token.expand(images.shape[0], -1, -1), patches.flatten(2).transpose(1, 2)],
        dim=1,
    )
    tokens = model.encoder(tokens)
    grid = tokens[:, 1:].transpose(1, 2).reshape(patches.shape)
    return Features((grid,), tokens[:, 0])


def _layer(name: str, model: VisionTransformer) -> int:
    """Return 0 for tensors before the encoder's layers, otherwise the number of their layer."""
    layer = re.match(r"encoder\.layers\.encoder_layer_(\d+)\.", name)
    if layer:
        return int(layer[1]) + 1
    return len(model.encoder.layers) if name.startswith("encoder.ln.") else 0
