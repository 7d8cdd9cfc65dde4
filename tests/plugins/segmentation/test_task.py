from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from torch import Tensor

from visiongraft.data.batch import Batch
from visiongraft.errors import DataError, OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.segmentation.options import LOSSES, parse_loss
from visiongraft.plugins.segmentation.prediction import Segmented
from visiongraft.plugins.segmentation.task import KINDS, Segmentation
from visiongraft.plugins.segmentation.transforms import TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import plugins
from visiongraft.schedules import lp_ft, with_defaults
from visiongraft.task import create_task

IMAGE = np.zeros((8, 12, 3), np.uint8)
TASK = Segmentation(class_names=("a", "b", "c"), kind="multi_class")
BINARY = Segmentation(class_names=("a", "b"), kind="binary")
MULTI = Segmentation(class_names=("a", "b", "c"), kind="multi_label")
SIZES = torch.ones(2, 2, dtype=torch.int64)


def test_the_installed_plugin_provides_the_task() -> None:
    assert plugins().get("task", "segmentation") is Segmentation


def test_a_new_decoder_does_not_begin_alone_unless_asked_to() -> None:
    schedule = with_defaults(lp_ft, TASK.schedule_options)
    (phase,) = schedule.phases(("stem", "stage1"), 10)
    assert (phase.trainable, phase.learning_rate, phase.batch_norm) == ("all", 1e-3, "train")
    asked = with_defaults(lp_ft(probe_epochs=3), TASK.schedule_options)
    assert [phase.trainable for phase in asked.phases(("stem", "stage1"), 10)] == ["head", "all"]


# ---- options ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": "sky"}, "class_names='sky' is not a list of names"),
        ({"class_names": ["a", "a"]}, "contains a name twice"),
        ({"class_names": ["a", ""]}, "is not a list of names"),
        ({"class_names": ["a"], "kind": "multi_class"}, "too few classes to learn"),
        ({"class_names": ["a", "b", "c"], "kind": "binary"}, "binary masks have two classes"),
        ({"kind": "multiclass"}, "kind='multiclass' is unknown; did you mean 'multi_class'"),
        ({"decoder": "u-net"}, "decoder='u-net' is unknown; did you mean 'unet'"),
        ({"decoder": 3}, "decoder=3 is unknown"),
        ({"channels": 4}, "channels=4 is neither 0 nor a width of 8 or more"),
        ({"channels": True}, "channels=True is neither"),
        ({"channels": -8}, "channels=-8 is neither"),
        ({"ignore": -1}, "ignore=-1 is neither a class name nor a mask value"),
        ({"ignore": 70_000}, "ignore=70000 is neither"),
        ({"ignore": ""}, "ignore='' is neither"),
        ({"ignore": 1.5}, "ignore=1.5 is neither"),
        ({"ignore": "a", "class_names": ["a", "b"]}, "ignore='a' is also in class_names"),
        ({"loss": "crossentropy"}, "'crossentropy' is not a loss; did you mean 'cross_entropy'"),
        ({"loss": "dice+dice"}, "each loss must appear once"),
        ({"loss": "0*dice"}, "with a positive weight"),
        ({"loss": "1.2.3*dice"}, "with a positive weight"),
        ({"loss": "dice*2"}, r"'dice\*2' is not a loss"),
        ({"loss": ""}, "'' is not a loss"),
        ({"loss": None}, "'None' is not a loss"),
        ({"auxiliary": -0.5}, "auxiliary=-0.5 is not a non-negative number"),
        ({"auxiliary": True}, "auxiliary=True is not a non-negative number"),
        ({"probabilities": 1}, "probabilities=1 is not true or false"),
        ({"flip": "no"}, "flip='no' is not true"),
        ({"augment": "lite"}, "augment='lite' is unknown; did you mean 'light'"),
        ({"class_weights": "even"}, "class_weights='even' is neither"),
        ({"class_weights": [0, 0]}, "would train nothing"),
        ({"class_weights": [1], "class_names": ["a", "b"]}, "has 1 numbers for 2 classes"),
        ({"class_weights": [1, float("nan")]}, "is neither"),
        ({"decodr": "fpn"}, "has no option 'decodr'; did you mean 'decoder'"),
    ],
    ids=str,
)
def test_an_invalid_option_raises_a_one_line_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        create_task(Segmentation, options)
    assert "\n" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(LOSSES), st.floats(0.001, 99), min_size=1))
