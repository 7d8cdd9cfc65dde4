"""Linear probes tell which attributes the layers of a model hold, and which they do not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiongraft as vg
from visiongraft.cli import main
from visiongraft.errors import DataError, OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.video.task import Video
from visiongraft.seeds import seeded

COUNT = 40


@pytest.fixture(scope="module")
def model() -> vg.TransferModel:
    with seeded(0, "model"):
        backbone = load_backbone("simple_cnn", weights=None, size=16)
        task = Classification(class_names=("a", "b"), multi_label=False)
        return vg.TransferModel(vg.Network(backbone, task).eval())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark images, with a coin that nothing in the image tells, and some odd columns."""
    folder = tmp_path_factory.mktemp("attributes")
    generator = np.random.default_rng(0)
    rows = [["image", "light", "coin", "number", "same", "sometimes"]]
    for i in range(COUNT):
        light, coin = ["dark", "bright"][i % 2], ["heads", "tails"][int(generator.integers(2))]
        pixels = generator.integers(0, 60, (16, 16, 3)) + 150 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        rows.append([f"{i}.png", light, coin, str(i), "x", light if i < 10 else ""])
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "table.csv"


@pytest.fixture(scope="module")
def found(model: vg.TransferModel, table: Path) -> vg.ProbedLayers:
    return vg.probe_layers(model, table)


def test_every_layer_is_probed_from_the_input_to_the_output(found: vg.ProbedLayers) -> None:
    layers = [row.layer for row in found.rows if row.attribute == "light"]
    assert layers == ["map 1, stride 2", "map 2, stride 4", "embedding"]


def test_what_is_in_the_images_is_told_apart_and_what_is_not_is_not(
    found: vg.ProbedLayers,
) -> None:
    for row in found.rows:
        assert row.low <= row.accuracy <= row.high
        if row.attribute == "light":
            assert row.accuracy == 1.0 and row.low > row.baseline == 0.5
        if row.attribute == "coin":
            assert row.low < row.baseline
    lines = "\n".join(found.statements())
    assert "light: best in" in lines
    assert "coin: nowhere better than the most frequent value" in lines


def test_an_empty_cell_leaves_an_image_out(found: vg.ProbedLayers) -> None:
    counts = {row.attribute: (row.images, row.values) for row in found.rows}
    assert counts == {"light": (COUNT, 2), "coin": (COUNT, 2), "sometimes": (10, 2)}


def test_what_cannot_be_probed_is_named(found: vg.ProbedLayers) -> None:
    assert [line.split(" is left out")[0] for line in found.left_out] == ["number", "same"]


def test_the_command_writes_a_table_and_a_plot(
    model: vg.TransferModel, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    given = [
        "probe-layers",
        str(tmp_path / "model"),
        str(table),
        "--csv",
        str(tmp_path / "a.csv"),
    ]
    assert main([*given, "--plot", str(tmp_path / "a.png"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["layer"] for row in written] == [row["layer"] for row in rows]
    assert Image.open(tmp_path / "a.png").width > 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\n0.png\n1.png\n", "no column beside image"),
        ("image,a\n0.png,x\n1.png,x\n", "no attribute can be probed"),
        ("image,a\nnone.png,x\nno.png,y\n", "none of its images can be read"),
        ("image,a\n,x\n1.png,y\n", "row 2: image is empty"),
        ("name,a\n0.png,x\n", "column"),
    ],
)
def test_a_table_that_tells_nothing_is_refused(
    model: vg.TransferModel, table: Path, text: str, message: str
) -> None:
    path = table.with_name("other.csv")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        vg.probe_layers(model, path)


def test_a_path_that_cannot_be_written_is_refused_before_anything_is_computed(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe-layers", "no-model", str(table), "--csv", "a.txt"]) == 2
    assert "--csv a.txt is not a path of a file with the suffix .csv" in capsys.readouterr().err


def test_clips_are_refused(table: Path) -> None:
    task = Video(class_names=("a", "b"), multi_label=False)
    network = vg.Network(load_backbone("simple_cnn", weights=None, size=16), task)
    with pytest.raises(OptionError, match="not images"):
        vg.probe_layers(vg.TransferModel(network), table)
