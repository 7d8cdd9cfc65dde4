"""What cached features depend on, as one digest: equal keys mean equal features."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.caching.plan import ReplayPlan
from visiongraft.data.digests import digest_of
from visiongraft.network import Network
from visiongraft.registry.source_code import source_digests
from visiongraft.system.versions import VISIONGRAFT

DECODING = ("PIL", "numpy", "torchvision")  # libraries that may decide what an image is decoded to
HOST = "visiongraft"


def features_key(
    network: Network, plan: ReplayPlan, images: Sequence[str], dtype: str, batch_size: int
) -> str:
    """Compute the key of the features that the frozen stages of a network return for images.

    Args:
        network: The network, prepared for a phase.
        plan: What of its features is stored.
        images: Digests of the images, in the order of the rows.
        dtype: Type to store.
        batch_size: Images in one pass; rounding depends on it.

    Returns:
        Hexadecimal digits.
    """
    backbone = network.backbone
    device = next(backbone.parameters()).device
    units = [
        (u.name, u.call, [(v.shape, str(v.dtype), v.needed, v.constant) for v in u.values])
        for u in plan.units
    ]
    return digest_of(
        {
            "images": list(images),
            "preprocess": asdict(network.preprocess.config),
            "inputs": repr(network.preprocess.inputs),
            "backbone": (backbone.info.name, repr(backbone)),
            "tensors": dict(_unchanging(backbone)),
            "code": _code(backbone),
            "units": units,
            "dtype": dtype,
            "passes": (batch_size, *_arithmetic(device)),
        }
    )


def embeddings_key(backbone: Backbone, images: Sequence[str]) -> str:
    """Compute the key of the embeddings that a backbone returns for images in evaluation.

    Args:
        backbone: The backbone.
        images: Digests of the images, in the order of the rows.

    Returns:
        Hexadecimal digits.
    """
    device = next(backbone.parameters()).device
    return digest_of(
        {
            "embeddings of images": list(images),
            "preprocess": asdict(backbone.info.preprocess),
            "backbone": (backbone.info.name, repr(backbone)),
            "tensors": backbone.state_dict(),
            "code": _code(backbone),
            "passes": _arithmetic(device),
        }
    )


def _unchanging(backbone: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Find the tensors that frozen modules may read: all but those that training changes."""
    for prefix, module in backbone.named_modules():
        own = dict(module.named_parameters(prefix, recurse=False))
        trained = any(parameter.requires_grad for parameter in own.values())
        yield from ((name, p) for name, p in own.items() if not p.requires_grad)
        if not (trained and module.training):  # such as running statistics
            yield from module.named_buffers(prefix, recurse=False)


def _code(backbone: nn.Module) -> dict[str, str]:
    """Return versions of libraries, and digests of the source of modules that are in none."""
    kinds = {type(module) for module in backbone.modules()}
    libraries = {kind.__module__.partition(".")[0] for kind in kinds} - {HOST}
    versions = {name: _version(name) for name in sorted({*libraries, *DECODING})}
    own = [kind for kind in kinds if not versions.get(kind.__module__.partition(".")[0])]
    return {HOST: VISIONGRAFT, **versions, **source_digests(own)}


def _version(library: str) -> str:
    return str(getattr(sys.modules.get(library), "__version__", ""))


def _arithmetic(device: torch.device) -> tuple[Any, ...]:
    """Return what else rounding depends on."""
    if device.type == "cuda":
        return (
            torch.cuda.get_device_name(device),
            torch.version.cuda,
            torch.backends.cudnn.version(),
            torch.backends.cudnn.allow_tf32,
            torch.get_float32_matmul_precision(),
        )
    return (device.type, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
