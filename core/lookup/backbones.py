"""Find backbones by name, and load them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from visiongraft.backbone import (
    Backbone,
    BackboneSource,
    backbone_names,
    is_accepted,
    split_names,
)
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.lookup.methods import find_adapter
from visiongraft.module_backbone import PREFIX, as_backbone
from visiongraft.options import checks_keywords
from visiongraft.preprocess import as_size
from visiongraft.registry.manager import plugins
from visiongraft.saving.adapter_folder import adapter_folder, is_adapter
from visiongraft.saving.saved_model import is_saved_model, load_saved_backbone
from visiongraft.saving.weights import check_license, load_weights


@checks_keywords
def load_backbone(
    name: str | Path | nn.Module,
    weights: str | Path | None = "pretrained",
    *,
    in_channels: int = 3,
    size: int | tuple[int, int] | None = None,
    partial: bool = False,
    weights_license: str | None = None,
) -> Backbone:
    """Load a backbone by name or out of a saved model, or make one of a network.

    Args:
        name: ``"timm/resnet50"``, ``"torchvision/resnet50"``, ``"bundled/efficientnet_lite0"``, a
            name after the prefix that only one source accepts, or the folder of a saved model. Or a
            network: a backbone, or any other one, see ``ModuleBackbone``; it is copied.
        weights: ``"pretrained"`` (of a network, its own), ``None`` for random weights, or a local ``.safetensors``,
            ``.pth``, ``.pt``, ``.th``, ``.bin`` or ``.ckpt`` file.
        in_channels: Number of image channels; a pretrained first layer is adapted to it.
        size: Network input, one number or (height, width); the architecture's own if ``None``.
        partial: Accept a weights file that does not fit completely.
        weights_license: License of the weights file, or of a network's own weights; ``None`` for the one that a
            safetensors file states in its metadata, if it does.

    Returns:
        The backbone, in training mode.

    Raises:
        BackboneError: The name is unknown, or the architecture refuses the size.
        OptionError: The size is neither a number of pixels nor a height and a width, or the license is for
            other weights than those of a file.
        WeightsError: The weights could not be downloaded, read or fitted.

    Examples:
        >>> backbone = load_backbone("simple_cnn", weights=None, size=32)
        >>> backbone.stages, backbone.info.channels, backbone.info.embedding_dim
        (('stem', 'stage1', 'stage2'), (32, 64), 128)
    """
    if in_channels < 1:
        raise BackboneError(f"in_channels={in_channels} is not a number of channels of at least 1")
    pair = as_size(size)
    if isinstance(name, nn.Module):
        if weights is None:
            raise WeightsError(
                "weights=None, but a network that is passed as backbone has weights; initialize it as needed"
            )
        backbone = as_backbone(name, in_channels=in_channels, size=pair)
        check_license(weights_license, name)
        if weights != "pretrained":
            load_weights(backbone, Path(weights), partial=partial, license=weights_license)
        elif weights_license is not None:
            provenance = {**backbone.info.provenance, "license": weights_license}
            backbone.info = replace(backbone.info, provenance=provenance)
        return backbone
    check_license(weights_license, weights)
    if is_saved_model(name):
        return load_saved_backbone(
            Path(name),
            find_source,
            find_adapter,
            weights=weights,
            in_channels=in_channels,
            size=pair,
            partial=partial,
            weights_license=weights_license,
        )
    source, short = find_source(str(name))
    pretrained = weights == "pretrained"
    backbone = source.build(short, pretrained=pretrained, in_channels=in_channels, size=pair)
    if _names_owner(str(name)):  # by this name, "distribution:prefix/name", it is found again
        backbone.info = replace(backbone.info, name=str(name))
    if weights is not None and not pretrained:
        load_weights(backbone, Path(weights), partial=partial, license=weights_license)
    return backbone


def find_source(name: str) -> tuple[BackboneSource, str]:
    """Find who provides a backbone.

    Args:
        name: A full name, with ``"distribution:"`` before it where two plugins provide the
            prefix, or a name after the prefix that only one source accepts.

    Returns:
        The source, and the name without prefix.

    Raises:
        BackboneError: Nobody or more than one provides it.
    """
    if _names_owner(name):
        owner, _, rest = name.partition(":")
        for prefix, short in split_names(rest):
            if plugins().provides("backbone", f"{owner}:{prefix}"):
                return plugins().get("backbone", f"{owner}:{prefix}"), short
    sources = plugins().backbone_sources()
    for prefix, short in split_names(name):
        if prefix in sources and is_accepted(sources[prefix], short):
            return sources[prefix], short
    if is_adapter(adapter_folder(Path(name))):
        raise BackboneError(
            f"backbone={name} is the folder of an adapter, without its base; load it on its base, "
            "load(folder, base=...), save the model, and pass that folder"
        )
    alone = "/" not in name or ":" in name or Path(name).exists()  # no name under another prefix
    owners = [s for s in sources.values() if alone and is_accepted(s, name)]
    if len(owners) == 1:
        return owners[0], name
    if owners:
        options = " or ".join(f"{s.prefix}/{name}" for s in owners)
        raise BackboneError(f"backbone {name!r} exists more than once; use {options}")
    if name.startswith(PREFIX):
        raise BackboneError(
            f"backbone {name} is a network that was passed in memory; pass it again: load(folder, "
            "backbone=network), or fit(..., backbone=network, resume=True)"
        )
    for prefix, short in split_names(name):
        if prefix in sources and sources[prefix].lacks(short):
            raise BackboneError(sources[prefix].lacks(short))
    raise BackboneError(plugins().missing("backbone", name, backbone_names(sources.values())))


def _names_owner(name: str) -> bool:
    """Check whether a name begins with a distribution, as in ``"distribution:prefix/name"``."""
    owner, colon, rest = name.partition(":")
    prefixes = (prefix for prefix, _ in split_names(rest)) if colon else ()
    return any(plugins().provides("backbone", f"{owner}:{prefix}") for prefix in prefixes)
