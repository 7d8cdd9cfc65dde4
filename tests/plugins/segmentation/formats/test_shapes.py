"""Masks drawn from the shapes of LabelMe and CVAT."""

from __future__ import annotations

import base64
import io
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from visiongraft.data.annotations.shapes import Ellipse, Polygon, Region, Shape
from visiongraft.data.check import check_samples
from visiongraft.data.samples import Splits
from visiongraft.errors import DataError
from visiongraft.plugins.segmentation.data import MaskedSamples, read_evaluation, read_splits
from visiongraft.plugins.segmentation.formats.regions import rasterize

HEIGHT, WIDTH = 12, 16
SQUARE = [[2, 3], [8, 3], [8, 9], [2, 9]]
RIGHT = [[6, 3], [12, 3], [12, 9], [6, 9]]  # overlaps the right third of SQUARE


def write_image(path: Path, exif: Image.Exif | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(abs(hash(str(path)))).integers(
        0, 255, (HEIGHT, WIDTH, 3), np.uint8
    )
    Image.fromarray(pixels).save(path, **({"exif": exif} if exif else {}))


def write_text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def labelme(*shapes: dict[str, Any], height: int | None = HEIGHT) -> str:
    content = {
        "shapes": list(shapes),
        "imagePath": "x.png",
        "imageHeight": height,
        "imageWidth": WIDTH,
    }
    return json.dumps(content)


def shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def write_labelme(root: Path, *shapes: dict[str, Any], count: int = 4) -> Path:
    for i in range(count):
        write_image(root / f"{i}.png")
        write_text(root / f"{i}.json", labelme(*shapes))
    return root


def cvat(*shapes: str, labels: tuple[str, ...] = (), count: int = 4) -> str:
    images = "".join(
        f'<image id="{i}" name="{i}.png" width="{WIDTH}" height="{HEIGHT}">{"".join(shapes)}</image>'
        for i in range(count)
    )
    listed = "".join(f"<label><name>{name}</name></label>" for name in labels)
    meta = f"<meta><task><labels>{listed}</labels></task></meta>"
    return f"<annotations>{meta}{images}</annotations>"


def polygon(label: str, points: Any, **more: Any) -> str:
    pairs = ";".join(f"{x},{y}" for x, y in points)
    written = " ".join(f'{name}="{value}"' for name, value in more.items())
    return f'<polygon label="{label}" points="{pairs}" {written}/>'


def write_cvat(root: Path, *shapes: str, labels: tuple[str, ...] = (), count: int = 4) -> Path:
    for i in range(count):
        write_image(root / "images" / f"{i}.png")
    write_text(root / "annotations.xml", cvat(*shapes, labels=labels, count=count))
    return root


def rectangle(x1: int, y1: int, x2: int, y2: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y1:y2, x1:x2] = True
    return mask


LEFT_AREA, RIGHT_AREA = rectangle(2, 3, 8, 9), rectangle(6, 3, 12, 9)


def train(root: Path, **options: Any) -> MaskedSamples:
    found = read_splits(root, **options).train
    assert isinstance(found, MaskedSamples)
    return found


# ---- overlaps, order and background ----


def test_later_shapes_of_labelme_lie_above_earlier_ones(tmp_path: Path) -> None:
    both = shape("cat", SQUARE), shape("dog", RIGHT)
    found = train(write_labelme(tmp_path / "a", *both))
    assert found.class_names == ("background", "cat", "dog")
    expected = np.where(RIGHT_AREA, 2, np.where(LEFT_AREA, 1, 0))
    assert found.target(0).dtype == np.uint8 and (found.target(0) == expected).all()
    other = train(write_labelme(tmp_path / "b", *reversed(both)))
    assert (other.target(0) == np.where(LEFT_AREA, 1, np.where(RIGHT_AREA, 2, 0))).all()


@pytest.mark.parametrize(("orders", "above"), [((0, 0), 2), ((0, 1), 2), ((1, 0), 1), ((5, -3), 1)])
def test_shapes_of_cvat_with_a_higher_z_order_lie_above(
    tmp_path: Path, orders: tuple[int, int], above: int
) -> None:
    shapes = polygon("cat", SQUARE, z_order=orders[0]), polygon("dog", RIGHT, z_order=orders[1])
    mask = train(write_cvat(tmp_path, *shapes)).target(0)
    assert set(mask[LEFT_AREA & RIGHT_AREA].tolist()) == {above}
    assert set(mask[LEFT_AREA & ~RIGHT_AREA].tolist()) == {1}


def test_classes_of_cvat_have_the_order_of_its_labels_after_background(tmp_path: Path) -> None:
    root = write_cvat(tmp_path, polygon("cat", SQUARE), labels=("dog", "Background", "cat"))
    found = train(root)
    assert found.class_names == ("background", "dog", "cat")
    assert (found.target(0) == np.where(LEFT_AREA, 2, 0)).all()


@pytest.mark.parametrize("name", ["background", "_background_", "Background"])
def test_a_shape_labeled_as_background_erases_what_is_below(tmp_path: Path, name: str) -> None:
    found = train(write_labelme(tmp_path, shape("cat", SQUARE), shape(name, RIGHT)))
    assert found.class_names == ("background", "cat")
    assert (found.target(0) == (LEFT_AREA & ~RIGHT_AREA)).all()


def test_pixels_that_labelme_ignores_count_nowhere(tmp_path: Path) -> None:
    root = write_labelme(tmp_path, shape("cat", SQUARE), shape("__ignore__", RIGHT))
    for kind in (None, "binary"):
        found = train(root, kind=kind)
        assert found.class_names == ("background", "cat")
        assert (found.target(0) == np.where(RIGHT_AREA, 255, np.where(LEFT_AREA, 1, 0))).all()


def test_more_classes_than_a_byte_holds_keep_their_ids(tmp_path: Path) -> None:
    labels = tuple(f"c{i:03d}" for i in range(300))
    mask = train(write_cvat(tmp_path, polygon("c299", SQUARE), labels=labels)).target(0)
    assert mask.dtype == np.int32 and set(mask[LEFT_AREA].tolist()) == {300}


def test_evaluation_matches_classes_by_name(tmp_path: Path) -> None:
    root = write_labelme(tmp_path, shape("cat", SQUARE))
    found = read_evaluation(root, ("cat", "background", "dog"), "multi_class").samples
    assert (found.target(0) == np.where(LEFT_AREA, 0, 1)).all()
    with pytest.raises(DataError, match="'cat' is not in the label map"):
        read_evaluation(root, ("background", "dog"), "multi_class")


# ---- regions ----


def png(mask: NDArray[np.bool_]) -> str:
    content = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


PART = np.arange(3 * 5).reshape(3, 5) % 4 == 1  # runs: 1, 1, 3, 1, 3, 1, 3, 1, 1
RUNS = "1, 1, 3, 1, 3, 1, 3, 1, 1"


def whole_part() -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[4:7, 2:7] = PART
    return mask


def test_masks_are_placed_in_the_image(tmp_path: Path) -> None:
    drawn = shape("cat", [[2, 4], [6, 6]], "mask", mask=png(PART))  # first and last pixel
    runs = f'<mask label="cat" left="2" top="4" width="5" height="3" rle="{RUNS}"/>'
    for root in (write_labelme(tmp_path / "a", drawn), write_cvat(tmp_path / "b", runs)):
        assert (train(root).target(0) == whole_part()).all()


def test_masks_are_cut_off_at_the_edges_of_the_image(tmp_path: Path) -> None:
    corners = ((-2, -1), (14, 11))
    runs = [
        f'<mask label="cat" left="{x}" top="{y}" width="5" height="3" rle="0, 15"/>'
        for x, y in corners
    ]
    expected = rectangle(0, 0, 3, 2) | rectangle(14, 11, 16, 12)
    assert (train(write_cvat(tmp_path, *runs)).target(0) == expected).all()


def contains(region: Region, degrees: float, x: float, y: float) -> bool:
    """Check whether a region contains a point: crossings of a ray, or the equation of an ellipse."""
    if isinstance(region, Ellipse):
        (cx, cy), (rx, ry), angle = region.center, region.radii, math.radians(-degrees)
        dx, dy = x - cx, y - cy
        u, v = (
            dx * math.cos(angle) - dy * math.sin(angle),
            dx * math.sin(angle) + dy * math.cos(angle),
        )
        return (u / rx) ** 2 + (v / ry) ** 2 < 1
    assert isinstance(region, Polygon)
    inside = False
    for (x1, y1), (x2, y2) in zip(
        region.points, (*region.points[1:], region.points[0]), strict=True
    ):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
            inside = not inside
    return inside


def drawn(region: Region, degrees: float = 0.0) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    top, left, inside = rasterize(Shape("x", region, "cat", degrees=degrees), mask.shape, "file")
    mask[top : top + len(inside), left : left + inside.shape[1]] = inside
    return mask


def expected(region: Region, degrees: float = 0.0) -> NDArray[np.bool_]:
    rows = [
        [contains(region, degrees, x + 0.5, y + 0.5) for x in range(WIDTH)] for y in range(HEIGHT)
    ]
    return np.array(rows)


def test_a_pixel_belongs_to_the_outlines_that_contain_its_center() -> None:
    dice = random.Random(0)
    for _ in range(60):
        count = dice.randrange(3, 9)
        points = tuple(
            (dice.uniform(-6, WIDTH + 6), dice.uniform(-6, HEIGHT + 6)) for _ in range(count)
        )
        assert (drawn(Polygon(points)) == expected(Polygon(points))).all(), points


def test_whole_coordinates_are_edges_of_pixels_not_their_centers() -> None:
    points = tuple((float(x), float(y)) for x, y in SQUARE)
    assert (drawn(Polygon(points)) == LEFT_AREA).all()
    moved = tuple((x + 0.6, y) for x, y in points)
    assert (drawn(Polygon(moved)) == rectangle(3, 3, 9, 9)).all()


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 300.0])
def test_ellipses_are_drawn_and_rotated_clockwise(degrees: float) -> None:
    region = Ellipse((7.3, 6.1), (5.2, 2.4))
    assert (drawn(region, degrees) == expected(region, degrees)).all()
    assert degrees == 0 or (drawn(region, degrees) != drawn(region)).any()