def test_weighted_sums_of_losses_are_parsed(parts: dict[str, float]) -> None:
    rounded = {name: round(weight, 3) for name, weight in parts.items()}
    text = " + ".join(f"{weight:.3f}*{name}" for name, weight in rounded.items())
    assert parse_loss(text) == rounded
    assert parse_loss("+".join(parts)) == dict.fromkeys(parts, 1.0)


def test_options_round_trip_through_json() -> None:
    task = Segmentation(
        class_names=["a", "b"],  # type: ignore[arg-type]
        ignore=7,
        loss="0.5*focal+dice",
        class_weights=[1, 2],  # type: ignore[arg-type]
        auxiliary=0.4,
    )
    assert create_task(Segmentation, json.loads(json.dumps(task.options()))) == task
    assert task.class_names == ("a", "b") and task.class_weights == (1, 2)


# ---- data ----


def data(values: list[list[int]]) -> list[Any]:
    rows = np.array(values, np.uint8)
    return [(IMAGE, np.broadcast_to(row, (8, 12)).copy()) for row in rows[:, None]]


def test_bind_sets_class_names_kind_and_weights() -> None:
    columns = [[0] * 9 + [1] * 3] * 4
    splits = Segmentation(class_names=("sky", "road", "car"), class_weights="balanced").read(
        data(columns)
    )
    task = Segmentation(class_weights="balanced").bind(splits.train)
    assert (task.class_names, task.kind) == (("sky", "road", "car"), "multi_class")
    assert task.loss_weights == pytest.approx((12 / 18, 2.0, 0.0))
    assert Segmentation().bind(splits.train).loss_weights == ()
    weighed = Segmentation(class_weights=(1, 2, 3)).bind(splits.train)
    assert weighed.loss_weights == (1.0, 2.0, 3.0)
    with pytest.raises(OptionError, match="has 2 numbers for 3 classes"):
        Segmentation(class_weights=(1, 2)).bind(splits.train)
    with pytest.raises(DataError, match="samples returned by read"):
        Segmentation().bind([1])  # type: ignore[arg-type]


def test_an_unbound_task_raises() -> None:
    with pytest.raises(OptionError, match="no class names yet"):
        Segmentation(kind="multi_class").build_metrics()
    with pytest.raises(OptionError, match="has no kind yet"):
        Segmentation(class_names=("a", "b")).build_loss()


def test_masks_of_one_size_are_stacked_and_others_are_a_list() -> None:
    masks = [np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)]
    stacked = TASK.collate(masks)
    assert isinstance(stacked, Tensor) and type(stacked) is Tensor
    assert stacked.shape == (2, 2, 3) and stacked.dtype == torch.uint8
    listed = TASK.collate([*masks, np.zeros((4, 3), np.uint8)])
    assert isinstance(listed, list) and len(listed) == 3


def test_the_augmentation_follows_the_preprocessing() -> None:
    assert replace(TASK, augment="none").train_transform(PreprocessConfig((32, 32))) is None
    for resize, whole in (("stretch", True), ("pad", False)):
        transform = TASK.train_transform(PreprocessConfig((32, 64), resize=resize))
        assert isinstance(transform, TrainTransform)
        assert (transform.whole, transform.size) == (whole, (32, 64))


# ---- the training step ----


def network(task: Segmentation, resize: str = "stretch") -> Network:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=32)
    config = replace(backbone.info.preprocess, resize=resize)
    backbone.info = replace(backbone.info, preprocess=config)
    return Network(backbone, task)


def batch(masks: Any, side: int = 32) -> Batch:
    images = torch.randn(len(masks), 3, side, side)
    return Batch(images, masks, torch.ones(len(masks), 2), torch.arange(len(masks)))


def test_the_loss_does_not_depend_on_the_size_of_the_mask() -> None:
    one = network(TASK).eval()
    images = torch.randn(2, 3, 32, 32)
    small = torch.randint(0, 3, (2, 16, 8), dtype=torch.uint8)
    large = small.repeat_interleave(2, 1).repeat_interleave(4, 2)
    values = []
    for masks in (list(small), small, large):
        made = Batch(images, masks, torch.ones(2, 2), torch.arange(2))
        values.append(float(one(made)["cross_entropy"].detach()))
    assert values[0] == values[1] == pytest.approx(values[2])


def test_padded_pixels_are_ignored() -> None:
    one = network(TASK, "pad").eval()
    images = torch.randn(1, 3, 32, 32)
    other = images.clone()
    mask = torch.randint(0, 3, (1, 20, 32), dtype=torch.uint8)
    padded = torch.nn.functional.pad(mask, (0, 0, 0, 12), value=255)
    made = [Batch(other, m, torch.ones(1, 2), torch.arange(1)) for m in (mask, padded)]
    first, second = (float(one(b)["cross_entropy"].detach()) for b in made)
    assert first == second


