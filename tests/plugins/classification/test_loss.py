from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from visiongraft.data.labels import balanced_weights
from visiongraft.plugins.classification.loss import (
    BinaryCrossEntropy,
    CrossEntropy,
    balanced_positive_weights,
)

LABELS = 4
SETTINGS = [
    pytest.param(0.0, (), id="plain"),
    pytest.param(0.2, (), id="smooth"),
    pytest.param(0.0, (0.5, 2.0, 1.0, 3.0), id="weighted"),
    pytest.param(0.2, (0.5, 2.0, 0.0, 3.0), id="both"),
]


def batch(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, class ids and multi-hot targets."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, LABELS, generator=generator) * 3
    ids = torch.randint(LABELS, (count,), generator=generator)
    multi_hot = torch.randint(2, (count, LABELS), generator=generator).float()
    return logits, ids, multi_hot


def cross_entropy(logits: Any, fractions: Any, smoothing: float, weights: Any) -> float:
    """Compute the metric from its definition, in float64."""
    smooth = np.asarray(fractions, np.float64) * (1 - smoothing) + smoothing / LABELS
    weights = np.asarray(weights) if len(weights) else np.ones(LABELS)
    logs = np.log(softmax(np.asarray(logits, np.float64), axis=1))
    return float(-(smooth * weights * logs).sum(axis=1).mean())


def binary_cross_entropy(logits: Any, multi_hot: Any, smoothing: float, weights: Any) -> float:
    """Compute the metric from its definition, in float64."""
    smooth = np.asarray(multi_hot, np.float64) * (1 - smoothing) + smoothing / 2
    weights = np.asarray(weights) if len(weights) else np.ones(LABELS)
    present = expit(np.asarray(logits, np.float64))
    terms = weights * smooth * np.log(present) + (1 - smooth) * np.log(1 - present)
    return float(-terms.mean())


# ---- against references ----


def test_cross_entropy_is_sklearns_log_loss() -> None:
    logits, ids, _ = batch(0, 50)
    expected = log_loss(ids, softmax(logits.double().numpy(), axis=1), labels=range(LABELS))
    loss = CrossEntropy()(logits, ids)
    assert list(loss) == ["cross_entropy"]
    assert float(loss["cross_entropy"]) == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_is_sklearns_log_loss_of_all_decisions() -> None:
    logits, _, multi_hot = batch(0, 50)
    expected = log_loss(multi_hot.flatten(), expit(logits.double().numpy()).flatten())
    loss = BinaryCrossEntropy()(logits, multi_hot)
    assert list(loss) == ["binary_cross_entropy"]
    assert float(loss["binary_cross_entropy"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
def test_cross_entropy_follows_its_definition(smoothing: float, weights: tuple[float, ...]) -> None:
    logits, ids, _ = batch(1, 30)
    expected = cross_entropy(logits, np.eye(LABELS)[ids], smoothing, weights)
    loss = CrossEntropy(smoothing, weights)(logits, ids)["cross_entropy"]
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
def test_mixed_targets_follow_the_same_definition(
    smoothing: float, weights: tuple[float, ...]
) -> None:
    logits, _, _ = batch(1, 30)
    fractions = torch.rand(30, LABELS).softmax(dim=1)
    expected = cross_entropy(logits, fractions, smoothing, weights)
    loss = CrossEntropy(smoothing, weights)(logits, fractions)["cross_entropy"]
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
def test_class_ids_and_one_hot_targets_are_equivalent(
    smoothing: float, weights: tuple[float, ...]
) -> None:
    logits, ids, _ = batch(2, 30)
    fractions = torch.nn.functional.one_hot(ids, LABELS).float()
    loss = CrossEntropy(smoothing, weights)
    by_id, by_fraction = (
        loss(logits, ids)["cross_entropy"],
        loss(logits, fractions)["cross_entropy"],
    )
    assert float(by_id) == pytest.approx(float(by_fraction), rel=1e-5)


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
@pytest.mark.parametrize("mixed", [False, True], ids=["multi_hot", "mixed"])
def test_binary_cross_entropy_follows_its_definition(
    smoothing: float, weights: tuple[float, ...], mixed: bool
) -> None:
    logits, _, multi_hot = batch(1, 30)
    targets = torch.rand(30, LABELS) if mixed else multi_hot
    expected = binary_cross_entropy(logits, targets, smoothing, weights)
    loss = BinaryCrossEntropy(smoothing, weights)(logits, targets)["binary_cross_entropy"]
    assert float(loss) == pytest.approx(expected, rel=1e-5)


# ---- a mean over the images ----


@given(
    st.integers(0, 1000),
    st.integers(2, 20),
    st.floats(0, 0.9),
    st.lists(st.floats(0, 10), min_size=LABELS, max_size=LABELS) | st.just([]),
    st.booleans(),
    st.data(),
)
def test_accumulated_parts_of_a_batch_have_the_loss_and_gradients_of_the_batch(
    seed: int,
    count: int,
    smoothing: float,
    weights: list[float],
    multi_label: bool,
    data: st.DataObject,
) -> None:
    logits, ids, multi_hot = batch(seed, count)
    targets = multi_hot if multi_label else ids
    loss = (BinaryCrossEntropy if multi_label else CrossEntropy)(smoothing, weights)
    cut = data.draw(st.integers(1, count - 1), label="size of the first part")
    whole = logits.clone().requires_grad_()
    (value,) = loss(whole, targets).values()
    value.backward()
    parts = logits.clone().requires_grad_()
    total = torch.zeros(())
    for part in (slice(None, cut), slice(cut, None)):
        (piece,) = loss(parts[part], targets[part]).values()
        total = total + piece * len(targets[part]) / count
    total.backward()
    assert torch.allclose(total, value, rtol=1e-4, atol=1e-6)
    assert whole.grad is not None and parts.grad is not None
    assert torch.allclose(parts.grad, whole.grad, rtol=1e-4, atol=1e-6)


def test_a_mean_over_the_weights_would_not_be_a_mean_over_the_images() -> None:
    # The planted fault: what torch does by default, which the test above would not let pass.
    weights = (0.5, 2.0, 1.0, 3.0)
    logits, ids, _ = batch(0, 8)
    default = torch.nn.CrossEntropyLoss(torch.tensor(weights))
    whole, halves = (
        default(logits, ids),
        (default(logits[:4], ids[:4]), default(logits[4:], ids[4:])),
    )
    assert float(sum(halves)) / 2 != pytest.approx(float(whole), rel=1e-3)


# ---- numbers and buffers ----


@pytest.mark.parametrize("kind", [CrossEntropy, BinaryCrossEntropy])
def test_half_precision_logits_have_a_float32_loss(kind: type[Any]) -> None:
    logits, ids, multi_hot = batch(0, 6)
    targets = ids if kind is CrossEntropy else multi_hot
    (half,) = kind()(logits.half(), targets).values()
    (full,) = kind()(logits.half().float(), targets).values()
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


@pytest.mark.parametrize("kind", [CrossEntropy, BinaryCrossEntropy])
def test_weights_are_a_buffer(kind: type[Any]) -> None:
    assert kind(0.0, (1.0, 2.0)).state_dict()["weights"].tolist() == [1.0, 2.0]
    assert not kind().state_dict()
    assert not list(kind(0.0, (1.0, 2.0)).parameters())


# ---- balanced weights ----

COUNTS = st.lists(st.integers(0, 50), min_size=2, max_size=6).filter(any)


@given(COUNTS)
def test_balanced_weights_are_sklearns(counts: list[int]) -> None:
    ids = np.repeat(np.arange(len(counts)), counts)
    present = np.unique(ids)
    expected = np.zeros(len(counts))
    expected[present] = compute_class_weight("balanced", classes=present, y=ids)
    assert balanced_weights(counts) == pytest.approx(expected)


@given(COUNTS)
def test_balanced_weights_have_the_mean_1_over_the_images(counts: list[int]) -> None:
    weights = balanced_weights(counts)
    total = sum(w * c for w, c in zip(weights, counts, strict=True))
    assert total / sum(counts) == pytest.approx(1)


@given(st.integers(1, 100).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_balanced_positive_weights_equal_the_negatives(images_and_count: tuple[int, int]) -> None:
    images, count = images_and_count
    (weight,) = balanced_positive_weights([count], images)
    if 0 < count < images:
        assert weight * count == pytest.approx(images - count)
    else:
        assert weight == 1
