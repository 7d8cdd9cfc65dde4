"""The saved-model folder: weights, config and model card; nothing in it is pickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiongraft.backbone import Backbone, BackboneSource
from visiongraft.errors import ArtifactError, VisiongraftError
from visiongraft.network import Network
from visiongraft.preprocess import PreprocessConfig
from visiongraft.saving.files import read_json, read_tensors, write_bytes, write_json, write_tensors
from visiongraft.saving.model_card import model_card
from visiongraft.saving.weights import fit_weights, load_weights
from visiongraft.task import Task, create_task
from visiongraft.versions import VISIONGRAFT, describe_other_format

FORMAT = 2
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"

SourceOf = Callable[[str], tuple[BackboneSource, str]]  # finds a backbone by its full name


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
    """Check whether a path is a saved model, or a run folder that holds one."""
    path = model_folder(Path(folder))
    return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()


def model_folder(folder: Path) -> Path:
    """Return a run folder's saved model, or the folder itself."""
    inner = folder / "model"
    return inner if (inner / WEIGHTS).is_file() else folder


def save_model(folder: Path, network: Network, facts: Mapping[str, Any], task_name: str) -> None:
    """Write a saved model; each file appears complete or not at all.

    Args:
        folder: Where to.
        network: Backbone and head are saved; the loss is not.
        facts: JSON values for config and model card.
        task_name: Name by which the task is found again.
    """
    info = network.backbone.info
    config = SavedConfig(
        task=task_name,
        task_options=network.task.options(),
        backbone={
            "name": info.name,
            "in_channels": info.in_channels,
            "preprocess": asdict(info.preprocess),
            "provenance": info.provenance,
        },
        facts=dict(facts),
        visiongraft=VISIONGRAFT,
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
        raise ArtifactError(f"{folder} is not a folder; a saved model is one, see model.save")
    values = read_json(path)
    if not isinstance(values, dict) or "format" not in values:
        raise ArtifactError(f"{path} is not the config of a saved model")
    found = values.pop("format")
    if found != FORMAT:
        raise ArtifactError(describe_other_format(path, found, FORMAT, values.get("visiongraft")))
    for field in fields(SavedConfig):
        kind = str if field.type == "str" else dict
        if not isinstance(values.get(field.name), kind):
            raise ArtifactError(f"{path}: {field.name!r} is missing or not a {kind.__name__}")
    if values.keys() != {f.name for f in fields(SavedConfig)}:
        raise ArtifactError(f"{path} has unknown entries; it may be damaged")
    return SavedConfig(**values)


def build_network(
    folder: Path, config: SavedConfig, kind: type[Task], source_of: SourceOf
) -> Network:
    """Build a saved model's network and load its weights.

    Args:
        folder: The saved model.
        config: From ``read_config``.
        kind: The task's class.
        source_of: Finds a backbone's source by the backbone's full name.

    Returns:
        The network, in evaluation mode.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit together.
    """
    path = folder / CONFIG
    if kind.name != config.task.rpartition(":")[2]:
        raise ArtifactError(f"{folder} holds a model for task {config.task!r}, not {kind.name!r}")
    try:
        backbone = _build_backbone(config.backbone, source_of)
        network = Network(backbone, create_task(kind, config.task_options))
    except VisiongraftError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} does not describe a model: {error!r}") from error
    tensors, _ = read_tensors(folder / WEIGHTS)
    expected = network.inference_state()
    differing = sorted(expected.keys() ^ tensors.keys())
    differing += [
        n for n in expected.keys() & tensors.keys() if expected[n].shape != tensors[n].shape
    ]
    if differing:
        raise ArtifactError(
            f"{folder / WEIGHTS} does not fit {path}: {len(differing)} tensors differ, first {differing[0]!r}"
        )
    network.load_state_dict(tensors, strict=False)
    # As in training: another order in memory may choose other kernels, which round otherwise.
    network.to(memory_format=torch.channels_last)
    return network.eval()


def load_saved_backbone(
    folder: Path,
    source_of: SourceOf,
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
    backbone = _build_backbone(described, source_of, in_channels, size)
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
    source_of: SourceOf,
    in_channels: int | None = None,
    size: tuple[int, int] | None = None,
) -> Backbone:
    source, short = source_of(described["name"])
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
