"""Load saved models, adapters on their bases, and the heads of backbones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from visiongraft.adaptation.networks import adapter_state, apply_adapters, base_digest
from visiongraft.backbone import FROM_FILE, Backbone, PooledHead
from visiongraft.errors import ArtifactError
from visiongraft.lookup.backbones import find_source, load_backbone
from visiongraft.lookup.methods import find_adapter
from visiongraft.lookup.tasks import find_task
from visiongraft.network import Network
from visiongraft.saving.adapter_folder import TENSORS, read_adapter_config
from visiongraft.saving.saved_config import SavedConfig, check_class, preprocess_of, read_config
from visiongraft.saving.saved_model import (
    SAVED_MODEL,
    build_network,
    is_saved_model,
    load_tensors,
    model_folder,
    network_around,
)
from visiongraft.saving.weights import read_weights
from visiongraft.task import Task

RANDOM = "random"  # the weights of a backbone that none were loaded into
BY_CLASS = "load(folder, task=MyTask), on the command line --plugin FILE.py"


def load_network(
    folder: Path,
    task: type[Task] | None = None,
    backbone: nn.Module | None = None,
    text_encoder: str | None = None,
) -> tuple[Network, SavedConfig]:
    """Load a saved model.

    Args:
        folder: The saved model.
        task: The task's class, if it is not an installed plugin's.
        backbone: The network that the backbone was made of, if it was in memory.
        text_encoder: Name of its text encoder, if it is not found where it was in training.

    Returns:
        The network in evaluation mode, and the config.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit together.
        OptionError: The task has no text encoder.
        PluginError: No installed plugin provides the task.
    """
    config = read_config(folder)
    kind = task or find_task(config.task, f"model {folder}", BY_CLASS)
    if task is None:
        check_class(folder, config, kind)
    network = build_network(folder, config, kind, find_source, find_adapter, backbone, text_encoder)
    return network, config


def load_adapted(
    folder: Path,
    base: str | Path | Backbone | None,
    task: type[Task] | None = None,
    text_encoder: str | None = None,
) -> tuple[Network, SavedConfig]:
    """Load an adapter on its base.

    Args:
        folder: The adapter's folder.
        base: The base: a name or a folder as ``load_backbone`` takes them, or a backbone, which is
            changed in place; ``None`` for the name that the adapter was trained with.
        task: The task's class, if it is not an installed plugin's.
        text_encoder: Name of its text encoder, if it is not found where it was in training.

    Returns:
        The network with the adapter, in evaluation mode, and the config.

    Raises:
        ArtifactError: Something is missing or damaged, or the base is another one.
        PluginError: No installed plugin provides the task or an adapter.
    """
    config, digest = read_adapter_config(folder)
    kind = task or find_task(config.task, f"adapter {folder}", BY_CLASS)
    if task is None:
        check_class(folder, config, kind)
    preprocess, channels = preprocess_of(folder, config), config.backbone["in_channels"]
    if not isinstance(base, Backbone):
        if base is None:
            _refuse_without_base(folder, config.backbone["name"], config.backbone["provenance"])
        name = config.backbone["name"] if base is None else base
        base = load_backbone(name, in_channels=channels, size=preprocess.size)
    base.info = replace(base.info, preprocess=preprocess)
    network = network_around(folder, config, kind, base, text_encoder)
    if base_digest(network) != digest:
        raise ArtifactError(
            f"adapter {folder} was trained on a base with other weights than {base.info.name!r} has "
            f"here ({config.backbone['name']!r}, SHA-256 {digest[:12]}...); pass that one, "
            "load(folder, base=...)"
        )
    apply_adapters(network, [find_adapter(choice) for choice in config.backbone["adapters"]])
    load_tensors(network, adapter_state(network), folder / TENSORS)
    return network, config


def load_source_head(
    name: str | Path, weights: str | Path | None, task: Task | None = None
) -> nn.Module | None:
    """Load the head that a backbone was trained with.

    Args:
        name: As in ``load_backbone``.
        weights: As in ``load_backbone``.
        task: A task whose class need not be an installed plugin's.

    Returns:
        A module from ``Features`` to outputs: the head of a saved model, or the classifier of
        published weights; ``None`` if the backbone comes without one.
    """
    if weights is None:
        return None
    if is_saved_model(name):
        if weights != "pretrained":
            return None
        folder = model_folder(Path(name))
        own = task is not None and read_config(folder).task == task.name
        return load_network(folder, type(task) if own and task is not None else None)[0].head
    source, short = find_source(str(name))
    file = None if weights == "pretrained" else read_weights(Path(weights))
    classifier = source.build_classifier(short, file)
    return None if classifier is None else PooledHead(classifier)


def _refuse_without_base(folder: Path, name: str, provenance: Mapping[str, str]) -> None:
    """Refuse to load an adapter without ``base`` if the name of the base does not determine its weights."""
    source, weights = provenance.get("source", ""), provenance.get("weights", "")
    if source.startswith(SAVED_MODEL):
        needed = f"on the {source}; pass its folder, load(folder, base=...)"
    elif source == FROM_FILE or weights == RANDOM:
        kind = f"the weights file {weights}" if source == FROM_FILE else "random weights"
        needed = f"on {name} with {kind}; pass base=load_backbone({name!r}, weights=...)"
    else:
        return
    raise ArtifactError(f"adapter {folder} was trained {needed}")
