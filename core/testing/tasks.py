"""All checks of a task."""

from __future__ import annotations

from typing import Any

from visiongraft.task import Task
from visiongraft.testing.report import Check, require
from visiongraft.testing.task_data import DATA_CHECKS
from visiongraft.testing.task_export import EXPORT_CHECKS
from visiongraft.testing.task_forward import DECODE_CHECKS
from visiongraft.testing.task_loss import LOSS_CHECKS
from visiongraft.testing.task_metrics import METRIC_CHECKS
from visiongraft.testing.task_processes import PROCESS_CHECKS
from visiongraft.testing.task_saving import SAVING_CHECKS
from visiongraft.testing.task_training import TRAINING_CHECKS
from visiongraft.testing.trial import TaskTrial

FORWARD_CHECKS: tuple[Check[Any], ...] = (*DECODE_CHECKS, *LOSS_CHECKS, *METRIC_CHECKS)
TASK_CHECKS: tuple[Check[Any], ...] = (
    *DATA_CHECKS,
    *FORWARD_CHECKS,
    *TRAINING_CHECKS,
    *SAVING_CHECKS,
    *PROCESS_CHECKS,
    *EXPORT_CHECKS,
)


def check_task(task: Task | type[Task]) -> None:
    """Try a task on everything that visiongraft asks of one, from reading data to export.

    Args:
        task: The task, or its class if it needs no options.

    Raises:
        CheckError: A check failed; it says what was tried, what came out and what should have.
    """
    require(TaskTrial.of(task), TASK_CHECKS)
