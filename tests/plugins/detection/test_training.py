"""Real training runs, from files to the exported model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw

import visiongraft
from visiongraft.certificate import Certificate
from visiongraft.exporters.runtime import Predictor
from visiongraft.model import TransferModel

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]  # test_task.py trains on fewer images

SHAPES = {"disc": "red", "square": "lime", "triangle": "blue"}
IDS = {"square": 40, "disc": 7, "triangle": 13}  # neither dense nor in the order of the names


def write_shapes(root: Path, split: str, count: int, seed: int) -> None:
    """Draw up to three colored shapes on crops of photographs of several sizes."""
    random = np.random.default_rng(seed)
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    (root / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for i in range(count):
        photo = photos[i % len(photos)]
        height, width = (int(n) for n in random.integers(90, 180, 2))
        y, x = (
            int(random.integers(0, n - m))
            for n, m in zip(photo.shape[:2], (height, width), strict=True)
        )
        image = Image.fromarray(photo[y : y + height, x : x + width])
        images.append({"id": i, "file_name": f"{i:03d}.png", "height": height, "width": width})
        for column in range(0 if i % 10 == 9 else 1 + i % 3):
            name = list(SHAPES)[int(random.integers(3))]
            third = width // (1 + i % 3)
            w = int(third * random.uniform(0.55, 0.95))
            h = int(height * random.uniform(0.3, 0.6))
            left = column * third + int(random.integers(0, third - w + 1))
            top = int(random.integers(0, height - h))
            draw(ImageDraw.Draw(image), name, (left, top, left + w - 1, top + h - 1))
            rows.append(
                {
                    "id": len(rows),
                    "image_id": i,
                    "category_id": IDS[name],
                    "bbox": [left, top, w, h],
                }
            )
        image.save(root / split / f"{i:03d}.png")
    categories = [{"id": key, "name": name} for name, key in IDS.items()]
    content = {"images": images, "annotations": rows, "categories": categories}
    (root / f"instances_{split}.json").write_text(json.dumps(content))


def draw(brush: ImageDraw.ImageDraw, name: str, box: tuple[int, int, int, int]) -> None:
    if name == "disc":
        brush.ellipse(box, fill=SHAPES[name])
    elif name == "square":
        brush.rectangle(box, fill=SHAPES[name])
    else:
        x1, y1, x2, y2 = box
        brush.polygon([(x1, y2), (x2, y2), ((x1 + x2) // 2, y1)], fill=SHAPES[name])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    for split, count, seed in (("train", 100, 0), ("val", 10, 1), ("test", 40, 2)):
        write_shapes(root, split, count, seed)
    return root


@pytest.fixture(scope="module")
def probe(shapes: Path) -> TransferModel:
    """Train a head on cached features, which takes a fraction of the time of the whole network."""
    return visiongraft.fit(
        shapes,
        task="detection",
        task_options={"head": "fcos", "width": 64},
        backbone="bundled/efficientnet_lite0",
        schedule="linear_probe(learning_rate=5e-3)",
        epochs=9,
        size=96,
        batch_size=8,
        replay=True,
        workers=0,
        device="cpu",
        callbacks=(),
    )


@pytest.fixture(scope="module")
def model(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    return visiongraft.fit(
        shapes,
        task="detection",
        backbone="bundled/efficientnet_lite0",
        schedule="full(learning_rate=2e-3)",
        epochs=10,
        size=128,
        batch_size=8,
        workers=0,
        device="cpu",
        callbacks=(),
        out=tmp_path_factory.mktemp("run") / "run",
    )


@pytest.fixture(scope="module")
def exported(
    model: TransferModel, shapes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Certificate]:
    file = tmp_path_factory.mktemp("onnx") / "shapes.onnx"
    return file, model.export(file, data=shapes)


def expect_shapes_found(model: TransferModel, shapes: Path) -> None:
    found = model.evaluate(shapes)
    assert found["images"] == 40
    assert found["AP50"] > 0.8 and found["mAP"] > 0.4
    assert set(found["per_class"]) == set(SHAPES)


def test_a_head_on_cached_features_finds_shapes(probe: TransferModel, shapes: Path) -> None:
    expect_shapes_found(probe, shapes)


def test_the_whole_network_finds_shapes(model: TransferModel, shapes: Path) -> None:
    expect_shapes_found(model, shapes)


def test_the_exported_file_has_the_same_map(exported: tuple[Path, Certificate]) -> None:
    _, certificate = exported
    assert certificate.headline == "mAP" and certificate.mismatches == 0
    assert certificate.metric_torch is not None and certificate.metric_torch > 0.4
    assert certificate.metric_exported == pytest.approx(certificate.metric_torch, abs=5e-4)
    assert {check.batch for check in certificate.comparisons} == {1, 3, 8}


@pytest.mark.parametrize("count", [1, 3])
def test_the_file_alone_detects_the_same_in_images_that_are_not_square(
    model: TransferModel, exported: tuple[Path, Certificate], count: int
) -> None:
    predictor = Predictor(exported[0])
    photo = skimage.data.coffee()
    images = [photo[40 * i : 40 * i + 200, :330].copy() for i in range(count)]
    for image in images:
        image[50:120, 60:150] = (255, 0, 0)
    for one, other in zip(predictor.predict(images), model.predict(images), strict=True):
        assert len(one.objects) == len(other.objects)
        for a, b in zip(one.objects, other.objects, strict=True):
            assert (a.label, a.score) == (b.label, pytest.approx(b.score, abs=1e-4))
            assert a.box == pytest.approx(b.box, abs=0.5)
        assert max(a.box[2] for a in one.objects) <= 330


def test_predictions_are_drawn_with_names(
    probe: TransferModel, shapes: Path, tmp_path: Path
) -> None:
    files = sorted((shapes / "test").glob("*.png"))[:3]
    found = probe.predict(files, save=tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").glob("*.jpg"))) == 3
    best = found[0].objects[0]
    assert best.label in SHAPES and best.score > 0.1


def test_a_random_backbone_does_not_reach_this(shapes: Path) -> None:
    model = visiongraft.fit(
        shapes,
        task="detection",
        backbone="bundled/efficientnet_lite0",
        weights=None,
        schedule="full(learning_rate=2e-3)",
        epochs=2,
        size=128,
        batch_size=8,
        workers=0,
        device="cpu",
        callbacks=(),
    )
    assert model.evaluate(shapes)["AP50"] < 0.5
