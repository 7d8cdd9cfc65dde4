from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.special import expit, softmax
from torch import Tensor

from visiongraft.backbone import Features
from visiongraft.data.batch import Batch
from visiongraft.data.images import DatasetSamples
from visiongraft.data.samples import Splits
from visiongraft.errors import ArtifactError, DataError, OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.classification.data import LabeledSamples
from visiongraft.plugins.classification.head import ClassificationHead
from visiongraft.plugins.classification.loss import BinaryCrossEntropy, CrossEntropy
from visiongraft.plugins.classification.metrics import MultiLabelMetrics, SingleLabelMetrics
from visiongraft.plugins.classification.prediction import Classified, MultiClassified
from visiongraft.plugins.classification.task import Classification
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import plugins
from visiongraft.seeds import seeded
from visiongraft.task import HeadFit, create_task

IMAGE = np.zeros((4, 4, 3), np.uint8)
SINGLE = Classification(class_names=("ape", "bee", "cat"), multi_label=False)
MULTI = Classification(class_names=("ape", "bee", "cat"), multi_label=True)
SIZES = torch.ones(2, 2, dtype=torch.int64)


def read(task: Classification, targets: Sequence[Any]) -> Splits:
    return task.read([(IMAGE, target) for target in targets], validation=0.3)


def bound(task: Classification, targets: Sequence[Any]) -> Classification:
    return task.bind(read(task, targets).train)


# ---- the end of the head ----


def test_a_linear_head_of_one_class_per_image_is_fitted_anew_at_the_end():
    assert SINGLE.refits_head
    assert replace(SINGLE, normalize=True).refits_head


@pytest.mark.parametrize(
    "options",
    [{"multi_label": True}, {"hidden": 4}, {"cached": 6}, {"head_start": "random"}],
    ids=str,
)
def test_a_head_that_is_not_all_in_closed_form_stays_as_it_was_trained(options):
    assert not replace(SINGLE, **options).refits_head


@pytest.mark.parametrize("name", ["build_loss", "training_step"])
def test_a_subclass_that_trains_for_something_else_keeps_its_head_unless_it_says_so(name):
    own = type("Own", (Classification,), {name: lambda self, *args: None})
    assert own().starts_head
    assert not own().refits_head
    assert type("Sure", (own,), {"refits_head": True})().refits_head
    assert type("Named", (Classification,), {"name": "named"})().refits_head


@pytest.mark.parametrize("name", ["build_head", "build_classifier", "collate"])
def test_a_subclass_with_a_head_or_targets_of_its_own_starts_it_itself_or_at_random(name):
    own = type("Own", (Classification,), {name: lambda self, *args: None})
    assert not own().starts_head
    assert not own().refits_head
    starting = type("Starting", (own,), {"start_head": lambda self, head, samples: None})
    assert starting().starts_head
    assert not type("Other", (starting,), {name: lambda self, *args: None})().starts_head


def test_a_head_that_is_fitted_anew_is_no_more_certain_than_the_first_one():
    task = replace(SINGLE, class_names=("cat", "dog"))
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    before = torch.randn(40, 8, generator=random) + 0.5 * labels[:, None]
    after = before + 5 * labels[:, None]  # training has separated the images that it saw

    def fit(pooled: torch.Tensor, first: HeadFit | None = None) -> tuple[HeadFit, torch.Tensor]:
        head = ClassificationHead(8, 2)
        with torch.no_grad():
            found = task.start_head(head, [(Features((), pooled), labels)], first)
            return found, head(Features((), pooled)).softmax(1)

    first, _ = fit(before)
    free, sure = fit(after)
    again, limited = fit(after, first)
    assert free.facts["factor"] > first.facts["factor"] == again.facts["factor"]
    assert again.accuracy == free.accuracy
    assert (limited.argmax(1) == sure.argmax(1)).all()
    assert limited.amax(1).mean() < sure.amax(1).mean()
    assert fit(before, free)[0] == first, "the limit is no goal"


# ---- options ----


def test_the_installed_plugin_provides_the_task() -> None:
    assert plugins().get("task", "classification") is Classification


