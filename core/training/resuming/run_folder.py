"""The folder of a run: one process writes it, and a start that fails leaves nothing behind."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from visiongraft.errors import ArtifactError, OptionError
from visiongraft.saving.lock import locked, remove_abandoned
from visiongraft.saving.saved_model import WEIGHTS
from visiongraft.system.processes import is_alive
from visiongraft.training.resuming.chosen_callbacks import FILE as CALLBACKS
from visiongraft.training.resuming.inputs import FILE as INPUTS

log = logging.getLogger("visiongraft")

LOG = "run.log"
CONFIG = "config.json"
DATA_CHECK = "data-check.json"
DATA_CHECKS = "data-check*.json"  # with those of evaluation sets and streams
METRICS = "metrics.jsonl"
STARTED_FROM = "started-from"
STRENGTHS = "strengths"  # the trainings of a run with several strengths of a transfer loss
FIRST_FILES = (
    LOG,
    INPUTS,
    METRICS,
    DATA_CHECKS,
    CALLBACKS,
    STARTED_FROM,
    STRENGTHS,
)  # what a start writes at first
SCRATCH = "visiongraft-run-"
_CACHED = re.compile(r"replay-\w{8}")
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


@contextmanager
def run_folder(folder: Path, resume: bool) -> Iterator[None]:
    """Create, lock and tidy up a run folder, and write the log into it, within a block.

    Args:
        folder: The folder.
        resume: Whether it may contain a run.

    Raises:
        OptionError: It cannot be created, or contains a run and ``resume`` is not set.
        TrainingError: Another process writes it.
    """
    created = _create(folder)
    before = _first_files(folder)
    try:
        with locked(folder):
            if not resume and (folder / CONFIG).exists():
                raise OptionError(
                    f"{folder} already contains a run; pass resume=True (--resume) to continue it, "
                    "or choose another folder"
                )
            _remove_leftovers(folder)
            try:
                with _logging_to(folder / LOG):
                    yield
            except BaseException:
                if not (folder / CONFIG).exists():  # the run has not begun
                    for path in _first_files(folder) - before:
                        _remove(path)
                raise
    finally:
        for path in created:  # those that are still empty
            with suppress(OSError):
                path.rmdir()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a temporary folder for a run without a folder, and remove those of killed runs.

    Yields:
        The folder, which is removed at the end of the block.
    """
    remove_abandoned(Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"))
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as name, locked(Path(name)):
        yield Path(name)


def check_run(folder: Path) -> None:
    """Refuse a folder without the settings of a run, such as one of federated training, or of a saved model.

    Args:
        folder: The folder.

    Raises:
        ArtifactError: It is not that of a run.
    """
    if not (folder / CONFIG).is_file() or (folder / WEIGHTS).is_file():
        raise ArtifactError(
            f"{folder} is not the folder of a run, which names its images; pass what fit wrote to"
        )


def give_up(folder: Path) -> None:
    """Let a run count as not begun, so that ``run_folder`` removes what it wrote.

    Args:
        folder: The folder of a run that failed before its first step.
    """
    (folder / CONFIG).unlink(missing_ok=True)


def further_check(folder: Path, name: str) -> Path:
    """Return the file with the findings about a dataset beside training and validation."""
    return folder / f"data-check-{name}.json"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _first_files(folder: Path) -> set[Path]:
    return {path for pattern in FIRST_FILES for path in folder.glob(pattern)}


def _create(folder: Path) -> list[Path]:
    """Create a folder and return the folders that were missing, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{folder} cannot be created: {error.strerror or error}") from error
    return missing


def _remove_leftovers(folder: Path) -> None:
    """Remove cached features and half-written files of runs that were killed."""
    for path in folder.iterdir():
        # Nothing but what `caching.store` makes: the user's own folder may have a similar name.
        if _CACHED.fullmatch(path.name) and all(p.suffix == ".npy" for p in path.glob("*")):
            shutil.rmtree(path, ignore_errors=True)
    roots = (folder, *folder.glob(f"{STRENGTHS}/*"))
    places = [root / name for root in roots for name in ("", "checkpoints", "model")]
    for path in (found for place in places for found in place.glob(".*.tmp")):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not is_alive(int(match[1])):  # another command may write a file here now
            with suppress(OSError):
                path.unlink()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()
