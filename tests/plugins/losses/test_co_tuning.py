"""Co-Tuning: its relation of classes and its loss, against sums computed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from visiongraft.errors import OptionError
from visiongraft.plugins.losses.co_tuning import calibrated_relation, direct_relation

CHANCES = torch.tensor([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)


def test_the_direct_relation_is_the_mean_probability_of_each_class() -> None:
    relation = direct_relation(CHANCES, torch.tensor([0, 1, 0, 1]), 2)
    assert relation.numpy() == pytest.approx(np.array([[0.6, 0.4], [0.15, 0.85]]))


def test_the_calibrated_relation_finds_the_source_classes_of_each_class() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(90) % 3
    logits = torch.randn(90, 6, generator=generator, dtype=torch.float64)
    logits[torch.arange(90), ids * 2] += 4  # class c is mostly source class 2c
    chances = logits.softmax(1)
    relation = calibrated_relation(chances, ids, 3)
    assert relation.sum(1).numpy() == pytest.approx(np.ones(3))
    assert relation.argmax(1).tolist() == [0, 2, 4]


def test_the_calibrated_relation_obeys_the_rule_of_bayes() -> None:
    # Of one source class, no target class is likelier: the relation is then p(s) itself.
    chances = torch.full((12, 4), 0.25, dtype=torch.float64)
    relation = calibrated_relation(chances, torch.arange(12) % 2, 2)
    assert relation.numpy() == pytest.approx(np.full((2, 4), 0.25))


def test_it_is_the_cross_entropy_of_related_source_classes(bench: Callable[..., Any]) -> None:
    at = bench("co_tuning(strength=2.0)")
    train = at.batch((0, 1, 2, 2, 1))
    at.prepare(train)
    with torch.no_grad():
        chances = at.transfer.source_head(at.transfer.source(train.images)).softmax(1)
    rows = torch.stack([chances[train.targets == c].mean(0) for c in range(3)])
    assert torch.allclose(at.loss.relation, rows, atol=1e-6)
    at.move()
    batch = at.batch((2, 0), seed=2)
    with torch.no_grad():
        logits = at.loss.old_head(at.network.backbone(batch.images))
    expected = -2.0 * (rows[batch.targets] * logits.log_softmax(1)).sum(1).mean()
    part = at.parts(batch)["source_classes"]
    assert float(part.detach()) == pytest.approx(float(expected), rel=1e-5)
    part.backward()
    assert at.loss.old_head.classifier.weight.grad is not None


def test_mixed_class_ids_mix_the_rows_of_the_relation(bench: Callable[..., Any]) -> None:
    at = bench("co_tuning")
    at.prepare(at.batch((0, 1, 2)))
    parts = [float(at.parts(at.batch((c,), seed=4))["source_classes"].detach()) for c in range(2)]
    mixed = at.batch((0,), seed=4, targets=torch.tensor([[0.25, 0.75, 0.0]]))
    found = float(at.parts(mixed)["source_classes"].detach())
    assert found == pytest.approx(0.25 * parts[0] + 0.75 * parts[1], rel=1e-5)


def test_a_class_without_images_is_named(bench: Callable[..., Any]) -> None:
    at = bench("co_tuning")
    with pytest.raises(OptionError, match="training images of every class, and 'bee' has none"):
        at.prepare(at.batch((0, 2, 2)))


def test_targets_that_are_no_class_ids_are_refused(bench: Callable[..., Any]) -> None:
    at = bench("co_tuning")
    with pytest.raises(OptionError, match=r"'co_tuning' needs one class id per image.*float32"):
        at.prepare(at.batch(targets=torch.rand(4, 3)))


def test_a_source_head_without_class_scores_is_refused(bench: Callable[..., Any]) -> None:
    at = bench("co_tuning")
    at.transfer.source_head.classifier = nn.Flatten(0)
    with pytest.raises(OptionError, match="needs a source head with logits"):
        at.prepare(at.batch())


def test_another_relation_is_refused(bench: Callable[..., Any]) -> None:
    with pytest.raises(OptionError, match="relation='x' is unknown"):
        bench("co_tuning(relation='x')")
