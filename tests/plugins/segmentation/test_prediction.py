from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.cli.output import to_json
from visiongraft.errors import ArtifactError
from visiongraft.plugins.segmentation.drawing import draw_overlay
from visiongraft.plugins.segmentation.prediction import Segmented, class_colors, predictions

NAMES = ["sky", "road", "traffic sign"]
MASK = np.array([[0, 1, 1, 1], [2, 1, 1, 1]], np.uint8)
META = {"class_names": NAMES, "kind": "multi_class"}
MULTI = {"class_names": ["leaf", "rust / rot"], "kind": "multi_label"}
LAYERS = np.array([[[0, 1, 1], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]]], np.uint8)


def one(mask: np.ndarray = MASK, metadata: dict[str, Any] = META) -> Segmented:
    (found,) = predictions({"labels": mask[None]}, metadata)
    return found


def test_fractions_and_the_largest_class_are_named() -> None:
    found = one()
    assert found.fractions == {"sky": 1 / 8, "road": 6 / 8, "traffic sign": 1 / 8}
    assert (found.largest, found.height, found.width) == ("road", 2, 4)
    assert found.class_names == tuple(NAMES)
    assert found.mask.tolist() == MASK.tolist() and found.probabilities is None


def test_the_line_names_classes_by_the_part_that_they_take() -> None:
    assert one().summary() == "road 75%, sky 12%, traffic sign 12%"
    speck = np.zeros((40, 40), np.uint8)
    speck[0, 0] = 1
    assert one(speck).summary() == "sky 100%, road <1%"
    assert one(LAYERS * 0, MULTI).summary() == "no class"


def test_a_prediction_is_small_valid_json_whatever_its_size() -> None:
    found = one(np.zeros((2000, 3000), np.uint8))
    text = json.dumps(asdict(found))
    assert len(text) < 200
    assert (
        json.loads(text)
        == to_json(found)
        == {
            "height": 2000,
            "width": 3000,
            "largest": "sky",
            "fractions": {"sky": 1.0, "road": 0.0, "traffic sign": 0.0},
        }
    )


def test_masks_are_encoded_as_class_ids() -> None:
    ((ending, content),) = one().files().items()
    assert ending == "mask.png"
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == MASK.tolist()
        assert np.array(image.convert("RGB"))[0, 0].tolist() == class_colors(3)[0].tolist()


def test_many_classes_are_encoded_with_16_bits() -> None:
    names = [str(i) for i in range(300)]
    mask = np.array([[0, 299, 256]], np.int32)
    found = one(mask, {"class_names": names, "kind": "multi_class"})
    with Image.open(io.BytesIO(found.files()["mask.png"])) as image:
        assert np.asarray(image).tolist() == mask.tolist()
    assert draw_overlay(Image.new("RGB", (3, 1)), found).size[0] >= 240


def test_multi_label_masks_are_one_image_per_class() -> None:
    found = one(LAYERS, MULTI)
    assert found.fractions == {"leaf": 0.5, "rust / rot": 0.0} and found.largest == "leaf"
    files = found.files()
    assert list(files) == ["mask-0-leaf.png", "mask-1-rust_rot.png"]
    with Image.open(io.BytesIO(files["mask-0-leaf.png"])) as image:
        assert np.asarray(image).tolist() == (LAYERS[0] * 255).tolist()
    assert one(LAYERS * 0, MULTI).largest == ""


@pytest.mark.parametrize(
    ("mask", "metadata", "message"),
    [
        (MASK + 1, META, "returns class id 3 for 3 classes"),
        (MASK[0], META, r"returns masks of shape \(1, 4\) for 3 classes"),
        (LAYERS, META, r"returns masks of shape \(1, 2, 2, 3\) for 3 classes"),
        (LAYERS[:1], MULTI, r"returns masks of shape \(1, 1, 2, 3\) for 2 classes"),
        (LAYERS * 2, MULTI, "returns class id 2"),
    ],
    ids=str,
)
def test_arrays_that_do_not_match_the_class_names_raise(
    mask: np.ndarray, metadata: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        one(mask, metadata)


def test_colors_differ_from_class_to_class() -> None:
    colors = class_colors(40).astype(int)
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(40, dtype=int)
    assert apart.min() > 10 and apart[np.arange(11), np.arange(1, 12)].min() > 100
    assert class_colors(0).shape == (0, 3)


def test_predictions_do_not_import_torch() -> None:
    code = (
        "import sys, visiongraft.plugins.segmentation.prediction\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- drawing ----


def test_an_overlay_colors_each_pixel_by_its_class() -> None:
    image = Image.new("RGB", (4, 2), (100, 100, 100))
    drawn = np.asarray(draw_overlay(image, one())).astype(int)
    factor = drawn.shape[1] // 4
    middles = drawn[factor // 2 : 2 * factor : factor, factor // 2 :: factor]
    expected = (class_colors(3)[MASK].astype(int) + 100) // 2
    assert np.abs(middles - expected).max() <= 1


def test_the_background_is_not_colored() -> None:
    image = Image.new("RGB", (4, 2), (100, 100, 100))
    found = one(metadata={**META, "class_names": ["Background", "road", "sign"]})
    drawn = np.asarray(draw_overlay(image, found))
    assert drawn[10, 10].tolist() == [100, 100, 100] != drawn[10, 70].tolist()


def test_the_legend_lists_only_predicted_classes() -> None:
    image = Image.new("RGB", (320, 200))
    both = one(np.repeat(np.repeat(MASK, 100, 0), 80, 1))
    empty = one(LAYERS.repeat(100, 1).repeat(107, 2)[:, :200, :320] * 0, MULTI)
    drawn, bare = draw_overlay(image, both), draw_overlay(image, empty)
    assert drawn.height > bare.height >= 200
    used = {tuple(c) for c in np.asarray(drawn)[205:].reshape(-1, 3).tolist()}
    assert {tuple(c) for c in class_colors(3).tolist()} <= used


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_any_mode_are_drawn_on(mode: str) -> None:
    drawn = draw_overlay(Image.new(mode, (4, 2)), one())
    assert drawn.mode == "RGB" and drawn.width == 240