def test_lists_are_converted_to_tuples():
    task = Classification(class_names=["cat", "dog"], class_weights=[1, 2])  # type: ignore[arg-type]
    assert task.class_names == ("cat", "dog") and task.class_weights == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": "cat"}, "class_names='cat' is not a list of names"),
        ({"class_weights": [0, 0.0]}, r"class_weights=\(0, 0.0\) would train nothing"),
        ({"class_names": ["cat", 1]}, r"class_names=\('cat', 1\) is not a list of names"),
        ({"class_names": ["cat", ""]}, r"class_names=\('cat', ''\) is not a list of names"),
        ({"class_names": ["cat", "cat"]}, r"class_names=\('cat', 'cat'\) contains a name twice"),
        ({"class_names": None}, "class_names=None is not a list of names"),
        ({"multi_label": "yes"}, "multi_label='yes' is not true, false or none"),
        ({"multi_label": 1}, "multi_label=1 is not true"),
        ({"flip": 0}, "flip=0 is not true or false"),
        ({"flip": None}, "flip=None is not true"),
        ({"hidden": -1}, "hidden=-1 is not an integer of at least 0"),
        ({"hidden": 1.5}, "hidden=1.5 is not an integer of at least 0"),
        ({"hidden": True}, "hidden=True is not an integer of at least 0"),
        ({"hidden": "64"}, "hidden='64' is not an integer of at least 0"),
        ({"dropout": 1}, r"dropout=1 is not in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout=-0.1 is not in \[0, 1\)"),
        ({"dropout": float("nan")}, r"dropout=nan is not in \[0, 1\)"),
        ({"dropout": False}, r"dropout=False is not in \[0, 1\)"),
        ({"head_start": "zero"}, "head_start='zero'"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0 is not in \[0, 1\)"),
        ({"label_smoothing": "0.1"}, r"label_smoothing='0.1' is not in \[0, 1\)"),
        ({"augment": "lite"}, "augment='lite' is unknown; did you mean 'light'"),
        ({"augment": None}, "augment=None is unknown"),
        ({"augment": ["light"]}, "augment=.* is unknown"),
        ({"mixup": -0.2}, "mixup=-0.2 is not a non-negative number"),
        ({"mixup": float("inf")}, "mixup=inf is not a non-negative number"),
        ({"cutmix": "1"}, "cutmix='1' is not a non-negative number"),
        ({"cutmix": True}, "cutmix=True is not a non-negative number"),
        ({"mixup": 0.2, "augment": "none"}, "mixup=0.2 needs augmentation; set augment='light'"),
        ({"cutmix": 1, "augment": "none"}, "cutmix=1 needs augmentation"),
        ({"class_weights": "balance"}, "class_weights='balance' is neither 'balanced' nor a list"),
        ({"class_weights": [1, -1]}, r"class_weights=\(1, -1\) is neither"),
        ({"class_weights": [1, "2"]}, "class_weights=.* is neither"),
        ({"class_weights": [1, float("nan")]}, "class_weights=.* is neither"),
        ({"class_weights": 2.0}, "class_weights=2.0 is neither"),
        (
            {"class_weights": [1], "class_names": ["a", "b"]},
            "class_weights has 1 numbers for 2 classes",
        ),
        ({"loss_weights": "balanced"}, "loss_weights='balanced' is neither"),
        (
            {"loss_weights": [1, 2, 3], "class_names": ["a", "b"]},
            "loss_weights has 3 numbers for 2",
        ),
        ({"droput": 0.1}, "task 'classification' has no option 'droput'; did you mean 'dropout'"),
    ],
    ids=str,
)
def test_an_invalid_option_raises_a_one_line_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        create_task(Classification, options)
    assert "\n" not in str(caught.value)


NUMBERS = st.integers(0, 5) | st.floats(0, 5)
FRACTIONS = st.floats(0, 1, exclude_max=True) | st.just(0)


@st.composite
def option_sets(draw: st.DrawFn) -> dict[str, Any]:
    class_names = draw(st.lists(st.text(min_size=1), max_size=4, unique=True))
    count = len(class_names) or draw(st.integers(1, 4))
    weights = st.lists(NUMBERS, min_size=count, max_size=count).filter(any)
    augment = draw(st.sampled_from(["none", "light", "strong"]))
    mixing = st.just(0) if augment == "none" else NUMBERS
    return {
        "class_names": class_names,
        "multi_label": draw(st.sampled_from([None, True, False])),
        "hidden": draw(st.integers(0, 512)),
        "dropout": draw(FRACTIONS),
        "projection": draw(st.integers(0, 512)),
        "normalize": draw(st.booleans()),
        "cached": draw(st.integers(0, 8)),
        "head_start": draw(st.sampled_from(["closed_form", "random"])),
        "label_smoothing": draw(FRACTIONS),
        "class_weights": draw(st.none() | st.just("balanced") | weights),
        "augment": augment,
        "flip": draw(st.booleans()),
        "mixup": draw(mixing),
        "cutmix": draw(mixing),
        "loss_weights": draw(st.just([]) | weights),
    }


