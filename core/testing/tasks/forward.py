"""Checks of one forward pass: features, decoded results and predictions; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass

import numpy as np
import torch

from visiongraft.backbone import Features
from visiongraft.data.batch import Batch
from visiongraft.errors import BackboneError
from visiongraft.model import TransferModel
from visiongraft.seeds import seeded
from visiongraft.task import Arrays, Task
from visiongraft.testing.report import Checks, Fault, expect, trying
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial

check = Checks(TaskTrial.of)

TOLERANCE = 1e-4
ODD_SIZES = ((17, 41), (40, 23), (33, 33), (1, 9))


@check("task.Task.build_head")
def features_stay_untouched(trial: TaskTrial) -> None:
    """The head does not modify the features in place; cached features are used again."""
    network, batch = trial.together(TOGETHER)
    with torch.no_grad():
        shapes = network.backbone(batch.images)
        # Real features may be positive throughout, and would not show an activation in place.
        features = Features(
            tuple(map(torch.randn_like, shapes.maps)), torch.randn_like(shapes.pooled)
        )
        before = [t.clone() for t in (*features.maps, features.pooled)]
        for mode in (False, True):
            network.head.train(mode)
            network.head(features)
    names = [*(f"maps[{i}]" for i in range(len(features.maps))), "pooled"]
    after = (*features.maps, features.pooled)
    changed = [n for n, a, b in zip(names, after, before, strict=True) if not torch.equal(a, b)]
    expect(
        not changed,
        "to run the head on features",
        f"other values in {', '.join(changed)} afterwards",
        "unchanged features: no relu_(), mul_() or inplace=True on them",
    )


@check("task.Task.decode")
def decode_is_repeatable(trial: TaskTrial) -> None:
    """Head and decode return equal results for equal images."""
    network, batch = trial.together(TOGETHER)
    with seeded(1), trying("to decode a batch of images"):
        first = trial.decode(network, batch)
    with seeded(2), trying("to decode the same images again"):
        second = trial.decode(network, batch)
    expect_agreement(
        network.task, first, second, "to decode the same images twice", "equal results"
    )


@check("task.Task.decode")
def batch_size_does_not_matter(trial: TaskTrial) -> None:
    """The result for an image does not depend on the other images of its batch."""
    network, batch = trial.together(TOGETHER)
    together = trial.decode(network, batch)
    for name, values in together.items():
        expect(
            len(values.shape) > 0 and len(values) == TOGETHER,
            f"to decode {TOGETHER} images",
            f"{name!r} of shape {values.shape}",
            "the batch as first dimension",
        )
    for parts in ([[i] for i in range(TOGETHER)], [range(2), range(2, TOGETHER)]):
        words = f"to decode {TOGETHER} images in batches of {[len(p) for p in parts]}"
        with trying(words, "the results of one batch"):
            each = [trial.decode(network, trial.batch(network, list(p))) for p in parts]
        joined = _joined(each, words)
        expect_agreement(network.task, together, joined, words, "the results of one batch")


@check("task.Task.decode")
def no_image_gives_no_result(trial: TaskTrial) -> None:
    """An empty batch is decoded to results of length 0."""
    network, batch = trial.together(2)
    empty = Batch(batch.images[:0], None, batch.sizes[:0], batch.indices[:0])
    words = "to decode an empty batch, as a process may get at the end of a shared dataset"
    some = trial.decode(network, batch)
    with trying(words, "results of length 0"):
        none = trial.decode(network, empty)
        predictions = network.task.predictions(none)
    # Images of an empty batch have no size, so their maps may have any.
    axes = slice(0) if network.task.full_resolution_outputs else slice(1, None)
    expect(
        {n: (v.dtype, v.ndim, v.shape[axes]) for n, v in none.items()}
        == {n: (v.dtype, v.ndim, v.shape[axes]) for n, v in some.items()}
        and all(len(v) == 0 for v in none.values()),
        words,
        {n: (str(v.dtype), v.shape) for n, v in none.items()},
        f"length 0, otherwise as { ({n: (str(v.dtype), v.shape) for n, v in some.items()}) }",
    )
    expect(
        list(predictions) == [],
        words,
        f"predictions {predictions}",
        "none",
        "task.Task.predictions",
    )


@check("task.Task.build_head")
def any_image_size_works(trial: TaskTrial) -> None:
    """Images of odd and non-square sizes are predicted, with square and non-square network inputs."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*s, trial.channels), dtype=np.uint8) for s in ODD_SIZES]
    for size in ((trial.size, trial.size), (40, 24), (2 * trial.size, trial.size)):
        words = f"to predict images of {_sizes(ODD_SIZES)} with an input of {_sizes([size])}"
        try:
            network = trial.network(size)
        except Fault as fault:
            if size[0] != size[1] and isinstance(fault.__cause__, BackboneError):
                continue  # the backbone does not support this input size
            raise
        with trying(words, "one prediction each"):
            found = TransferModel(network).predict(images)
        expect(len(found) == len(images), words, f"{len(found)} predictions", "one each")


@check("task.Task.predictions")
def predictions_are_plain(trial: TaskTrial) -> None:
    """The prediction for each image is a dataclass whose fields are JSON values."""
    network, batch = trial.together(TOGETHER)
    decoded = trial.decode(network, batch)
    _expect_plain(network.task, decoded, "the output of an untrained network")
    ideal = trial.ideal_like(decoded, batch.targets)
    if ideal is not None:  # an untrained network may find nothing, and show nothing
        _expect_plain(network.task, ideal, "ideal results")


def expect_agreement(
    task: Task, reference: Arrays, candidate: Arrays, tried: str, expected: str
) -> None:
    """Raise a fault unless two sets of decoded results agree by the task's comparison."""
    with trying(f"{tried}, and compare", see="task_support.ExportSupport"):
        found = task.export_support().compare(reference, candidate)
    expect(
        found.difference <= TOLERANCE and not found.mismatches,
        tried,
        f"a relative difference of {found.difference:.1e} and {found.mismatches} changed predictions",
        expected,
    )


def _expect_plain(task: Task, decoded: Arrays, what: str) -> None:
    words = f"to make predictions of {what} for {TOGETHER} images"
    with trying(words):
        found = list(task.predictions(decoded))
    expect(len(found) == TOGETHER, words, f"{len(found)} of them", "one per image")
    for one in found:
        expect(
            is_dataclass(one) and not isinstance(one, type),
            words,
            f"a {type(one).__name__}",
            "dataclass objects",
        )
        with trying("to write a prediction as JSON", "plain numbers, strings and lists"):
            json.dumps(asdict(one))


def _joined(parts: Sequence[Arrays], tried: str) -> Arrays:
    with trying(tried, "results that can be concatenated along the batch"):
        return {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)


DECODE_CHECKS = tuple(check)
