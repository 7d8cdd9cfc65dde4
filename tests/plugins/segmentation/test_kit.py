"""Run the conformance kit on every kind of mask, and its checks without training on every decoder."""

from __future__ import annotations

from typing import Any

import pytest

from tests.short_trials import SHORT, ShortTrial
from visiongraft.plugins.segmentation.task import DECODER_NAMES, Segmentation
from visiongraft.testing import TASK_CHECKS, Check, CheckError, TaskTrial
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.data import DATA_CHECKS

QUICK = (*DATA_CHECKS, *FORWARD_CHECKS)
KINDS: dict[str, dict[str, Any]] = {
    "multi_class": {"loss": "cross_entropy+0.5*dice", "auxiliary": 0.4},
    "binary": {"kind": "binary", "loss": "focal+lovasz", "probabilities": True},
    "multi_label": {"kind": "multi_label", "class_weights": "balanced", "probabilities": True},
}
WIDTHS = {"fpn": 128, "fcn": 0, "deeplabv3": 0}


# The engine's part of these is checked with other tasks; resuming implies that equal runs are equal.
OF_THE_ENGINE = {
    "a_killed_run_resumes_exactly",
    "another_process_predicts_the_same",
    "equal_runs_are_equal",
    "frozen_stays_frozen",
    "replay_changes_nothing",
    "two_processes_train_alike",
    "workers_change_nothing",
}


# test_training.py does the same with more images every time.
OF_TRAINING = {
    "a_few_images_are_overfit",
    "class_names_survive_saving_and_export",
    "the_exported_file_agrees",
}


def case(kind: str, check: Check[Any]) -> Any:
    """Mark checks that train, and those that other tests cover for other kinds or tasks."""
    mark: Any = () if check in QUICK else pytest.mark.slow
    if check not in QUICK and (kind != "multi_class" or check.name in OF_THE_ENGINE | OF_TRAINING):
        mark = pytest.mark.exhaustive
    return pytest.param(kind, check, id=f"{check.name}-{kind}", marks=mark)


@pytest.fixture(scope="module")
def trials() -> dict[str, tuple[TaskTrial, TaskTrial]]:
    """A short and a full trial of each kind."""
    tasks = {name: Segmentation(**options) for name, options in KINDS.items()}
    return {name: (ShortTrial(task), TaskTrial(task)) for name, task in tasks.items()}


@pytest.mark.parametrize(("name", "check"), [case(k, c) for k in KINDS for c in TASK_CHECKS])
def test_every_kind_passes(
    trials: dict[str, tuple[TaskTrial, TaskTrial]], name: str, check: Check[Any]
) -> None:
    short, full = trials[name]
    check(short if check.name in SHORT else full)


@pytest.mark.parametrize(
    "decoder",
    [
        pytest.param(name, marks=() if name in ("fcn", "unet") else pytest.mark.exhaustive)
        for name in DECODER_NAMES
    ],
)
def test_every_decoder_passes_the_checks_without_training(decoder: str) -> None:
    options: dict[str, Any] = {"decoder": decoder, "channels": WIDTHS.get(decoder, 16)}
    trial = TaskTrial(Segmentation(**options))
    for check in FORWARD_CHECKS:
        check(trial)


def test_a_loss_over_the_whole_batch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: Dice over the whole batch, as in smp."""
    from segmentation_models_pytorch import losses as smp
    from torch import Tensor, nn

    class Whole(nn.Module):
        def forward(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
            logits = nn.functional.interpolate(outputs["logits"], targets.shape[-2:])
            return {"dice": smp.DiceLoss("multiclass")(logits, targets)}

    monkeypatch.setattr(Segmentation, "build_loss", lambda self: Whole())
    (check,) = [c for c in FORWARD_CHECKS if c.name == "loss_parts_are_means"]
    with pytest.raises(CheckError, match="a mean over samples"):
        check(TaskTrial(Segmentation(augment="none")))
