"""Settings in which runs differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from visiongraft.config import FitConfig
from visiongraft.model import TransferModel


def differing_settings(models: Sequence[TransferModel]) -> dict[str, tuple[str, ...]]:
    """List the settings in which models differ, as texts.

    Args:
        models: Those with a run folder have the settings of the run; others what their facts say of
            training, in which case only those are compared.

    Returns:
        The value of each model by the name of the setting, such as ``schedule.options.learning_rate``;
        empty texts where a model has no such setting.
    """
    if all(model.run_folder is not None for model in models):
        known = [asdict(FitConfig.read(m.run_folder)) for m in models if m.run_folder]
    else:
        known = [
            {"backbone": model.backbone_info.name, **model.facts.get("training", {})}
            for model in models
        ]
    flat = [dict(_flattened(settings)) for settings in known]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    # A setting that is a dict with some models is nothing by itself with the others.
    whole = [name for name in names if not any(n.startswith(f"{name}.") for n in names)]
    values = {name: tuple(settings.get(name, "") for settings in flat) for name in whole}
    return {name: texts for name, texts in values.items() if len(set(texts)) > 1}


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
