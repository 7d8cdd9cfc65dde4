"""The conformance kit: tries plugins on what visiongraft asks of them, through the real engine.

From pytest, all at once or one test for each check::

    from visiongraft.testing import TASK_CHECKS, check_task

    def test_my_task_conforms():
        check_task(MyTask())

    @pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
    def test_my_task(check):
        check(MyTask())

From the command line, for everything a plugin provides: ``visiongraft check-plugin NAME``.
"""

from visiongraft.testing.report import Check, CheckError, NotTried, Result, run_all
from visiongraft.testing.tasks import TASK_CHECKS, check_task
from visiongraft.testing.trial import TaskTrial

__all__ = [
    "TASK_CHECKS",
    "Check",
    "CheckError",
    "NotTried",
    "Result",
    "TaskTrial",
    "check_task",
    "run_all",
]
