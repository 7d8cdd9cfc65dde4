"""torchvision's convolutional and windowed architectures, as chains of modules.

Every such model calls its children one after another, so the chain is the order in which they are
defined, with a few containers flattened. The children keep their names, and thereby those of
torchvision's checkpoints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torchvision.models import DenseNet, SwinTransformer

from visiongraft.backbone import Backbone, BackboneInfo, Features, name_stages
from visiongraft.plugins.backbones.blocks import repeated_blocks
from visiongraft.plugins.backbones.dry_run import dry_run
from visiongraft.plugins.backbones.stages import tensor_names
from visiongraft.preprocess import PreprocessConfig

CONTAINERS = ("features", "layers", "trunk_output", "blocks")
NECK = ("norm", "permute", "avgpool", "classifier")  # modules after the last feature map
NOT_FEATURES = ("fc", "head", "dropout", "flatten")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # auxiliary classifiers for training from scratch


@dataclass(frozen=True)
class Chain:
    """The order of a model's modules.

    Attributes:
        trunk: Names of the modules from the image to the last feature map.
        neck: Names of the modules from there to the embedding.
        channels_last: Whether the trunk's tensors are (N, H, W, C).
        levels: Index in the trunk of each returned feature map: the last of each stride.
    """

    trunk: tuple[str, ...]
    neck: tuple[str, ...]
    channels_last: bool
    levels: tuple[int, ...] = ()


class ChainBackbone(Backbone):
    """A torchvision model without its classifier's last layer.

    Args:
        info: Facts about the backbone.
        model: The model's children, under their own names.
        chain: The order of the children.
    """

    def __init__(self, info: BackboneInfo, model: nn.ModuleDict, chain: Chain) -> None:
        super().__init__(info)
        self.model = model
        self.chain = chain

    @classmethod
    def around(
        cls,
        model: nn.Module,
        name: str,
        preprocess: PreprocessConfig,
        default_size: tuple[int, int],
        provenance: dict[str, str],
    ) -> ChainBackbone:
        """Wrap a model, and derive the facts about it from a forward pass.

        Args:
            model: A torchvision model; its children are moved to the backbone.
            name: Full name of the backbone.
            preprocess: Preprocessing, with number of channels and size.
            default_size: The size at which strides and stages are measured.
            provenance: Where the weights come from.

        Returns:
            The backbone, in training mode.

        Raises:
            BackboneError: The architecture does not support the size.
        """
        children, chain = _split_model(model)
        channels = len(preprocess.mean)
        every = tuple(range(len(chain.trunk)))

        def run(images: Tensor) -> Features:
            return _forward(children, chain, every, images)

        features = dry_run(name, children, run, channels, default_size).features
        if preprocess.size != default_size:
            dry_run(name, children, run, channels, preprocess.size)
        strides = [2 ** round(math.log2(default_size[0] / m.shape[2])) for m in features.maps]
        last_of = {stride: i for i, stride in enumerate(strides)}
        levels = tuple(last_of[s] for s in sorted(last_of))
        info = BackboneInfo(
            name=name,
            stage_of=name_stages(_stages(children, chain, strides), "model."),
            channels=tuple(features.maps[i].shape[1] for i in levels),
            strides=tuple(sorted(last_of)),
            embedding_dim=features.pooled.shape[1],
            preprocess=preprocess,
            in_channels=channels,
            provenance=provenance,
        )
        return cls(info, children, replace(chain, levels=levels))

    def forward(self, images: Tensor) -> Features:
        return _forward(self.model, self.chain, self.chain.levels, images)

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        return repeated_blocks(self.model)

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        own = self.model.state_dict()
        classifiers = ("classifier.", "fc.", "head.")
        converted = {}
        for name, tensor in weights.items():
            # torchvision's densenet checkpoints write `norm.1` for `norm1`.
            name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
            name = name.removeprefix("model.")
            if name in own or not name.startswith((*classifiers, *AUXILIARY)):
                converted[f"model.{name}"] = tensor
        return converted


def _forward(model: nn.ModuleDict, chain: Chain, levels: Sequence[int], images: Tensor) -> Features:
    maps = []
    x = images
    for i, name in enumerate(chain.trunk):
        x = model.get_submodule(name)(x)
        if i in levels:
            maps.append(x.permute(0, 3, 1, 2) if chain.channels_last else x)
    for name in chain.neck:
        module = model.get_submodule(name)
        # Classifiers of newer architectures flatten the map themselves, after a norm.
        if name == "classifier" and not any(isinstance(m, nn.Flatten) for m in module.modules()):
            x = x.flatten(1)
        x = module(x)
    return Features(tuple(maps), x.mean((2, 3)) if x.ndim == 4 else x)


def _split_model(model: nn.Module) -> tuple[nn.ModuleDict, Chain]:
    """Split a model's children into trunk and neck, without the last layer of the classifier."""
    kept = {n: m for n, m in model.named_children() if n not in NOT_FEATURES}
    if isinstance(model, DenseNet):
        model.features.add_module("relu5", nn.ReLU(inplace=True))  # a function call in torchvision
    if "classifier" in kept:
        layers = _without_last_layer(kept.pop("classifier"))
        kept |= {"classifier": layers} if len(layers) else {}
    trunk: list[str] = []
    for name, child in kept.items():
        if name in CONTAINERS:
            trunk += [f"{name}.{inner}" for inner, _ in child.named_children()]
        elif name not in NECK:
            trunk.append(name)
    neck = tuple(n for n in kept if n in NECK)
    return nn.ModuleDict(kept), Chain(tuple(trunk), neck, isinstance(model, SwinTransformer))


def _without_last_layer(classifier: nn.Module) -> nn.Sequential:
    """Return the layers before the last linear layer and the dropout that precedes it."""
    layers = list(classifier.children())
    if not layers or not isinstance(layers.pop(), nn.Linear):
        return nn.Sequential()
    while layers and isinstance(layers[-1], nn.Dropout):
        layers.pop()
    return nn.Sequential(*layers)


def _stages(model: nn.ModuleDict, chain: Chain, strides: Sequence[int]) -> dict[str, int]:
    """Number the tensors: a new stage starts at each resolution, and after the stem."""
    number, filled = 0, False
    numbers: dict[str, int] = {}
    for i, name in enumerate(chain.trunk):
        module = model.get_submodule(name)
        coarser = i > 0 and strides[i] > strides[i - 1]
        first_blocks = number == 0 and type(module) is nn.Sequential
        if filled and (coarser or first_blocks):
            number, filled = number + 1, False
        own = tensor_names(module)
        numbers |= {f"{name}.{n}": number for n in own}
        filled = filled or bool(own)
    return numbers | {n: number for n in tensor_names(model) if n not in numbers}
