"""Adapters that add nothing: few of the existing parameters train."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from visiongraft.adapters import Adapter, Applied, own_modules
from visiongraft.backbone import Backbone
from visiongraft.plugins.adapters.needs import needed

NORMS = "normalization layers with scale or shift"
NORMALIZATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class BitFit(Adapter):
    """Train the biases only (Ben Zaken et al., 2022), those of normalization layers among them."""

    name: ClassVar[str] = "bitfit"

    def apply(self, backbone: Backbone) -> Applied:
        found = {
            name
            for name, _ in backbone.named_parameters()
            if name.rpartition(".")[2].endswith("bias")
        }
        return Applied(trains=frozenset(needed(self.name, "biases", found, backbone)))


class Norm(Adapter):
    """Train the scale and shift of normalization layers only (Frankle et al., 2021)."""

    name: ClassVar[str] = "norm"

    def apply(self, backbone: Backbone) -> Applied:
        found = {
            f"{name}.{parameter}"
            for name, module in own_modules(backbone).items()
            if isinstance(module, NORMALIZATIONS)
            for parameter, _ in module.named_parameters(recurse=False)
        }
        return Applied(trains=frozenset(needed(self.name, NORMS, found, backbone)))