@given(option_sets())
def test_options_round_trip_through_json(options: dict[str, Any]) -> None:
    task = create_task(Classification, options)
    assert create_task(Classification, task.options()) == task
    stored = json.loads(json.dumps(task.options()))
    assert stored == options
    again = create_task(Classification, stored)
    assert again == task
    assert again.headline == task.headline


@pytest.mark.parametrize(
    ("multi_label", "headline"),
    [(None, "accuracy"), (False, "accuracy"), (True, "mean_average_precision")],
)
def test_the_headline_metric_depends_on_multi_label(
    multi_label: bool | None, headline: str
) -> None:
    task = Classification(class_names=("a", "b"), multi_label=multi_label)
    assert task.headline == headline
    assert replace(task, hidden=8).headline == headline
    assert replace(task, multi_label=False).headline == "accuracy"


@pytest.mark.parametrize(
    "use", ["build_metrics", "collate", "mix", "read_evaluation", "build_head"]
)
def test_a_task_without_class_names_raises(use: str) -> None:
    task = Classification(multi_label=True, mixup=1.0)
    arguments: dict[str, tuple[Any, ...]] = {
        "collate": ([(0,)],),
        "mix": (torch.zeros(1, 3, 4, 4), torch.zeros(1, 2)),
        "read_evaluation": ([(IMAGE, "a")],),
        "build_head": (load_backbone("simple_cnn", None),),
    }
    with pytest.raises(OptionError, match=r"no class names yet; read.. and bind.. set them"):
        getattr(task, use)(*arguments.get(use, ()))


# ---- binding to data ----


def test_bind_sets_class_names_and_single_label() -> None:
    task = bound(Classification(hidden=8), ["dog", "cat"] * 4)
    assert task == Classification(class_names=("cat", "dog"), multi_label=False, hidden=8)


def test_bind_sets_multi_label() -> None:
    task = bound(Classification(), [["a", "b"], ["a"], []] * 4)
    assert task == Classification(class_names=("a", "b"), multi_label=True)
    assert task.headline == "mean_average_precision"


def test_bind_keeps_the_order_of_the_users_class_names() -> None:
    task = bound(Classification(class_names=("dog", "cat")), ["dog", "cat"] * 4)
    assert task.class_names == ("dog", "cat")


@pytest.mark.parametrize(
    ("class_weights", "targets", "weights"),
    [
        (None, ["a"] * 6 + ["b"] * 3, ()),
        ((), ["a"] * 6 + ["b"] * 3, ()),
        ((2, 0.5), ["a"] * 6 + ["b"] * 3, (2.0, 0.5)),
        # Of six and three images, four and two stay in training.
        ("balanced", ["a"] * 6 + ["b"] * 3, (0.75, 1.5)),
        # Here eight stay, two of them with "b".
        ("balanced", [["a"]] * 9 + [["a", "b"]] * 3, (1.0, 3.0)),
    ],
    ids=["none", "empty", "given", "balanced", "balanced multi-label"],
)
def test_bind_computes_the_loss_weights(
    class_weights: Any, targets: list[Any], weights: tuple[float, ...]
) -> None:
    task = bound(Classification(class_weights=class_weights), targets)
    assert task.loss_weights == pytest.approx(weights)
    assert task.class_weights == class_weights
    loss = task.build_loss()
    found: Any = loss.weights
    assert (found is None) if not weights else found.tolist() == pytest.approx(weights)


def test_binding_again_recomputes_the_weights() -> None:
    first = bound(Classification(class_weights="balanced"), ["a"] * 6 + ["b"] * 3)
    assert bound(first, ["a"] * 3 + ["b"] * 6).loss_weights == pytest.approx((1.5, 0.75))


def test_weights_for_another_number_of_classes_raise() -> None:
    with pytest.raises(OptionError, match="class_weights has 3 numbers for 2 classes"):
        bound(Classification(class_weights=(1, 2, 3)), ["a", "b"] * 4)


def test_bind_rejects_samples_that_read_did_not_return() -> None:
    samples = DatasetSamples.of([(IMAGE, 0), (IMAGE, 1)])
    with pytest.raises(DataError, match=r"samples returned by read\(\), not DatasetSamples"):
        Classification().bind(samples)


