"""Continue the training of a model: its task, its backbone and its head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from visiongraft.backbone import Backbone
from visiongraft.config import fit_defaults
from visiongraft.errors import ArtifactError, OptionError, VisiongraftError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.tasks import find_task
from visiongraft.model import TransferModel
from visiongraft.preparation.assembling import assemble
from visiongraft.registry.manager import plugins
from visiongraft.saving.adapter_folder import is_adapter
from visiongraft.saving.saved_config import SavedConfig, check_class, describe_model, read_config
from visiongraft.saving.saved_model import WEIGHTS, is_saved_model, model_folder
from visiongraft.task import Task, create_task, required_options
from visiongraft.task_contract.checks import bound, read_splits
from visiongraft.training.resuming.run_folder import STARTED_FROM

IN_MEMORY = "<model in memory>"  # the setting ``start`` of a run that began with one
AFTER_TRAINING = "set after training"  # the fact that names options which ``after_training`` set


@dataclass(frozen=True)
class Start:
    """A model to continue with.

    Attributes:
        name: How messages call it.
        config: Its description.
        kind: The class of its task.
        options: Options of the task, with those that the user has changed.
        changed: The latter alone.
        model: The model, if it is not in a folder.
    """

    name: str
    config: SavedConfig
    kind: type[Task]
    options: Mapping[str, Any]
    changed: Mapping[str, Any]
    model: TransferModel | None = None

    @property
    def task(self) -> Task:
        """The task to continue with."""
        return create_task(self.kind, self.options)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of ``fit`` that the model determines."""
        in_memory = {} if self.model is None else {"start": IN_MEMORY}
        return {
            "backbone": self.config.backbone["name"],
            "in_channels": self.config.backbone["in_channels"],
            **in_memory,
        }

    def keep(self, scratch: Path) -> None:
        """Keep a model that is in memory in the run folder."""
        if self.model is not None:
            self.model.save(scratch / STARTED_FROM)

    def for_other_classes(self, data: Any, validation: float, seed: int) -> Task | None:
        """Return the task for data that it cannot read with what the model learned from its own data.

        Args:
            data: The data.
            validation: As for ``Task.read``.
            seed: As for ``Task.read``.

        Returns:
            A task with the options of the model, except for those that ``Task.bind`` takes from data, such as
            class names; ``None`` if the data cannot be read with other ones either.
        """
        own = self.config.task_options
        required = {n: own[n] for n in required_options(self.kind) if n in own}
        try:
            plain = create_task(self.kind, {**required, **self.changed})
            train = read_splits(plain, data, validation, seed).train
            before, after = plain.options(), bound(plain, train).options()
            kept = {n: v for n, v in self.options.items() if before[n] == after[n]}
            return create_task(self.kind, {**kept, **required, **self.changed})
        except VisiongraftError:
            return None


def find_start(given: Mapping[str, Any]) -> Start | None:
    """Find the model to continue with.

    Args:
        given: The arguments of ``fit`` by name.

    Returns:
        The model; ``None`` if none is given.

    Raises:
        ArtifactError: The folder is not a saved model.
        OptionError: The task is another one, or the argument is no model.
        PluginError: No installed plugin provides the task.
    """
    start = given["start"]
    if start is None:
        return None
    if not isinstance(start, str | Path | TransferModel):
        raise OptionError(
            f"start={start!r} is neither a model, the folder of one nor a weights file"
        )
    shown = "MODEL" if isinstance(start, TransferModel) else str(start)
    if is_weights_file(start):
        start = _assembled(start, given)
    elif not isinstance(start, TransferModel):
        start = Path(start).parent if Path(start).is_file() else start
    if isinstance(start, TransferModel):
        name = plugins().name_of("task", type(start.task))
        config = describe_model(start.network, start.facts, name)
        kind = type(start.task)
    else:
        if is_adapter(Path(start)):
            raise ArtifactError(
                f"start={start} is the folder of an adapter; load it on its base, and pass the model: "
                f"start=load({str(start)!r}, base=...)"
            )
        if not is_saved_model(start):
            raise ArtifactError(f"start={start} is not the folder of a saved model or of a run")
        config = read_config(model_folder(Path(start)))
        kind = _kind(config, shown, given["task"])
    _refuse_other_task(config, kind, shown, given["task"])
    if not isinstance(start, TransferModel):
        check_class(Path(start), config, kind)
    changed = _changed(kind, given["task"], given["task_options"])
    options = {n: v for n, v in config.task_options.items() if n not in _set_after(config)}
    model = start if isinstance(start, TransferModel) else None
    return Start(shown, config, kind, {**options, **changed}, changed, model)


