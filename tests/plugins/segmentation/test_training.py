"""Train, export and predict, from files to files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.cli import main
from visiongraft.data.decode import decode_file
from visiongraft.exporters.runtime import Predictor
from visiongraft.model import TransferModel
from visiongraft.training.evaluation import to_arrays

pytestmark = pytest.mark.slow

FURTHER = (
    pytest.mark.exhaustive
)  # a second training, of which the tests of maps and tiling have parts

CLASS_NAMES = ["ground", "disc", "square"]
FAST: dict[str, Any] = {
    "task": "segmentation",
    "backbone": "simple_cnn",
    "weights": None,
    "schedule": "full(learning_rate=0.005, layer_decay=1.0)",
    "epochs": 10,
    "size": 64,
    "batch_size": 10,
    "workers": 0,
    "device": "cpu",
    "callbacks": (),
}


@pytest.fixture(scope="module")
def model(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    settings = {**FAST, "epochs": 6, "out": tmp_path_factory.mktemp("runs") / "stretch"}
    return visiongraft.fit(shapes, task_options={"channels": 16}, **settings)


@pytest.fixture(scope="module")
def padded(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    folder = tmp_path_factory.mktemp("runs") / "pad"
    return visiongraft.fit(shapes, out=folder, resize="pad", **FAST)


@pytest.fixture(scope="module")
def exported(model: TransferModel) -> Path:
    assert model.run_folder is not None
    path = model.run_folder / "model.onnx"
    model.export(path)
    return path


@pytest.fixture(scope="module")
def exported_padded(padded: TransferModel) -> Path:
    assert padded.run_folder is not None
    path = padded.run_folder / "model.onnx"
    padded.export(path)
    return path


@pytest.fixture(scope="module")
def images(shapes: Path) -> list[Path]:
    return sorted((shapes / "images" / "test").iterdir())[:6]


# ---- learning ----


@pytest.mark.parametrize("name", ["model", pytest.param("padded", marks=FURTHER)])
def test_shapes_on_test_photographs_are_found(
    name: str, shapes: Path, request: pytest.FixtureRequest
) -> None:
    results = request.getfixturevalue(name).evaluate(shapes)
    assert results["images"] == 20
    assert results["mean_iou"] > 0.8 and results["mean_dice"] > results["mean_iou"]
    assert list(results["per_class"]) == CLASS_NAMES
    counted = sum(row["pixels"] for row in results["per_class"].values())
    assert counted == sum(map(sum, results["confusion_matrix"])) < 20 * 64 * 80


@pytest.mark.exhaustive
def test_shifted_masks_reduce_the_score(shapes: Path, tmp_path: Path) -> None:
    """The planted fault: masks of training images moved by a few pixels."""
    root = tmp_path / "moved"
    shutil.copytree(shapes, root)
    for split in ("train", "val"):
        for path in (root / "masks" / split).iterdir():
            with Image.open(path) as mask:
                moved = Image.fromarray(np.roll(np.asarray(mask), 8, 1))
            moved.save(path)
    # Without flips, which would average out the shift.
    model = visiongraft.fit(root, task_options={"augment": "none"}, **FAST)
    assert model.evaluate(shapes)["mean_iou"] < 0.7


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "options",
    [
        {"kind": "binary", "loss": "dice+focal"},
        {"kind": "multi_label", "loss": "lovasz+cross_entropy", "class_weights": "balanced"},
    ],
    ids=lambda options: options["kind"],
)
def test_other_kinds_of_masks_are_learned(
    options: dict[str, Any], shapes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    shutil.copytree(shapes / "images", root / "images")
    for path in (shapes / "masks").rglob("*.png"):
        with Image.open(path) as opened:
            mask = np.asarray(opened)
        for value, name in enumerate(CLASS_NAMES[1:], 1):
            if options["kind"] == "binary" and value == 2:
                continue
            folder = root / "masks" / ("." if options["kind"] == "binary" else name)
            target = folder / path.relative_to(shapes / "masks")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)).save(target)
    model = visiongraft.fit(root, task_options={"augment": "none", **options}, **FAST)
    assert model.evaluate(root)["mean_iou"] > 0.8
    assert model.task.kind == options["kind"]  # type: ignore[attr-defined]


@pytest.mark.exhaustive  # core/caching replays maps of such backbones
def test_a_frozen_pretrained_backbone_learns_with_feature_caching(
    shapes: Path, tmp_path: Path
) -> None:
    settings = {
        **FAST,
        "backbone": "bundled/efficientnet_lite0",
        "weights": "pretrained",
        "schedule": "linear_probe",
        "epochs": 8,
        "replay": True,
        "out": tmp_path / "run",
    }
    model = visiongraft.fit(shapes, task_options={"decoder": "fpn", "channels": 128}, **settings)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["replayed"] for line in lines)
    assert model.evaluate(shapes)["mean_iou"] > 0.7


# ---- class names ----


def test_the_class_names_survive_saving_and_export(
    model: TransferModel, exported: Path, shapes: Path, images: list[Path]
) -> None:
    assert model.run_folder is not None
    saved = json.loads((model.run_folder / "model" / "config.json").read_text())
    predictor = Predictor(exported)
    stages: dict[str, Callable[[], Any]] = {
        "task": lambda: model.task.class_names,  # type: ignore[attr-defined]
        "metrics": lambda: model.facts["metrics"]["per_class"],
        "evaluation": lambda: model.evaluate(shapes)["per_class"],
        "prediction": lambda: model.predict(images[0])[0].fractions,
        "saved": lambda: saved["task_options"]["class_names"],
        "loaded": lambda: visiongraft.load(model.run_folder).task.class_names,  # type: ignore
        "exported": lambda: predictor.metadata["task_metadata"]["class_names"],
        "predictor": lambda: predictor.class_names,
        "prediction of the file": lambda: predictor.predict(images[0])[0].fractions,
    }
    assert {name: list(find()) for name, find in stages.items()} == dict.fromkeys(
        stages, CLASS_NAMES
    )
    assert "pixels of void are ignored" in (model.run_folder / "run.log").read_text()


# ---- the exported file ----


@pytest.mark.parametrize("name", ["exported", pytest.param("exported_padded", marks=FURTHER)])
def test_the_exported_file_predicts_the_same_masks_at_every_size(
    name: str, request: pytest.FixtureRequest, images: list[Path]
) -> None:
    path: Path = request.getfixturevalue(name)
    model: TransferModel = request.getfixturevalue({"exported": "model"}.get(name, "padded"))
    predictor, graph = Predictor(path), model.inference_graph()
    photo = decode_file(images[1])
    large = np.tile(photo, (2, 3, 1))
    for image in (photo, photo[:37, :53], large[:101, :159], large):
        batch = np.stack([image, image[::-1]])
        with torch.inference_mode():
            reference = to_arrays(graph(torch.tensor(batch)))
        candidate = predictor.run(batch)
        assert candidate["labels"].shape == batch.shape[:3]
        assert candidate["labels"].dtype == np.uint8
        assert (candidate["labels"] == reference["labels"]).mean() >= 0.999
        found = model.task.export_support().compare(reference, candidate)
        assert found.mismatches == 0 and found.difference < 1e-4


@pytest.mark.parametrize("name", ["exported", pytest.param("exported_padded", marks=FURTHER)])
def test_the_exported_file_has_the_same_score(
    name: str,
    request: pytest.FixtureRequest,
    shapes: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path: Path = request.getfixturevalue(name)
    model: TransferModel = request.getfixturevalue({"exported": "model"}.get(name, "padded"))
    assert main(["evaluate", str(path), str(shapes), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["mean_iou"] == pytest.approx(model.evaluate(shapes)["mean_iou"], abs=5e-4)
    assert results["images"] == 20


@pytest.mark.exhaustive
def test_a_file_of_the_padded_model_takes_any_size(exported_padded: Path) -> None:
    predictor = Predictor(exported_padded)
    assert predictor.metadata["input"]["height"] is None
    assert not [w for w in predictor.metadata["certificate"]["warnings"] if "fixed" in w]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("resize", "fixed"),
    [("stretch", False), ("pad", True)],
)
def test_decoders_with_global_pooling_are_exported(
    resize: str, fixed: bool, shapes: Path, tmp_path: Path
) -> None:
    """UPerNet's pooling cannot be traced with dynamic sizes; the file then has a fixed size and a warning."""
    settings = {**FAST, "epochs": 1, "resize": resize}
    options = {"decoder": "upernet", "channels": 16}
    model = visiongraft.fit(shapes, task_options=options, **settings)
    certificate = model.export(tmp_path / "model.onnx")
    assert certificate.mismatches == 0
    assert any("fixed to 64x64" in line for line in certificate.warnings) == fixed
    assert certificate.metric_exported == pytest.approx(certificate.metric_torch, abs=5e-4)


