"""The settings of a run that is trained again without some of its images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from visiongraft.config import FitConfig
from visiongraft.errors import OptionError

OF_START = ("backbone", "weights", "in_channels")  # a run with ``start`` has those of its model


def settings_leaving_out(config: FitConfig, digests: Iterable[str]) -> dict[str, Any]:
    """Return the arguments of ``fit`` that train as a run did, without some of its images.

    Args:
        config: The settings of the run, whose data are a path.
        digests: Digests of the images, beside those that the run left out.

    Returns:
        All settings by name, ``data`` among them; without metrics that were objects, which settings do not hold.

    Raises:
        OptionError: ``select`` compares a metric that was an object.
    """
    values = asdict(config) | {"budget": None}  # the number of epochs that fitted is stored
    if config.start is not None:
        values = {name: value for name, value in values.items() if name not in OF_START}
    values["leave_out"] = sorted({*(config.leave_out or ()), *digests})
    values["metrics"] = _stored_metrics(config)
    return values


def _stored_metrics(config: FitConfig) -> dict[str, str] | None:
    metrics, selection = config.metrics or {}, config.selection
    compared = [c.metric for c in selection.conditions]
    compared += [selection.metric[1]] if selection.metric is not None else []
    for name in (name for name, text in metrics.items() if text is None):
        if any(each == name or each.startswith(f"{name}.") for each in compared):
            raise OptionError(
                f"select={config.select!r} of the run compares its metric {name!r}, an object that its settings do not "
                "hold, so that it cannot be trained again; train the run with the metric by name and options"
            )
    return {name: text for name, text in metrics.items() if text is not None} or None
