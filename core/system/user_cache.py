"""The folder for what is kept between runs, such as cached features and TensorRT's engines."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "VISIONGRAFT_CACHE"


def user_cache() -> Path:
    """Return the folder, which need not exist.

    Returns:
        ``$VISIONGRAFT_CACHE`` if it is set, otherwise ``visiongraft`` in ``$XDG_CACHE_HOME`` or
        ``~/.cache``.

    Raises:
        RuntimeError: The user has no home folder.
    """
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "visiongraft"
