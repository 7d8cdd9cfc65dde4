"""MCC against the paper's formula, step by step in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.plugins.losses.conftest import CLASSES
from visiongraft.errors import OptionError
from visiongraft.plugins.classification.loss import BinaryCrossEntropy
from visiongraft.plugins.classification.task import Classification
from visiongraft.task import Task
from visiongraft.training.measuring.label_free import class_confusion, joint_classes


def confusion(logits: torch.Tensor) -> torch.Tensor:
    return class_confusion(joint_classes(logits))


def by_hand(logits: np.ndarray[Any, Any]) -> float:
    powers = np.exp(logits)
    chances = powers / powers.sum(1, keepdims=True)
    certain = 1 + np.exp((chances * np.log(chances)).sum(1))
    weights = len(logits) * certain / certain.sum()
    classes = logits.shape[1]
    together = np.zeros((classes, classes))
    for weight, row in zip(weights, chances, strict=True):
        together += weight * np.outer(row, row)
    together /= together.sum(1, keepdims=True)
    return float((together.sum() - np.trace(together)) / classes)


def test_it_is_the_papers_confusion_of_the_streams_images(bench: Callable[..., Any]) -> None:
    made = bench("mcc(strength=0.5, temperature=2)")
    images = torch.randn(6, 3, 8, 8)
    part = made.parts(made.joined(made.batch(), images))["confusion"]
    with torch.no_grad():
        logits = made.network.head(made.network.backbone(images)).double().numpy()
    assert float(part.detach()) == pytest.approx(0.5 * by_hand(logits / 2), rel=1e-5)


def test_pixels_take_the_place_of_images() -> None:
    maps = torch.randn(2, 3, 2, 2)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    assert float(confusion(maps)) == pytest.approx(by_hand(rows), rel=1e-5)


def test_sure_predictions_confuse_nothing_and_equal_ones_all_classes_alike() -> None:
    sure = 50 * torch.eye(4).repeat(2, 1)
    assert float(confusion(sure)) == pytest.approx(0, abs=1e-6)
    assert float(confusion(torch.zeros(8, 4))) == pytest.approx(3 / 4)


def test_classes_that_nothing_is_predicted_as_leave_it_finite() -> None:
    logits = (50 * torch.eye(4)[:2].repeat(3, 1)).requires_grad_()
    confusion(logits).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["mcc", "cdan"])
def test_a_task_whose_classes_do_not_exclude_each_other_is_refused(
    bench: Callable[..., Any], loss: str
) -> None:
    with pytest.raises(
        OptionError, match="exclude each other, which task 'classification' does not have"
    ):
        bench(loss, multi_label=True)


class SeveralLabels(Classification):
    """A third party's task that has several labels and leaves it to the default what its logits are."""

    class_logits = Task.class_logits  # type: ignore[assignment]

    def build_loss(self) -> torch.nn.Module:
        return BinaryCrossEntropy(0.0, ())


@pytest.mark.parametrize("loss", ["mcc", "cdan"])
def test_labels_that_do_not_exclude_each_other_are_refused_though_the_task_does_not_say_so(
    bench: Callable[..., Any], loss: str
) -> None:
    made = bench(loss)
    made.network.task = SeveralLabels(class_names=CLASSES)
    made.network.loss = made.network.task.build_loss()
    images = torch.randn(4, 3, 8, 8)
    one = torch.eye(3)[[0, 1, 2, 0]]
    made.parts(made.joined(made.batch(targets=one), images))  # one label each, as numbers
    several = torch.tensor([[1.0, 1, 0]] * 4)
    with pytest.raises(OptionError, match="its class_logits has to return None") as caught:
        made.parts(made.joined(made.batch(targets=several), images))
    assert "\n" not in str(caught.value)
