"""The conformance kit: checks that plugins follow their contracts, with the real engine.

In pytest, as one test or as one test per check::

    from visiongraft.testing import TASK_CHECKS, check_task

    def test_my_task_conforms():
        check_task(MyTask())

    @pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
    def test_my_task(check):
        check(MyTask())

Checks that share one ``TaskTrial(MyTask())`` train and export it only once. From the command line,
for everything a plugin provides: ``visiongraft check-plugin NAME``.
"""

from visiongraft.testing.adapters import ADAPTER_CHECKS, AdapterTrial, check_adapter
from visiongraft.testing.backbones import BACKBONE_CHECKS, BackboneTrial, check_backbone
from visiongraft.testing.exporters import EXPORTER_CHECKS, ExporterTrial, check_exporter
from visiongraft.testing.losses import (
    TRANSFER_LOSS_CHECKS,
    TransferLossTrial,
    check_transfer_loss,
)
from visiongraft.testing.plugins import check_plugin
from visiongraft.testing.readers import READER_CHECKS, ReaderTrial, check_reader
from visiongraft.testing.report import Check, CheckError, NotTried, Result, run_all
from visiongraft.testing.schedules import SCHEDULE_CHECKS, ScheduleTrial, check_schedule
from visiongraft.testing.scorers import SCORER_CHECKS, ScorerTrial, check_scorer
from visiongraft.testing.sections import SECTION_CHECKS
from visiongraft.testing.tasks import TASK_CHECKS, check_task
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.testing.text_encoders import (
    TEXT_ENCODER_CHECKS,
    TextEncoderTrial,
    check_text_encoder,
)

__all__ = [
    "ADAPTER_CHECKS",
    "BACKBONE_CHECKS",
    "EXPORTER_CHECKS",
    "READER_CHECKS",
    "SCHEDULE_CHECKS",
    "SCORER_CHECKS",
    "SECTION_CHECKS",
    "TASK_CHECKS",
    "TEXT_ENCODER_CHECKS",
    "TRANSFER_LOSS_CHECKS",
    "AdapterTrial",
    "BackboneTrial",
    "Check",
    "CheckError",
    "ExporterTrial",
    "NotTried",
    "ReaderTrial",
    "Result",
    "ScheduleTrial",
    "ScorerTrial",
    "TaskTrial",
    "TextEncoderTrial",
    "TransferLossTrial",
    "check_adapter",
    "check_backbone",
    "check_exporter",
    "check_plugin",
    "check_reader",
    "check_schedule",
    "check_scorer",
    "check_task",
    "check_text_encoder",
    "check_transfer_loss",
    "run_all",
]
