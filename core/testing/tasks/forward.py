"""Checks of one forward pass: features, decoded results and predictions; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, is_dataclass

import numpy as np
import torch
from torch import Tensor

from visiongraft.backbone import Features
from visiongraft.comparison import comparing_extras
from visiongraft.data.batch import Batch
from visiongraft.errors import BackboneError
from visiongraft.extra_outputs import COMMON
from visiongraft.model import TransferModel
from visiongraft.network import InferenceGraph
from visiongraft.seeds import seeded
from visiongraft.task import Arrays, Task
from visiongraft.testing.report import Attempt, Checks, Fault, NotTried, expect, trying
from visiongraft.testing.tasks.trial import TOGETHER, TaskTrial, offered_extras
from visiongraft.training.evaluation import to_arrays

check = Checks(TaskTrial.of)

TOLERANCE = 1e-4
ODD_SIZES = ((17, 41), (40, 23), (33, 33), (1, 9))


@check("task.Task.build_head")
def features_stay_untouched(trial: TaskTrial) -> None:
    """The head does not modify the features in place; cached features are used again."""
    network, batch = trial.together(TOGETHER, training=True)
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
    got = f"other values in {', '.join(changed)} afterwards"
    expected = "unchanged features: no relu_(), mul_() or inplace=True on them"
    expect(not changed, "to run the head on features", got, expected)


@check("task.Task.decode")
def decode_is_repeatable(trial: TaskTrial) -> None:
    """Head and decode return equal results for equal images."""
    network, batch = trial.together(TOGETHER)
    with seeded(1), trying("to decode a batch of images"):
        first = trial.decode(network, batch)
    with seeded(2), trying("to decode the same images again"):
        second = trial.decode(network, batch)
    words = "to decode the same images twice"
    expect_agreement(network.task, first, second, words, "equal results")


@check("task.Task.decode")
def batch_size_does_not_matter(trial: TaskTrial) -> None:
    """The result for an image does not depend on the other images of its batch."""
    network, batch = trial.together(TOGETHER)
    together = trial.decode(network, batch)
    decoding = Attempt(f"to decode {TOGETHER} images", "the batch as first dimension")
    for name, values in together.items():
        decoding.expect(values.shape[:1] == (TOGETHER,), f"{name!r} of shape {values.shape}")
    for parts in ([[i] for i in range(TOGETHER)], [range(2), range(2, TOGETHER)]):
        words = f"to decode {TOGETHER} images in batches of {[len(p) for p in parts]}"
        with trying(words, "the results of one batch"):
            each = [trial.decode(network, trial.batch(network, list(p))) for p in parts]
        joined = _joined(each, words)
        expect_agreement(network.task, together, joined, words, "the results of one batch")


@check("task.Task.extra_outputs")
def extra_outputs_belong_to_single_images(trial: TaskTrial) -> None:
    """Extra outputs are tensors with one entry per image, whatever the other images of its batch."""
    network, batch = trial.together(TOGETHER)
    network.eval()
    # What is drawn is not passed to the backbone, whose features two of these are.
    common = () if network.task.inputs.drawn else COMMON
    names = [*common, *offered_extras(network)]
    names = [name for name in names if name not in trial.decode(network, batch)]
    if not names:
        raise NotTried("the task has no extra outputs")

    def computed(images: Tensor, sizes: Tensor) -> Arrays:
        graph = InferenceGraph(network, names)
        with torch.no_grad():
            return to_arrays(graph.decode_prepared(images, sizes[0].tolist(), sizes))

    words = f"to compute {' and '.join(names)} of {TOGETHER} images"
    with trying(words, "a tensor each") as computing:
        together = computed(batch.images, batch.sizes)
    for name in names:
        shape, expected = together[name].shape, "the batch as first dimension"
        computing.expect(shape[:1] == (TOGETHER,), f"{name!r} of shape {shape}", expected)
    words = f"{words} one by one"
    with trying(words, "the results of one batch"):
        each = [computed(batch.images[i : i + 1], batch.sizes[i : i + 1]) for i in range(TOGETHER)]
    joined = _joined(each, words)
    alone = {**together, **{name: joined[name] for name in names}}  # decode has checks of its own
    expect_agreement(network.task, together, alone, words, "the results of one batch", names)


@check("task.Task.decode")
def no_image_gives_no_result(trial: TaskTrial) -> None:
    """An empty batch is decoded to results of length 0."""
    network, batch = trial.together(2)
    empty = Batch(batch.images[:0], None, batch.sizes[:0], batch.indices[:0])
    words = "to decode an empty batch, as a process may get at the end of a shared dataset"
    some = trial.decode(network, batch)
    with trying(words, "results of length 0") as decoding:
        none = trial.decode(network, empty)
        predictions = network.task.predictions(none)
    # Images of an empty batch have no size, so their maps may have any.
    axes = slice(0) if network.task.full_resolution_outputs else slice(1, None)
    kinds, expected = (
        {n: (v.dtype, v.ndim, v.shape[axes]) for n, v in arrays.items()} for arrays in (none, some)
    )
    got, whole = ({n: (str(v.dtype), v.shape) for n, v in a.items()} for a in (none, some))
    alike = kinds == expected and all(len(v) == 0 for v in none.values())
    decoding.expect(alike, got, f"length 0, otherwise as {whole}")
    see = "task.Task.predictions"
    decoding.expect(list(predictions) == [], f"predictions {predictions}", "none", see)


@check("task.Task.build_head")
def any_image_size_works(trial: TaskTrial) -> None:
    """Images of odd and non-square sizes are predicted, with square and non-square network inputs."""
    random = np.random.default_rng(0)
    drawn = [random.integers(0, 256, (1, *s, trial.channels), dtype=np.uint8) for s in ODD_SIZES]
    images = [trial.task.inputs.from_images(image)[0] for image in drawn]
    height, width = trial.size
    for size in (trial.size, (40, 24), (2 * height, width)):
        words = f"to predict images of {_sizes(ODD_SIZES)} with an input of {_sizes([size])}"
        try:
            network = trial.network(size)
        except Fault as fault:
            if size[0] != size[1] and isinstance(fault.__cause__, BackboneError):
                continue  # the backbone does not support this input size
            raise
        with trying(words, "one prediction each") as predicting:
            found = TransferModel(network).predict(images)
        predicting.expect(len(found) == len(images), f"{len(found)} predictions", "one each")


@check("task.Task.predictions")
def predictions_are_plain(trial: TaskTrial) -> None:
    """The prediction for each image is a dataclass whose fields are JSON values."""
    network, batch = trial.together(TOGETHER)
    decoded = trial.decode(network, batch)
    _expect_plain(network.task, decoded, "the output of an untrained network")
    ideal = trial.ideal_like(decoded, network, batch)
    if ideal is not None:  # an untrained network may find nothing, and show nothing
        _expect_plain(network.task, ideal, "ideal results")


def expect_agreement(
    task: Task,
    reference: Arrays,
    candidate: Arrays,
    tried: str,
    expected: str,
    extras: Collection[str] = (),
) -> None:
    """Raise a fault unless two sets of results agree by the task's comparison, extra outputs by value."""
    with trying(f"{tried}, and compare", see="task.ExportSupport"):
        compare = comparing_extras(task.export_support().compare, extras)
        found = compare(reference, candidate)
    expect(
        found.difference <= TOLERANCE and not found.mismatches,
        tried,
        f"a relative difference of {found.difference:.1e} and {found.mismatches} changed predictions",
        expected,
    )


def _expect_plain(task: Task, decoded: Arrays, what: str) -> None:
    with trying(f"to make predictions of {what} for {TOGETHER} images") as predicting:
        found = list(task.predictions(decoded))
    predicting.expect(len(found) == TOGETHER, f"{len(found)} of them", "one per image")
    for one in found:
        plain = is_dataclass(one) and not isinstance(one, type)
        predicting.expect(plain, f"a {type(one).__name__}", "dataclass objects")
        with trying("to write a prediction as JSON", "plain numbers, strings and lists"):
            json.dumps(asdict(one))


def _joined(parts: Sequence[Arrays], tried: str) -> Arrays:
    with trying(tried, "results that can be concatenated along the batch"):
        return {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)


DECODE_CHECKS = tuple(check)
