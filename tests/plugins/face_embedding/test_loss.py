"""Losses: their values, float32 under mixed precision, sampled classes, and gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visiongraft.plugins.face_embedding.loss import (
    LOSSES,
    ClassWeightLoss,
    PairLoss,
    default_scale,
    sample_classes,
)

CLASSES, DIMENSION = 7, 5
SCALE = 64.0


def build(name: str, **options: Any) -> torch.nn.Module:
    kind = LOSSES[name]
    if kind.over_pairs:
        assert kind.scale is not None
        return PairLoss(name, kind.margin, kind.scale)
    values = {"identities": CLASSES, "dimension": DIMENSION}
    values |= {"margin": kind.margin, "scale": kind.scale or SCALE}
    return ClassWeightLoss(name, **{**values, **options})


@pytest.fixture
def batch() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    embeddings = 3 * torch.randn(12, DIMENSION, generator=generator)
    return embeddings, {"labels": torch.arange(12) // 3}


def by_hand(name: str, embeddings: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Compute a loss as its paper writes it."""
    cosines = F.normalize(embeddings) @ F.normalize(weights, dim=0)
    own = F.one_hot(labels, weights.shape[1]).bool()
    kind = LOSSES[name]
    if name == "arcface":  # ArcFace, equation 3
        angle = cosines.clamp(-1, 1).acos()
        cosines = torch.where(own, (angle + kind.margin).cos(), cosines)
    if name == "cosface":  # CosFace, equation 4
        cosines = torch.where(own, cosines - kind.margin, cosines)
    return F.cross_entropy((kind.scale or SCALE) * cosines, labels)


@pytest.mark.parametrize("name", ["softmax", "arcface", "cosface"])
def test_a_loss_matches_its_paper(name: str, batch: Any) -> None:
    torch.manual_seed(1)
    loss = build(name)
    (value,) = loss(*batch).values()
    weights = loss.classes.W
    expected = by_hand(name, batch[0], batch[1]["labels"], weights)
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)


def test_another_margin_or_scale_changes_the_loss(batch: Any) -> None:
    values = set()
    for options in ({}, {"margin": 0.3}, {"scale": 16.0}):
        torch.manual_seed(1)
        values.add(round(build("arcface", **options)(*batch)["arcface"].item(), 4))
    assert len(values) == 3


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_term_is_named_after_its_loss_and_has_a_gradient(name: str, batch: Any) -> None:
    embeddings = batch[0].clone().requires_grad_()
    loss = build(name)
    (parts,) = [loss(embeddings, batch[1])]
    assert list(parts) == [name]
    parts[name].backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert embeddings.grad.abs().sum() > 0
    assert all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize("name", LOSSES)
def test_long_vectors_in_half_precision_have_the_loss_of_float32(name: str, batch: Any) -> None:
    embeddings, targets = batch
    torch.manual_seed(1)
    loss = build(name)
    weights = {n: p.dtype for n, p in loss.named_parameters()}
    scale = 1.0 if name == "sphereface" else 200.0  # its squares overflow float16
    half = (scale * embeddings).half()
    with torch.autocast("cpu", torch.bfloat16):
        (value,) = loss(half, targets).values()
    (expected,) = loss(half.float(), targets).values()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert {n: p.dtype for n, p in loss.named_parameters()} == weights  # not cast to half


def test_half_precision_would_overflow_without_care(batch: Any) -> None:
    long = (200.0 * batch[0]).half()
    assert not (long * long).sum(1).isfinite().all()


@pytest.mark.parametrize("name", ["arcface", "cosface", "sphereface", "softmax"])
def test_an_embedding_on_its_class_vector_has_a_finite_gradient(name: str) -> None:
    loss = build(name)
    with torch.no_grad():
        loss.classes.W.zero_()
        loss.classes.W[0] = 1.0
    embeddings = torch.zeros(4, DIMENSION)
    embeddings[:, 0] = torch.tensor([2.0, -2.0, 2.0, -2.0])
    embeddings.requires_grad_()
    (value,) = loss(embeddings, {"labels": torch.tensor([0, 1, 2, 3])}).values()
    value.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert loss.classes.W.grad.isfinite().all()


def test_the_slope_of_an_angle_is_infinite_there() -> None:
    cosine = torch.ones((), requires_grad=True)
    cosine.acos().backward()
    assert not math.isfinite(float(cosine.grad))


def test_the_scale_grows_with_the_number_of_identities() -> None:
    scales = [default_scale(n) for n in (30, 1_000, 1_001, 10_000, 85_000)]
    assert scales == [16, 16, 32, 32, 64]
    for identities, scale in ((1_000, 16), (10_000, 32), (1_000_000, 64)):
        least = math.log((identities - 1) * 0.9 / 0.1)  # CosFace's bound for a probability of 0.9
        assert scale > least


# ---- pairs ----