def test_bind_rejects_samples_of_a_single_class() -> None:
    train = read(Classification(), ["a", "b"] * 4).train
    assert isinstance(train, LabeledSamples)
    left = train.subset([i for i, target in enumerate(train.targets) if target == 0])
    with pytest.raises(DataError, match="all training images are of class 'a'"):
        Classification().bind(left)


def test_reading_follows_the_options() -> None:
    task = Classification(class_names=("b", "a"), multi_label=True)
    train = read(task, ["a", "b"] * 4).train
    assert isinstance(train, LabeledSamples)
    assert (train.class_names, train.multi_label) == (("b", "a"), True)
    samples = SINGLE.read_evaluation([(IMAGE, "cat"), (IMAGE, "ape")]).samples
    assert [samples.target(i) for i in range(2)] == [2, 0]
    with pytest.raises(
        DataError, match=r"item 0 has 2 labels .a, b., but the task is single-label"
    ):
        read(replace(task, multi_label=False), [["a", "b"], ["a"]])
    several = MULTI.read_evaluation([(IMAGE, ["cat", "ape"]), (IMAGE, [])]).samples
    assert [several.target(i) for i in range(2)] == [(0, 2), ()]


# ---- batches ----


def test_class_ids_collate_to_int64() -> None:
    batch = SINGLE.collate([2, 0, 0])
    assert batch.dtype == torch.int64
    assert batch.tolist() == [2, 0, 0]


@given(st.lists(st.sets(st.integers(0, 2)).map(lambda ids: tuple(sorted(ids))), max_size=6))
def test_multi_label_targets_collate_to_multi_hot(targets: list[tuple[int, ...]]) -> None:
    multi_hot = MULTI.collate(targets)
    assert multi_hot.dtype == torch.float32
    assert multi_hot.shape == (len(targets), 3)
    assert [tuple(row.nonzero().flatten().tolist()) for row in multi_hot] == targets
    assert set(multi_hot.unique().tolist()) <= {0, 1}


def test_without_augmentation_there_is_no_transform() -> None:
    assert replace(SINGLE, augment="none").train_transform(PreprocessConfig((8, 8))) is None


def test_the_transform_follows_the_options() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).expand(3, 64, 256)
    mismatches = []
    for flip in (True, False):
        transform = replace(SINGLE, flip=flip).train_transform(PreprocessConfig((12, 20)))
        assert transform is not None
        images = [transform(ramp, 1)[0] for _ in range(40)]
        assert all(p.shape == (3, 12, 20) for p in images)
        mismatches.append(sum(bool(p[0, 0, 0] > p[0, 0, -1]) for p in images))
    assert mismatches[0] > 0
    assert mismatches[1] == 0


def test_batches_are_not_mixed_by_default() -> None:
    images, targets = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    assert SINGLE.mix(images, targets) == (images, targets)


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}], ids=str)
def test_the_loss_accepts_mixed_targets(options: dict[str, float]) -> None:
    for task, targets in ((SINGLE, [0, 1, 2]), (MULTI, [(0,), (1, 2), ()])):
        mixing = replace(task, label_smoothing=0.1, loss_weights=(1.0, 2.0, 3.0), **options)
        with seeded(4, "mix"):
            images, mixed = mixing.mix(torch.rand(3, 3, 16, 16), mixing.collate(targets))
        assert images.shape == (3, 3, 16, 16)
        assert mixed.shape == (3, 3)
        assert not set(mixed.unique().tolist()) <= {0.0, 1.0}
        (loss,) = mixing.build_loss()(torch.randn(3, 3), mixed).values()
        assert loss.isfinite()


# ---- the model ----


@pytest.mark.parametrize(("task", "kind"), [(SINGLE, CrossEntropy), (MULTI, BinaryCrossEntropy)])
def test_the_loss_follows_the_options(task: Classification, kind: type) -> None:
    loss = replace(task, label_smoothing=0.25).build_loss()
    assert isinstance(loss, kind)
    assert loss.label_smoothing == 0.25


@pytest.mark.parametrize(
    ("task", "kind"), [(SINGLE, SingleLabelMetrics), (MULTI, MultiLabelMetrics)]
)
def test_the_metrics_include_the_headline_and_every_class(task: Classification, kind: type) -> None:
    metrics = task.build_metrics()
    assert isinstance(metrics, kind)
    decoded = {k: v.numpy() for k, v in task.decode(torch.eye(3), SIZES).items()}
    metrics.update(decoded, task.collate([0, 1, 2]))
    results = metrics.compute()
    assert isinstance(results[task.headline], float)
    assert tuple(results["per_class"]) == task.class_names


