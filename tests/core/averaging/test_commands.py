"""The commands ``soup`` and ``wise-ft`` write ordinary models and say what they averaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import visiongraft
from visiongraft.cli import main
from visiongraft.plugins.classification.task import Classification


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and the runs ``start`` and ``tuned``."""
    examples = Classification().examples()
    assert examples is not None
    folder: Path = tmp_path_factory.mktemp("averaging")
    data = examples.make_dataset(folder / "data", 24, 0)
    settings: dict[str, Any] = {"schedule": "full", "epochs": 1, "device": "cpu", "callbacks": ()}
    visiongraft.fit(
        data, task="classification", backbone="simple_cnn", weights=None, size=16,
        out=folder / "start", **settings,
    )  # fmt: skip
    visiongraft.fit(data, start=folder / "start", out=folder / "tuned", **settings)
    return folder


def answer(capsys: pytest.CaptureFixture[str], *words: Any) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("greedy", [(), ("--greedy",)])
def test_soup_measures_on_the_validation_images_of_the_run_and_saves(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], greedy: tuple[str, ...]
) -> None:
    models = [folder / "start", folder / "tuned"]
    found = answer(capsys, "soup", *models, "--out", tmp_path / "soup", *greedy)
    assert found["averaging"]["method"] == f"{'greedy' if greedy else 'uniform'} soup"
    model = visiongraft.load(tmp_path / "soup")
    assert model.facts["metrics"] == found["metrics"]
    assert model.facts["data"]["split"] == "validation"
    assert model.facts["data"]["images_seen_in_training"] == 0


def test_wise_ft_finds_what_the_run_continued_with(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--alpha", 0.3, "--alpha", 0.6]
    found = answer(capsys, "wise-ft", folder / "tuned", "--out", tmp_path / "model", *words)
    assert found["averaging"]["start"] == str(folder / "start")
    assert found["averaging"]["alpha"] in (0.3, 0.6)
    assert found["averaging"]["accuracy by alpha"].keys() == {"0.3", "0.6"}


def test_the_table_shows_what_was_averaged(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wise-ft", str(folder / "tuned"), "--out", str(tmp_path / "model")]) == 0
    out = capsys.readouterr().out
    assert "WiSE-FT" in out and "accuracy" in out
    assert out.endswith(f"model saved to {tmp_path / 'model'}\n")


def test_a_folder_that_exists_is_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["wise-ft", str(folder / "tuned"), "--out", str(folder / "start")]) == 2
    assert "already exists; choose another folder" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_an_average_is_exported_with_a_certificate(folder: Path, tmp_path: Path) -> None:
    model = visiongraft.wise_ft(folder / "tuned")
    certificate = model.export(tmp_path / "model.onnx")
    assert certificate.metric_torch == certificate.metric_exported
