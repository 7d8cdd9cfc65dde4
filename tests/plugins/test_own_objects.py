"""Metrics of torchmetrics equal the built-in ones on what tasks give them, and augmentations move targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics import MeanMetric
from torchmetrics.detection import MeanAveragePrecision
from torchvision import tv_tensors
from torchvision.transforms import v2

from visiongraft.errors import OptionError
from visiongraft.multi_task.task import MultiTask
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.detection.objects import Objects
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.face_embedding.task import FaceEmbedding
from visiongraft.plugins.segmentation.task import Segmentation
from visiongraft.plugins.translation.task import Translation
from visiongraft.plugins.video.task import Video
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Task
from visiongraft.training.batches.own_augmentation import OwnAugmentation
from visiongraft.training.measuring.own_metrics import OwnMetrics

NAMES = ("a", "b", "c")
KIND = Classification(class_names=NAMES, multi_label=False)
PARTS = Segmentation(class_names=NAMES, kind="multi_class")
BOXES = Detection(class_names=NAMES)
STRETCH = PreprocessConfig(size=(32, 32), resize="stretch")
IMAGE = tv_tensors.Image(torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8))


def measured(task: Task, metrics: Any, decoded: Any, targets: Any) -> dict[str, Any]:
    both = OwnMetrics.of(metrics, task).beside(task)
    both.update(decoded, targets)
    return both.compute()


def scores(count: int, classes: int = 3) -> Any:
    values = np.random.default_rng(0).random((count, classes), np.float32)
    return values / values.sum(1, keepdims=True)


# ---- metrics ----


def test_classification_gives_probabilities() -> None:
    decoded = {"probabilities": scores(30), "labels": scores(30).argmax(1)}
    targets = torch.arange(30) % 3
    named = {
        "acc": "MulticlassAccuracy(average=micro)",
        "map": "MulticlassAveragePrecision",
        "f1": "MulticlassF1Score",
    }
    found = measured(KIND, named, decoded, targets)
    assert found["acc"] == pytest.approx(found["accuracy"])
    assert found["map"] == pytest.approx(found["mean_average_precision"])
    assert found["f1"] == pytest.approx(found["macro_f1"])


def test_multi_label_classification_gives_labels_of_zero_and_one() -> None:
    task = Classification(class_names=NAMES, multi_label=True)
    probabilities = scores(20)
    decoded = {"probabilities": probabilities, "labels": (probabilities > 0.5).astype(np.int64)}
    targets = (torch.from_numpy(scores(20)[::-1].copy()) > 0.4).float()
    found = measured(task, {"f1": "MultilabelF1Score(average=micro)"}, decoded, targets)
    assert found["f1"] == pytest.approx(found["micro_f1"])


def test_segmentation_gives_class_ids_and_the_ignored_ones() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (2, 8, 9), dtype=np.uint8)
    masks = generator.integers(0, 3, (2, 8, 9), dtype=np.uint8)
    masks[0, 0] = 255
    jaccard = {"jaccard": "MulticlassJaccardIndex(ignore_index=255)"}
    found = measured(PARTS, jaccard, {"labels": labels}, torch.from_numpy(masks))
    assert found["jaccard"] == pytest.approx(found["mean_iou"], abs=1e-6)


def test_detection_gives_objects() -> None:
    target = Objects(((2.0, 2.0, 30.0, 30.0),), (1,), (40, 60), (False,), (784.0,)).tensors()
    decoded = {
        "boxes": np.array([[[2, 2, 30, 30], [0, 0, 5, 5], [0, 0, 0, 0]]], np.float32),
        "scores": np.array([[0.6, 0.9, 0]], np.float32),
        "labels": np.array([[1, 1, -1]]),
        "count": np.array([2]),
    }
    found = measured(BOXES, MeanAveragePrecision(), decoded, [target])
    assert found["MeanAveragePrecision.map"] == pytest.approx(found["mAP"]) == 0.5


def test_translation_gives_images() -> None:
    made = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    targets = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    found = measured(Translation(), {"mae": "MeanAbsoluteError"}, {"image": made}, targets)
    assert found["mae"] == pytest.approx(found["l1"], abs=1e-6)


def test_a_metric_of_a_head_has_its_name_before_its_own() -> None:
    task = MultiTask(heads={"kind": KIND, "parts": PARTS})
    probabilities = scores(4)
    decoded = {"kind.probabilities": probabilities, "kind.labels": probabilities.argmax(1)}
    targets = {"kind": {"rows": torch.tensor([0, 2]), "targets": torch.tensor([1, 2])}}
    named = {"kind.acc": "MulticlassAccuracy(average=micro)", "parts.iou": "MulticlassJaccardIndex"}
    found = measured(task, named, decoded, targets)
    assert found["kind.acc"] == pytest.approx(found["kind.accuracy"])
    assert found["parts.iou"] is None  # no image had such a target
    with pytest.raises(OptionError, match=r"'acc' names no head; call it 'HEAD\.acc'"):
        measured(task, {"acc": MeanMetric()}, decoded, targets)


def test_a_task_of_embeddings_has_no_pairs() -> None:
    with pytest.raises(OptionError, match="task 'face_embedding' has no predictions and targets"):
        FaceEmbedding().metric_inputs("m", {}, None)


# ---- augmentation ----


def augment(task: Task, function: Any, target: Any, image: Any = IMAGE) -> tuple[Any, Any]:
    return OwnAugmentation(function, task, STRETCH)(image, target)


def objects() -> Objects:
    return Objects(
        ((0.0, 0.0, 30.0, 20.0), (50.0, 30.0, 60.0, 40.0), (5.0, 5.0, 9.0, 9.0)),
        (2, 1, 0),
        (40, 60),
        (False, False, True),
        (600.0, 100.0, 16.0),
    )


def test_boxes_move_with_their_image_to_the_input_of_the_network() -> None:
    _, moved = augment(BOXES, v2.RandomHorizontalFlip(p=1), objects())
    assert moved.size == (32, 32)
    assert moved.labels == (2, 1)  # without the crowd region
    assert np.allclose(moved.boxes, [(16, 0, 32, 16), (0, 24, 32 / 6, 32)])


def test_boxes_outside_are_dropped_with_their_labels() -> None:
    def left(image: Any, parts: Any) -> Any:
        return v2.functional.crop(image, 0, 0, 40, 40), {
            **parts,
            "boxes": v2.functional.crop(parts["boxes"], 0, 0, 40, 40),
        }

    _, moved = augment(BOXES, left, objects())
    assert moved.labels == (2,)
    cropped = v2.Compose([v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes()])
    _, moved = augment(BOXES, cropped, objects())
    assert len(moved.boxes) == len(moved.labels)


def test_a_letterbox_is_taken_into_account() -> None:
    letterbox = PreprocessConfig(size=(32, 32), resize="letterbox")
    _, moved = OwnAugmentation(v2.Identity(), BOXES, letterbox)(IMAGE, objects())
    assert np.allclose(moved.boxes[0], np.array([0, 0, 30, 20]) * 32 / 60)


def test_boxes_without_their_labels_are_refused() -> None:
    def one(image: Any, parts: Any) -> Any:
        return image, {**parts, "labels": parts["labels"][:1]}

    with pytest.raises(OptionError, match="not as many as labels; drop boxes by Sanitize"):
        augment(BOXES, one, objects())
    with pytest.raises(OptionError, match=r"not the pair \(image, parts\)"):
        augment(BOXES, lambda image, parts: image, objects())


def test_masks_and_images_move_with_their_image() -> None:
    mask = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 3
    _, moved = augment(PARTS, v2.RandomHorizontalFlip(p=1), mask)
    assert np.array_equal(moved, mask[:, ::-1])
    target = IMAGE.permute(1, 2, 0).numpy()
    found, wanted = augment(Translation(), v2.RandomHorizontalFlip(p=1), target)
    assert np.array_equal(wanted, target[:, ::-1])
    assert torch.equal(found, augment(KIND, v2.RandomHorizontalFlip(p=1), 0)[0])
    with pytest.raises(OptionError, match=r"40x20 pixels with a mask \(40, 60\)"):
        augment(PARTS, lambda image, parts: (image[..., :20], parts), mask)
    with pytest.raises(OptionError, match=r"40x20 pixels with a target \(3, 40, 60\)"):
        augment(Translation(), lambda image, parts: (image[..., :20], parts), target)


def test_heads_move_together() -> None:
    task = MultiTask(heads={"kind": KIND, "boxes": BOXES, "parts": PARTS})
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :30] = 1
    target = {"kind": 1, "boxes": objects(), "parts": mask}
    _, moved = augment(task, v2.RandomHorizontalFlip(p=1), target)
    assert moved["kind"] == 1
    assert np.array_equal(moved["parts"], mask[:, ::-1])
    assert np.allclose(moved["boxes"].boxes[0], (16, 0, 32, 16))
    _, moved = augment(task, v2.RandomHorizontalFlip(p=1), {"kind": 2})
    assert moved == {"kind": 2}


def test_heads_of_whole_images_are_given_the_image_alone() -> None:
    task = MultiTask(heads={"one": KIND, "two": KIND})
    assert augment(task, lambda image: image.flip(-1), {"one": 1})[1] == {"one": 1}


def test_a_clip_is_augmented_frame_by_frame_alike() -> None:
    task = Video(class_names=NAMES, multi_label=False, frames=4)
    video = tv_tensors.Video(IMAGE.expand(8, -1, -1, -1))
    clip, _ = augment(task, v2.RandomRotation(90), 0, video)
    assert clip.shape == (4, 3, 32, 32)
    assert torch.equal(clip[0], clip[3])


# ---- albumentations ----


def test_albumentations_moves_images_masks_and_boxes() -> None:
    library = pytest.importorskip("albumentations")
    flip = library.HorizontalFlip(p=1)
    image, _ = augment(KIND, flip, 0)
    assert torch.equal(image, augment(KIND, v2.RandomHorizontalFlip(p=1), 0)[0])
    boxes = library.Compose([flip], bbox_params=library.BboxParams(format="pascal_voc"))
    _, moved = augment(BOXES, boxes, objects())
    expected = augment(BOXES, v2.RandomHorizontalFlip(p=1), objects())[1]
    assert moved.labels == expected.labels
    assert np.allclose(moved.boxes, expected.boxes, atol=1e-4)
    mask = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60) % 3
    _, moved = augment(PARTS, library.Compose([flip]), mask)
    assert np.array_equal(moved, mask[:, ::-1])
    target = IMAGE.permute(1, 2, 0).numpy()
    pair = library.Compose([flip], additional_targets={"target": "image"})
    assert np.array_equal(augment(Translation(), pair, target)[1], target[:, ::-1])


def test_albumentations_draws_from_the_seeds() -> None:
    library = pytest.importorskip("albumentations")
    compose = library.Compose([library.RandomCrop(9, 9), library.ColorJitter(p=0.5)])

    def drawn(seed: int) -> Any:
        torch.manual_seed(seed)
        return augment(KIND, compose, 0)[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_what_albumentations_cannot_move_is_refused() -> None:
    library = pytest.importorskip("albumentations")
    flip = library.HorizontalFlip(p=1)
    with pytest.raises(OptionError, match="targets are boxes, corners in pixels; pass Compose"):
        augment(BOXES, flip, objects())
    coco = library.Compose([flip], bbox_params=library.BboxParams(format="coco"))
    with pytest.raises(OptionError, match="format='pascal_voc'"):
        augment(BOXES, coco, objects())
    with pytest.raises(OptionError, match=r"additional_targets=\{'target': 'image'\}"):
        augment(Translation(), library.Compose([flip]), IMAGE.permute(1, 2, 0).numpy())
    task = Video(class_names=NAMES, multi_label=False, frames=4)
    with pytest.raises(OptionError, match="albumentations takes images"):
        augment(task, flip, 0, tv_tensors.Video(IMAGE.expand(4, -1, -1, -1)))
