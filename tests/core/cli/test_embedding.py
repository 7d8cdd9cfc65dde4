"""The command ``embed`` writes a vector for each readable image."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

import visiongraft
from visiongraft.cli import main
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.tasks import requested_task
from visiongraft.model import TransferModel
from visiongraft.network import Network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    backbone = load_backbone("simple_cnn", None, in_channels=3, size=32)
    task = requested_task("classification", {"class_names": ["cat", "dog"]})
    folder = tmp_path_factory.mktemp("embedding") / "model"
    TransferModel(Network(backbone, task).eval()).save(folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for color in ("blue", "red"):
        Image.new("RGB", (40, 30), color).save(folder / f"{color}.png")
    (folder / "torn.png").write_bytes((folder / "red.png").read_bytes()[:40])
    return folder


def test_all_formats_hold_the_same_vectors(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("npz", "csv", "parquet"):
        assert main(["embed", model, str(photos), "--out", str(tmp_path / f"v.{suffix}")]) == 0
    assert "torn.png" in capsys.readouterr().out
    arrays = np.load(tmp_path / "v.npz", allow_pickle=False)
    expected = visiongraft.load(model).embed([photos / "blue.png", photos / "red.png"])
    np.testing.assert_array_equal(arrays["embeddings"], expected)
    assert [Path(name).name for name in arrays["names"]] == ["blue.png", "red.png"]
    rows = list(csv.DictReader((tmp_path / "v.csv").open()))
    table = parquet.read_table(tmp_path / "v.parquet").to_pylist()
    for i, vector in enumerate(expected):
        for row in (rows[i], table[i]):
            assert row["name"] == arrays["names"][i]
            np.testing.assert_allclose([float(row[f"e{k}"]) for k in range(len(vector))], vector)


def test_json_says_what_was_written(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "v.npz")
    assert main(["embed", model, str(photos / "red.png"), "--out", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["out"], found["embeddings"]) == (out, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "--out", "v.txt"], "suffix .npz, .csv, .parquet"),
        ([], "pass images, or --text"),
        (["a.png", "--text", "cat"], "pass images, or --text"),
    ],
)
def test_wrong_arguments_are_one_line(
    model: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", model, *arguments]) == 2
    assert words in capsys.readouterr().err