@pytest.mark.parametrize("task", [SINGLE, MULTI], ids=["single", "multi"])
@pytest.mark.parametrize("hidden", [0, 16])
def test_backbone_head_and_loss_train_together(task: Classification, hidden: int) -> None:
    network = Network(load_backbone("simple_cnn", None), replace(task, hidden=hidden, dropout=0.1))
    targets = task.collate([0, 2] if task is SINGLE else [(0, 2), ()])
    parts = network(Batch(torch.randn(2, 3, 32, 32), targets, SIZES, SIZES))
    sum(parts.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


# ---- results ----


LOGITS = st.integers(0, 2**32 - 1).map(
    lambda seed: torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 3)) * 5)
)


@given(LOGITS)
def test_single_label_probabilities_are_the_softmax(logits: Tensor) -> None:
    decoded = SINGLE.decode(logits, SIZES)
    assert list(decoded) == ["probabilities", "labels"]
    assert decoded["probabilities"].dtype == torch.float32
    assert np.allclose(decoded["probabilities"], softmax(logits.numpy(), axis=1), atol=1e-6)
    assert decoded["labels"].dtype == torch.int64
    assert decoded["labels"].tolist() == logits.numpy().argmax(axis=1).tolist()


@given(LOGITS)
def test_multi_label_probabilities_are_the_sigmoid(logits: Tensor) -> None:
    decoded = MULTI.decode(logits, SIZES)
    assert list(decoded) == ["probabilities", "labels"]
    assert decoded["probabilities"].dtype == torch.float32
    assert np.allclose(decoded["probabilities"], expit(logits.numpy()), atol=1e-6)
    assert decoded["labels"].dtype == torch.int64
    assert np.array_equal(decoded["labels"], decoded["probabilities"] >= 0.5)


def test_ties_go_to_the_first_class_and_the_threshold_is_inclusive() -> None:
    assert SINGLE.decode(torch.zeros(1, 3), SIZES)["labels"].tolist() == [0]
    assert SINGLE.decode(torch.tensor([[0.0, 1, 1]]), SIZES)["labels"].tolist() == [1]
    assert MULTI.decode(torch.tensor([[0.0, -1, 1]]), SIZES)["labels"].tolist() == [[1, 0, 1]]


def test_half_precision_outputs_are_decoded_in_full_precision() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    for task in (SINGLE, MULTI):
        half, full = task.decode(logits.half(), SIZES), task.decode(logits, SIZES)
        assert torch.equal(half["probabilities"], full["probabilities"])


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (SINGLE, [Classified, Classified]),
        (MULTI, [MultiClassified, MultiClassified]),
    ],
    ids=["single", "multi"],
)
def test_predictions_name_the_decoded_classes(task: Classification, expected: list[type]) -> None:
    decoded = task.decode(torch.tensor([[9.0, -9, -9], [-9, 9, 8]]), SIZES)
    found = task.predictions({name: value.numpy() for name, value in decoded.items()})
    assert [type(p) for p in found] == expected
    assert [list(p.probabilities) for p in found] == [["ape", "bee", "cat"]] * 2
    if task is SINGLE:
        assert [p.label for p in found] == ["ape", "bee"]
    else:
        assert [p.labels for p in found] == [("ape",), ("bee", "cat")]


def test_arrays_of_another_model_raise() -> None:
    decoded = MULTI.decode(torch.zeros(2, 4), SIZES)
    with pytest.raises(ArtifactError, match="damaged"):
        MULTI.predictions({name: value.numpy() for name, value in decoded.items()})


@pytest.mark.parametrize("task", [SINGLE, MULTI], ids=["single", "multi"])
def test_metadata_are_json_values(task: Classification) -> None:
    metadata = task.metadata()
    assert metadata == {"class_names": ["ape", "bee", "cat"], "multi_label": task is MULTI}
    assert json.loads(json.dumps(metadata)) == metadata


@pytest.mark.parametrize("task", [SINGLE, MULTI], ids=["single", "multi"])
def test_drawing_puts_a_caption_below(task: Classification) -> None:
    decoded = task.decode(torch.tensor([[9.0, -9, -9]]), SIZES)
    (found,) = task.predictions({name: value.numpy() for name, value in decoded.items()})
    image = Image.new("RGB", (200, 100), "white")
    drawn = task.draw(image, found)
    assert drawn.width == 200
    assert drawn.height > 100
