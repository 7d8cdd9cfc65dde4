"""Train, evaluate and export, from files to the exported model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import visiongraft
from visiongraft.exporters.runtime import Predictor
from visiongraft.model import TransferModel
from visiongraft.plugins.classification.task import Classification

pytestmark = pytest.mark.slow

CLASS_NAMES = ("woman", "cat", "cup")  # not sorted, so that a label map made anew would differ
SHAPES = ("triangle", "disc", "square")
FAST: dict[str, Any] = {
    "task": "classification",
    "backbone": "simple_cnn",
    "weights": None,
    "schedule": "full(learning_rate=0.003, layer_decay=1.0)",
    "epochs": 12,
    "batch_size": 16,
    "workers": 0,
    "device": "cpu",
    "callbacks": (),
}


def photographs() -> dict[str, NDArray[np.uint8]]:
    return {
        "cat": skimage.data.chelsea(),
        "cup": skimage.data.coffee(),
        "woman": skimage.data.astronaut(),
    }


def crops(photo: NDArray[np.uint8], side: int, count: int, seed: int) -> Iterator[Image.Image]:
    generator = np.random.default_rng(seed)
    for _ in range(count):
        y, x = (int(generator.integers(length - side)) for length in photo.shape[:2])
        yield Image.fromarray(photo[y : y + side, x : x + side])


def write_crops(root: Path, *, train: int = 40, side: int = 80) -> Path:
    """Write a folder of crops with the splits train, val and test."""
    for label, photo in photographs().items():
        for seed, (part, count) in enumerate({"train": train, "val": 10, "test": 30}.items()):
            folder = root / part / label
            folder.mkdir(parents=True)
            for i, crop in enumerate(crops(photo, side, count, seed)):
                crop.save(folder / f"{i:02d}.png")
    return root


def write_shapes(root: Path) -> Path:
    """Write a table of cat images on which some of three shapes are pasted, or none."""
    root.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for i, crop in enumerate(crops(skimage.data.chelsea(), 48, 190, seed=0)):
        present = [name for name in SHAPES if generator.random() < 0.5]
        brush = ImageDraw.Draw(crop)
        for name in present:
            x, y = (int(v) for v in generator.integers(0, 30, 2))
            if name == "disc":
                brush.ellipse((x, y, x + 18, y + 18), fill="red")
            elif name == "square":
                brush.rectangle((x, y, x + 18, y + 18), fill="lime")
            else:
                brush.polygon([(x, y + 18), (x + 18, y + 18), (x + 9, y)], fill="blue")
        crop.save(root / f"{i:03d}.png")
        part = "train" if i < 130 else "val" if i < 150 else "test"
        rows.append([f"{i:03d}.png", "|".join(present), part])
    with open(root / "shapes.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "labels", "split"], *rows])
    return root / "shapes.csv"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crops(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="module")
def single(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    options = {"class_names": CLASS_NAMES, "augment": "light"}
    folder = tmp_path_factory.mktemp("runs") / "single"
    return visiongraft.fit(photos, task_options=options, size=32, out=folder, **FAST)


@pytest.fixture(scope="module")
def multi(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    options = {"class_names": SHAPES, "augment": "light"}
    folder = tmp_path_factory.mktemp("runs") / "multi"
    return visiongraft.fit(shapes, task_options=options, size=32, out=folder, **FAST)


@pytest.fixture(
    scope="module", params=["single", pytest.param("multi", marks=pytest.mark.exhaustive)]
)
def model(request: pytest.FixtureRequest) -> TransferModel:
    found: TransferModel = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def exported(model: TransferModel) -> Path:
    assert model.run_folder is not None
    path = model.run_folder / "model.onnx"
    model.export(path)
    return path


@pytest.fixture(scope="module")
def images(photos: Path, shapes: Path) -> list[Path]:
    return [*sorted((photos / "test").rglob("*.png"))[::6], *sorted(shapes.parent.glob("18*.png"))]


# ---- single-label ----


def test_test_crops_of_photographs_are_classified(single: TransferModel, photos: Path) -> None:
    results = single.evaluate(photos)
    assert results["images"] == 90
    assert results["accuracy"] > 0.9
    assert results["mean_average_precision"] > 0.9


@pytest.mark.exhaustive
def test_wrong_labels_are_learned_as_they_are(tmp_path: Path) -> None:
    # The planted fault: each photograph is labeled as another one, but not in the test part.
    root = write_crops(tmp_path / "photos", train=60, side=112)
    for part in ("train", "val"):
        for old, new in zip(CLASS_NAMES, [*CLASS_NAMES[1:], CLASS_NAMES[0]], strict=True):
            (root / part / old).rename(root / part / f"not {new}")
        for label in CLASS_NAMES:
            (root / part / f"not {label}").rename(root / part / label)
    assert visiongraft.fit(root, size=32, **FAST).evaluate(root)["accuracy"] < 0.1


def test_a_class_of_weight_0_is_never_learned() -> None:
    shades = zip((30, 130, 230), CLASS_NAMES, strict=True)
    data = [(np.full((16, 16, 3), shade, np.uint8), name) for shade, name in shades] * 16
    options = {"class_names": CLASS_NAMES, "class_weights": (1, 1, 0), "augment": "none"}
    model = visiongraft.fit(data, task_options=options, size=16, **{**FAST, "epochs": 6})
    rows = model.evaluate(data)["per_class"]
    assert rows["cup"]["recall"] == 0
    assert min(rows["woman"]["recall"], rows["cat"]["recall"]) > 0.6


@pytest.mark.exhaustive
def test_all_options_together_still_learn(photos: Path) -> None:
    options = {
        "hidden": 32,
        "dropout": 0.1,
        "label_smoothing": 0.1,
        "class_weights": "balanced",
        "augment": "light",
        "mixup": 0.2,
        "cutmix": 1.0,
    }
    settings = {**FAST, "epochs": 16, "learning_rate": 0.006}
    model = visiongraft.fit(photos, task_options=options, size=32, **settings)
    assert model.evaluate(photos)["accuracy"] > 0.75


def test_equal_runs_augment_mix_and_train_equally(tmp_path: Path) -> None:
    root = write_crops(tmp_path / "photos", train=8)
    options = {"augment": "strong", "mixup": 0.2, "cutmix": 1.0, "dropout": 0.2}
    weights = []
    for seed in (3, 3, 4):
        settings = {**FAST, "epochs": 1, "seed": seed}
        model = visiongraft.fit(root, task_options=options, size=32, **settings)
        weights.append(torch.cat([p.flatten() for p in model.network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("channels", "augment"),
    [
        (1, "light"),
        (4, "strong"),
        pytest.param(1, "strong", marks=pytest.mark.exhaustive),
        pytest.param(4, "light", marks=pytest.mark.exhaustive),
    ],
)
def test_images_with_1_and_4_channels_are_learned(channels: int, augment: str) -> None:
    data = []
    for label, photo in photographs().items():
        mode = {1: "L", 4: "RGBA"}[channels]
        for crop in crops(photo, 112, 8, seed=0):
            array = np.array(crop.convert(mode))
            data.append((array.reshape(112, 112, channels), label))
    settings = {**FAST, "epochs": 1, "in_channels": channels}
    model = visiongraft.fit(data, task_options={"augment": augment}, size=32, **settings)
    assert model.backbone_info.in_channels == channels
    assert len(model.predict([image for image, _ in data])) == 24
    assert 0 <= model.evaluate(data)["accuracy"] <= 1


# ---- multi-label ----


@pytest.mark.exhaustive  # one multi-label class is learned below every time
def test_pasted_shapes_are_found_on_test_images(multi: TransferModel, shapes: Path) -> None:
    results = multi.evaluate(shapes)
    assert results["images"] == 40
    assert results["mean_average_precision"] > 0.9
    assert results["exact_match"] > 0.4  # by chance, one in eight
    assert multi.facts["data"]["multi_label"] is True


def test_a_single_multi_label_class_is_learned() -> None:
    data = [
        (np.full((16, 16, 3), 40 + 150 * (i % 2), np.uint8), ["bright"] * (i % 2))
        for i in range(40)
    ]
    model = visiongraft.fit(data, size=16, **{**FAST, "epochs": 3})
    assert model.task.class_names == ("bright",)  # type: ignore[attr-defined]
    assert model.evaluate(data)["exact_match"] == 1
    dark, bright = model.predict([data[0][0], data[1][0]])
    assert (dark.labels, bright.labels) == ((), ("bright",))


# ---- a pretrained backbone ----


def tiles(part: int) -> list[tuple[NDArray[np.uint8], str]]:
    """Cut the photographs into squares that do not overlap, and return every fourth of them."""
    found = []
    for label, photo in photographs().items():
        corners = [(y, x) for y in range(0, 288, 48) for x in range(0, 432, 48)]
        for y, x in corners[part::4]:
            found.append((photo[y : y + 48, x : x + 48], label))
    return found


def test_a_linear_probe_on_imagenet_features_generalizes() -> None:
    model = visiongraft.fit(
        (tiles(0), tiles(1)),
        task="classification",
        task_options={"augment": "none"},
        backbone="bundled/efficientnet_lite0",
        schedule="linear_probe",
        size=64,
        epochs=5,
        batch_size=8,
        workers=0,
        device="cpu",
        callbacks=(),
    )
    assert model.evaluate(tiles(2))["accuracy"] > 0.9


# ---- saving, and going on from there ----


def test_a_loaded_model_predicts_and_evaluates_identically(
    model: TransferModel, images: list[Path], tmp_path: Path
) -> None:
    assert model.run_folder is not None
    model.save(tmp_path / "copy")
    expected = [asdict(p) for p in model.predict(images)]
    for folder in (model.run_folder, tmp_path / "copy"):
        loaded = visiongraft.load(folder)
        assert loaded.task == model.task
        assert [asdict(p) for p in loaded.predict(images)] == expected


def test_a_saved_model_is_the_backbone_of_another_training(
    single: TransferModel, shapes: Path
) -> None:
    assert single.run_folder is not None
    settings = {**FAST, "backbone": single.run_folder, "weights": "pretrained", "epochs": 3}
    settings["schedule"] = "linear_probe"
    after = visiongraft.fit(shapes, **settings)
    old, new = single.network.backbone.state_dict(), after.network.backbone.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert after.task.class_names == tuple(sorted(SHAPES))  # type: ignore[attr-defined]
    assert after.task.headline == "mean_average_precision"
    assert after.evaluate(shapes)["mean_average_precision"] > 0.6
    assert after.backbone_info.provenance["task"] == "classification"


def test_drawn_predictions_are_written(single: TransferModel, shapes: Path, tmp_path: Path) -> None:
    single.predict(sorted(shapes.parent.glob("00?.png")), save=tmp_path / "drawn")
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert len(drawn) == 10
    with Image.open(drawn[0]) as image:
        assert image.width == 192  # 48 pixels, enlarged
        assert image.height > image.width


# ---- class names ----


def test_the_class_names_are_the_same_at_every_stage(
    model: TransferModel, exported: Path, photos: Path, shapes: Path, images: list[Path]
) -> None:
    task = model.task
    assert isinstance(task, Classification)
    labels = list(SHAPES if task.multi_label else CLASS_NAMES)
    data = shapes if task.multi_label else photos
    assert model.run_folder is not None
    run = json.loads((model.run_folder / "config.json").read_text())
    saved = json.loads((model.run_folder / "model" / "config.json").read_text())
    predictor = Predictor(exported)
    certificate = json.loads(exported.with_name("model.onnx.certificate.json").read_text())
    stages: dict[str, Callable[[], Any]] = {
        "task": lambda: task.class_names,
        "settings": lambda: run["task_options"]["class_names"],
        "facts": lambda: model.facts["data"]["training images per class"],
        "metrics": lambda: model.facts["metrics"]["per_class"],
        "evaluation": lambda: model.evaluate(data)["per_class"],
        "prediction": lambda: model.predict(images[0])[0].probabilities,
        "saved": lambda: saved["task_options"]["class_names"],
        "loaded": lambda: visiongraft.load(model.run_folder).task.class_names,  # type: ignore
        "exported": lambda: predictor.metadata["task_metadata"]["class_names"],
        "options in the file": lambda: predictor.metadata["task_options"]["class_names"],
        "predictor": lambda: predictor.class_names,
        "prediction of the file": lambda: predictor.predict(images[0])[0].probabilities,
    }
    assert {name: list(find()) for name, find in stages.items()} == dict.fromkeys(stages, labels)
    assert model.network.head.output.out_features == len(labels)  # type: ignore
    assert certificate["headline"] == task.headline


def test_another_order_of_the_class_names_is_noticed(single: TransferModel, photos: Path) -> None:
    task = single.task
    try:
        single.network.task = replace(task, class_names=CLASS_NAMES[::-1])  # type: ignore[call-arg]
        assert single.evaluate(photos)["accuracy"] < 0.5
    finally:
        single.network.task = task


def test_the_exported_file_predicts_what_the_model_predicts(
    model: TransferModel, exported: Path, images: list[Path]
) -> None:
    ours, theirs = model.predict(images), Predictor(exported).predict(images)
    assert [type(p) for p in ours] == [type(p) for p in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        decision = "labels" if hasattr(mine, "labels") else "label"
        assert getattr(mine, decision) == getattr(other, decision)
