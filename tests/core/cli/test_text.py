"""``visiongraft zero-shot`` makes models of texts, and tells how."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiongraft as vg
from visiongraft.cli import main


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colors")
    generator = np.random.default_rng(0)
    for color, name in enumerate(("red", "green")):
        (folder / name).mkdir()
        for i in range(6):
            image = generator.integers(0, 90, (32, 32, 3), dtype=np.uint8)
            image[..., color] += 150
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return folder


def words(colors: Path, out: Path) -> list[str]:
    options = "--backbone simple_cnn --weights none --size 32 --text wordllama --template a.{}"
    return ["zero-shot", "red", "green", "blue=blue;azure", *options.split(), *(
        "--seen-penalty", "0.2", "--data", str(colors), "--out", str(out)
    )]  # fmt: skip


def test_the_model_is_saved_and_explained(
    colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(colors, tmp_path / "model"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes without images"] == ["blue"]
    assert found["texts"]["blue"] == ["a.blue", "a.azure"]
    assert found["provenance"]["text: weights"] == "random"
    model = vg.load(tmp_path / "model")
    assert model.task.metadata()["class_names"] == ["red", "green", "blue"]
    assert main([*words(colors, tmp_path / "again")]) == 0
    assert "penalty on classes with images" in capsys.readouterr().out


def test_an_existing_folder_and_a_class_that_appears_twice_are_refused(
    colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(words(colors, tmp_path)) == 2
    assert "already exists" in capsys.readouterr().err
    given = words(colors, tmp_path / "new")
    assert main([*given[:2], "blue=x", *given[2:]]) == 2
    assert "class 'blue' appears twice" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_tip_adapter_adds_images_to_a_saved_model(
    colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(colors, tmp_path / "model")]) == 0
    out = tmp_path / "tip"
    assert main(["tip-adapter", str(tmp_path / "model"), str(colors), "--out", str(out)]) == 0
    assert "images added, alpha" in capsys.readouterr().out
    assert vg.load(out).facts["Tip-Adapter"]["images"] == 10