def test_a_batch_of_one_raises_if_the_decoder_cannot_train_on_it() -> None:
    for decoder, refused in (("upernet", True), ("unet", False)):
        one = network(replace(TASK, decoder=decoder, channels=16)).train()
        made = batch(torch.zeros(1, 32, 32, dtype=torch.uint8))
        if refused:
            with pytest.raises(OptionError, match="batch_size of 2 or more"):
                one(made)
        else:
            assert one(made)["cross_entropy"].isfinite()


# ---- decoding ----


def arrays(task: Segmentation, logits: Tensor) -> dict[str, np.ndarray]:
    return {n: v.numpy() for n, v in task.decode({"logits": logits}, SIZES).items()}


def test_multi_class_labels_probabilities_and_margins() -> None:
    logits = torch.randn(2, 3, 4, 5)
    found = arrays(replace(TASK, probabilities=True), logits)
    chances = softmax(logits.numpy(), axis=1)
    ordered = np.sort(chances, axis=1)
    assert found["labels"].dtype == np.uint8
    assert (found["labels"] == chances.argmax(1)).all()
    assert found["margins"] == pytest.approx(ordered[:, -1] - ordered[:, -2], abs=1e-6)
    assert found["probabilities"] == pytest.approx(chances, abs=1e-6)
    assert set(arrays(TASK, logits)) == {"labels", "margins"}


def test_a_tie_has_no_margin() -> None:
    logits = torch.tensor([2.0, 2.0, 0.0]).view(1, 3, 1, 1)
    found = arrays(TASK, logits)
    assert found["labels"].item() == 0 and found["margins"].item() == 0


@pytest.mark.parametrize(("task", "axis"), [(BINARY, 1), (MULTI, 3)])
def test_labels_of_single_logits(task: Segmentation, axis: int) -> None:
    logits = torch.randn(2, axis, 4, 5)
    logits[0, 0, 0, 0] = 0
    found = arrays(replace(task, probabilities=True), logits)
    chances = expit(logits.numpy())
    labels, margins = chances >= 0.5, np.abs(2 * chances - 1)
    if task is BINARY:
        labels, margins = labels[:, 0], margins[:, 0]
    assert found["labels"].dtype == np.uint8
    assert (found["labels"] == labels).all() and found["labels"].flat[0] == 1
    assert found["margins"] == pytest.approx(margins, abs=1e-6)
    assert found["probabilities"] == pytest.approx(chances, abs=1e-6)


def test_more_than_255_classes_use_int32() -> None:
    task = Segmentation(class_names=tuple(map(str, range(300))), kind="multi_class")
    logits = torch.zeros(1, 300, 1, 2)
    logits[0, 299, 0, 0] = 1
    found = arrays(task, logits)
    assert found["labels"].dtype == np.int32 and found["labels"].tolist() == [[[299, 0]]]
    (prediction,) = task.predictions(found)
    assert isinstance(prediction, Segmented) and prediction.largest == "0"


@pytest.mark.parametrize("kind", KINDS)
def test_ideal_results_have_the_form_of_real_ones_and_score_1(kind: str) -> None:
    task = replace({"multi_class": TASK, "binary": BINARY, "multi_label": MULTI}[kind])
    task = replace(task, probabilities=True)
    layers = (3,) if kind == "multi_label" else ()
    top = 3 if kind == "multi_class" else 2
    targets = torch.randint(0, top, (2, *layers, 6, 7), dtype=torch.uint8)
    targets[..., 0, :] = 255
    ideal = task._ideal(targets)
    real = arrays(task, torch.randn(2, 1 if kind == "binary" else 3, 6, 7))
    assert {n: v.shape for n, v in ideal.items()} == {n: v.shape for n, v in real.items()}
    metrics = task.build_metrics()
    metrics.update(ideal, targets)
    assert metrics.compute()["mean_iou"] == 1


def test_metadata_include_class_names_and_kind() -> None:
    assert TASK.metadata() == {"class_names": ["a", "b", "c"], "kind": "multi_class"}


@pytest.mark.parametrize("kind", KINDS)
def test_example_data_have_their_kind(kind: str, tmp_path: Path) -> None:
    task = Segmentation(kind=kind)  # type: ignore[arg-type]
    splits = task.read(task.examples().make_dataset(tmp_path, 10, seed=0))
    assert task.bind(splits.train).kind == kind
    assert len(splits.train) + len(splits.validation) == 10
    assert all(
        not s.problem(i, *s.load(i).shape[:2]) for s in (splits.train,) for i in range(len(s))
    )
