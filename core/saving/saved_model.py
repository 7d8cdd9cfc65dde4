"""The saved-model folder: weights, config and model card; nothing in it is pickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from visiongraft.adaptation.backbones import apply_adapter
from visiongraft.adapters import AdapterChoice
from visiongraft.backbone import BEFORE, Backbone, BackboneSource
from visiongraft.data.batch import weights_channels_last
from visiongraft.errors import ArtifactError
from visiongraft.module_backbone import as_saved
from visiongraft.network import Network
from visiongraft.saving.classes import class_path, is_class
from visiongraft.saving.files import read_json, write_bytes, write_json
from visiongraft.saving.model_card import model_card
from visiongraft.saving.saved_config import (
    CONFIG,
    FORMAT,
    PLAIN,
    SavedConfig,
    describe_model,
    described_by,
    preprocess_of,
    read_config,
)
from visiongraft.saving.tensor_files import read_tensors, write_tensors
from visiongraft.saving.tensors import damaged, first
from visiongraft.saving.training_images import TrainingImages, write_training_images
from visiongraft.saving.weights import fit_weights, load_weights
from visiongraft.task import Task, create_task

WEIGHTS = "model.safetensors"
CARD = "README.md"
SAVED_MODEL = "saved model"  # how the source of a backbone out of one begins

SourceOf = Callable[[str], tuple[BackboneSource, str]]  # finds a backbone by its full name
AdapterOf = Callable[[Mapping[str, Any]], AdapterChoice]  # makes an adapter of name and options


def is_saved_model(folder: str | Path) -> bool:
    """Check whether a path is a saved model, or a run folder that holds one."""
    path = model_folder(Path(folder))
    files = (path / WEIGHTS).is_file() and (path / CONFIG).is_file()
    return files and not _is_foreign(path / CONFIG)


def _is_foreign(path: Path) -> bool:
    """Check whether a config was written by another program; a damaged one counts as ours."""
    try:
        values = read_json(path)
    except ArtifactError:
        return False
    return isinstance(values, dict) and "format" not in values


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


def add_facts(folder: Path, network: Network, facts: Mapping[str, Any]) -> None:
    """Write further facts into the config and the card of a saved model; its weights are not touched.

    Args:
        folder: The saved model.
        network: Its network.
        facts: JSON values by name.

    Raises:
        ArtifactError: It cannot be read.
    """
    values = read_json(folder / CONFIG)
    values["facts"] = {**values["facts"], **facts}
    write_json(folder / CONFIG, values)
    write_bytes(folder / CARD, model_card(network, values["facts"]).encode())


def build_network(
    folder: Path,
    config: SavedConfig,
    kind: type[Task],
    source_of: SourceOf,
    adapter_of: AdapterOf,
    given: nn.Module | None = None,
    text_encoder: str | None = None,
) -> Network:
    """Build a saved model's network and load its weights.

    Args:
        folder: The saved model.
        config: From ``read_config``.
        kind: The task's class.
        source_of: Finds a backbone's source by the backbone's full name.
        adapter_of: Makes the adapters that could not be merged.
        given: The network that the backbone was made of, if it was in memory.
        text_encoder: Name of its text encoder, if it is not found where it was in training.

    Returns:
        The network, in evaluation mode.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit together.
    """
    backbone = _build_backbone(folder, config, source_of, adapter_of, given=given)
    network = network_around(folder, config, kind, backbone, text_encoder)
    load_tensors(network, network.inference_state(), folder / WEIGHTS)
    return network


def network_around(
    folder: Path,
    config: SavedConfig,
    kind: type[Task],
    backbone: Backbone,
    text_encoder: str | None = None,
) -> Network:
    """Build the network that a config describes around a backbone, its head having random weights.

    Args:
        folder: Where the config is.
        config: From ``read_config``.
        kind: The task's class.
        backbone: The backbone.
        text_encoder: Name of the task's text encoder, if it is not that in the config.

    Raises:
        ArtifactError: They do not fit together.
        OptionError: The task has no text encoder.
    """
    if kind.name != config.task.rpartition(":")[2]:
        raise ArtifactError(f"{folder} holds a model for task {config.task!r}, not {kind.name!r}")
    with described_by(folder / CONFIG):
        task = create_task(kind, config.task_options)
    if text_encoder is not None:
        task = task.with_text_encoder(text_encoder)
    with described_by(folder / CONFIG):
        return Network(backbone, task)


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
    weights_channels_last(network)
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
    weights_license: str | None = None,
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
        weights_license: License of the weights file.

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
        parent = {f"{BEFORE}{k}": v for k, v in config.backbone["provenance"].items()}
        backbone.info = replace(backbone.info, provenance={**source, **parent})
    elif weights is not None:
        load_weights(backbone, Path(weights), partial=partial, license=weights_license)
    return backbone


def _build_backbone(
    folder: Path,
    config: SavedConfig,
    source_of: SourceOf,
    adapter_of: AdapterOf,
    in_channels: int | None = None,
    size: tuple[int, int] | None = None,
    given: nn.Module | None = None,
) -> Backbone:
    described: Mapping[str, Any] = config.backbone
    architecture: Mapping[str, Any] = described.get("architecture", {})
    preprocess = preprocess_of(folder, config)
    with described_by(folder / CONFIG):
        channels = in_channels or described["in_channels"]
        preprocess = replace(preprocess, size=size or preprocess.size).with_channels(channels)
        if given is not None:
            backbone = as_saved(given, described["name"], architecture, preprocess)
        else:
            source, short = source_of(described["name"])
            backbone = source.rebuild(
                short, architecture, in_channels=channels, size=preprocess.size
            )
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
    with described_by(folder / CONFIG):
        for adapter in described.get("adapters", ()):
            apply_adapter(backbone, adapter_of(adapter))
    return backbone