def test_circles_of_labelme_and_ellipses_of_cvat_are_areas(tmp_path: Path) -> None:
    circle = shape("cat", [[7, 6], [7, 10]], "circle")
    ellipse = '<ellipse label="cat" cx="7" cy="6" rx="4" ry="4"/>'
    area = expected(Ellipse((7.0, 6.0), (4.0, 4.0)))
    for root in (write_labelme(tmp_path / "a", circle), write_cvat(tmp_path / "b", ellipse)):
        assert (train(root).target(0) == area).all()


def test_boxes_of_labelme_and_cvat_are_filled_and_counted(tmp_path: Path) -> None:
    corners = shape("cat", [[8, 9], [2, 3]], "rectangle"), shape("dog", SQUARE[:2])
    box = '<box label="cat" xtl="2" ytl="3" xbr="8" ybr="9"/>'
    for root in (write_labelme(tmp_path / "a", *corners), write_cvat(tmp_path / "b", box)):
        splits = read_splits(root)
        assert (splits.train.target(0) == LEFT_AREA).all()
        assert splits.warnings[0] == "4 of 4 shapes are boxes, whose whole area gets their class"


def test_rotated_boxes_are_filled_as_they_are_drawn(tmp_path: Path) -> None:
    diamond = [[7, 1.7], [11.3, 6], [7, 10.3], [2.7, 6]]  # no edge meets the center of a pixel
    half = 4.3 / math.sqrt(2)  # of the sides of the upright box that CVAT rotates
    sides = f'xtl="{7 - half}" ytl="{6 - half}" xbr="{7 + half}" ybr="{6 + half}"'
    area = expected(Polygon(tuple((x, y) for x, y in diamond)))
    for root in (
        write_labelme(tmp_path / "a", shape("cat", diamond, "rotation")),
        write_labelme(tmp_path / "b", shape("cat", diamond, "oriented_rectangle")),
        write_cvat(tmp_path / "c", f'<box label="cat" {sides} rotation="45.0"/>'),
    ):
        assert (train(root).target(0) == area).all()


