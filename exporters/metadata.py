"""The metadata of exported files, whatever their format."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from visiongraft.backbone import UNKNOWN
from visiongraft.exporters.runtime.description import EXTRA, FORMAT
from visiongraft.exporters.runtime.task_record import FUNCTIONS
from visiongraft.exporters.task_record import functions_of
from visiongraft.saving.classes import class_path
from visiongraft.saving.weight_origins import weight_origins
from visiongraft.system.versions import installed_versions
from visiongraft.training.freezing import digest

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneInfo
    from visiongraft.inputs import Inputs
    from visiongraft.model import TransferModel

_FOLDERS = re.compile(r"(?<![\w:/\\.])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\:'\"]+[/\\])+")


def describe_model(
    model: TransferModel,
    taken: Mapping[str, Any],
    outputs: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str],
    precision: str = "fp32",
    extras: Collection[str] = (),
) -> dict[str, Any]:
    """Collect the metadata of a file.

    Args:
        model: The model that was exported.
        taken: The file's input; see ``raw_input``.
        outputs: Name, dtype and shape of each of its results.
        versions: Versions of the libraries that made it.
        precision: Precision of its network.
        extras: Names of its extra outputs.

    Returns:
        JSON values by key: those of ``describe_trained``, and ``format, functions, input, outputs,
        precision, versions``. The certificate is added later.
    """
    return {
        "format": FORMAT,
        **describe_trained(model),
        FUNCTIONS: functions_of(model.task),
        "input": dict(taken),
        "outputs": [
            {**output, **({EXTRA: True} if output["name"] in extras else {})} for output in outputs
        ],
        "precision": precision,
        "versions": dict(versions),
    }


def describe_trained(model: TransferModel) -> dict[str, Any]:
    """Collect what a file says about the model that it was exported from.

    Args:
        model: The model.

    Returns:
        JSON values by key: ``task, task_class, task_options, task_metadata, preprocess, backbone,
        training, weights_sha256``. Paths in ``backbone`` and ``training`` are cut to file names.
    """
    info = model.backbone_info
    return {
        "task": model.task.name,
        "task_class": class_path(type(model.task)),
        "task_options": model.task.options(),
        "task_metadata": model.task.metadata(),
        "preprocess": asdict(info.preprocess),
        "backbone": {"name": info.name, "provenance": without_folders(info.provenance)},
        "training": without_folders(model.facts),
        "weights_sha256": _weights_sha256(model),
    }


def _weights_sha256(model: TransferModel) -> str:
    """Hash names, types, shapes and values of all tensors that a saved model contains."""
    tensors = sorted(model.network.inference_state().items())
    lines = "".join(f"{name} {digest(tensor)}\n" for name, tensor in tensors)
    return hashlib.sha256(lines.encode()).hexdigest()


def raw_input(inputs: Inputs, info: BackboneInfo, size: tuple[int, int] | None) -> dict[str, Any]:
    """Describe an input of raw samples.

    Args:
        inputs: What they are.
        info: Describes the backbone.
        size: Fixed height and width of the images, or ``None``.

    Returns:
        JSON values by key.
    """
    height, width = size or (None, None)
    kind = {"dtype": inputs.dtype, "layout": inputs.layout, "height": height, "width": width}
    return {**named_input(inputs, info), "kind": inputs.dtype, **kind, **inputs.describe()}


def named_input(inputs: Inputs, info: BackboneInfo) -> dict[str, Any]:
    """Return name, channels and color of an input."""
    color = {1: "gray", 3: "RGB"}.get(info.in_channels, "as in the dataset")
    return {"name": inputs.name, "channels": info.in_channels, "color": color}


def backbone_facts(model: TransferModel) -> dict[str, str]:
    """Return ``name``, ``source``, ``weights``, ``sha256`` of the backbone, if known, and all licenses, known or not."""
    info = model.backbone_info
    facts = {"name": info.name, **info.provenance}
    known = {k: v for k, v in facts.items() if v != UNKNOWN or k.rpartition(" ")[2] == "license"}
    return dict(without_folders(known))


def weight_facts(model: TransferModel) -> dict[str, Any]:
    """Return what the weights of each part began with, and under which license."""
    return dict(without_folders(weight_origins(model.network, model.facts)))


def privacy_facts(model: TransferModel) -> dict[str, Any]:
    """Return what the training of a model guarantees to its images; nothing without differential privacy."""
    return dict(model.facts.get("privacy", {}))


def file_versions(*packages: str) -> dict[str, str]:
    """Return the versions of visiongraft, Python and the packages that make a file."""
    found = installed_versions("visiongraft", *packages)
    return {**found, "python": platform.python_version()}


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Encode values as JSON texts, for a file's metadata."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def without_folders(value: Any) -> Any:
    """Cut absolute paths in JSON values to file names: a shipped file must not reveal a disk.

    Args:
        value: Any JSON value.

    Returns:
        The same with shorter texts.

    Examples:
        >>> without_folders({"weights": "/home/me/resnet.safetensors", "lr": 0.1})
        {'weights': 'resnet.safetensors', 'lr': 0.1}
    """
    if isinstance(value, Mapping):
        return {key: without_folders(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(v) for v in value]
    if not isinstance(value, str):
        return value
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(value).is_absolute():
            return kind(value).name
    return _FOLDERS.sub("", value)
