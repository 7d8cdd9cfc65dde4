"""Built-in adapters, registered like those of third parties."""

from __future__ import annotations

from visiongraft.adapters import Adapter
from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.adapters.bottleneck import Bottleneck
from visiongraft.plugins.adapters.existing import BitFit, Norm
from visiongraft.plugins.adapters.ia3 import IA3
from visiongraft.plugins.adapters.lora import DoRA, LoRA
from visiongraft.plugins.adapters.stoch_norm import StochNorm


@hookimpl
def register_adapters() -> list[type[Adapter]]:
    """Provide the built-in adapters."""
    return [LoRA, DoRA, IA3, Bottleneck, BitFit, Norm, StochNorm]
