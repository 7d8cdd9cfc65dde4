"""Bi-Tuning: both contrasts against loops over keys, and its queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, local
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import distributed

from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError

T = 0.5


def unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def contrast(query: Any, own: Any, queue: Any, label: int) -> float:
    """Return the divergence of one query, key by key."""
    keys = [own, *(queue[c][k] for c in range(len(queue)) for k in range(len(queue[0])))]
    positive = [True, *(c == label for c in range(len(queue)) for _ in queue[0])]
    scores = np.exp([query @ key / T for key in keys])
    chances = scores / scores.sum()
    share = 1 / sum(positive)
    return sum(share * np.log(share / p) for p, yes in zip(chances, positive, strict=True) if yes)


@pytest.fixture
def at(bench: Callable[..., Any]) -> Any:
    made = bench(f"bi_tuning(strength=1.0, queue=2, projection=4, temperature={T}, momentum=0.9)")
    made.prepare(made.batch((0, 1, 2, 0)), made.batch((0, 1), seed=2))
    return made


def test_queues_begin_with_the_last_training_images_of_each_class(at: Any) -> None:
    with torch.no_grad():
        one = at.transfer.source(at.batch((0, 1, 2, 0)).images).pooled.numpy()
        two = at.transfer.source(at.batch((0, 1), seed=2).images).pooled.numpy()
    expected = [[one[3], two[0]], [one[1], two[1]], [one[2], one[2]]]  # a rare class repeats
    for c, row in enumerate(expected):
        for k, vector in enumerate(row):
            key = unit(np.append(vector, 1))
            assert at.loss.embedding_queue[c, k].numpy() == pytest.approx(key, abs=1e-5)


def test_a_class_without_training_images_has_keys_of_no_image(bench: Callable[..., Any]) -> None:
    made = bench("bi_tuning(queue=2, projection=4)")
    made.prepare(made.batch((0, 2, 2, 0)))
    blank = made.loss.embedding_queue[1]
    assert blank.tolist() == [[0.0] * (blank.shape[1] - 1) + [1.0]] * 2


def test_both_parts_are_divergences_from_even_weights_of_the_positives(at: Any) -> None:
    at.move()
    batch = at.batch((1, 0, 2), seed=3)
    with torch.no_grad():
        h = at.network.backbone(batch.images).pooled.double().numpy()
        key = at.transfer.source(batch.images).pooled.double().numpy()  # not moved yet
        w, b = (p.double().numpy() for p in at.network.head.parameters())
        m, o = (p.double().numpy() for p in at.loss.project.parameters())
    queues = [q.double().numpy() for q in (at.loss.embedding_queue, at.loss.projection_queue)]
    labels = batch.targets.tolist()
    classifier = [
        contrast(unit(np.append(w[y], b[y])), unit(np.append(h[i], 1)), queues[0], y)
        for i, y in enumerate(labels)
    ]
    images = [
        contrast(unit(m @ h[i] + o), unit(m @ key[i] + o), queues[1], y)
        for i, y in enumerate(labels)
    ]
    parts = at.parts(batch)
    assert float(parts["classifier"].detach()) == pytest.approx(np.mean(classifier), rel=1e-3)
    assert float(parts["images"].detach()) == pytest.approx(np.mean(images), rel=1e-3)


def test_the_classifier_is_a_query_without_gradient(at: Any) -> None:
    parts = at.parts(at.batch())
    sum(parts.values()).backward()
    assert all(p.grad is None for p in at.network.head.parameters())
    assert all(p.grad is not None for p in at.network.backbone.parameters())
    assert at.loss.project.weight.grad is not None


def test_training_follows_the_backbone_and_pushes_keys(at: Any) -> None:
    before = at.loss.embedding_queue.clone()
    name = "stage2.dense.weight"
    start = dict(at.network.backbone.named_parameters())[name].detach().clone()
    at.move()
    at.loss.train()
    at.parts(at.batch((1, 1), seed=3))
    now = dict(at.network.backbone.named_parameters())[name].detach()
    key = at.loss.get_buffer("key_backbone/stage2/dense/weight")
    assert torch.allclose(key, 0.9 * start + 0.1 * now, atol=1e-6)
    assert torch.equal(at.loss.embedding_queue[0], before[0])
    assert not torch.equal(at.loss.embedding_queue[1], before[1])
    norms = at.loss.embedding_queue.norm(dim=-1)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5)


def test_evaluation_changes_no_buffer(at: Any) -> None:
    before = {n: b.clone() for n, b in at.loss.named_buffers()}
    at.parts(at.batch())
    assert all(torch.equal(b, before[n]) for n, b in at.loss.named_buffers())


def test_targets_that_are_no_class_ids_are_refused(bench: Callable[..., Any]) -> None:
    at = bench("bi_tuning")
    with pytest.raises(OptionError, match="'bi_tuning' needs one class id per image"):
        at.prepare(at.batch(targets=torch.rand(4, 3)))


def test_a_head_with_a_hidden_layer_is_refused(bench: Callable[..., Any]) -> None:
    at = bench("bi_tuning", hidden=6)
    with pytest.raises(OptionError, match="linear layer on the embedding of 128 values"):
        at.prepare(at.batch())


@pytest.mark.parametrize("shares", [([0, 2, 4], [1, 3]), ([0, 1, 2, 3, 4], [0])])  # 0 is borrowed
def test_two_processes_fill_the_queues_as_one_does(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, shares: tuple[list[int], ...]
) -> None:
    alone, *two = (bench("bi_tuning(queue=2, projection=4)") for _ in range(3))
    batch = alone.batch((0, 0, 0, 1, 0), seed=3)  # more of a class than its queue holds
    for at in (alone, *two):
        at.prepare(at.batch((0, 1, 2, 0)))
        at.loss.train()
    alone.parts(batch)
    works = [
        lambda at=at, own=own: at.parts(rows(batch, own))
        for at, own in zip(two, shares, strict=True)
    ]
    in_processes(monkeypatch, works)
    for at in two:
        assert torch.allclose(at.loss.embedding_queue, alone.loss.embedding_queue, atol=1e-6)
        assert torch.allclose(at.loss.projection_queue, alone.loss.projection_queue, atol=1e-6)


def rows(batch: Batch, own: list[int]) -> Batch:
    """Return the part of a batch that a process gets."""
    return Batch(batch.images[own], batch.targets[own], batch.sizes[own], batch.indices[own])


def in_processes(monkeypatch: pytest.MonkeyPatch, works: Sequence[Callable[[], Any]]) -> None:
    """Run each work in a thread that stands for a process of a distributed run."""
    meeting, rank, slots = Barrier(len(works)), local(), [None] * len(works)

    def gather(found: list[Any], own: Any) -> None:
        slots[rank.value] = own
        meeting.wait(timeout=10)
        found[:] = slots

    def work(number: int) -> None:
        rank.value = number
        works[number]()

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: len(works))
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    with ThreadPoolExecutor(len(works)) as pool:
        list(pool.map(work, range(len(works))))
