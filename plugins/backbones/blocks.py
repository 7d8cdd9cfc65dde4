"""Parts of a network: its repeated blocks, such as residual blocks, and its first convolution."""

from __future__ import annotations

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Find the blocks that a network stacks.

    A block is an element of a container that has parts, and none of whose parts stacks blocks itself, as
    a stage does.

    Args:
        model: Any network.

    Returns:
        The blocks, none inside of another one; empty if single layers make up the network.
    """
    found = []
    for child in model.children():
        if _is_block(child) and isinstance(model, _CONTAINERS) and not _stacks_blocks(child):
            found.append(child)
        else:
            found += repeated_blocks(child)
    return found


def set_image_channels(model: nn.Module, in_channels: int) -> None:
    """Replace the first convolution of a network by a random one for another number of image channels."""
    name, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    model.set_submodule(name, new)


def _is_block(module: nn.Module) -> bool:
    return not isinstance(module, _CONTAINERS) and next(module.children(), None) is not None


def _stacks_blocks(module: nn.Module) -> bool:
    for part in module.modules():
        if isinstance(part, _CONTAINERS):
            kinds = [type(child) for child in part.children() if _is_block(child)]
            if len(kinds) > len(set(kinds)):
                return True
    return False
