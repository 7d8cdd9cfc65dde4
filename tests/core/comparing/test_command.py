"""The command ``compare`` prints a table and sentences, or JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import visiongraft
from visiongraft.cli import main
from visiongraft.plugins.classification.task import Classification


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs on one dataset."""
    examples = Classification().examples()
    assert examples is not None
    folder: Path = tmp_path_factory.mktemp("comparing")
    data = examples.make_dataset(folder / "data", 24, 0)
    for name, schedule in (("a", "linear_probe"), ("b", "full")):
        visiongraft.fit(
            data, task="classification", backbone="simple_cnn", weights=None, size=16, epochs=1,
            schedule=schedule, out=folder / name, device="cpu", callbacks=(),
        )  # fmt: skip
    return [str(folder / name) for name in "ab"]


def test_the_validation_images_of_the_first_run_are_used(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs]) == 0
    out = capsys.readouterr().out
    assert "schedule.name" in out
    assert f"{runs[1]} against {runs[0]}: accuracy" in out
    assert "McNemar" in out


def test_json_has_every_value(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *runs, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in found["models"]] == runs
    assert found["settings"]["schedule.name"] == ["linear_probe", "full"]


def test_the_page_has_the_curves_of_all_runs_and_the_images_that_differ(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["compare", *runs, "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert f"page written to {page}" in capsys.readouterr().out
    assert "Loss on validation images" in text and "McNemar" in text
    (items,) = re.findall(r'id="items">(.*?)</script>', text)
    assert all(run in items for run in runs)


def test_models_of_other_tasks_are_refused_in_one_line(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", runs[0], str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_own_metrics_are_compared_with_paired_intervals(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--metric", "f1=MulticlassF1Score", "--metric", "MulticlassRecall(average=none)"]
    assert main(["compare", *runs, *options]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^f1 +0\.\d{4} \(0\.\d{4} to ", out, re.MULTILINE)
    assert re.search(r"^  f1 [+-]0\.\d{4} \(.* to .*\): (differs|cannot)", out, re.MULTILINE)
    data = json.loads((Path(runs[0]) / "config.json").read_text(encoding="utf-8"))["data"]
    own = {"metrics": "f1=MulticlassF1Score"}
    found = visiongraft.compare(runs, data=data, **own)
    values = [visiongraft.load(run).evaluate(data, **own)["f1"] for run in runs]
    assert [model.metrics["f1"] for model in found.models] == pytest.approx(values)
    assert found.against[0].differences["f1"].value == pytest.approx(values[1] - values[0])
    assert found.models[0].intervals["f1"].value == pytest.approx(values[0])


def test_metrics_that_runs_name_in_their_settings_are_compared(
    runs: list[str], tmp_path: Path
) -> None:
    config = json.loads((Path(runs[0]) / "config.json").read_text(encoding="utf-8"))
    named = visiongraft.fit(
        config["data"], task="classification", backbone="simple_cnn", weights=None, size=16,
        epochs=1, out=tmp_path / "run", device="cpu", callbacks=(),
        metrics=["f1=MulticlassF1Score"],
    )  # fmt: skip
    assert named.run_folder is not None
    found = visiongraft.compare([runs[0], named.run_folder])
    assert found.own == ("f1",) and "f1" in found.against[0].differences


def test_a_metric_that_does_not_fit_is_refused_before_anything_is_measured(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *runs, "--metric", "MeanSquaredErrr"]) != 0
    assert "torchmetrics has no metric 'MeanSquaredErrr'" in capsys.readouterr().err
