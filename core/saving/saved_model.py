"""The saved-model folder: weights, config and model card; nothing in it is pickled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiongraft.adaptation.backbones import apply_adapter
from visiongraft.adapters import AdapterChoice
from visiongraft.backbone import Backbone, BackboneSource
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
from visiongraft.saving.files import read_json, write_bytes, write_json
from visiongraft.saving.model_card import model_card
from visiongraft.saving.tensor_files import read_tensors, write_tensors
from visiongraft.saving.tensors import damaged, first
from visiongraft.saving.training_images import TrainingImages, write_training_images
from visiongraft.saving.weights import fit_weights, load_weights
from visiongraft.system.versions import VISIONGRAFT, describe_other_format
from visiongraft.task import Task, create_task

FORMAT = 4
PLAIN = 3  # the format of models without adapters, which earlier versions read too
READABLE = (2, PLAIN, FORMAT)  # format 2 does not name classes
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
SAVED_MODEL = "saved model"  # how the source of a backbone out of one begins

SourceOf = Callable[[str], tuple[BackboneSource, str]]  # finds a backbone by its full name
AdapterOf = Callable[[Mapping[str, Any]], AdapterChoice]  # makes an adapter of name and options


@dataclass(frozen=True)
class SavedConfig:
    """What ``config.json`` of a saved model holds.

    Attributes:
        task: Name of the task.
        task_options: Its fields.
        backbone: Full name, ``in_channels``, ``preprocess`` and ``provenance`` of the backbone; name
            and options of its ``adapters``, if there are any.
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


def is_saved_model(folder: str | Path) -> bool:
    """Check whether a path is a saved model, or a run folder that holds one."""
    path = model_folder(Path(folder))
    return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()


def model_folder(folder: Path) -> Path:
    """Return a run folder's saved model, or the folder itself."""
    inner = folder / "model"
    return inner if (inner / WEIGHTS).is_file() else folder


def save_model(
    folder: Path,
    network: Network,
    facts: Mapping[str, Any],
    task_name: str,
    training_images: TrainingImages | None = None,
) -> None:
    """Write a saved model; each file appears complete or not at all.

    Args:
        folder: Where to.
        network: Backbone and head are saved; the loss is not.
        facts: JSON values for config and model card.
        task_name: Name by which the task is found again.
        training_images: Digests of the images it was trained on, if known.
    """
    config = describe_model(network, facts, task_name)
    write_training_images(folder, training_images)
    format = FORMAT if network.backbone.adapters else PLAIN
    write_tensors(folder / WEIGHTS, network.inference_state(), {"format": format})
    write_json(folder / CONFIG, {"format": format, **asdict(config)})
    write_bytes(folder / CARD, model_card(network, facts).encode())


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


def build_network(
    folder: Path,
    config: SavedConfig,
    kind: type[Task],
    source_of: SourceOf,
    adapter_of: AdapterOf,
) -> Network:
    """Build a saved model's network and load its weights.

    Args:
        folder: The saved model.
        config: From ``read_config``.
        kind: The task's class.
        source_of: Finds a backbone's source by the backbone's full name.
        adapter_of: Makes the adapters that could not be merged.

    Returns:
        The network, in evaluation mode.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit together.
    """
    backbone = _build_backbone(folder, config, source_of, adapter_of)
    network = network_around(folder, config, kind, backbone)
    load_tensors(network, network.inference_state(), folder / WEIGHTS)
    return network


def network_around(
    folder: Path, config: SavedConfig, kind: type[Task], backbone: Backbone
) -> Network:
    """Build the network that a config describes around a backbone, its head having random weights.

    Args:
        folder: Where the config is.
        config: From ``read_config``.
        kind: The task's class.
        backbone: The backbone.

    Raises:
        ArtifactError: They do not fit together.
    """
    if kind.name != config.task.rpartition(":")[2]:
        raise ArtifactError(f"{folder} holds a model for task {config.task!r}, not {kind.name!r}")
    with _described_by(folder / CONFIG):
        return Network(backbone, create_task(kind, config.task_options))