def start_folder(start: str, scratch: Path) -> Path:
    """Return the folder of the model that a run continues with.

    Args:
        start: The setting ``start``.
        scratch: Where the run keeps its files.
    """
    if start == IN_MEMORY:
        return scratch / STARTED_FROM
    return Path(start).parent if Path(start).is_file() else Path(start)


def shown_start(start: str) -> str:
    """Return how messages call the model of the setting ``start``."""
    return "MODEL" if start == IN_MEMORY else start


def started_backbone(folder: Path, size: tuple[int, int] | None) -> Backbone:
    """Load the backbone of the model that a run continues with.

    Args:
        folder: The saved model, or a run folder.
        size: Network input; the model's if ``None``.
    """
    channels = read_config(model_folder(folder)).backbone["in_channels"]
    return load_backbone(folder, in_channels=channels, size=size)


def is_weights_file(start: Any) -> TypeGuard[str | Path]:
    """Check whether a start is a file of weights alone; the file of a saved model stands for its folder."""
    if not isinstance(start, str | Path) or not Path(start).is_file():
        return False
    return Path(start).name != WEIGHTS or not is_saved_model(Path(start).parent)


def _assembled(file: str | Path, given: Mapping[str, Any]) -> TransferModel:
    """Make a model of a weights file."""
    if given["task"] is None:
        raise OptionError(f"start={file} is a weights file; name the task that it is for")
    backbone = given["backbone"]
    return assemble(
        given["task"],
        None if backbone == fit_defaults()["backbone"] else backbone,
        file,
        task_options=given["task_options"],
        in_channels=given["in_channels"],
        size=given["size"],
        resize=given["resize"],
        partial=given["partial"],
        weights_license=given["weights_license"],
    )


def _kind(config: SavedConfig, shown: str, task: Any) -> type[Task]:
    if isinstance(task, Task):
        return type(task)
    return find_task(config.task, f"start={shown}", "fit(..., start=..., task=MyTask())")


def _refuse_other_task(config: SavedConfig, kind: type[Task], shown: str, task: Any) -> None:
    wanted = task if isinstance(task, str) else (kind if task is None else type(task)).name
    if wanted.rpartition(":")[2] != config.task.rpartition(":")[2]:
        raise OptionError(
            f"start={shown} is a model for task {config.task!r}, not {wanted!r}; pass "
            f"backbone={shown} instead of start, to begin with a new head"
        )


def _changed(kind: type[Task], task: Any, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options that a user passed: of a task object those that are not at their defaults."""
    if not isinstance(task, Task):
        return dict(options or {})
    if options:
        raise OptionError("task_options require the task's name; this task is already an object")
    try:
        defaults = kind().options()
    except TypeError:  # an option has no default
        return task.options()
    return {name: value for name, value in task.options().items() if value != defaults[name]}


def _set_after(config: SavedConfig) -> list[str]:
    """Return the options that were determined after training, and will be again."""
    training = config.facts.get("training")
    names = training.get(AFTER_TRAINING, []) if isinstance(training, dict) else []
    return names if isinstance(names, list) else []


def lists_in(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metadata contain of names and the like; single values may change with training."""
    return dict(_each_list(metadata))


def _each_list(metadata: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for name, value in metadata.items():
        if isinstance(value, list | tuple):
            yield name, list(value)
