"""What an adapter needs of a backbone."""

from __future__ import annotations

from collections.abc import Sized
from typing import TypeVar

from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError

WEIGHTED = "linear or convolution layers"

Found = TypeVar("Found", bound=Sized)


def needed(adapter: str, what: str, found: Found, backbone: Backbone) -> Found:
    """Return what an adapter found in a backbone, which must not be nothing.

    Args:
        adapter: Name of the adapter.
        what: What it needs, in the plural.
        found: What it found.
        backbone: The backbone.

    Raises:
        OptionError: It found nothing.
    """
    if not found:
        raise OptionError(
            f"adapter {adapter!r} needs {what}; backbone {backbone.info.name!r} has none"
        )
    return found
