"""The settings of a run, as its ``config.json`` holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from visiongraft.errors import ArtifactError, OptionError
from visiongraft.options import is_integer, is_number
from visiongraft.saving.files import read_json, write_json

FORMAT = 1
PRECISIONS = ("no", "fp16", "bf16")


@dataclass(frozen=True)
class FitConfig:
    """Everything that determines a run; ``visiongraft.fit`` explains each setting."""

    data: str | None
    task: str
    task_options: dict[str, Any]
    backbone: str
    weights: str | None
    schedule: dict[str, Any]
    epochs: int
    validation: float
    size: tuple[int, int] | None
    resize: str | None
    in_channels: int
    batch_size: int
    optimizer: str
    weight_decay: float
    transfer_loss: dict[str, Any] | None
    views: int | None
    replay: str
    replay_dtype: str
    replay_budget: int
    precision: str
    accumulate: int
    clip_norm: float | None
    ema: float | None
    patience: int | None
    checkpoint_every: int | None
    workers: int | None
    device: str | None
    seed: int

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "in_channels"):
            _integer(name, getattr(self, name), 1)
        for name in ("views", "patience", "checkpoint_every"):
            if getattr(self, name) is not None:
                _integer(name, getattr(self, name), 1)
        for name in ("seed", "replay_budget"):
            _integer(name, getattr(self, name), 0)
        if self.workers is not None:
            _integer("workers", self.workers, 0)
        _one_of("replay", self.replay, ("auto", "on", "off"))
        _one_of("replay_dtype", self.replay_dtype, ("float32", "float16"))
        _one_of("precision", self.precision, PRECISIONS)
        if not (is_number(self.weight_decay) and self.weight_decay >= 0):
            raise OptionError(f"weight_decay={self.weight_decay!r} is not a number of at least 0")
        if not (is_number(self.validation) and 0 < self.validation < 1):
            raise OptionError(f"validation={self.validation!r} is not a fraction in (0, 1)")
        if self.ema is not None and not (is_number(self.ema) and 0 < self.ema < 1):
            raise OptionError(f"ema={self.ema!r} is not a decay in (0, 1), such as 0.99")
        if self.clip_norm is not None and not (is_number(self.clip_norm) and self.clip_norm > 0):
            raise OptionError(f"clip_norm={self.clip_norm!r} is not positive; None clips nothing")

    def write(self, folder: Path) -> None:
        """Write ``config.json`` into a run folder."""
        write_json(folder / "config.json", {"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> FitConfig:
        """Read a run folder's ``config.json``.

        Args:
            folder: The run folder.

        Returns:
            The settings.

        Raises:
            ArtifactError: The file is missing, damaged or of another version.
        """
        path = folder / "config.json"
        values = read_json(path)
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ArtifactError(f"{path} is not a run's config of format {FORMAT}")
        if values.keys() != known:
            odd = sorted(values.keys() ^ known)
            raise ArtifactError(f"{path} has missing or unknown settings: {', '.join(odd)}")
        if values["size"] is not None:
            values["size"] = tuple(values["size"])
        return cls(**values)


def differences(
    given: Mapping[str, Any], stored: FitConfig, defaults: Mapping[str, Any]
) -> list[str]:
    """Name the settings that a resumed call sets otherwise than the run did.

    Args:
        given: Settings of the call.
        stored: Settings of the run.
        defaults: A setting at its default counts as not given.

    Returns:
        One ``name=value (the run has value)`` for each.
    """
    before = asdict(stored)
    return [
        f"{name}={value!r} (the run has {before[name]!r})"
        for name, value in given.items()
        if name in before
        and not (name in defaults and value == defaults[name])
        and _plain(value) != _plain(before[name])
    ]


def _plain(value: Any) -> Any:
    """Give a value as the config file holds it: tuples as lists, names of entries as text."""
    return json.loads(json.dumps(value, default=repr))


def _integer(name: str, value: Any, least: int) -> None:
    if not is_integer(value, least):
        raise OptionError(f"{name}={value!r} is not an integer of at least {least}")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{name}={value!r} is not one of {', '.join(choices)}")
