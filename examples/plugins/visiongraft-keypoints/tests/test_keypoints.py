"""Trains on kites drawn on photographs; the validation kites are on other photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from skimage import data as photographs
from torchvision.tv_tensors import Image
from visiongraft_keypoints.data import PARTS, Target, draw_kites, read_coco
from visiongraft_keypoints.prediction import Located, draw_points
from visiongraft_keypoints.task import Augment, Keypoints, PointLoss, PointMetrics

import visiongraft
from visiongraft.errors import DataError, OptionError
from visiongraft.exporters.runtime import Predictor
from visiongraft.testing import TASK_CHECKS, TaskTrial

SETTINGS = {
    "backbone": "timm/test_resnet",
    "weights": None,
    "size": 64,
    "batch_size": 16,
    "device": "cpu",
    "callbacks": (),
}
TRAINING = "full(learning_rate=0.003, layer_decay=1.0, batch_norm='train')"


def cut_outs(photo: np.ndarray, count: int, side: int = 112) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    corners = [[int(random.integers(0, n - side)) for n in photo.shape[:2]] for _ in range(count)]
    return [photo[top : top + side, left : left + side] for top, left in corners]


@pytest.fixture(scope="module")
def kites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kites")
    cat, cup = photographs.chelsea(), photographs.coffee()
    draw_kites(folder, 240, 0, cut_outs(cat, 30) + cut_outs(cup, 30))
    return draw_kites(folder, 60, 1, cut_outs(photographs.astronaut(), 60), "validation")


@pytest.fixture(scope="module")
def model(kites: Path) -> visiongraft.TransferModel:
    return visiongraft.fit(kites, task="keypoints", schedule=TRAINING, epochs=12, **SETTINGS)


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial(Keypoints())


@pytest.fixture
def target() -> Target:
    return Target(("tip", "tail"), ((0.75, 0.5), None), (80, 100))


@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
def test_it_does_what_visiongraft_asks_of_a_task(check, trial: TaskTrial) -> None:
    check(trial)


def test_it_learns_to_find_the_points(model: visiongraft.TransferModel, kites: Path) -> None:
    results = model.evaluate(kites)
    assert results["right"] >= 0.95
    assert results["error"] <= 0.04


def test_a_network_that_has_not_learned_does_not_find_them(kites: Path) -> None:
    schedule = "full(learning_rate=1e-9)"
    model = visiongraft.fit(kites, task="keypoints", schedule=schedule, epochs=1, **SETTINGS)
    assert model.evaluate(kites)["right"] <= 0.3


def test_the_exported_file_finds_the_same_points_without_the_model(
    model: visiongraft.TransferModel, kites: Path, tmp_path: Path
) -> None:
    certificate = model.export(tmp_path / "kites.onnx")
    assert certificate.mismatches == 0
    assert certificate.metric_exported == certificate.metric_torch >= 0.95
    images = sorted(kites.glob("validation-*.png"))[:9]
    from_file = Predictor(tmp_path / "kites.onnx").predict(images)
    for ours, theirs in zip(from_file, model.predict(images), strict=True):
        assert isinstance(ours, Located)
        for name, point in theirs.points.items():
            found = ours.points[name]
            assert found == point if None in (found, point) else found == pytest.approx(point, 1e-3)


def test_a_saved_model_finds_the_same_points(
    model: visiongraft.TransferModel, kites: Path, tmp_path: Path
) -> None:
    model.save(tmp_path / "saved")
    assert visiongraft.load(tmp_path / "saved").evaluate(kites) == model.evaluate(kites)


def test_predictions_are_drawn_where_they_are(target: Target) -> None:
    located = Located({"tip": (60.0, 20.0), "tail": None}, {"tip": 0.9, "tail": 0.1})
    blank = Pillow.new("RGB", (100, 80))
    changed = np.argwhere(np.any(np.asarray(draw_points(blank, located)) != 0, axis=2))
    assert np.abs(changed - (20, 60)).min(axis=0).max() <= 3


@pytest.mark.parametrize("seed", range(10))
def test_augmentation_moves_the_points_with_the_image(seed: int) -> None:
    torch.manual_seed(seed)
    pixels = torch.zeros(3, 80, 100, dtype=torch.uint8)
    pixels[:, 34:38, 48:52] = 255
    target = Target(("spot",), ((0.5, 0.45),), (80, 100))
    image, moved = Augment((64, 64))(Image(pixels), target)
    assert image.shape == (3, 64, 64)
    row, column = divmod(int(image.sum(0).flatten().argmax()), 64)
    assert moved.points[0] == pytest.approx(((column + 0.5) / 64, (row + 0.5) / 64), abs=0.06)
    assert moved.size == (64, 64)


def test_points_that_leave_the_image_are_hidden() -> None:
    target = Target(("corner",), ((0.001, 0.001),), (64, 64))
    pixels = Image(torch.zeros(3, 64, 64, dtype=torch.uint8))
    torch.manual_seed(0)
    moved = [Augment((64, 64))(pixels, target)[1].points[0] for _ in range(50)]
    assert None in moved
    assert all(0 <= fraction <= 1 for point in moved if point for fraction in point)


def test_hidden_points_cost_only_by_being_looked_for(target: Target) -> None:
    batch = Keypoints(names=target.names).collate([target])
    seen = torch.tensor([[9.0, -9.0]])
    near = {"points": torch.tensor([[[0.75, 0.5], [0.1, 0.9]]]), "seen": seen}
    far = {"points": torch.tensor([[[0.25, 0.5], [0.1, 0.9]]]), "seen": seen}
    assert float(PointLoss()(near, batch)["position"]) == 0
    assert float(PointLoss()(far, batch)["position"]) > 0
    assert float(PointLoss()(near, batch)["visible"]) < 0.01


def test_the_metric_counts_near_points_and_hidden_ones(target: Target) -> None:
    task = Keypoints(names=target.names, radius=0.05)
    batch = task.collate([target, target])
    points = np.array([[[79.0, 40.0], [0, 0]], [[81.0, 40.0], [0, 0]]])  # 4 and 6 of 100 pixels off
    metrics = PointMetrics(task.radius)
    metrics.update({"points": points, "found": np.array([[1, 0], [1, 1]])}, batch)
    results = metrics.compute()
    assert results == {"right": 0.5, "error": pytest.approx(0.05)}


def test_a_crop_is_refused(kites: Path) -> None:
    with pytest.raises(OptionError, match="resize='crop'"):
        visiongraft.fit(kites, task="keypoints", resize="crop", epochs=1, **SETTINGS)


def test_other_points_than_the_trained_ones_are_refused(kites: Path) -> None:
    with pytest.raises(DataError, match="other points than nose"):
        Keypoints(names=("nose",)).read_evaluation(kites)


def test_without_a_validation_part_some_images_are_split_off(tmp_path: Path) -> None:
    splits = Keypoints().read(draw_kites(tmp_path, 20, 0), validation=0.25)
    assert (len(splits.train), len(splits.validation)) == (15, 5)


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.json"):
        Keypoints().read(tmp_path)


GOOD = {
    "categories": [{"keypoints": ["tip", "tail"]}],
    "images": [{"file_name": "a.png", "id": 1, "width": 100, "height": 80}],
    "annotations": [{"image_id": 1, "keypoints": [75, 40, 2, 0, 0, 0]}],
}


def test_pixels_become_shares_and_unmarked_points_are_hidden(
    tmp_path: Path, target: Target
) -> None:
    (tmp_path / PARTS["train"]).write_text(json.dumps(GOOD))
    samples = read_coco(tmp_path / "train.json")
    assert (samples.targets, samples.paths) == ([target], [tmp_path / "a.png"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": []}, "no COCO keypoints"),
        ({"images": []}, "it takes images"),
        ({"images": [{"file_name": "a.png"}]}, "no COCO keypoints"),
        ({"annotations": GOOD["annotations"] * 2}, "one object or none"),
        ({"annotations": [{"image_id": 1, "keypoints": [1, 2]}]}, "a.png has 2 numbers"),
    ],
)
def test_a_damaged_file_is_refused_in_words(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "train.json").write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(DataError, match=message):
        Keypoints().read(tmp_path)
