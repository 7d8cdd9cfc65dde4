"""Planted faults in annotated masks are found by what a network says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft as vg
from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.mistakes.out_of_fold import _check_classes
from visiongraft.plugins.segmentation.task import Segmentation
from visiongraft.training.resuming.inputs import RunInputs

NAMES = ("sky", "road", "car")


def bound(**options: Any) -> Segmentation:
    return Segmentation(**{"class_names": NAMES, "kind": "multi_class", **options})


def mask_of(index: int, height: int = 40) -> np.ndarray[Any, Any]:
    mask = np.zeros((height, 60), np.uint8)
    mask[height // 2 :] = 1
    mask[height // 2 :, 5 + index : 20 + index] = 2
    return mask


def results(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What a good network says of a mask."""
    probabilities = np.full((1, 3, *mask.shape), 0.02, np.float32)
    np.put_along_axis(probabilities, mask[None, None].astype(np.int64), 0.96, axis=1)
    return {"labels": mask[None], "probabilities": probabilities}


def test_masks_with_faults_come_first_with_what_is_wrong() -> None:
    task = bound()
    judge = task.label_judge()
    assert judge is not None and judge.task.probabilities
    for i in range(12):
        right = mask_of(i, 40 + i % 3)  # of several sizes
        given = np.where(right == 2, 1, right) if i == 4 else right  # the car is missing
        judge.update(results(right), task.collate([given]))
    found = judge.compute()
    assert np.flatnonzero(found.wrong).tolist() == [4] == [int(found.quality.argmin())]
    assert found.remarks[4].endswith("of the pixels are road, or car?")
    assert found.remarks[4].startswith("12%") or found.remarks[4].startswith("13%")
    assert found.remarks[5] == ""


def test_ignored_pixels_are_right() -> None:
    task = bound()
    judge = task.label_judge()
    assert judge is not None
    for i in range(6):
        right = mask_of(i)
        judge.update(results(right), task.collate([np.full_like(right, 255) if i == 2 else right]))
    assert not judge.compute().wrong.any()


def test_masks_of_several_labels_are_not_judged() -> None:
    assert Segmentation(class_names=NAMES, kind="multi_label").label_judge() is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on bright squares, with two wrong masks among those of validation."""
    folder = tmp_path_factory.mktemp("masks")
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 10)):
        for kind in ("images", "masks"):
            (folder / "data" / kind / split).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 60, (32, 32, 3))
            mask = np.zeros((32, 32), np.uint8)
            top, left = generator.integers(2, 14, 2)
            place = (slice(top, top + 14), slice(left, left + 14))
            pixels[place] += 180
            mask[place] = 1
            if split == "val" and i in (2, 7):
                mask = 1 - mask
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"data/images/{split}/{i}.png")
            Image.fromarray(mask).save(folder / f"data/masks/{split}/{i}.png")
    (folder / "data" / "classes.txt").write_text("dark\nbright\n", encoding="utf-8")
    vg.fit(
        folder / "data", task="segmentation", backbone="simple_cnn", weights=None, size=32, epochs=6, batch_size=4,
        schedule="full(learning_rate=1e-2, batch_norm='train')", out=folder / "run", device="cpu", callbacks=(),
    )  # fmt: skip
    return folder / "run"


def test_the_wrong_masks_of_a_run_come_first(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["find-mistakes", str(run), "--html", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 10 and found["likely_wrong"] >= 2
    assert {Path(each["image"]).stem for each in found["labels"][:2]} == {"2", "7"}
    assert all(each["split"] == "validation" for each in found["labels"])
    assert "training images were not looked at" in found["left_out"][0]
    assert page.read_text(encoding="utf-8").count("data:image/jpeg") == found["likely_wrong"]


def test_settings_beside_a_run_are_refused(run: Path) -> None:
    with pytest.raises(OptionError, match="leave out backbone"):
        vg.find_mistakes(run, backbone="simple_cnn")


def test_training_images_are_judged_by_models_that_have_not_seen_them(run: Path) -> None:
    found = vg.find_mistakes(run, folds=2)
    assert len({each.image for each in found.labels}) == len(found.labels) == 26
    assert sum(each.split == "training" for each in found.labels) == 16
    assert {Path(each.image).stem for each in found.labels[:2]} == {"2", "7"}
    assert not any("not looked at" in line for line in found.left_out)
    used = [set(RunInputs.read(fold).samples["training"]) for fold in folds_of(run)]  # type: ignore[union-attr]
    assert len(used) == 2 and not used[0] & used[1] and len(used[0] | used[1]) == 16


def test_folds_are_trained_once_and_again_for_other_labels(run: Path) -> None:
    first = vg.find_mistakes(run, folds=2)
    before = {fold: (fold / "metrics.jsonl").stat().st_mtime_ns for fold in folds_of(run)}
    assert vg.find_mistakes(run, folds=2) == first
    assert {f: (f / "metrics.jsonl").stat().st_mtime_ns for f in folds_of(run)} == before
    mask = run.parent / "data/masks/train/3.png"
    original = mask.read_bytes()
    Image.fromarray(1 - np.asarray(Image.open(mask))).save(mask)
    found = vg.find_mistakes(run, folds=2)
    mask.write_bytes(original)
    assert Path(found.labels[0].image).stem in {"2", "3", "7"}
    assert len(folds_of(run)) == 4


def test_more_folds_than_images_are_refused(run: Path) -> None:
    with pytest.raises(OptionError, match="has 16 different training images"):
        vg.find_mistakes(run, folds=17)


def test_a_fold_without_a_class_is_refused_with_what_to_do() -> None:
    whole, part = (SimpleNamespace(task=bound(class_names=names)) for names in (NAMES, NAMES[:2]))
    with pytest.raises(OptionError, match=r"there is no car; .*class_names"):
        _check_classes(whole, part, 1)  # type: ignore[arg-type]


def folds_of(run: Path) -> list[Path]:
    return sorted((run / "folds").iterdir())


def test_data_without_a_trained_model_are_refused_with_what_to_do(run: Path) -> None:
    with pytest.raises(OptionError, match="train one with fit and out=RUN"):
        vg.find_mistakes(run.parent / "data", task="segmentation")
