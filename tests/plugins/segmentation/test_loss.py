from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from segmentation_models_pytorch import losses as smp
from torch import Tensor
from torch.nn import functional as F

from visiongraft.plugins.segmentation.loss import SegmentationLoss

KINDS = ("multi_class", "binary", "multi_label")
NAMES = ("cross_entropy", "dice", "focal", "lovasz")
IGNORED = 255


def batch(kind: str, count: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images that differ much in their classes, with ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if kind == "binary" else 4
    logits = 3 * torch.randn(count, channels, 8, 10, generator=generator)
    layers = (4,) if kind == "multi_label" else ()
    targets = torch.zeros(count, *layers, 8, 10, dtype=torch.int64)
    for i in range(count):
        top = min(i + 1, 4) if kind == "multi_class" else 2
        targets[i] = torch.randint(0, top, targets.shape[1:], generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = IGNORED
    return logits, targets


def made(name: str, kind: str, weights: Sequence[float] = ()) -> SegmentationLoss:
    return SegmentationLoss({name: 1.0}, kind, IGNORED, weights)


def value(loss: SegmentationLoss, logits: Tensor, targets: Tensor) -> float:
    (found,) = loss({"logits": logits}, targets).values()
    return float(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_loss_is_the_mean_over_the_images(name: str, kind: str) -> None:
    logits, targets = batch(kind)
    loss = made(name, kind)
    each = [value(loss, logits[i : i + 1], targets[i : i + 1]) for i in range(5)]
    assert value(loss, logits, targets) == pytest.approx(sum(each) / 5, rel=1e-5)


@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_a_statistic_of_the_whole_batch_is_not_a_mean(name: str) -> None:
    """The planted fault: smp's losses over a whole batch are not means over its images."""
    kinds = {"dice": smp.DiceLoss, "lovasz": smp.LovaszLoss}
    whole = kinds[name]("multiclass", ignore_index=IGNORED)
    logits, targets = batch("multi_class")
    each = [float(whole(logits[i : i + 1], targets[i : i + 1])) for i in range(5)]
    assert float(whole(logits, targets)) != pytest.approx(sum(each) / 5, rel=1e-2)
    assert value(made(name, "multi_class"), logits, targets) == pytest.approx(sum(each) / 5)


@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy_is_that_of_torch_over_counted_pixels(kind: str) -> None:
    logits, targets = batch(kind, count=1)
    counted = targets != IGNORED
    if kind == "multi_class":
        expected = F.cross_entropy(logits, targets, ignore_index=IGNORED)
    else:
        flat = logits if kind == "multi_label" else logits[:, 0]
        expected = F.binary_cross_entropy_with_logits(flat[counted], targets[counted].float())
    assert value(made("cross_entropy", kind), logits, targets) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_change_nothing(name: str, kind: str) -> None:
    logits, targets = batch(kind)
    other = logits.clone()
    mask = targets == IGNORED
    spread = mask if kind == "multi_label" else mask[:, None].expand_as(logits)
    other[spread] = -other[spread] + 7
    loss = made(name, kind)
    assert value(loss, logits, targets) == pytest.approx(value(loss, other, targets), rel=1e-5)
    other = torch.where(spread, logits, -2 * logits + 3 * torch.randn_like(logits))
    assert value(loss, other, targets) != pytest.approx(value(loss, logits, targets), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_images_with_only_ignored_pixels_add_nothing(name: str, kind: str) -> None:
    logits, targets = batch(kind)
    targets[2:] = IGNORED
    logits.requires_grad_()
    loss = made(name, kind)
    (part,) = loss({"logits": logits}, targets).values()
    part.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    assert not logits.grad[2:].any() and logits.grad[:2].any()
    alone = value(loss, logits[:2].detach(), targets[:2])
    assert float(part.detach()) == pytest.approx(alone * 2 / 5, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_gradient_descent_finds_the_mask(name: str, kind: str) -> None:
    _, targets = batch(kind, count=2)
    channels = 1 if kind == "binary" else 4
    logits = torch.zeros(2, channels, 8, 10, requires_grad=True)
    # A slight push, since region losses are flat where everything is equal.
    optimizer = torch.optim.Adam([logits], 0.3)
    loss = made(name, kind)
    for _ in range(80):
        optimizer.zero_grad()
        (part,) = loss({"logits": logits + 0.01 * torch.randn_like(logits)}, targets).values()
        part.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = logits.argmax(1) if kind == "multi_class" else (logits >= 0).long()
    found = found[:, 0] if kind == "binary" else found
    counted = targets != IGNORED
    assert float((found == targets)[counted].float().mean()) > 0.95


def test_losses_are_weighted_and_named() -> None:
    logits, targets = batch("multi_class")
    parts = SegmentationLoss({"focal": 0.5, "dice": 2.0}, "multi_class", IGNORED)
    results = parts({"logits": logits}, targets)
    assert list(results) == ["focal", "dice"]
    for name, factor in (("focal", 0.5), ("dice", 2.0)):
        alone = value(made(name, "multi_class"), logits, targets)
        assert float(results[name]) == pytest.approx(factor * alone)


def test_the_auxiliary_loss_is_the_weighted_sum_on_its_logits() -> None:
    logits, targets = batch("multi_class")
    loss = SegmentationLoss(
        {"cross_entropy": 1.0, "dice": 3.0}, "multi_class", IGNORED, auxiliary=0.4
    )
    coarse = F.avg_pool2d(logits, 2)
    results = loss({"logits": logits, "auxiliary": coarse}, targets)
    alone = loss({"logits": coarse}, targets)
    assert float(results["auxiliary"]) == pytest.approx(0.4 * float(sum(alone.values())))
    assert "auxiliary" not in loss({"logits": logits}, targets)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal"])
@pytest.mark.parametrize("kind", ["multi_class", "multi_label"])
def test_a_class_of_weight_0_adds_nothing(name: str, kind: str) -> None:
    logits, targets = batch(kind)
    if kind == "multi_class":
        targets[targets == 3] = IGNORED
    loss = made(name, kind, (1, 1, 1, 0))
    other = logits.clone()
    other[:, 3] += 2 * torch.randn_like(other[:, 3]) if kind == "multi_label" else 0
    assert value(loss, logits, targets) == pytest.approx(value(loss, other, targets), rel=1e-5)
    equal, doubled = made(name, kind, (1, 1, 1, 1)), made(name, kind, (4, 1, 1, 1))
    assert value(equal, logits, targets) != pytest.approx(value(doubled, logits, targets), rel=1e-3)


def test_weighted_terms_are_divided_by_the_number_of_pixels() -> None:
    logits, targets = batch("multi_class", count=1)
    weights = torch.tensor([2.0, 1.0, 1.0, 1.0])
    terms = F.cross_entropy(logits, targets, weights, ignore_index=IGNORED, reduction="none")
    expected = float(terms.sum() / (targets != IGNORED).sum())
    assert value(made("cross_entropy", "multi_class", weights.tolist()), logits, targets) == (
        pytest.approx(expected)
    )


def test_logits_are_resized_to_the_masks() -> None:
    logits, targets = batch("multi_class")
    small = F.interpolate(logits, scale_factor=0.5, mode="bilinear")
    again = F.interpolate(small, size=(8, 10), mode="bilinear", align_corners=False)
    loss = made("cross_entropy", "multi_class")
    assert value(loss, small, targets) == pytest.approx(value(loss, again, targets))


def test_half_precision_logits_have_a_loss_in_float32() -> None:
    logits, targets = batch("multi_class")
    (part,) = made("dice", "multi_class")({"logits": logits.bfloat16()}, targets).values()
    assert part.dtype == torch.float32
