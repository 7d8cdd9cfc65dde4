from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

from visiongraft.errors import DataError
from visiongraft.plugins.segmentation.formats.masks import (
    IGNORED,
    UNKNOWN,
    MaskReader,
    ignored_id,
    load_values,
)

READER = MaskReader(2, (0, 1, IGNORED))
VALUES = np.array([[0, 1, 2], [1, 1, 0]], np.uint8)
IDS = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
COLORS = ((128, 64, 128), (0, 0, 0), (9, 200, 7))


@pytest.mark.parametrize(
    "raw",
    [
        VALUES,
        VALUES.astype(np.int64),
        VALUES.astype(np.float32),
        VALUES[None],
        VALUES[..., None],
        torch.tensor(VALUES),
        tv_tensors.Mask(VALUES),
        Image.fromarray(VALUES),
        Image.fromarray(np.stack([VALUES] * 3, -1)),
        Image.fromarray(VALUES.astype(np.uint16)),
        Image.fromarray(VALUES.astype(np.int32)),
    ],
    ids=lambda raw: (
        f"{type(raw).__name__} "
        f"{raw.mode if isinstance(getattr(raw, 'mode', None), str) else tuple(raw.shape)}"
    ),
)
def test_masks_of_every_type_become_the_same_ids(raw: Any) -> None:
    ids = READER.read(raw, "a.jpg")
    assert ids.dtype == np.uint8
    assert ids.tolist() == IDS.tolist()


def test_palette_images_are_read_by_index(tmp_path: Path) -> None:
    mask = Image.fromarray(VALUES).convert("L")
    mask.putpalette([9, 9, 9, 1, 1, 1, 7, 7, 7])
    assert mask.mode == "P"
    mask.save(tmp_path / "m.png")
    assert READER.read(tmp_path / "m.png", "a.jpg").tolist() == IDS.tolist()


def test_one_bit_masks_are_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(VALUES[:, :2] > 0).save(tmp_path / "m.png")
    assert READER.read(tmp_path / "m.png", "a.jpg").tolist() == [[0, 1], [1, 1]]
    assert READER.read(VALUES > 0, "a.jpg").tolist() == [[0, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize("palette", [False, True])
def test_colors_become_indices_of_the_color_map(palette: bool, tmp_path: Path) -> None:
    positions = np.array([[0, 1, 2], [2, 0, 1]], np.uint8)
    if palette:
        mask = Image.fromarray(positions)
        mask.putpalette([v for color in COLORS for v in color])
    else:
        mask = Image.fromarray(np.array(COLORS, np.uint8)[positions])
    mask.save(tmp_path / "m.png")
    reader = MaskReader(3, (0, 1, 2), COLORS)
    assert reader.read(tmp_path / "m.png", "a.jpg").tolist() == positions.tolist()


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=40, unique=True))
def test_any_color_map_is_inverted_exactly(colors: list[tuple[int, int, int]]) -> None:
    positions = np.random.default_rng(0).integers(0, len(colors), (5, 7))
    image = Image.fromarray(np.array(colors, np.uint8)[positions])
    assert load_values(image, "a", colors).tolist() == positions.tolist()


@pytest.mark.parametrize(
    ("raw", "colors", "message"),
    [
        (
            VALUES + 3,
            (),
            r"a.jpg, mask: contains values that are not classes: 3, 4, 5; expected 0, 1",
        ),
        (VALUES.astype(np.int64) - 1, (), "not classes: -1"),
        (VALUES.astype(np.int64) + 1000, (), "not classes: 1000, 1001, 1002"),
        (VALUES + 0.5, (), "integers, not fractional float64"),
        (np.zeros((2, 2, 2, 2)), (), "must have the shape"),
        (np.zeros((0, 4), np.uint8), (), r"must have the shape .*, not \(0, 4\)"),
        (Path("nowhere.png"), (), "a.jpg: has no mask; nowhere.png does not exist"),
        (None, (), "not NoneType"),
        ([1, 2], (), "not list"),
        (Image.new("RGB", (2, 2), (1, 2, 3)), (), "is a color image; define its colors"),
        (Image.new("RGB", (2, 2), (1, 2, 3)), COLORS, r"not classes: \(1, 2, 3\); add them"),
        (Image.new("CMYK", (2, 2)), (), "not Pillow's mode CMYK"),
        (Image.new("F", (2, 2)), (), "not Pillow's mode F"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
)
def test_an_invalid_mask_raises_a_one_line_error(raw: Any, colors: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        MaskReader(2, (0, 1, IGNORED), colors).read(raw, "a.jpg")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_named_with_its_image(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"nothing like an image")
    with pytest.raises(DataError, match=r"m.png \(mask of a.jpg\): is damaged"):
        READER.read(tmp_path / "m.png", "a.jpg")


def test_a_gap_in_the_values_stays_unknown() -> None:
    reader = MaskReader(1, (0, *[UNKNOWN] * 254, IGNORED))
    assert reader.read(np.array([[0, 255]], np.uint8), "a").tolist() == [[0, 255]]
    with pytest.raises(DataError, match="not classes: 7; expected 0, 255"):
        reader.read(np.array([[0, 7]], np.uint8), "a")


def test_more_than_255_classes_use_int32(tmp_path: Path) -> None:
    values = np.array([[0, 299, 400]], np.uint16)
    Image.fromarray(values).save(tmp_path / "m.png")
    reader = MaskReader(300, (*range(300), *[UNKNOWN] * 100, IGNORED))
    ids = reader.read(tmp_path / "m.png", "a")
    assert ids.dtype == np.int32
    assert ids.tolist() == [[0, 299, ignored_id(300)]] == [[0, 299, 65535]]


def test_masks_per_class_are_stacked() -> None:
    reader = MaskReader(2, (0, *[UNKNOWN] * 254, 1), multi_label=True)
    layers = [np.array([[0, 255]], np.uint8), np.array([[255, 255]], np.uint8)]
    for raw in (layers, tuple(layers), np.stack(layers)):
        assert reader.read(raw, "a").tolist() == [[[0, 1]], [[1, 1]]]
    with pytest.raises(DataError, match="a: has 1 masks for 2 classes"):
        reader.read(layers[:1], "a")
    with pytest.raises(DataError, match="different sizes: 1x2, 2x2"):
        reader.read([layers[0], np.zeros((2, 2), np.uint8)], "a")
    with pytest.raises(DataError, match="one mask per class"):
        reader.read(layers[0], "a")


def test_a_used_reader_can_be_pickled() -> None:
    READER.read(VALUES, "a")
    again = pickle.loads(pickle.dumps(READER))
    assert again == READER and again.read(VALUES, "a").tolist() == IDS.tolist()


def test_damaged_pixels_are_an_error_and_not_black(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.array(COLORS, np.uint8)[VALUES]).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0x40  # in the compressed pixels
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"mask\.png"):
        load_values(path, "image", COLORS)
