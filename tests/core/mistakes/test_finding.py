"""``find_mistakes``: planted wrong labels and copies are found, and what cannot be judged is said."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiongraft
from visiongraft.advice import cached
from visiongraft.errors import DataError, OptionError
from visiongraft.mistakes import finding, probing
from visiongraft.mistakes.duplicates import groups_of, near_pairs
from visiongraft.mistakes.report import COLUMNS, Mistakes

COLORS = {"blue": (40, 60, 180), "red": (180, 60, 40)}
SETTINGS = {"task": "classification", "backbone": "simple_cnn", "weights": None, "size": 32}
PLANTED = 6  # of 60
COPY = "red/copy.png"  # of an image of the other class


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write colored noise of two classes, some of it into the folder of the other class."""
    folder = tmp_path_factory.mktemp("mistakes") / "data"
    rng = np.random.default_rng(0)
    for i in range(60):
        own, other = ("blue", "red") if i % 2 else ("red", "blue")
        pixels = rng.normal(COLORS[own], 40, (40, 40, 3)).clip(0, 255).astype(np.uint8)
        label = other if i < PLANTED else own
        path = folder / "train" / label / f"{'wrong-' if i < PLANTED else ''}{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    nearly = np.asarray(Image.open(folder / "train/blue/11.png")).copy()
    nearly[0, 0] += 1
    Image.fromarray(nearly).save(folder / "train" / COPY)
    for label, color in COLORS.items():
        (folder / "val" / label).mkdir(parents=True)
        Image.new("RGB", (40, 40), color).save(folder / "val" / label / "plain.png")
    return folder


@pytest.fixture(scope="module")
def found(data: Path) -> Mistakes:
    return visiongraft.find_mistakes(data, **SETTINGS)


def test_most_planted_labels_are_among_the_first(found: Mistakes) -> None:
    first = found.labels[: round(0.15 * len(found.labels))]
    planted = [each for each in first if "wrong-" in each.image]
    assert len(planted) >= 0.7 * PLANTED
    assert all(each.label != each.suggested for each in planted)
    assert {each.image for each in planted} <= {each.image for each in found.wrong}


def test_images_of_both_splits_are_rated_once(found: Mistakes, data: Path) -> None:
    assert len({each.image for each in found.labels}) == len(found.labels) == 63
    assert sum(each.split == "validation" for each in found.labels) == 2
    assert [each.quality for each in found.labels] == sorted(each.quality for each in found.labels)


def test_a_copy_with_another_label_comes_first_among_near_duplicates(found: Mistakes) -> None:
    pair = found.near_duplicates[0]
    assert pair.contradicts and not pair.leaks
    assert {Path(name).name for name in pair.images} == {"11.png", "copy.png"}
    copy = next(each for each in found.labels if each.image.endswith(COPY))
    assert [Path(name).name for name in copy.near_duplicates] == ["11.png"]


def test_near_duplicates_are_never_in_different_folds() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(40, 8))
    labels = np.arange(40) % 2
    features[:20] = features[20:] + 1e-9  # each image twice, once with each label
    labels[:20] = 1 - labels[20:]
    alone = probing.judge(features, labels, np.arange(40), 4, 0).probabilities
    grouped = probing.judge(features, labels, groups_of(40, near_pairs(features)), 4, 0)
    own = np.arange(20)
    assert np.allclose(grouped.probabilities[own], grouped.probabilities[own + 20])
    assert not np.allclose(alone[own], alone[own + 20])  # its copy pulls towards the wrong label


def test_the_table_has_a_row_for_each_label(found: Mistakes) -> None:
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == len(found.labels) and tuple(rows[0]) == COLUMNS
    assert rows[0]["image"] == found.labels[0].image


