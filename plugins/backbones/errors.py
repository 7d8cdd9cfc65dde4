"""Errors shared by all sources of backbones."""

from __future__ import annotations

from visiongraft.errors import BackboneError, WeightsError


def unsupported(name: str, size: tuple[int, int] | None, cause: str) -> BackboneError:
    """Return the error for an architecture that does not support a size, or cannot be used.

    Args:
        name: Full name of the backbone.
        size: Height and width in pixels, or ``None`` if the error is not about the size.
        cause: The reason.

    Returns:
        The error to raise.
    """
    if size is None:
        return BackboneError(f"{name} cannot be used as a backbone: {cause}")
    return BackboneError(
        f"{name} does not support images of {size[0]}x{size[1]} (height x width): {cause}; choose "
        "another size, or omit it for the architecture's default"
    )


def unavailable(name: str, cause: str) -> WeightsError:
    """Return the error for pretrained weights that could not be downloaded, with alternatives.

    Args:
        name: Full name of the backbone.
        cause: The reason.

    Returns:
        The error to raise.
    """
    return WeightsError(
        f"the pretrained weights of {name} could not be downloaded ({cause}); use weights=FILE for a "
        "local file, weights=None for random weights, or backbone='bundled/efficientnet_lite0'"
    )


def missing_library(name: str, library: str, extra: str) -> BackboneError:
    """Return the error for a backbone whose library is not installed.

    Args:
        name: Full name of the backbone.
        library: The library.
        extra: The extra of visiongraft that installs it.
    """
    return BackboneError(f"{name} needs {library}: run pip install 'visiongraft[{extra}]'")
