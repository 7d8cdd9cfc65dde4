"""Read the settings of a run from a file, as ``fit --config`` takes it."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from visiongraft.config import FitConfig, fit_defaults
from visiongraft.data.parsing import read_json, read_yaml
from visiongraft.errors import OptionError, VisiongraftError, one_line
from visiongraft.lookup.methods import find_schedule
from visiongraft.options import refuse_unknown
from visiongraft.schedules import for_started_head
from visiongraft.training.resuming.inputs import RunInputs
from visiongraft.training.resuming.run_folder import METRICS
from visiongraft.training.weights.head_start import refit_pays

CONFIG = "config.json"
OF_START = ("backbone", "weights", "in_channels")  # a run with ``start`` has those of its model


def read_settings(path: Path) -> dict[str, Any]:
    """Read arguments of ``fit``.

    Args:
        path: A .yaml, .toml or .json file with settings by name, such as ``epochs: 5``; or a run
            folder or its ``config.json``.

    Returns:
        The arguments by name.

    Raises:
        DataError: The file is missing or damaged.
        OptionError: It has another suffix, or a setting does not exist.
        ArtifactError: The folder is not that of a run.
    """
    if path.is_dir():
        return _settings_of_run(path)
    values = _parsed(path)
    if not isinstance(values, dict):
        raise OptionError(f"--config {path} contains no settings by name, such as epochs: 5")
    if path.name == CONFIG and "format" in values:
        return _settings_of_run(path.parent)
    refuse_unknown(f"--config {path}: fit", map(str, values), [*fit_defaults(), "learning_rate"])
    return values


def _parsed(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return read_json(path)
    if suffix in (".yaml", ".yml"):
        values = read_yaml(path)
        is_dict = isinstance(values, dict)
        return {n: _number(v) for n, v in values.items()} if is_dict else values
    if suffix != ".toml":
        raise OptionError(
            f"--config {path}: expected a .yaml, .toml or .json file, or a run folder"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"--config {path} cannot be read: {one_line(error)}") from error


def _number(value: Any) -> Any:
    """Convert what YAML 1.1 takes for text, such as ``1e-3``, to a number."""
    is_number = isinstance(value, str) and re.fullmatch(r"\d+(\.\d*)?[eE][-+]?\d+", value)
    return float(value) if is_number else value


def _settings_of_run(folder: Path) -> dict[str, Any]:
    """Return the arguments with which ``fit`` repeats a run."""
    config = FitConfig.read(folder)
    values = asdict(config)
    values["budget"] = None  # the number of epochs that fitted is stored
    values["schedule"] = _schedule_as_passed(folder, config)
    if values["start"] is not None:
        return {name: value for name, value in values.items() if name not in OF_START}
    return values


def _schedule_as_passed(folder: Path, config: FitConfig) -> dict[str, Any]:
    """Leave out what ``fit`` added to the schedule because of the start of the head.

    It adds the same again, but not if further settings, such as a head that starts at random, make it unsuitable.
    """
    try:
        with open(folder / METRICS, encoding="utf-8") as history:
            started = "head_start" in json.loads(history.readline())
        inputs, stored = RunInputs.read(folder), find_schedule(config.schedule)
    except (OSError, ValueError, VisiongraftError):  # no epoch ended, or a plugin is not there yet
        return config.schedule
    if inputs is None or not started:
        return config.schedule
    pays = refit_pays(config, len(inputs.samples["training"]))
    added = for_started_head(replace(stored, options={}), pays).options
    kept = {n: v for n, v in stored.options.items() if n not in added or added[n] != v}
    return replace(stored, options=kept).to_json()
