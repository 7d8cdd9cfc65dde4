"""Metrics without labels against their definitions in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visiongraft.training.measuring.label_free import LabelFree


def measured(*batches: torch.Tensor) -> dict[str, float]:
    free = LabelFree()
    for batch in batches:
        free.update(batch)
    return free.compute()


def test_entropy_and_diversity_are_fractions_of_the_largest() -> None:
    logits = torch.randn(7, 4, 2, 3) * 2
    rows = logits.permute(0, 2, 3, 1).reshape(-1, 4).double().numpy()
    chances = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    found, mean = measured(logits), chances.mean(0)
    assert found["entropy"] == pytest.approx(-(chances * np.log(chances)).sum(1).mean() / np.log(4))
    assert found["diversity"] == pytest.approx(-(mean * np.log(mean)).sum() / np.log(4))


def test_results_do_not_depend_on_the_batches() -> None:
    logits = torch.randn(9, 3)
    whole = measured(logits)
    assert measured(logits[:2], logits[2:]) == pytest.approx(whole)


def test_a_collapse_to_one_class_is_sure_but_not_diverse() -> None:
    one = 20 * torch.eye(3)[[0, 0, 0, 0]]
    all_ = 20 * torch.eye(3)[[0, 1, 2]]
    assert measured(one)["entropy"] == pytest.approx(0, abs=1e-3)
    assert measured(one)["diversity"] == pytest.approx(0, abs=1e-3)
    assert measured(all_)["diversity"] == pytest.approx(1, abs=1e-3)
    assert measured(all_)["class_confusion"] < measured(torch.zeros(3, 3))["class_confusion"]


def test_without_logits_there_are_no_metrics() -> None:
    assert measured() == {}
