"""What a run computes from, and the images that it and its start were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiongraft.adaptation.networks import base_digest
from visiongraft.backbone import Backbone
from visiongraft.module_backbone import IN_MEMORY
from visiongraft.preparation.datasets import RunData
from visiongraft.preparation.starting import start_folder
from visiongraft.registry.source_code import source_digests
from visiongraft.saving.classes import class_path
from visiongraft.saving.saved_model import WEIGHTS, is_saved_model, model_folder
from visiongraft.saving.training_images import TrainingImages
from visiongraft.saving.weights import file_sha256
from visiongraft.task_contract.optional import OptionalMethods
from visiongraft.training.resuming.inputs import RunInputs
from visiongraft.training.run import Run
from visiongraft.training.transfer_losses import TransferLoss


def inputs_of(run: Run, data: RunData) -> RunInputs:
    """Compute digests of what a run computes from.

    Args:
        run: The run before its first step.
        data: Its data.
    """
    transfer = run.network.transfer
    losses = {} if transfer is None else transfer.named_losses
    return RunInputs(
        data.digests,
        run.network.task.options(),
        _weights_digests(run, losses),
        _code_digests(run, losses),
        classes={name: class_path(kind) for name, kind in _named_kinds(run, losses).items()},
        transfer_source=None if transfer is None else transfer.origin,
    )


def images_of_start(run: Run) -> TrainingImages | None:
    """Read the digests of the images that the saved model to start from was trained on."""
    config = run.config
    if config.start is not None:
        return TrainingImages.read(model_folder(start_folder(config.start, run.scratch)))
    if config.weights != "pretrained" or not is_saved_model(config.backbone):
        return None
    return TrainingImages.read(model_folder(Path(config.backbone)))


def images_of_run(
    run: Run, data: RunData, inputs: RunInputs, before: TrainingImages | None
) -> TrainingImages | None:
    """Collect digests of all training images, unless images in memory differ each time.

    A model of a private run must not tell which images it was trained on.

    Args:
        run: The run.
        data: Its data.
        inputs: What it computed from.
        before: The images that the model it began with was trained on.
    """
    if run.config.privacy is not None or not data.are_reproducible(run.config.in_channels):
        return None
    own = TrainingImages.of(run.training, inputs.trained_on())
    return own if before is None else own.joined(before)


def _weights_digests(run: Run, losses: Mapping[str, TransferLoss]) -> dict[str, str]:
    """Hash the weights files of a run, by the setting that names each."""
    config = run.config
    weights = {
        f"{name}.{option}": file_sha256(path)
        for name, loss in losses.items()
        for option, path in loss.files().items()
    }
    if config.weights == IN_MEMORY:
        weights["backbone"] = base_digest(run.network)
    elif config.weights not in (None, "pretrained"):
        weights["weights"] = file_sha256(Path(str(config.weights)))
    elif config.start is not None:
        weights["start"] = file_sha256(
            model_folder(start_folder(config.start, run.scratch)) / WEIGHTS
        )
    elif config.weights is not None and is_saved_model(config.backbone):
        weights["backbone"] = file_sha256(model_folder(Path(config.backbone)) / WEIGHTS)
    return weights


def _code_digests(run: Run, losses: Mapping[str, TransferLoss]) -> dict[str, str]:
    """Hash the source of what plugins provide for a run, by module."""
    task, backbone = run.network.task, run.network.backbone
    classes: list[type] = [k for k in type(task).__mro__ if issubclass(k, OptionalMethods)]
    classes += [k for k in type(backbone).__mro__ if issubclass(k, Backbone)]
    makers = [each.factory.make for each in run.optimizers]
    parts = [*map(type, losses.values()), *(type(c.adapter) for c in backbone.adapters)]
    own = [] if run.augment is None else [_definition_of(run.augment)]
    return source_digests([*classes, run.schedule.generate, *makers, *parts, *own])


def _definition_of(function: Any) -> Any:
    """Return what source code defines: a function, or the class of an object that is called."""
    return function if hasattr(function, "__qualname__") else type(function)


def _named_kinds(run: Run, losses: Mapping[str, TransferLoss]) -> dict[str, Any]:
    """Return the classes and functions that plugins provide for a run, by setting."""
    task, backbone = run.network.task, run.network.backbone
    kinds: dict[str, Any] = {"task": type(task), "backbone": type(backbone)}
    kinds["schedule"] = run.schedule.generate
    for index, loss in enumerate(losses.values()):
        kinds["transfer_loss" if index == 0 else f"transfer_loss {index + 1}"] = type(loss)
    kinds |= {f"metric {name}": type(metric) for name, metric in run.metrics.metrics.items()}
    return kinds | {f"adapter {c.name}": type(c.adapter) for c in backbone.adapters}
