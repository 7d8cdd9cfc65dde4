"""The benchmark of detection's defaults tabulates what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.benchmark_scripts import load_script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_script("detection_defaults", monkeypatch)


def test_the_table_has_a_row_of_each_candidate_that_was_trained_and_means_over_seeds(
    script: Any,
) -> None:
    found = {
        script.Cell("shapes", "ssdlite", seed, script.CHOSEN, 128, 10): {"mAP": score}
        for seed, score in enumerate((0.2, 0.3))
    }
    lines = script.table(found, ["ssdlite", "fcos"], ["shapes", "streets"]).splitlines()
    assert lines[0] == "| head | settings | shapes | streets |"
    assert lines[2:] == ["| ssdlite | chosen | 25.0 ± 5.0 | - |"]


def test_streets_have_a_box_around_each_part_of_a_mask_that_is_large_enough(
    script: Any, tmp_path: Path
) -> None:
    mask = np.zeros((80, 100), np.uint8)  # sky
    mask[10:40, 20:60] = 1
    mask[50:60, 20:60] = 1  # too low
    mask[45:75, 70:95] = 2
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "masks" / split / f"{split}.png")
        Image.new("RGB", (100, 80)).save(tmp_path / "images" / split / f"{split}.jpg")
    (tmp_path / "classes.txt").write_text("sky\ncar\npedestrian\nbicyclist\n")
    out = tmp_path / "out"
    out.mkdir()
    content = json.loads(script.street_boxes(tmp_path, out).read_text())
    assert [image["file_name"] for image in content["images"]] == ["train.jpg", "val.jpg"]
    found = [(row["category_id"], row["bbox"]) for row in content["annotations"]]
    assert found == 2 * [(0, [20, 10, 40, 30]), (1, [70, 45, 25, 30])]