# ---- predictions as files ----


@pytest.mark.parametrize("source", ["run", "file"])
def test_prediction_writes_masks_and_overlays(
    source: str,
    model: TransferModel,
    exported: Path,
    images: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = str(model.run_folder if source == "run" else exported)
    words = ["predict", where, *map(str, images), "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)["predictions"]
    assert answer == json.loads((tmp_path / "predictions.json").read_text())
    assert [one["image"] for one in answer] == list(map(str, images))
    assert sum(answer[0]["fractions"].values()) == pytest.approx(1)
    expected = model.predict(images)
    for i, (image, prediction) in enumerate(zip(images, expected, strict=True)):
        with Image.open(tmp_path / f"{i:05d}-{image.stem}.mask.png") as mask:
            assert (np.asarray(mask) == prediction.mask).mean() > 0.999
        overlay = tmp_path / f"{i:05d}-{image.stem}.jpg"
        assert overlay.is_file()


@pytest.mark.exhaustive
def test_tiles_of_a_large_image_reproduce_the_masks_of_the_whole(
    padded: TransferModel, images: list[Path]
) -> None:
    big = np.tile(decode_file(images[0]), (3, 4, 1))
    (whole,), (tiled,) = padded.predict(big), padded.predict(big, tile=96)
    assert tiled.mask.shape == big.shape[:2]
    assert (whole.mask == tiled.mask).mean() > 0.97


@pytest.mark.exhaustive  # as in classification
def test_a_saved_model_is_fine_tuned_on_other_classes(
    model: TransferModel, shapes: Path, tmp_path: Path
) -> None:
    root = tmp_path / "renamed"
    shutil.copytree(shapes, root)
    (root / "classes.txt").write_text("void\nring\nbox\nignore\n")
    settings = {**FAST, "backbone": model.run_folder, "weights": "pretrained", "epochs": 2}
    settings["schedule"] = "linear_probe"
    after = visiongraft.fit(root, **settings)
    assert after.task.class_names == ("ring", "box")  # type: ignore[attr-defined]
    assert after.evaluate(root)["mean_iou"] > 0.8


@pytest.mark.exhaustive  # tests/plugins/adapters exports merged models of another task
def test_an_adapter_trains_is_merged_and_exported(shapes: Path, tmp_path: Path) -> None:
    settings = {**FAST, "epochs": 2, "out": tmp_path / "run", "adapters": ["lora(rank=2)"]}
    adapted = visiongraft.fit(shapes, **settings)
    receipts = json.loads((tmp_path / "run" / "receipts.json").read_text())
    assert "backbone.stage2.dense.weight" in receipts[0]["frozen"]
    certificate = adapted.export(tmp_path / "model.onnx")
    assert certificate.difference < 1e-3
    plain = visiongraft.load(tmp_path / "run").network.state_dict()
    assert not any("lora" in name for name in plain)