def test_the_page_shows_the_images_and_escapes_names(data: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(data, tmp_path / "data")
    (copied / "train/blue/wrong-00.png").rename(copied / "train/blue/wrong-<b>.png")
    page = visiongraft.find_mistakes(copied, **SETTINGS).html()
    assert page.count("data:image/jpeg") >= PLANTED
    assert "<b>.png" not in page and "&lt;b&gt;.png" in page


def test_features_are_computed_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = visiongraft.find_mistakes(data, **SETTINGS)
    monkeypatch.setattr(cached, "embed", lambda *_: pytest.fail("computed again"))
    assert visiongraft.find_mistakes(data, **SETTINGS) == first


def test_a_run_is_looked_at_with_its_data_and_its_backbone_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    visiongraft.fit(
        data, schedule="full(learning_rate=0.01)", epochs=1, device="cpu", out=run, callbacks=(),
        **SETTINGS,
    )  # fmt: skip
    first = visiongraft.find_mistakes(data, device="cpu", **SETTINGS)
    assert visiongraft.find_mistakes(run) == first
    shutil.rmtree(run / "model")  # as before its end
    assert visiongraft.find_mistakes(run) == first


def test_a_class_with_a_single_image_is_left_out_and_named(data: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(data, tmp_path / "data")
    (copied / "train/green").mkdir()
    Image.new("RGB", (40, 40), "green").save(copied / "train/green/one.png")
    found = visiongraft.find_mistakes(copied, **SETTINGS)
    assert any("single image" in line and "green" in line for line in found.left_out)
    assert not any(each.label == "green" for each in found.labels)


def test_data_without_two_common_classes_is_refused(tmp_path: Path) -> None:
    for label, color in COLORS.items():
        for split in ("train", "val"):
            (tmp_path / split / label).mkdir(parents=True)
        Image.new("RGB", (40, 40), color).save(tmp_path / "train" / label / "one.png")
    Image.new("RGB", (40, 40), "white").save(tmp_path / "val/red/one.png")
    with pytest.raises(DataError, match="at least two classes of at least two images"):
        visiongraft.find_mistakes(tmp_path, **SETTINGS)


def test_settings_of_training_are_refused(data: Path) -> None:
    with pytest.raises(OptionError, match="epochs"):
        visiongraft.find_mistakes(data, epochs=3)


def test_a_task_without_classes_boxes_or_masks_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    for i in range(6):
        (folder / "train").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 40), (40 * i, 0, 0)).save(folder / "train" / f"{i}.png")
    with pytest.raises(OptionError, match="needs classes of images, boxes or masks"):
        visiongraft.find_mistakes(folder, **{**SETTINGS, "task": "translation"})


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Mistakes:
    """Images that are red or blue, and bright at the left or not; some lack a class, or have one too many."""
    folder = tmp_path_factory.mktemp("several")
    rng = np.random.default_rng(0)
    rows = ["path,labels"]
    for i in range(80):
        red, left = i % 2 == 0, i % 3 == 0
        pixels = rng.normal(COLORS["red" if red else "blue"], 30, (40, 40, 3))
        pixels[:, :16] += 110 if left else 0
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        labels = {"red" if red else "blue", *(["left"] if left else [])}
        if i < PLANTED:
            labels = labels ^ ({"red", "blue"} if i % 2 else {"left"})
        rows.append(f"{i}.png,{'|'.join(sorted(labels | {'image'}))}")
    (folder / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    settings = {**SETTINGS, "task_options": {"multi_label": True}, "validation": 0.2}
    return visiongraft.find_mistakes(folder / "table.csv", **settings)


def test_wrong_sets_of_classes_are_among_the_first(several: Mistakes) -> None:
    assert len(several.labels) == 80
    first = several.labels[: round(0.15 * 80)]
    planted = [each for each in first if int(Path(each.image).stem) < PLANTED]
    assert len(planted) >= 0.7 * PLANTED
    assert len([each for each in planted if each.likely_wrong]) >= 0.7 * PLANTED
    assert all(each.label != each.suggested for each in planted)
    assert {"red, left", "left, red", "red", "left"} & {each.suggested for each in planted}


def test_a_class_that_all_images_have_is_left_out_and_named(several: Mistakes) -> None:
    assert any("image" in line and "of nearly all" in line for line in several.left_out)
    assert not any("image" in each.label for each in several.labels)


def test_a_missing_library_is_named_before_the_data_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probing, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"visiongraft\[mistakes\]"):
        finding.find_mistakes("missing")
