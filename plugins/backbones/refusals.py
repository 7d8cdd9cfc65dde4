"""The two errors that every source of backbones can meet, in the same words."""

from __future__ import annotations

from visiongraft.errors import BackboneError, WeightsError


def refused(name: str, size: tuple[int, int] | None, cause: str) -> BackboneError:
    """Say that an architecture cannot work at a size, or at all.

    Args:
        name: Full name of the backbone.
        size: Height and width in pixels, or ``None`` if it is not the size that is refused.
        cause: Why, in words.

    Returns:
        The error to raise.
    """
    if size is None:
        return BackboneError(f"{name} cannot serve as a backbone: {cause}")
    return BackboneError(
        f"{name} cannot work on {size[0]}x{size[1]} images (height x width): {cause}; choose "
        "another size, or leave it out for the architecture's own"
    )


def unavailable(name: str, cause: str) -> WeightsError:
    """Say that published weights cannot be had here, and what to do instead.

    Args:
        name: Full name of the backbone.
        cause: Why, in words.

    Returns:
        The error to raise.
    """
    return WeightsError(
        f"the published weights of {name} cannot be had here ({cause}); say weights=FILE for a "
        "local file, weights=None for random weights, or use bundled/efficientnet_lite0"
    )
