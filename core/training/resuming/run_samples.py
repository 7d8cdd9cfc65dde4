"""The samples of a run, read again from where they were."""

from __future__ import annotations

from pathlib import Path

from visiongraft.config import FitConfig
from visiongraft.data.check import CheckedSplits, check_samples
from visiongraft.task import Task
from visiongraft.task_contract.checks import read_splits
from visiongraft.training.resuming.run_folder import DATA_CHECK


def read_run_samples(folder: Path, config: FitConfig, task: Task, channels: int) -> CheckedSplits:
    """Read the readable samples of both splits; images that have not changed are not decoded again.

    Args:
        folder: The run folder, to which nothing is written.
        config: Its settings.
        task: What the run learned.
        channels: Number of image channels.

    Raises:
        DataError: The data cannot be read.
    """
    splits = read_splits(task, config.data, config.held_out, config.seed)
    return check_samples(
        splits.train,
        splits.validation,
        channels=channels,
        cache=folder / DATA_CHECK,
        save=False,
        inputs=task.inputs,
    )
