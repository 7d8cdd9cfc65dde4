"""torchvision's convolutional and windowed architectures: all of them are chains of modules.

Every such model calls its children one after another, so the chain is the order in which they are
defined, with a few containers opened. The children keep their own names, and thereby those of
torchvision's published files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torchvision.models import DenseNet, SwinTransformer

from visiongraft.backbone import Backbone, BackboneInfo, Features
from visiongraft.plugins.backbones.probing import probe
from visiongraft.plugins.backbones.stages import in_stages, tensor_names
from visiongraft.preprocess import PreprocessConfig

CONTAINERS = ("features", "layers", "trunk_output", "blocks")
NECK = ("norm", "permute", "avgpool", "classifier")  # what comes after the last feature map
NOT_FEATURES = ("fc", "head", "dropout", "flatten")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # classifiers that only training from scratch uses


@dataclass(frozen=True)
class Chain:
    """What runs in which order.

    Attributes:
        trunk: Names of the modules from the image to the last feature map.
        neck: Names of those from there to the embedding.
        channels_last: Whether the trunk's tensors are (N, H, W, C).
        levels: Position in the trunk of each map to give: the last of each stride.
    """

    trunk: tuple[str, ...]
    neck: tuple[str, ...]
    channels_last: bool
    levels: tuple[int, ...] = ()


class ChainBackbone(Backbone):
    """A torchvision model without its classifier's last layer.

    Args:
        info: What is known about it.
        model: The model's children, under their own names.
        chain: Their order.
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
        own_size: tuple[int, int],
        provenance: dict[str, str],
    ) -> ChainBackbone:
        """Wrap a model, finding out by a forward pass what it gives.

        Args:
            model: A torchvision model; its children are taken over.
            name: Full name of the backbone.
            preprocess: How images are prepared; gives number of channels and size.
            own_size: The size at which strides and stages are measured.
            provenance: Where the weights come from.

        Returns:
            The backbone, in training mode.

        Raises:
            BackboneError: The architecture refuses the size.
        """
        children, chain = _take_apart(model)
        channels = len(preprocess.mean)
        every = tuple(range(len(chain.trunk)))

        def run(images: Tensor) -> Features:
            return _forward(children, chain, every, images)

        features = probe(name, children, run, channels, own_size).features
        if preprocess.size != own_size:
            probe(name, children, run, channels, preprocess.size)
        strides = [2 ** round(math.log2(own_size[0] / m.shape[2])) for m in features.maps]
        last_of = {stride: i for i, stride in enumerate(strides)}
        levels = tuple(last_of[s] for s in sorted(last_of))
        info = BackboneInfo(
            name=name,
            stage_of=in_stages(_stages(children, chain, strides), "model."),
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

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        own = self.model.state_dict()
        classifiers = ("classifier.", "fc.", "head.")
        converted = {}
        for name, tensor in weights.items():
            # torchvision's own densenet files write `norm.1` for `norm1`.
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


def _take_apart(model: nn.Module) -> tuple[nn.ModuleDict, Chain]:
    """Sort a model's children into trunk and neck, leaving its classifier's last layer out."""
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
    """Keep what stands before the last dense layer and before the dropout in front of it."""
    layers = list(classifier.children())
    if not layers or not isinstance(layers.pop(), nn.Linear):
        return nn.Sequential()
    while layers and isinstance(layers[-1], nn.Dropout):
        layers.pop()
    return nn.Sequential(*layers)


def _stages(model: nn.ModuleDict, chain: Chain, strides: Sequence[int]) -> dict[str, int]:
    """Number the tensors: a stage begins at each new resolution, and after the stem."""
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