# ---- what is skipped ----


def test_points_lines_and_shapes_without_area_are_skipped_and_counted(tmp_path: Path) -> None:
    others = [
        shape("cat", [[1, 1], [1, 5]], "rectangle"),
        shape("cat", [[1, 1]], "point"),
        shape("cat", [[1, 1], [5, 5]]),
        shape("cat", [[50, 50], [60, 50], [60, 60]]),
    ]
    splits = read_splits(write_labelme(tmp_path, shape("dog", SQUARE), *others))
    assert (splits.train.target(0) == LEFT_AREA).all()
    assert splits.warnings == (
        "shapes that cover no pixel of their image were skipped: 4 rectangle, 4 polygon",
        "shapes that cover no area were skipped: 4 'point'",
        "shapes of fewer than three points were skipped: 4 polygon",
    )


def test_images_without_an_annotation_file_are_skipped_and_named(tmp_path: Path) -> None:
    root = write_labelme(tmp_path, shape("cat", SQUARE))
    write_image(root / "other.png")
    splits = read_splits(root)
    assert splits.warnings == ("1 images without a LabelMe file are skipped: other",)
    assert len(splits.train) + len(splits.validation) == 4


def test_masks_are_preferred_to_shapes_with_a_warning(tmp_path: Path) -> None:
    root = write_labelme(tmp_path, shape("cat", SQUARE))
    for i in range(4):
        Image.fromarray(RIGHT_AREA.astype(np.uint8)).save(root / f"{i}_mask.png")
    splits = read_splits(root)
    assert (splits.train.target(0) == RIGHT_AREA).all()
    assert any("its data in the format of LabelMe is skipped" in line for line in splits.warnings)


