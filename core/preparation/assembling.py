"""Put a model together of pretrained parts, without any training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from visiongraft.backbone import Backbone, license_warning
from visiongraft.errors import OptionError, WeightsError, name_some, type_and_message
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.tasks import requested_task
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.options import checks_keywords
from visiongraft.preprocess import as_size
from visiongraft.saving.tensors import damaged, first
from visiongraft.saving.weight_origins import ASSEMBLED
from visiongraft.saving.weights import check_license, file_provenance, fit_weights, read_weights
from visiongraft.seeds import preserved
from visiongraft.task import Task, create_task, required_options
from visiongraft.task_contract.published import Published

log = logging.getLogger("visiongraft")

BACKBONE, HEAD = "backbone.", "head."
COUNTER = "num_batches_tracked"  # does not affect results; older files lack it


@checks_keywords
def assemble(
    task: str | Task,
    backbone: str | Path | nn.Module | None = None,
    weights: str | Path = "pretrained",
    *,
    task_options: Mapping[str, Any] | None = None,
    in_channels: int = 3,
    size: int | tuple[int, int] | None = None,
    resize: str | None = None,
    partial: bool = False,
    weights_license: str | None = None,
) -> TransferModel:
    """Make a model of weights that others trained: of a backbone and, if the task's head has any, of the head.

    The result predicts, evaluates, exports and is saved like one that ``fit`` returns, and ``fit(start=MODEL)``
    continues with it.

    Args:
        task: Name of the task, or a task object.
        backbone: As in ``load_backbone``. It may be left out for a file whose architecture the task
            recognizes, such as torchvision's detectors.
        weights: A file with the weights of backbone and head, published by a library that the task knows or
            with the names of this network, ``backbone.…`` and ``head.…``; or only those of the backbone, if the
            head has no weights. ``"pretrained"`` for the published weights of the backbone.
        task_options: Options of the task, if it is passed by name.
        in_channels: Number of image channels.
        size: Network input; ``None`` for that of the published architecture, the task or the backbone.
        resize: How images are resized; ``None`` for the task's choice, otherwise the backbone's.
        partial: Accept a file of which not all tensors fit the backbone; the head must always be complete.
        weights_license: License of the file; ``None`` for the one that a safetensors file states in its metadata.

    Returns:
        The model, in evaluation mode.

    Raises:
        OptionError: The backbone is not known, or an option is missing or invalid.
        PluginError: There is no such task.
        WeightsError: The file cannot be read or does not fit, or the head has weights that are in no file.

    Examples:
        ``visiongraft.assemble("detection", weights="fcos_resnet50_fpn_coco-99b0c9b7.pth").predict("a.jpg")``
    """
    check_license(weights_license, weights)
    task = requested_task(task, task_options)
    parts = _read_parts(task, backbone, weights)
    task = parts.task
    with preserved():
        network = Network(
            _backbone(
                parts, in_channels, as_size(size) or parts.size or task.input_size, resize, partial
            ),
            task,
        )
    if parts.file is not None:
        origin = file_provenance(parts.file, weights_license)
        known = {"architecture": parts.architecture} if parts.architecture else {}
        info = network.backbone.info
        network.backbone.info = replace(info, provenance={**origin, **known})
    for line in license_warning(network.backbone.info.name, network.backbone.info.provenance):
        log.warning("%s", line)
    _load_head(network, parts)
    network.eval()
    facts = {
        ASSEMBLED: {"of": parts.origin, **({"not used": parts.unused} if parts.unused else {})}
    }
    return TransferModel(network, facts)


@dataclass(frozen=True)
class _Parts:
    """What a model is put together of.

    Attributes:
        task: The task, with the options that the weights need.
        backbone: As in ``load_backbone``.
        file: The weights file, if there is one.
        backbone_tensors: Those of it for the backbone.
        head_tensors: Those of it for the head.
        origin: What the weights are, for messages and facts.
        unused: Tensors of the file that are for neither, by name.
        architecture: What they were published as, if the task recognizes them.
        size: Network input that the weights were trained with, if it is known.
        resize: How images were resized to it, likewise.
    """

    task: Task
    backbone: str | Path | nn.Module
    file: Path | None
    backbone_tensors: dict[str, Tensor]
    head_tensors: dict[str, Tensor]
    origin: str
    unused: list[str]
    architecture: str = ""
    size: tuple[int, int] | None = None
    resize: str | None = None


def _read_parts(task: Task, backbone: str | Path | nn.Module | None, weights: str | Path) -> _Parts:
    """Read the weights, and recognize what they are."""
    if weights == "pretrained":
        if backbone is None:
            raise OptionError("there is neither a backbone nor a weights file; pass one of them")
        return _Parts(task, backbone, None, {}, {}, f"the published weights of {backbone}", [])
    path = Path(weights)
    tensors = read_weights(path)
    try:
        found = task.read_published(tensors)
    except (LookupError, RuntimeError) as error:  # of a tensor that it relies on
        raise WeightsError(
            f"weights file {path} is like those that task {task.name!r} recognizes, but not complete "
            f"({type_and_message(error)}); fetch it again"
        ) from error
    if found is not None:
        return _published_parts(task, backbone, path, found)
    if backbone is None:
        raise OptionError(
            f"{path} holds no architecture that task {task.name!r} recognizes; name its backbone"
        )
    head = {n.removeprefix(HEAD): t for n, t in tensors.items() if n.startswith(HEAD)}
    body = {n: t for n, t in tensors.items() if not n.startswith((HEAD, "preprocess."))}
    return _Parts(task, backbone, path, body, head, f"weights file {path}", [])


def _published_parts(
    task: Task, backbone: str | Path | nn.Module | None, path: Path, found: Published
) -> _Parts:
    asked = task.options()
    required = {n: asked[n] for n in required_options(type(task))}
    defaults = create_task(type(task), required).options()
    chosen = {n: v for n, v in asked.items() if v != defaults[n]}
    return _Parts(
        create_task(type(task), {**found.options, **chosen}),
        found.backbone if backbone is None else backbone,
        path,
        dict(found.backbone_tensors),
        dict(found.head_tensors),
        f"{found.architecture} ({path.name})",
        sorted({name.partition(".")[0] for name in found.unused}),
        found.architecture,
        found.size,
        found.resize,
    )


def _backbone(
    parts: _Parts, in_channels: int, size: tuple[int, int] | None, resize: str | None, partial: bool
) -> Backbone:
    """Build the backbone and load its weights."""
    in_memory = isinstance(parts.backbone, nn.Module)
    initial = "pretrained" if parts.file is None or in_memory else None
    built = load_backbone(parts.backbone, initial, in_channels=in_channels, size=size)
    resize = resize or parts.resize or parts.task.resize
    if resize is not None:
        preprocess = replace(built.info.preprocess, resize=resize)
        built.info = replace(built.info, preprocess=preprocess)
    if parts.file is not None:
        fit_weights(built, parts.backbone_tensors, parts.origin, partial=partial)
    return built


def _load_head(network: Network, parts: _Parts) -> None:
    """Load the head, of which nothing may be missing."""
    own, given = network.head.state_dict(), parts.head_tensors
    missing = [n for n in own if n not in given and not n.endswith(COUNTER)]
    if missing and not given:
        raise WeightsError(
            f"{parts.origin} holds no weights of the head of task {network.task.name!r}, and a model with a "
            "random head is of no use; train it by fit, or choose options whose head has no weights"
        )
    odd = [n for n in given if n not in own]
    odd += [
        f"{n} {tuple(given[n].shape)} instead of {tuple(own[n].shape)}"
        for n in own.keys() & given.keys()
        if own[n].shape != given[n].shape
    ]
    if missing or odd:
        raise WeightsError(
            f"{parts.origin} does not fit the head of task {network.task.name!r}: "
            f"{f'missing {name_some(missing)}' if missing else ''}"
            f"{'; ' if missing and odd else ''}{f'unexpected {name_some(odd)}' if odd else ''}; check its options"
        )
    fault = first(damaged(given, own))
    if fault:
        raise WeightsError(f"{parts.origin} is damaged: {fault}")
    network.head.load_state_dict(given, strict=False)
