"""A model learns from pairs, and its exported file makes the same images without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft
from tests.plugins.translation.conftest import WriteImages
from visiongraft.errors import DataError
from visiongraft.lookup.exported import open_exported
from visiongraft.model import TransferModel
from visiongraft.plugins.translation.example import write_example
from visiongraft.plugins.translation.task import Translation


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> TransferModel:
    data = write_example(tmp_path_factory.mktemp("pairs"), 20, seed=0)
    task = Translation(channels=8)
    return visiongraft.fit(data, task=task, epochs=1, schedule="full", **settings)


@pytest.mark.parametrize("resize", ["stretch", pytest.param("pad", marks=pytest.mark.exhaustive)])
def test_an_exported_file_makes_images_of_any_size_without_pytorch(
    tmp_path: Path, settings: dict[str, Any], resize: str, write_images: WriteImages
) -> None:
    data = write_example(tmp_path / "pairs", 10, seed=0)
    trained = visiongraft.fit(
        data, task=Translation(channels=8), epochs=1, schedule="full", resize=resize, **settings
    )
    certificate = trained.export(tmp_path / "model.onnx")
    assert certificate.mismatches == 0
    images = write_images({"a.png": (23, 50), "b.png": (40, 64)})
    out = tmp_path / "out"
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from visiongraft.exporters.runtime import Predictor\n"
        f"Predictor({str(tmp_path / 'model.onnx')!r}).predict({str(images)!r}, save={str(out)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    for name, size in (("00000-a", (23, 50)), ("00001-b", (40, 64))):
        made = np.asarray(Image.open(out / f"{name}.png"))
        (expected,) = trained.predict([images / f"{name[6:]}.png"])
        assert made.shape == (*size, 3)
        assert np.abs(made.astype(int) - expected.image).max() <= 1
        assert Image.open(out / f"{name}.jpg").size == (2 * size[1], size[0])


def test_the_command_writes_the_images(
    model: TransferModel, tmp_path: Path, write_images: WriteImages
) -> None:
    from visiongraft.cli import main

    model.save(tmp_path / "model")
    images = write_images({"a.png": (23, 50)})
    command = ["predict", str(tmp_path / "model"), str(images), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert Image.open(tmp_path / "out" / "00000-a.png").size == (50, 23)
    (row,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (row["height"], row["width"]) == (23, 50)


def test_a_loaded_model_keeps_its_direction(tmp_path: Path, settings: dict[str, Any]) -> None:
    data = write_example(tmp_path / "pairs", 10, seed=0, reverse=True)
    task = Translation(channels=8, direction="b_to_a", residual=True)
    trained = visiongraft.fit(data, task=task, epochs=1, schedule="full", **settings)
    trained.save(tmp_path / "model")
    loaded = visiongraft.load(tmp_path / "model")
    assert loaded.task == trained.task
    assert loaded.evaluate(data)["ssim"] == pytest.approx(trained.evaluate(data)["ssim"])


def test_pairs_of_two_sizes_are_refused_in_one_line(
    write_images: WriteImages, settings: dict[str, Any]
) -> None:
    sizes = {f"{side}/{i}.png": (8, 8 + (side == "B") * i) for side in "AB" for i in range(4)}
    with pytest.raises(DataError, match=r"3 .*3\.png: has 8x11 pixels, but its image has 8x8") as e:
        visiongraft.fit(write_images(sizes), task="translation", **settings)
    assert "\n" not in str(e.value)


@pytest.mark.exhaustive
def test_a_file_of_torch_export_makes_the_same_images(model: TransferModel, tmp_path: Path) -> None:
    certificate = model.export(tmp_path / "model.pt2")
    assert certificate.mismatches == 0
    image = np.random.default_rng(0).integers(0, 256, (23, 50, 3), dtype=np.uint8)
    (made,) = open_exported(tmp_path / "model.pt2").predict([image])
    (expected,) = model.predict([image])
    assert np.abs(made.image.astype(int) - expected.image).max() <= 1
