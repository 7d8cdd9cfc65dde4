"""The settings of a run that is trained again without some of its images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from visiongraft.config import FitConfig

OF_START = ("backbone", "weights", "in_channels")  # a run with ``start`` has those of its model


def settings_leaving_out(config: FitConfig, digests: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of ``fit`` that train as a run did, without some of its images.

    Args:
        config: The settings of the run, whose data are a path.
        digests: Digests of the images, beside those that the run left out.

    Returns:
        All settings by name, ``data`` among them.
    """
    values = asdict(config) | {"budget": None}  # the number of epochs that fitted is stored
    if config.start is not None:
        values = {name: value for name, value in values.items() if name not in OF_START}
    values["leave_out"] = sorted({*(config.leave_out or ()), *digests})
    return values
