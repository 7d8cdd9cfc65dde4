"""All checks of a task."""

from __future__ import annotations

from typing import Any

from visiongraft.task import Task
from visiongraft.testing.report import Check, require
from visiongraft.testing.tasks.caching import CACHING_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.export import EXPORT_CHECKS
from visiongraft.testing.tasks.forward import DECODE_CHECKS
from visiongraft.testing.tasks.freezing import FREEZING_CHECKS
from visiongraft.testing.tasks.learning import LEARNING_CHECKS
from visiongraft.testing.tasks.loss import LOSS_CHECKS
from visiongraft.testing.tasks.metrics import METRIC_CHECKS
from visiongraft.testing.tasks.processes import PROCESS_CHECKS
from visiongraft.testing.tasks.reproducing import REPRODUCING_CHECKS
from visiongraft.testing.tasks.resuming import RESUMING_CHECKS
from visiongraft.testing.tasks.saving import SAVING_CHECKS
from visiongraft.testing.tasks.trial import TaskTrial

FORWARD_CHECKS: tuple[Check[Any], ...] = (*DECODE_CHECKS, *LOSS_CHECKS, *METRIC_CHECKS)
TASK_CHECKS: tuple[Check[Any], ...] = (
    *DATA_CHECKS,
    *FORWARD_CHECKS,
    *LEARNING_CHECKS,
    *FREEZING_CHECKS,
    *REPRODUCING_CHECKS,
    *RESUMING_CHECKS,
    *CACHING_CHECKS,
    *SAVING_CHECKS,
    *PROCESS_CHECKS,
    *EXPORT_CHECKS,
)


def check_task(task: Task | type[Task]) -> None:
    """Check everything that visiongraft requires of a task, from reading data to export.

    Args:
        task: The task, or its class if it needs no options.

    Raises:
        CheckError: A check failed; the message says what was tried, the result and what was expected.
    """
    require(TaskTrial.of(task), TASK_CHECKS)
