"""Prepare a run: read its data, and build its network from the names in its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from visiongraft.adaptation.networks import apply_adapters
from visiongraft.backbone import DATA_LICENSE, IMAGES, Backbone, license_warning
from visiongraft.config import FitConfig
from visiongraft.data.license import stated_license
from visiongraft.errors import OptionError, ScheduleError, near_matches
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.methods import find_adapter, find_optimizers, find_transfer_loss
from visiongraft.lookup.models import load_source_head
from visiongraft.module_backbone import IN_MEMORY
from visiongraft.network import Network
from visiongraft.preparation.datasets import Given, RunData, read_run_data
from visiongraft.preparation.kept_head import KeptHead, keep_head
from visiongraft.preparation.starting import shown_start, start_folder, started_backbone
from visiongraft.schedules import Schedule
from visiongraft.seeds import preserved, random_state, restore_random_state, seed_everything
from visiongraft.task import Task
from visiongraft.training.batches.own_augmentation import find_function, try_augmentation
from visiongraft.training.execution.launchers import ignored_settings
from visiongraft.training.execution.recomputing import checkpointed_modules
from visiongraft.training.measuring.nested import check_nested
from visiongraft.training.measuring.own_metrics import OwnMetrics
from visiongraft.training.run import Run
from visiongraft.training.trainable import trainable_parameters
from visiongraft.training.transfer.applying import Transfer


def prepare_run(
    given: Given,
    task: Task,
    config: FitConfig,
    schedule: Schedule,
    accelerator: Accelerator,
    folder: Path | None,
    scratch: Path,
) -> tuple[Run, RunData]:
    """Read the data of a run and build its network.

    Args:
        given: The datasets, and the model to continue with.
        task: The task.
        config: The settings.
        schedule: The schedule.
        accelerator: From ``devices.make_accelerator``.
        folder: The run folder, or ``None`` to keep nothing on disk.
        scratch: Where temporary files may go.

    Returns:
        The run before its first step, and its data.

    Raises:
        VisiongraftError: The data cannot be read, or the settings do not fit them.
    """
    start, main = given.start, bool(accelerator.is_main_process)
    # Before the data are read: large datasets take long, and weights may not be available.
    built = None if start is not None else build_backbone(config, task, scratch, given.backbone)
    with accelerator.main_process_first():  # the others read its results from the folder
        found = read_run_data(given, task, config, folder, main)
        config = replace(config, task_options=found.unbound.options())
        if start is not None and (folder is None or main):
            start.keep(scratch)
    run = build_run(config, schedule, found, folder, scratch, built)
    _take_objects(run, given)
    run.warnings = (*run.warnings, *ignored_settings(), *found.warnings)
    _state_licenses(run, given.data)
    info = run.network.backbone.info
    run.warnings += license_warning(info.name, info.provenance)
    _check_first_phase(run)
    check_nested(config, run.validation)
    return run, found


def _take_objects(run: Run, given: Given) -> None:
    """Give a run the user's own metrics and augmentation, and try them on a few samples."""
    run.metrics = OwnMetrics.of(given.metrics, run.network.task)
    run.metrics.try_on(run.network, run.validation)
    run.augment = find_function(run.config.augment, given.augment)
    if run.augment is not None:
        try_augmentation(run.augment, run.network, run.training, run.config.seed)


def _state_licenses(run: Run, data: Any) -> None:
    """Note under which license the training images are, and what task and transfer losses bring along."""
    stated = run.config.data_license or stated_license(data)
    found = {} if stated is None else {DATA_LICENSE: stated}
    found |= run.network.task.provenance()
    transfer = run.network.transfer
    for name, loss in ({} if transfer is None else transfer.named_losses).items():
        for whose, text in loss.licenses().items():
            kind = DATA_LICENSE if whose.endswith(IMAGES) else "license"
            found.setdefault(f"{name} teacher: {kind}", text)
    if found:
        info = run.network.backbone.info
        run.network.backbone.info = replace(info, provenance={**info.provenance, **found})


def check_streams(config: FitConfig, task: Task) -> None:
    """Refuse streams that nothing uses, and missing ones."""
    users = dict.fromkeys(task.streams, f"task {task.name!r}")
    adapted: set[str] = set()
    for loss in map(find_transfer_loss, config.transfer_loss):
        adapted.update(loss.kind.adapts_to)
        names = (*loss.kind.streams, *loss.kind.adapts_to)
        users = {**dict.fromkeys(names, f"transfer loss {loss.name!r}"), **users}
    given = config.streams or {}
    named = {name for name in config.selection.datasets if name in given}
    for name in named & config.selection.uncertain:
        raise OptionError(
            f"select: no margin of error is known for metrics of the stream {name!r}; leave confidence out"
        )
    users = {**dict.fromkeys(named, "select"), **users}
    for name in given:
        if name in (config.evaluate_on or {}) and (name in named or name in adapted):
            raise OptionError(
                f"streams and evaluate_on both name {name!r}, whose metrics would be mixed up; rename one"
            )
        if name not in users:
            known = near_matches(name, users) if users else "; they use no streams"
            raise OptionError(
                f"streams: neither task {task.name!r} nor a transfer loss uses {name!r}{known}"
            )
    for name, user in users.items():
        if name not in given:
            raise OptionError(
                f"{user} needs the stream {name!r}; pass streams={{{name!r}: PATH}}, on the command "
                f"line --stream {name}=PATH"
            )