def load_tensors(network: Network, expected: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors of a file into a network, and put it into evaluation mode.

    Args:
        network: The network; changed in place.
        expected: The tensors of its state that the file must contain.
        path: The file.

    Raises:
        ArtifactError: The file is missing, damaged, or contains others.
    """
    tensors, _ = read_tensors(path)
    differing = sorted(expected.keys() ^ tensors.keys())
    differing += [
        n for n in expected.keys() & tensors.keys() if expected[n].shape != tensors[n].shape
    ]
    if differing:
        raise ArtifactError(
            f"{path} does not fit {path.parent / CONFIG}: {len(differing)} tensors differ, first "
            f"{differing[0]!r}"
        )
    learned = {n: tensors[n] for n, _ in network.named_parameters() if n in tensors}
    learned |= {n: t for n, t in tensors.items() if n.startswith("backbone.")}
    fault = first(damaged(learned, expected))
    if fault:
        raise ArtifactError(f"{path} is damaged: {fault}")
    for name, tensor in tensors.items():
        if tensor.dtype != expected[name].dtype:
            found, own = (str(t.dtype).removeprefix("torch.") for t in (tensor, expected[name]))
            raise ArtifactError(
                f"{path} was rewritten by another program: {name!r} is {found}, not {own}; "
                "use the file that visiongraft saved"
            )
    network.load_state_dict(tensors, strict=False)
    # As in training: another order in memory may choose other kernels, which round otherwise.
    network.to(memory_format=torch.channels_last)
    network.eval()


def load_saved_backbone(
    folder: Path,
    source_of: SourceOf,
    adapter_of: AdapterOf,
    *,
    weights: str | Path | None,
    in_channels: int,
    size: tuple[int, int] | None,
    partial: bool = False,
) -> Backbone:
    """Load the backbone of a saved model, to transfer it to another task.

    Args:
        folder: A saved model, or a run folder.
        source_of: Finds a backbone's source by the backbone's full name.
        adapter_of: Makes the adapters that could not be merged.
        weights: ``"pretrained"`` for the saved ones, ``None`` for random ones, or a file.
        in_channels: Number of image channels.
        size: Network input, or the saved model's.
        partial: Accept a weights file that does not fit completely.

    Returns:
        The backbone, in training mode.
    """
    name = folder.resolve().name
    folder = model_folder(folder)
    config = read_config(folder)
    backbone = _build_backbone(folder, config, source_of, adapter_of, in_channels, size)
    if weights == "pretrained":
        tensors: dict[str, Tensor] = {
            n.removeprefix("backbone."): t
            for n, t in read_tensors(folder / WEIGHTS)[0].items()
            if n.startswith("backbone.")
        }
        fit_weights(backbone, tensors, str(folder / WEIGHTS))
        source = {"source": f"{SAVED_MODEL} {name}", "task": config.task}
        parent = {f"before: {k}": v for k, v in config.backbone["provenance"].items()}
        backbone.info = replace(backbone.info, provenance={**source, **parent})
    elif weights is not None:
        load_weights(backbone, Path(weights), partial=partial)
    return backbone


def load_head(network: Network, folder: Path) -> None:
    """Load the head of a saved model into a network for the same task.

    Args:
        network: The network; changed in place.
        folder: The saved model, or a run folder.

    Raises:
        ArtifactError: The file is damaged, or the head does not fit.
    """
    path = model_folder(folder) / WEIGHTS
    tensors = {n: t for n, t in read_tensors(path)[0].items() if n.startswith("head.")}
    expected = {n: t for n, t in network.inference_state().items() if n.startswith("head.")}
    differing = sorted(
        name
        for name in expected.keys() | tensors.keys()
        if name not in tensors
        or name not in expected
        or expected[name].shape != tensors[name].shape
    )
    if differing:
        raise ArtifactError(
            f"start={folder}: {len(differing)} tensors of the model's head do not fit the task, first "
            f"{differing[0]!r}; pass backbone={folder} instead of start, to begin with a new head"
        )
    learned = {n: tensors[n] for n, _ in network.named_parameters() if n in tensors}
    fault = first(damaged(learned, expected))
    if fault:
        raise ArtifactError(f"{path} is damaged: {fault}")
    network.load_state_dict(tensors, strict=False)


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


@contextmanager
def _described_by(path: Path) -> Iterator[None]:
    """Blame a config for what is raised while a model is built from it."""
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


def _build_backbone(
    folder: Path,
    config: SavedConfig,
    source_of: SourceOf,
    adapter_of: AdapterOf,
    in_channels: int | None = None,
    size: tuple[int, int] | None = None,
) -> Backbone:
    described: Mapping[str, Any] = config.backbone
    source, short = source_of(described["name"])
    preprocess = preprocess_of(folder, config)
    with _described_by(folder / CONFIG):
        channels = in_channels or described["in_channels"]
        preprocess = replace(preprocess, size=size or preprocess.size).with_channels(channels)
        backbone = source.build(short, pretrained=False, in_channels=channels, size=preprocess.size)
    recorded = config.classes.get("backbone")
    if recorded is not None and not is_class(recorded, class_path(type(backbone))):
        raise ArtifactError(
            f"{folder} holds a backbone of the class {recorded}, but {described['name']!r} is "
            f"{class_path(type(backbone))} here; install the plugin that provided it"
        )
    backbone.info = replace(
        backbone.info,
        name=described["name"],
        preprocess=preprocess,
        provenance=dict(described["provenance"]),
    )
    with _described_by(folder / CONFIG):
        for adapter in described.get("adapters", ()):
            apply_adapter(backbone, adapter_of(adapter))
    return backbone


def preprocess_of(folder: Path, config: SavedConfig) -> PreprocessConfig:
    """Return how a saved model prepares images.

    Args:
        folder: Where the config is, for the message.
        config: From ``read_config``.

    Raises:
        ArtifactError: The config is damaged.
    """
    with _described_by(folder / CONFIG):
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.backbone["preprocess"].items()
        }
        return PreprocessConfig(**values)
