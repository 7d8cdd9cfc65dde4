"""Experiment trackers as callbacks, by the trackers of Accelerate: TensorBoard, W&B, MLflow, trackio."""

from __future__ import annotations

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from visiongraft.errors import OptionError, PluginError, VisiongraftError, near_matches, one_line
from visiongraft.hookspecs import hookimpl
from visiongraft.options import is_number
from visiongraft.registry.manager import plugins
from visiongraft.saving.files import read_json, write_json

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

    from visiongraft.training.run import Run

log = logging.getLogger("visiongraft")

FILE = "trackers.json"  # in the run folder: what finds the runs of trackers again
PROJECT = "visiongraft"


class Tracker(ABC):
    """Sends settings and the values of each epoch to a tracker; each epoch once, also in resumed runs.

    Attributes:
        name: Its name.
        package: What it needs; also the name of the extra.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self) -> None:
        if find_spec(self.package) is None:
            raise PluginError(
                f"tracker {self.name}: {self.package} is missing; "
                f'pip install "visiongraft[{self.package}]"'
            )
        self.tracker: GeneralTracker | None = None
        self.logged = 0  # epochs

    @abstractmethod
    def open(self, run: Run, known: Mapping[str, str]) -> GeneralTracker:
        """Make the tracker, which is not started yet.

        Args:
            run: The run.
            known: What ``identity`` returned when the run began; empty if it begins now.
        """

    @abstractmethod
    def identity(self, tracker: Any) -> dict[str, str]:
        """Return what finds the run of a started tracker again."""

    @hookimpl
    def run_started(self, run: Run) -> None:
        """Begin a run of the tracker, or go on with that of a resumed run."""
        stored = _read(run.folder).get(self.name, {})
        known = dict(stored.get("run", {}))
        try:
            self.tracker = self.open(run, known)
            self.tracker.start()
            if not known:
                self.tracker.store_init_configuration(settings_of(run))
        except VisiongraftError:
            raise
        except Exception as error:  # of the tracker's own library
            which = f"continue its run {known}" if known else "begin"
            raise PluginError(f"tracker {self.name} cannot {which}: {one_line(error)}") from error
        self.logged = int(stored.get("epochs", 0)) if known else 0
        for record in run.history:  # a run may have stopped before it told its last epoch
            self._log(run, record)

    @hookimpl
    def epoch_ended(self, run: Run, record: dict[str, Any]) -> None:
        """Log the values of an epoch."""
        self._log(run, record)

    @hookimpl
    def run_finished(self) -> None:
        """End."""
        self._finish()

    @hookimpl
    def run_failed(self) -> None:
        """End; a resumed run goes on."""
        self._finish()

    def _log(self, run: Run, record: Mapping[str, Any]) -> None:
        epoch = record["epoch"] + 1
        if self.tracker is None or epoch <= self.logged:
            return
        self.tracker.log(values_of(record), step=epoch)
        self.logged = epoch
        if run.folder is not None:
            own = {"run": self.identity(self.tracker), "epochs": epoch}
            write_json(run.folder / FILE, {**_read(run.folder), self.name: own})

    def _finish(self) -> None:
        tracker, self.tracker = self.tracker, None
        if tracker is not None:
            tracker.finish()


class TensorBoard(Tracker):
    """Writes event files into ``tensorboard`` of the run folder."""

    name, package = "tensorboard", "tensorboard"

    def open(self, run: Run, known: Mapping[str, str]) -> GeneralTracker:
        """Make the writer of event files."""
        from accelerate.tracking import TensorBoardTracker

        if run.folder is None:
            raise PluginError("tracker tensorboard needs out=FOLDER to write to")
        return TensorBoardTracker("tensorboard", run.folder)

    def identity(self, tracker: Any) -> dict[str, str]:
        """Return the folder of the event files."""
        return {"folder": "tensorboard"}


class WandB(Tracker):
    """Logs to Weights & Biases; ``WANDB_PROJECT``, ``WANDB_MODE=offline`` and so on apply.

    Files are written into ``wandb`` of the run folder.
    """

    name, package = "wandb", "wandb"

    def open(self, run: Run, known: Mapping[str, str]) -> GeneralTracker:
        """Make the tracker, with the identifier of the run that it continues."""
        from accelerate.tracking import WandBTracker

        project = os.environ.get("WANDB_PROJECT", PROJECT)
        again = {"id": known["id"], "resume": "allow"} if known else {}
        place = {} if run.folder is None else {"dir": str(run.folder), "name": run.folder.name}
        return WandBTracker(project, **place, **again)

    def identity(self, tracker: Any) -> dict[str, str]:
        """Return the identifier of the run."""
        return {"id": tracker.run.id}


class MLflow(Tracker):
    """Logs to MLflow; ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME`` and so on apply."""

    name, package = "mlflow", "mlflow"

    def open(self, run: Run, known: Mapping[str, str]) -> GeneralTracker:
        """Make the tracker, with the identifier of the run that it continues."""
        from accelerate.tracking import MLflowTracker

        name = None if run.folder is None or known else run.folder.name
        return MLflowTracker(PROJECT, run_id=known.get("run_id"), run_name=name)

    def identity(self, tracker: Any) -> dict[str, str]:
        """Return the identifier of the run, and where it is."""
        import mlflow

        return {"run_id": tracker.active_run.info.run_id, "store": mlflow.get_tracking_uri()}


class Trackio(Tracker):
    """Logs to trackio; ``TRACKIO_DIR``, ``TRACKIO_SPACE_ID`` and so on apply."""

    name, package = "trackio", "trackio"

    def open(self, run: Run, known: Mapping[str, str]) -> GeneralTracker:
        """Make the tracker, with the name of the run that it continues."""
        from accelerate.tracking import TrackioTracker

        again = {"name": known["name"], "resume": "must"} if known else {}
        if not known and run.folder is not None:
            again = {"name": run.folder.name}
        project = known.get("project") or os.environ.get("TRACKIO_PROJECT", PROJECT)
        return TrackioTracker(project, embed=False, **again)

    def identity(self, tracker: Any) -> dict[str, str]:
        """Return project and name of the run."""
        return {"project": tracker.run.project, "name": tracker.run.name}


class GivenTracker(Tracker):
    """Logs to a tracker that the user made, a ``GeneralTracker`` of Accelerate.

    Args:
        tracker: The tracker; whoever resumes a run passes one that continues.
    """

    def __init__(self, tracker: GeneralTracker) -> None:
        self.given, self.tracker, self.logged = tracker, None, 0
        self.name = tracker.name  # type: ignore[misc]

    def open(self, run: Run, known: Mapping[str, str]) -> GeneralTracker:
        """Return the tracker."""
        return self.given

    def identity(self, tracker: Any) -> dict[str, str]:
        """Return its name, as nothing else is known of it."""
        return {"name": self.given.name}


def find_trackers(given: Sequence[str | object]) -> list[Tracker]:
    """Make the trackers of a run.

    Args:
        given: Names, or trackers of Accelerate.

    Returns:
        Callbacks.

    Raises:
        OptionError: One is neither.
        PluginError: What one needs is not installed.
    """
    if isinstance(given, str):
        raise OptionError(f"trackers={given!r} is not a list; pass trackers=[{given!r}]")
    return [_find(one) for one in given]


def _find(given: str | object) -> Tracker:
    from accelerate.tracking import GeneralTracker

    if isinstance(given, GeneralTracker):
        return GivenTracker(given)
    if isinstance(given, Tracker):
        return given
    known = {
        name: kind
        for name, kind in plugins().callbacks().items()
        if isinstance(kind, type) and issubclass(kind, Tracker)
    }
    if not isinstance(given, str) or given not in known:
        raise OptionError(
            f"tracker {given!r} is no name of one, and no tracker of Accelerate"
            f"{near_matches(str(given), known)}"
        )
    return known[given]()


def settings_of(run: Run) -> dict[str, str | int | float | bool]:
    """Return the settings of a run as plain values; others are written as JSON."""
    return {
        name: value
        if isinstance(value, (str, bool, int, float))
        else json.dumps(value, ensure_ascii=False)
        for name, value in asdict(run.config).items()
    }


def values_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch's record by part and name.

    Examples:
        >>> values_of({"learning_rate": 0.1, "train": {"loss": 2.0}, "validation": {"accuracy": 0.5}})
        {'train/loss': 2.0, 'validation/accuracy': 0.5, 'learning_rate': 0.1}
    """
    named = ("train", "validation", "validation_loss")
    parts = {n: record[n] for n in named if n in record} | dict(record.get("evaluate_on", {}))
    values = {
        f"{part}/{name}": float(value)
        for part, own in parts.items()
        for name, value in own.items()
        if is_number(value, finite=False)
    }
    if is_number(record.get("learning_rate")):
        values["learning_rate"] = float(record["learning_rate"])
    return values


def _read(folder: Path | None) -> dict[str, Any]:
    if folder is None or not (folder / FILE).is_file():
        return {}
    found = read_json(folder / FILE)
    return found if isinstance(found, dict) else {}


@hookimpl
def register_callbacks() -> list[type[Any]]:
    """Provide the trackers."""
    return [TensorBoard, WandB, MLflow, Trackio]