@dataclass(frozen=True)
class BuiltBackbone:
    """A backbone, and the random states after it was built, which the head continues from."""

    backbone: Backbone
    random: tuple[dict[str, Tensor], dict[str, Any]]


def build_backbone(
    config: FitConfig, task: Task, scratch: Path, given: nn.Module | None = None
) -> BuiltBackbone:
    """Build the backbone of a run and load its weights.

    Args:
        config: The settings.
        task: The task, which need not be bound to its data.
        scratch: Where a model to continue with may be.
        given: The network to train, if one was passed.

    Raises:
        VisiongraftError: It cannot be built, or its weights cannot be loaded.
    """
    seed_everything(config.seed)
    if config.start is not None:
        backbone = started_backbone(start_folder(config.start, scratch), config.size)
    else:
        backbone = load_backbone(
            config.backbone if given is None else given,
            "pretrained" if config.weights == IN_MEMORY else config.weights,
            in_channels=config.in_channels,
            size=config.size or task.input_size,
            partial=config.partial,
            weights_license=config.weights_license,
        )
    return BuiltBackbone(backbone, random_state())


def build_run(
    config: FitConfig,
    schedule: Schedule,
    data: RunData,
    folder: Path | None,
    scratch: Path,
    built: BuiltBackbone | None = None,
) -> Run:
    """Build the network of a run on data that has been read.

    Args:
        config: The settings.
        schedule: The schedule.
        data: The data.
        folder: The run folder, or ``None`` to keep nothing on disk.
        scratch: Where temporary files may go.
        built: The backbone, if it was built before.

    Returns:
        The run before its first step.
    """
    checked = data.checked
    made = build_network(config, data.task, scratch, built)
    network, kept = made.network, made.kept
    if config.transfer_loss:
        network.transfer = build_transfer(config, network, scratch)
    return Run(
        config=config,
        network=network,
        schedule=schedule,
        optimizers=find_optimizers(data.task, config.optimizer),
        training=checked.train,
        validation=checked.validation,
        folder=folder,
        scratch=scratch,
        warnings=(*made.notes, *(kept.warnings() if kept else ())),
        notes=kept.notes() if kept else (),
        kept_from_start=kept.facts() if kept else {},
        evaluation={name: each.samples for name, each in data.evaluation.items()},
        streams={name: each.samples for name, each in data.streams.items()},
        digests=data.image_digests(config.in_channels),
    )


@dataclass(frozen=True)
class BuiltNetwork:
    """A network before its first step.

    Attributes:
        network: The network.
        kept: What it has of the head of a model that training continues with.
        notes: Lines on its adapters.
    """

    network: Network
    kept: KeptHead | None
    notes: Sequence[str]


def build_network(
    config: FitConfig, task: Task, scratch: Path, built: BuiltBackbone | None = None
) -> BuiltNetwork:
    """Build a network as a run begins with it, which needs no data.

    Args:
        config: The settings.
        task: The task, bound to its data.
        scratch: Where a model to continue with may be.
        built: The backbone, if it was built before.

    Raises:
        VisiongraftError: It cannot be built, or its weights cannot be loaded.
    """
    if built is None:
        built = build_backbone(config, task, scratch)
    backbone = built.backbone
    restore_random_state(*built.random)
    resize = config.resize or (task.resize if config.start is None else None)
    if resize is not None:
        preprocess = replace(backbone.info.preprocess, resize=resize)
        backbone.info = replace(backbone.info, preprocess=preprocess)
    network = Network(backbone, task)
    kept = None
    if config.start is not None:
        kept = keep_head(network, start_folder(config.start, scratch), shown_start(config.start))
    if config.gradient_checkpointing:
        checkpointed_modules(backbone)  # or refused
    notes = apply_adapters(network, [find_adapter(choice) for choice in config.adapters])
    return BuiltNetwork(network, kept, notes)


def build_transfer(config: FitConfig, network: Network, scratch: Path) -> Transfer:
    """Make the transfer losses of a run, and what they read of the source.

    Args:
        config: The settings.
        network: The network before training.
        scratch: Where a model to continue with may be.

    Raises:
        VisiongraftError: A loss cannot be made, or needs a head that the backbone was not trained with.
    """
    choices = [find_transfer_loss(choice) for choice in config.transfer_loss]
    needing = [choice.name for choice in choices if choice.kind.needs_source_head]
    if not needing:
        return Transfer(choices, network)
    source: tuple[str | Path, str | None] = (config.backbone, config.weights)
    if config.start is not None:
        source = (start_folder(config.start, scratch), "pretrained")
    with preserved():  # what a head draws is replaced by its weights
        head = None if config.weights == IN_MEMORY else load_source_head(*source, network.task)
    if head is None:
        raise OptionError(
            f"transfer loss {needing[0]!r} needs the head that the backbone was trained with, and "
            f"backbone={config.backbone!r} with weights={config.weights!r} has none; pass the folder "
            "of a saved model as backbone, or published weights that contain their classifier"
        )
    return Transfer(choices, network, head)


def _check_first_phase(run: Run) -> None:
    """Refuse a schedule that does not fit the backbone before the run writes anything."""
    stages = run.network.backbone.stages
    phase = next(run.schedule.phases(stages, run.config.epochs), None)
    if phase is None:
        raise ScheduleError(f"schedule {run.schedule.name!r} has no phase")
    trainable_parameters(run.network, phase.trainable)
