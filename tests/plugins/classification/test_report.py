"""How wrong results of a classifier are rated for reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visiongraft.plugins.classification.task import Classification

NAMES = ("a", "b", "c")


def test_the_surest_wrong_prediction_is_the_worst() -> None:
    task = Classification(class_names=NAMES, multi_label=False)
    probabilities = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.5, 0.4, 0.1]])
    decoded = {"probabilities": probabilities, "labels": probabilities.argmax(1)}
    assert task.mistakes(decoded, torch.tensor([0, 1, 1])) == pytest.approx([0, 0.9, 0.6])


def test_the_surest_wrong_label_counts_if_there_are_several() -> None:
    task = Classification(class_names=NAMES, multi_label=True)
    probabilities = np.array([[0.9, 0.1, 0.8], [0.9, 0.1, 0.2]])
    decoded = {"probabilities": probabilities, "labels": (probabilities >= 0.5).astype(int)}
    targets = torch.tensor([[1, 0, 0], [1, 0, 0]])
    assert task.mistakes(decoded, targets) == pytest.approx([0.8, 0.0])
