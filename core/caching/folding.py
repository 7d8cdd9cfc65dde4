"""Batch norms folded into the convolutions before them, for passes that only infer."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from visiongraft.adaptation.timm_layers import timm_layer

AnyModule = TypeVar("AnyModule", bound=nn.Module)

_NORM_ACT = "norm_act.BatchNormAct2d"  # a batch norm with an activation


def folded_copy(model: AnyModule, images: Tensor) -> AnyModule:
    """Copy a model, in evaluation mode, with its batch norms folded into their convolutions.

    On CPUs batch norm in evaluation mode is bound by memory and costs as much as the convolutions.
    A batch norm is folded where its input is, in a real forward pass, the very tensor that a
    convolution returned; a model in which something else reads that tensor too is not served. Module
    names stay as they are.

    Args:
        model: Any model; it is not changed.
        images: float (N, C, H, W), an example input on the model's device.

    Returns:
        The copy; its results equal the model's up to rounding.
    """
    folded = copy.deepcopy(model).eval()
    for name, (convolution, norm) in _pairs(folded, images).items():
        assert norm.running_mean is not None and norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        rest = (norm.drop, norm.act) if isinstance(norm, timm_layer(_NORM_ACT)) else ()
        folded.set_submodule(name, nn.Sequential(*rest))
    return folded


def _pairs(model: nn.Module, images: Tensor) -> dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find the batch norms whose input is a convolution's output, both called once."""
    produced: dict[int, tuple[Tensor, int, nn.Conv2d]] = {}
    pairs: dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]] = {}
    used: Counter[int] = Counter()
    hooks = []

    def note_output(module: nn.Module, args: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        # Keeping the tensor keeps its id unique; its version counts in-place operations.
        produced[id(output)] = (output, output._version, module)
        used[id(module)] += 1

    def note_input(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            assert isinstance(module, nn.BatchNorm2d)
            used[id(module)] += 1
            output, version, convolution = produced.get(id(args[0]), (None, 0, None))
            unchanged = output is not None and output._version == version
            if convolution is not None and unchanged and module.running_mean is not None:
                pairs[name] = (convolution, module)

        return hook

    # Subclasses of these may do something to their weights.
    convolutions = (nn.Conv2d, *timm_layer("conv2d_same.Conv2dSame"))
    norms = (nn.BatchNorm2d, *timm_layer(_NORM_ACT))
    for name, module in model.named_modules():
        if type(module) in convolutions:
            hooks.append(module.register_forward_hook(note_output))
        elif type(module) in norms:
            hooks.append(module.register_forward_pre_hook(note_input(name)))
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {n: p for n, p in pairs.items() if used[id(p[0])] == used[id(p[1])] == 1}