def test_splits_are_folders_and_a_nested_folder_is_read(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_labelme(tmp_path / "inner" / split, shape("cat", SQUARE), count=2)
    splits = read_splits(tmp_path)
    assert (len(splits.train), len(splits.validation)) == (2, 2)
    root = write_cvat(tmp_path / "cvat", polygon("cat", SQUARE))
    assert len(read_splits(root / "annotations.xml").train) == 3


def test_images_that_exif_turns_are_named_where_no_size_decides(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    root = write_labelme(tmp_path, shape("cat", SQUARE), count=3)
    write_image(root / "3.png", exif)
    write_text(root / "3.json", labelme(shape("cat", SQUARE), height=None))
    (line,) = read_splits(root).warnings
    assert "1 images are rotated or mirrored by EXIF" in line and "3.png" in line


# ---- faults ----


def problems(splits: Splits) -> dict[str, str]:
    """Return the problem of each image by its name."""
    return {
        Path(samples.name(i)).name: samples.problem(i, HEIGHT, WIDTH)
        for samples in (splits.train, splits.validation)
        for i in range(len(samples))
    }


@pytest.mark.parametrize(
    ("element", "words"),
    [
        ('rle="1, 2"', "add up to 5 x 3"),
        ('rle="1, x, 14"', "add up to 5 x 3"),
        ('rle=""', "add up to 5 x 3"),
        ('rle="' + "9" * 5000 + '"', "add up to 5 x 3"),
    ],
)
def test_a_damaged_mask_is_a_problem_of_its_image(tmp_path: Path, element: str, words: str) -> None:
    good = f'<mask label="cat" left="2" top="4" width="5" height="3" rle="{RUNS}"/>'
    root = write_cvat(tmp_path, good)
    xml = (root / "annotations.xml").read_text()
    bad = xml.replace(f'rle="{RUNS}"', element, 1)
    write_text(root / "annotations.xml", bad)
    splits = read_splits(root)
    (problem,) = filter(None, problems(splits).values())
    assert words in problem and "annotations.xml, 0.png" in problem and len(problem) < 600
    with pytest.raises(DataError, match="1 of 4 images are unreadable"):
        check_samples(splits.train, splits.validation)


@pytest.mark.parametrize(
    ("points", "mask", "words"),
    [
        ([[2, 4], [6, 7]], png(PART), "5x3 pixels, but lies in a box of 5x4"),
        ([[2, 4], [6, 6]], "no base64!", "is not a PNG file in base64"),
        ([[2, 4], [6, 6]], "", "the file is empty"),
        ([[2, 4], [6.5, 6]], png(PART), "is not placed at whole pixels"),
        ([[0, 0], [99_999, 99_999]], png(PART), "has 100000x100000 pixels"),
    ],
)
def test_a_damaged_png_is_a_problem_of_its_image(
    tmp_path: Path, points: Any, mask: str, words: str
) -> None:
    root = write_labelme(tmp_path, shape("cat", SQUARE))
    write_text(root / "0.json", labelme(shape("cat", points, "mask", mask=mask)))
    splits = read_splits(root)
    (problem,) = filter(None, problems(splits).values())
    assert words in problem and "0.json" in problem


def test_annotations_of_another_size_than_the_image_are_a_problem(tmp_path: Path) -> None:
    root = write_labelme(tmp_path, shape("cat", SQUARE))
    write_text(root / "0.json", labelme(shape("cat", SQUARE), height=HEIGHT + 1))
    write_text(root / "1.json", labelme(shape("cat", SQUARE), height=10**6))
    splits = read_splits(root)
    found = problems(splits)
    assert "has 13x16 pixels, but its image has 12x16" in found["0.png"]
    assert "has 1000000x16 pixels" in found["1.png"]
    assert found["2.png"] == found["3.png"] == ""


def test_outlines_without_end_are_refused_before_they_take_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = tuple((float(i % 2), 12.0 * (i % 2)) for i in range(2000))
    monkeypatch.setattr("visiongraft.plugins.segmentation.formats.regions.MAX_CROSSINGS", 20_000)
    with pytest.raises(DataError, match="file: an outline of 2000 points is too long"):
        drawn(Polygon(points))
