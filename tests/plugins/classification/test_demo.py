"""Run the whole demo on a few small images."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visiongraft
from visiongraft.errors import OptionError, PluginError
from visiongraft.exporters.runtime import Predictor
from visiongraft.plugins.classification import demo

FILES = [
    "curve.png",
    "fine-tuned",
    "images.csv",
    "predictions.png",
    "probe",
    "report.json",
    "textile.onnx",
    "textile.onnx.certificate.json",
]
IMAGES = {"train": 10, "val": 3, "test": 4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The whole demo with a small network, run once; tests that change the folder take a copy."""
    out = tmp_path_factory.mktemp("demo") / "made" / "here"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "IMAGES", IMAGES)
        small = {"backbone": "timm/test_resnet", "weights": None, "size": 64}
        patch.setattr(demo, "COMMON", {**demo.COMMON, **small, "workers": 0, "device": "cpu"})
        patch.setattr(demo, "PROBE", {**demo.PROBE, "epochs": 2})
        fine_tuning = {"schedule": "milestones(at={1: 'stage4'})", "epochs": 3}
        patch.setattr(demo, "FINE_TUNING", {**demo.FINE_TUNING, **fine_tuning})
        report = demo.run(out)
    return out, report


@pytest.fixture
def stopped_after_the_table(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Run the demo into a folder; it ends where training refuses its batch size."""
    monkeypatch.setattr(demo, "IMAGES", IMAGES)
    monkeypatch.setattr(demo, "COMMON", {**demo.COMMON, "batch_size": 0})

    def run(out: Path) -> None:
        with pytest.raises(OptionError, match="batch_size=0"):
            demo.run(out)

    return run


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "images.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- the whole way ----


@pytest.mark.slow
def test_the_demo_writes_exactly_the_listed_files(finished: Any) -> None:
    out, report = finished
    assert sorted(path.name for path in out.iterdir()) == FILES == sorted(demo.OUTPUT_NAMES)
    assert json.loads((out / "report.json").read_text()) == report
    for named in ("fine-tuned/model", "textile.onnx", "curve.png", "predictions.png"):
        assert named in report["summary"][4]
        assert (out / named).exists()


@pytest.mark.slow
def test_the_report_contains_the_measured_values(finished: Any) -> None:
    out, report = finished
    table = out / "images.csv"
    assert report["images"] == {"train": 30, "val": 9, "test": 12}
    for run, name in [("probe", "linear_probe"), ("fine-tuned", "fine_tuned")]:
        model = visiongraft.load(out / run)
        assert model.evaluate(table)["accuracy"] == report[f"accuracy_{name}"]
    certificate = json.loads((out / "textile.onnx.certificate.json").read_text())
    assert certificate["metric_torch"] == certificate["metric_exported"]
    assert report["difference_onnx"] < 1e-3
    assert report["mismatches_onnx"] == 0
    assert report["accuracy_onnx"] == report["accuracy_fine_tuned"]


@pytest.mark.slow
def test_the_accuracy_of_the_file_is_that_of_its_predictions(finished: Any) -> None:
    out, report = finished
    validation = [row for row in rows_of(out) if row["split"] == "test"]
    predicted = Predictor(out / "textile.onnx").predict([row["path"] for row in validation])
    right = [p.label == row["label"] for p, row in zip(predicted, validation, strict=True)]
    assert report["accuracy_onnx"] == np.mean(right)
    assert len(right) == 12


@pytest.mark.slow
def test_the_summary_is_readable(finished: Any) -> None:
    _, report = finished
    first, probe, tuned, onnx, _, took = report["summary"]
    assert first == "accuracy on 12 test images:"
    assert f"{report['accuracy_linear_probe']:.3f}" in probe
    assert f"{report['accuracy_fine_tuned']:.3f}" in tuned
    assert f"{report['accuracy_onnx']:.3f}" in onnx and "0 changed predictions" in onnx
    assert re.fullmatch(r"took \d+ min \d+ s", took)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["curve.png", "predictions.png"])
def test_the_plots_are_not_blank(finished: Any, name: str) -> None:
    with Image.open(finished[0] / name) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


@pytest.mark.slow
def test_fine_tuning_starts_with_the_head_and_the_probe_uses_cached_features(finished: Any) -> None:
    out, _ = finished
    runs = {}
    for run in ("probe", "fine-tuned"):
        lines = (out / run / "metrics.jsonl").read_text().splitlines()
        runs[run] = [json.loads(line) for line in lines]
    assert [record["trainable"] for record in runs["probe"]] == ["head", "head"]
    assert all(record["replayed"] for record in runs["probe"])
    assert [r["trainable"] for r in runs["fine-tuned"]] == ["head", "stage4", "stage4"]


# ---- which images ----


def test_the_installed_demo_is_this_one() -> None:
    (point,) = entry_points(group="visiongraft.demos", name="classification")
    assert point.load() is demo.run


def test_every_class_is_split_as_specified_without_overlap(
    tmp_path: Path, stopped_after_the_table: Callable[[Path], None]
) -> None:
    stopped_after_the_table(tmp_path)
    rows = rows_of(tmp_path)
    counts = Counter((row["label"], row["split"]) for row in rows)
    assert counts == {
        (label, split): n for label in demo.CLASS_NAMES for split, n in IMAGES.items()
    }
    assert len({row["path"] for row in rows}) == len(rows)
    assert all(Path(row["path"]).is_file() for row in rows)
    assert all(Path(row["path"]).parent.name == row["label"] for row in rows)


def test_the_images_of_a_class_are_evenly_spaced(
    tmp_path: Path, stopped_after_the_table: Callable[[Path], None]
) -> None:
    stopped_after_the_table(tmp_path)
    chosen = [Path(row["path"]) for row in rows_of(tmp_path) if row["label"] == "local"]
    files = sorted(chosen[0].parent.iterdir())
    gaps = np.diff([files.index(file) for file in chosen] + [len(files)])
    assert files[0] == chosen[0]
    assert max(gaps) - min(gaps) <= 1


def test_there_are_images_enough_for_the_real_demo(tmp_path: Path) -> None:
    validation = demo._write_manifest(tmp_path / "images.csv", demo._find_images())
    rows = rows_of(tmp_path)
    assert len({row["path"] for row in rows}) == len(rows) == 3 * (180 + 40 + 100)
    assert [(Path(r["path"]), r["label"]) for r in rows if r["split"] == "test"] == validation


COUNTS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 60), min_size=1)


@given(COUNTS)
def test_splits_alternate_in_proportion(counts: dict[str, int]) -> None:
    splits = demo._interleave(counts)
    assert Counter(splits) == counts
    for cut in range(len(splits) + 1):
        for split, count in counts.items():
            due = count * cut / len(splits)
            assert abs(splits[:cut].count(split) - due) <= len(counts)


def test_the_same_images_are_chosen_each_time(
    tmp_path: Path, stopped_after_the_table: Callable[[Path], None]
) -> None:
    tables = []
    for _ in range(2):
        stopped_after_the_table(tmp_path / "demo")
        tables.append((tmp_path / "demo" / "images.csv").read_bytes())
    assert tables[0] == tables[1]


def test_missing_images_raise_an_error_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "conformal_clip_data", None)
    out = tmp_path / "demo"
    with pytest.raises(PluginError, match=r'not installed; pip install "visiongraft\[demo\]"'):
        demo.run(out)
    assert not out.exists()


# ---- the folder ----


def test_an_empty_folder_is_used(
    tmp_path: Path, stopped_after_the_table: Callable[[Path], None]
) -> None:
    stopped_after_the_table(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["images.csv"]


@pytest.mark.slow
def test_an_earlier_demo_is_replaced(
    finished: Any, tmp_path: Path, stopped_after_the_table: Callable[[Path], None]
) -> None:
    out = tmp_path / "demo"
    shutil.copytree(finished[0], out)
    stopped_after_the_table(out)
    assert [path.name for path in out.iterdir()] == ["images.csv"]
    assert len(rows_of(out)) == 3 * sum(IMAGES.values())


def test_a_demo_that_was_stopped_is_replaced(
    tmp_path: Path, stopped_after_the_table: Callable[[Path], None]
) -> None:
    stopped_after_the_table(tmp_path)
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "run.log").touch()
    stopped_after_the_table(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["images.csv"]


OWN_TABLE = "path,label,split\na.png,cat,train\nb.png,dog,test\n"


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": "years of work"},
        {"images.csv": OWN_TABLE},
        {"images.csv": OWN_TABLE, "report.json": "{}"},
        {"images.csv": ""},
        {"images.csv": "\xff\xfe\xff"},
        {"report.json": "{}"},
        {"probe/thesis.txt": "years of work"},
    ],
    ids=["foreign", "own table", "own names", "empty table", "no text", "no table", "own folder"],
)
def test_a_folder_with_other_files_is_not_modified(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="latin-1")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(
        OptionError, match="contains files that are not from the demo; choose another"
    ):
        demo.run(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_demo_with_added_files_is_not_modified(
    tmp_path: Path, stopped_after_the_table: Callable[[Path], None]
) -> None:
    stopped_after_the_table(tmp_path)
    (tmp_path / "notes.txt").write_text("years of work")
    with pytest.raises(OptionError, match="contains files that are not from the demo"):
        demo.run(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "years of work"


def test_a_file_as_output_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("years of work")
    with pytest.raises(OptionError, match="contains files that are not from the demo"):
        demo.run(tmp_path / "demo")
    assert (tmp_path / "demo").read_text() == "years of work"