def test_triplets_are_semi_hard_ones() -> None:
    """One anchor by hand: the positive at 0.5, negatives nearer, a bit further, and far away."""

    def at(distance: float) -> list[float]:  # a unit vector so far from (1, 0)
        cosine = 1 - distance**2 / 2
        return [cosine, math.sqrt(1 - cosine**2)]

    vectors = torch.tensor([[1.0, 0.0], at(0.5), at(0.4), at(0.6), at(1.2)])
    labels = torch.tensor([0, 0, 1, 2, 3])
    anchor, positive, negative = PairLoss("triplet", 0.2, 1.0).miner(vectors, labels)
    found = set(zip(anchor.tolist(), positive.tolist(), negative.tolist(), strict=True))
    assert (0, 1, 3) in found  # further than the positive, but within the margin
    assert not {(0, 1, 2), (0, 1, 4)} & found  # too hard, and too easy


def test_the_supervised_contrastive_loss_matches_its_paper(batch: Any) -> None:
    embeddings, targets = batch
    labels = targets["labels"]
    logits = F.normalize(embeddings) @ F.normalize(embeddings).T * LOSSES["contrastive"].scale
    others = ~torch.eye(len(labels), dtype=torch.bool)
    logits = logits.masked_fill(~others, -torch.inf)
    same = (labels[:, None] == labels) & others
    each = -(logits.log_softmax(1).masked_fill(~same, 0)).sum(1) / same.sum(1)
    value = build("contrastive")(embeddings, targets)["contrastive"]
    assert value.item() == pytest.approx(each.mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["triplet", "contrastive"])
@pytest.mark.parametrize("labels", [[0], [0, 1, 2], [0, 0]])
def test_the_loss_without_pairs_is_zero_and_has_a_gradient(name: str, labels: list[int]) -> None:
    embeddings = torch.randn(len(labels), DIMENSION, requires_grad=True)
    value = build(name)(embeddings, {"labels": torch.tensor(labels)})[name]
    value.backward()
    assert value.item() == 0
    assert embeddings.grad is not None


# ---- sampled classes ----


def test_the_classes_of_the_images_are_always_among_the_sampled() -> None:
    labels = torch.tensor([5, 900, 5, 33])
    for seed in range(20):
        torch.manual_seed(seed)
        chosen, positions = sample_classes(labels, 1000, 64)
        assert len(chosen) == len(set(chosen.tolist())) == 64
        assert (chosen[positions] == labels).all()
    many, positions = sample_classes(torch.arange(100), 1000, 64)
    assert (many == torch.arange(100)).all()  # more than asked for, since all of them are needed


def test_the_others_are_drawn_at_random_and_evenly() -> None:
    torch.manual_seed(0)
    counts = torch.zeros(100)
    for _ in range(2000):
        counts[sample_classes(torch.tensor([0]), 100, 11)[0]] += 1
    assert counts[0] == 2000
    assert counts[1:].min() > 120  # 202 each
    assert counts[1:].max() < 290


@pytest.mark.parametrize("name", ["softmax", "arcface", "cosface", "sphereface"])
def test_a_sampled_loss_is_the_loss_among_those_classes(name: str, batch: Any) -> None:
    torch.manual_seed(1)
    loss = build(name, identities=50, sampled=10)
    torch.manual_seed(2)
    (value,) = loss(*batch).values()
    torch.manual_seed(2)
    chosen, positions = sample_classes(batch[1]["labels"], 50, 10)
    alone = build(name, identities=10)
    with torch.no_grad():
        alone.classes.W.copy_(loss.classes.W[:, chosen])
    (expected,) = alone(batch[0], {"labels": positions}).values()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    value.backward()
    touched = loss.classes.W.grad.abs().sum(0).nonzero()[:, 0].tolist()
    assert touched == chosen.tolist()


def test_evaluation_compares_with_all_classes(batch: Any) -> None:
    torch.manual_seed(1)
    some = build("arcface", identities=50, sampled=10).eval()
    torch.manual_seed(1)
    whole = build("arcface", identities=50)
    assert some(*batch)["arcface"].item() == whole(*batch)["arcface"].item()
    assert some.train()(*batch)["arcface"].item() != whole(*batch)["arcface"].item()
    assert some.classes.num_classes == 50  # put back


def test_no_tensor_of_a_sampled_step_has_the_size_of_batch_times_identities() -> None:
    """With 100,000 identities and 64 images, no tensor has anywhere near 64 x 100,000 values."""
    identities, images, sampled, dimension = 100_000, 64, 1000, 8
    loss = build("arcface", identities=identities, dimension=dimension, sampled=sampled)
    embeddings = torch.randn(images, dimension, requires_grad=True)
    labels = {"labels": torch.arange(images) * 1500}

    def largest(step: torch.nn.Module) -> int:
        sizes: list[int] = []
        with Sizes(sizes):
            step(embeddings, labels)["arcface"].backward()
        return max(sizes)

    # The weights' own gradient is the largest; the logits are images x sampled.
    assert largest(loss) == identities * dimension < images * identities / 4
    whole = build("arcface", identities=identities, dimension=dimension)
    assert largest(whole) == images * identities


class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
    """Records the number of values of every tensor that an operator creates."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        leaves = torch.utils._pytree.tree_leaves(made)
        self.sizes += [leaf.numel() for leaf in leaves if isinstance(leaf, Tensor)]
        return made
