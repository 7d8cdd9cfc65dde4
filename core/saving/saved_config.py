"""``config.json`` of a saved model: what it records of task and backbone, and whether they are those here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from visiongraft.errors import (
    ArtifactError,
    BackboneError,
    PluginError,
    VisiongraftError,
    type_and_message,
)
from visiongraft.network import Network
from visiongraft.options import is_integer
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.classes import class_path, is_class
from visiongraft.saving.files import read_json
from visiongraft.system.versions import VISIONGRAFT, describe_other_format
from visiongraft.task import Task

FORMAT = 4
PLAIN = 3  # the format of models without adapters, which earlier versions read too
READABLE = (2, PLAIN, FORMAT)  # format 2 does not name classes
CONFIG = "config.json"


@dataclass(frozen=True)
class SavedConfig:
    """What ``config.json`` of a saved model holds.

    Attributes:
        task: Name of the task.
        task_options: Its fields.
        backbone: Full name, ``in_channels``, ``preprocess`` and ``provenance`` of the backbone; its
            ``architecture`` and name and options of its ``adapters``, if there are any.
        facts: What is known about training and data, for the model card.
        visiongraft: Version of the toolkit that wrote it.
        classes: Where the classes of ``task`` and ``backbone`` are defined; empty in format 2.
    """

    task: str
    task_options: dict[str, Any]
    backbone: dict[str, Any]
    facts: dict[str, Any]
    visiongraft: str
    classes: dict[str, Any]


def describe_model(network: Network, facts: Mapping[str, Any], task_name: str) -> SavedConfig:
    """Return what ``config.json`` holds of a model; see ``save_model``."""
    info, adapters = network.backbone.info, network.backbone.adapters
    return SavedConfig(
        task=task_name,
        task_options=network.task.options(),
        backbone={
            "name": info.name,
            "in_channels": info.in_channels,
            "preprocess": asdict(info.preprocess),
            "provenance": info.provenance,
            **({"architecture": info.architecture} if info.architecture else {}),
            **({"adapters": [choice.to_json() for choice in adapters]} if adapters else {}),
        },
        facts=dict(facts),
        visiongraft=VISIONGRAFT,
        classes={
            "task": class_path(type(network.task)),
            "backbone": class_path(type(network.backbone)),
        },
    )


def read_config(folder: Path) -> SavedConfig:
    """Read and check a saved model's config.

    Args:
        folder: The saved model.

    Returns:
        The config.

    Raises:
        ArtifactError: It is missing, damaged, or of a version this toolkit does not know.
    """
    path = folder / CONFIG
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; a saved model is one, see model.save")
    values = read_json(path)
    if not isinstance(values, dict) or "format" not in values:
        raise ArtifactError(f"{path} is not the config of a saved model")
    found = values.pop("format")
    if found not in READABLE or isinstance(found, bool):
        raise ArtifactError(describe_other_format(path, found, FORMAT, values.get("visiongraft")))
    if found == 2:
        values.setdefault("classes", {})
    for field in fields(SavedConfig):
        kind = str if field.type == "str" else dict
        if not isinstance(values.get(field.name), kind):
            raise ArtifactError(f"{path}: {field.name!r} is missing or not a {kind.__name__}")
    if values.keys() != {f.name for f in fields(SavedConfig)}:
        raise ArtifactError(f"{path} has unknown entries; it may be damaged")
    config = SavedConfig(**values)
    for fault in _faults(config):
        raise ArtifactError(f"{path} does not describe a model: {fault}")
    return config


def check_class(folder: Path, config: SavedConfig, kind: type[Task]) -> None:
    """Refuse a task that has the name of the model's task and is another class.

    Args:
        folder: The saved model.
        config: From ``read_config``.
        kind: The task's class.

    Raises:
        ArtifactError: It is another class.
    """
    recorded = config.classes.get("task")
    if recorded is not None and not is_class(recorded, class_path(kind)):
        raise ArtifactError(
            f"{folder} holds a model of the task class {recorded}, but task {config.task!r} is "
            f"{class_path(kind)} here; pass the class itself, load(folder, task=MyTask), and train "
            "subclasses under a name of their own"
        )


def preprocess_of(folder: Path, config: SavedConfig) -> PreprocessConfig:
    """Return how a saved model prepares images.

    Args:
        folder: Where the config is, for the message.
        config: From ``read_config``.

    Raises:
        ArtifactError: The config is damaged.
    """
    with described_by(folder / CONFIG):
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.backbone["preprocess"].items()
        }
        return PreprocessConfig(**values)


@contextmanager
def described_by(path: Path) -> Iterator[None]:
    """Blame a config for what is raised while a model is built from it.

    Args:
        path: The config.

    Raises:
        ArtifactError: In place of most errors of the block.
    """
    try:
        yield
    except (MemoryError, ArtifactError, BackboneError, PluginError):
        raise
    except VisiongraftError as error:
        raise ArtifactError(f"{path}: {error}") from error
    except Exception as error:  # constructors raise almost anything for values of the wrong type
        raise ArtifactError(
            f"{path} does not describe a model: {type_and_message(error)}"
        ) from error


def _faults(config: SavedConfig) -> Iterator[str]:
    """Find entries of the wrong type inside the entries."""
    described = config.backbone
    if not isinstance(described.get("name"), str):
        yield f"the backbone's 'name' is {described.get('name')!r}, not a name"
    if not is_integer(described.get("in_channels"), 1):
        yield f"the backbone's 'in_channels' is {described.get('in_channels')!r}"
    for name in ("preprocess", "provenance"):
        if not isinstance(described.get(name), dict):
            yield f"the backbone's {name!r} is {described.get(name)!r}, not a dict"
    if not isinstance(described.get("architecture", {}), dict):
        yield f"the backbone's 'architecture' is {described['architecture']!r}, not a dict"
    adapters = described.get("adapters", [])
    if not isinstance(adapters, list) or not all(map(_is_call, adapters)):
        yield f"the backbone's 'adapters' are {adapters!r}, not names with options"
    for name, where in config.classes.items():
        if not isinstance(where, str):
            yield f"the class of {name!r} is {where!r}, not a name"


def _is_call(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("options"), dict)
    )
