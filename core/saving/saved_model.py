"""The saved-model folder: weights, config and model card; nothing in it is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import visiongraft
from visiongraft.backbone import Backbone, find_source
from visiongraft.errors import ArtifactError, PluginError, VisiongraftError
from visiongraft.network import Network
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import plugins
from visiongraft.saving.files import read_json, read_tensors, write_bytes, write_json, write_tensors
from visiongraft.saving.model_card import model_card
from visiongraft.saving.weights import fit_weights, load_weights
from visiongraft.task import Task, create_task

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
BY_CLASS = "load(folder, task=MyTask), on the command line --plugin FILE.py"


@dataclass(frozen=True)
class SavedConfig:
    """What ``config.json`` of a saved model holds.

    Attributes:
        task: Name of the task.
        task_options: Its fields.
        backbone: Full name, ``in_channels``, ``preprocess`` and ``provenance`` of the backbone.
        facts: What is known about training and data, for the model card.
        visiongraft: Version of the toolkit that wrote it.
    """

    task: str
    task_options: dict[str, Any]
    backbone: dict[str, Any]
    facts: dict[str, Any]
    visiongraft: str


def is_saved_model(folder: str | Path) -> bool:
    """Say whether a path is a saved model, or a run folder that holds one."""
    path = model_folder(Path(folder))
    return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()


def model_folder(folder: Path) -> Path:
    """Give a run folder's saved model, or the folder itself."""
    inner = folder / "model"
    return inner if (inner / WEIGHTS).is_file() else folder


def save_model(folder: Path, network: Network, facts: Mapping[str, Any]) -> None:
    """Write a saved model; each file appears complete or not at all.

    Args:
        folder: Where to.
        network: Backbone and head are saved; the loss is not.
        facts: JSON values for config and model card.
    """
    info = network.backbone.info
    config = SavedConfig(
        task=plugins().name_of("task", type(network.task)),
        task_options=network.task.options(),
        backbone={
            "name": info.name,
            "in_channels": info.in_channels,
            "preprocess": asdict(info.preprocess),
            "provenance": info.provenance,
        },
        facts=dict(facts),
        visiongraft=visiongraft.__version__,
    )
    write_tensors(folder / WEIGHTS, network.inference_state(), {"format": FORMAT})
    write_json(folder / CONFIG, {"format": FORMAT, **asdict(config)})
    write_bytes(folder / CARD, model_card(network, facts).encode())


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
        raise ArtifactError(f"{folder} is no folder; a saved model is one, see model.save")
    values = read_json(path)
    if not isinstance(values, dict) or "format" not in values:
        raise ArtifactError(f"{path} is not the config of a saved model")
    if values.pop("format") != FORMAT:
        raise ArtifactError(
            f"{path} has another format than {FORMAT}; use the version that wrote it"
        )
    for field in fields(SavedConfig):
        wanted = str if field.type == "str" else dict
        if not isinstance(values.get(field.name), wanted):
            raise ArtifactError(f"{path}: {field.name!r} is missing or no {wanted.__name__}")
    if values.keys() != {f.name for f in fields(SavedConfig)}:
        raise ArtifactError(f"{path} has unknown entries; it may be damaged")
    return SavedConfig(**values)


def load_network(folder: Path, task: type[Task] | None = None) -> tuple[Network, SavedConfig]:
    """Load a saved model.

    Args:
        folder: The saved model.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        The network in evaluation mode, and the config.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit together.
        PluginError: The task's plugin is not there.
    """
    config = read_config(folder)
    kind = task or find_task(config.task, f"model {folder}", BY_CLASS)
    path = folder / CONFIG
    if kind.name != config.task.rpartition(":")[2]:
        raise ArtifactError(f"{folder} holds a model for task {config.task!r}, not {kind.name!r}")
    try:
        backbone = _build_backbone(config.backbone)
        network = Network(backbone, create_task(kind, config.task_options))
    except VisiongraftError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} does not describe a model: {error!r}") from error
    tensors, _ = read_tensors(folder / WEIGHTS)
    wanted = network.inference_state()
    odd = sorted(wanted.keys() ^ tensors.keys())
    odd += [n for n in wanted.keys() & tensors.keys() if wanted[n].shape != tensors[n].shape]
    if odd:
        raise ArtifactError(
            f"{folder / WEIGHTS} does not fit {path}: {len(odd)} tensors differ, first {odd[0]!r}"
        )
    network.load_state_dict(tensors, strict=False)
    # As in training: another order in memory may choose other kernels, which round otherwise.
    network.to(memory_format=torch.channels_last)
    return network.eval(), config


def find_task(name: str, what: str, how: str) -> type[Task]:
    """Find the task that something on disk was made for.

    Args:
        name: The task's name.
        what: What was made for it, for the message.
        how: How to give the task itself, for the message.

    Returns:
        The task's class.

    Raises:
        PluginError: No plugin provides it, or several do.
    """
    if plugins().provides("task", name):
        found: type[Task] = plugins().get("task", name)
        return found
    missing = plugins().missing("task", name, plugins().tasks())
    raise PluginError(
        f"{what} is for a task that no installed plugin provides ({missing}); if it is in a file "
        f"of yours, say {how}"
    )


def load_saved_backbone(
    folder: Path,
    *,
    weights: str | Path | None,
    in_channels: int,
    size: tuple[int, int] | None,
    partial: bool = False,
) -> Backbone:
    """Take the backbone out of a saved model, to transfer it to another task.

    Args:
        folder: A saved model, or a run folder.
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
    described = config.backbone
    backbone = _build_backbone(described, in_channels, size)
    if weights == "pretrained":
        tensors: dict[str, Tensor] = {
            n.removeprefix("backbone."): t
            for n, t in read_tensors(folder / WEIGHTS)[0].items()
            if n.startswith("backbone.")
        }
        fit_weights(backbone, tensors, str(folder / WEIGHTS))
        source = {"source": f"saved model {name}", "task": config.task}
        parent = {f"before: {k}": v for k, v in described["provenance"].items()}
        backbone.info = replace(backbone.info, provenance={**source, **parent})
    elif weights is not None:
        load_weights(backbone, Path(weights), partial=partial)
    return backbone


def _build_backbone(
    described: Mapping[str, Any],
    in_channels: int | None = None,
    size: tuple[int, int] | None = None,
) -> Backbone:
    source, short = find_source(described["name"])
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in described["preprocess"].items()
    }
    preprocess = PreprocessConfig(**values)
    channels = in_channels or described["in_channels"]
    preprocess = replace(preprocess, size=size or preprocess.size).with_channels(channels)
    backbone = source.build(short, pretrained=False, in_channels=channels, size=preprocess.size)
    backbone.info = replace(
        backbone.info,
        name=described["name"],
        preprocess=preprocess,
        provenance=dict(described["provenance"]),
    )
    return backbone
