"""What LabelMe, CVAT and YOLO's pose tools write: the same boxes as in any other format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visiongraft.errors import DataError
from visiongraft.plugins.detection.formats.dataset import BoxDataset
from visiongraft.plugins.detection.formats.reading import read_boxes
from visiongraft.plugins.detection.objects import Box

HEIGHT, WIDTH = 40, 60
BOX = (6.0, 4.0, 30.0, 24.0)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), "gray").save(path)


def text(path: Path, content: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding=encoding)


def first_boxes(source: BoxDataset, split: str = "train") -> list[tuple[str, Box]]:
    """Return names and boxes of the first image, and check that it can be decoded."""
    found = source.splits[split]
    assert found.samples.load(0).shape == (HEIGHT, WIDTH, 3)
    assert found.annotations[0].size == (HEIGHT, WIDTH)
    boxes = [tuple(round(v, 3) for v in box) for box in found.annotations[0].boxes]
    return list(zip(found.annotations[0].names, boxes, strict=True))  # type: ignore[arg-type]


# ---- LabelMe ----


def labelme(*shapes: dict[str, Any], name: str = "0.jpg") -> str:
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": name,
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    return json.dumps(content)


def shape(points: Any, kind: str = "rectangle", label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


RECTANGLE = shape([[30, 24], [6, 4]])  # drawn from its lower right corner


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{name}", "{name}"),
        ("images/{name}", "{name}"),
        ("images/{name}", "labels/{name}"),
        ("JPEGImages/{name}", "annotations/{name}"),
    ],
)
def test_labelme_files_are_found_beside_images_or_in_folders(
    tmp_path: Path, images: str, labels: str
) -> None:
    for i in range(3):
        image(tmp_path / images.format(name=f"train_{i}.jpg"))
        text(tmp_path / labels.format(name=f"train_{i}.json"), labelme(RECTANGLE))
    source = read_boxes(tmp_path)
    assert first_boxes(source) == [("cat", BOX)] and source.warnings == ()
    assert len(source.splits["train"].annotations) == 3 and source.names == ("cat",)


def test_splits_of_labelme_files_are_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        image(tmp_path / split / "0.jpg")
        text(tmp_path / split / "0.json", labelme(RECTANGLE))
    assert read_boxes(tmp_path).splits.keys() == {"train", "validation"}


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([shape([[6, 4], [30, 10], [10, 24]], "polygon")], [("cat", BOX)]),
        ([shape([[20, 20], [23, 24]], "circle")], [("cat", (15, 15, 25, 25))]),
        (
            [shape([[6, 4], [9, 9]], group_id=1), shape([[20, 20], [30, 24]], group_id=1)],
            [("cat", BOX)],
        ),
        (
            [shape([[6, 4], [30, 24]], group_id=1), shape([[1, 1], [2, 2]], group_id=1, label="x")],
            [("cat", BOX), ("x", (1, 1, 2, 2))],
        ),
    ],
    ids=["polygon", "circle", "group", "group of two labels"],
)
def test_shapes_of_labelme_become_boxes(tmp_path: Path, shapes: Any, expected: Any) -> None:
    image(tmp_path / "0.jpg")
    text(tmp_path / "0.json", labelme(*shapes))
    assert first_boxes(read_boxes(tmp_path)) == expected


def test_what_labelme_has_beside_boxes_is_counted(tmp_path: Path) -> None:
    for i in range(3):
        image(tmp_path / f"{i}.jpg")
    point = shape([[1, 1]], "point")
    text(
        tmp_path / "0.json", labelme(RECTANGLE, point, shape([[1, 1], [5, 5]], label="__ignore__"))
    )
    text(tmp_path / "1.json", "{}")
    source = read_boxes(tmp_path)
    assert first_boxes(source) == [("cat", BOX)]
    lines = "\n".join(source.warnings)
    assert "shapes that are not boxes were skipped: 1 'point', 1 __ignore__" in lines
    assert "1 JSON files that are not LabelMe's are skipped" in lines
    assert "2 images without a LabelMe file are skipped: 1, 2" in lines


@pytest.mark.parametrize(
    ("faulty", "words"),
    [
        (shape([[1, 2, 3]]), "points="),
        (shape("x"), "points='x'"),
        (shape([["1", 2]]), "points="),
        (shape([[1, 2]], "circle"), "circle of 1 points"),
        (shape([[1, 2], [5, 6]], label=""), "has no label"),
    ],
)
def test_a_faulty_labelme_shape_is_refused(tmp_path: Path, faulty: Any, words: str) -> None:
    image(tmp_path / "0.jpg")
    text(tmp_path / "0.json", labelme(faulty))
    with pytest.raises(DataError, match=words) as caught:
        read_boxes(tmp_path)
    assert "0.json: shape 0" in str(caught.value) and "\n" not in str(caught.value)


# ---- CVAT ----

CVAT_BOX = '<box label="cat" xtl="6" ytl="4" xbr="30" ybr="24"/>'


def cvat(shapes: str = CVAT_BOX, names: str = "", images: str = "", more: str = "") -> str:
    one = f'<image id="0" name="0.jpg" width="{WIDTH}" height="{HEIGHT}"{more}>{shapes}</image>'
    labels = "".join(f"<label><name>{name}</name></label>" for name in names.split())
    meta = f"<meta><job><labels>{labels}</labels></job></meta>" if names else ""
    return f'<?xml version="1.0"?>\n<annotations><version>1.1</version>{meta}{one}{images}</annotations>'


@pytest.mark.parametrize(
    ("images", "file"),
    [
        ("images/0.jpg", "annotations.xml"),
        ("0.jpg", "annotations.xml"),
        ("images/0.jpg", "annotations/annotations.xml"),
        ("JPEGImages/0.jpg", "Annotations/job_1.xml"),
    ],
)
def test_cvats_own_xml_is_not_taken_for_voc(tmp_path: Path, images: str, file: str) -> None:
    image(tmp_path / images)
    text(tmp_path / file, cvat())
    for data in (tmp_path, tmp_path / file):
        source = read_boxes(data)
        assert first_boxes(source) == [("cat", BOX)] and source.warnings == ()


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ('<polygon label="cat" points="6,4;30,10;10,24"/>', BOX),
        ('<ellipse label="cat" cx="20" cy="20" rx="5" ry="3"/>', (15, 17, 25, 23)),
        ('<mask label="cat" left="6" top="4" width="24" height="20" rle="1"/>', BOX),
        ('<box label="cat" xtl="20" ytl="10" xbr="40" ybr="20" rotation="90"/>', (25, 5, 35, 25)),
    ],
)
def test_shapes_of_cvat_become_boxes(tmp_path: Path, shapes: str, expected: Box) -> None:
    image(tmp_path / "0.jpg")
    text(tmp_path / "annotations.xml", cvat(shapes))
    source = read_boxes(tmp_path)
    assert first_boxes(source) == [("cat", expected)]
    assert any("1 rotated boxes" in line for line in source.warnings) == ("rotation" in shapes)


def test_cvat_has_splits_an_order_of_labels_and_other_shapes(tmp_path: Path) -> None:
    image(tmp_path / "images" / "0.jpg")
    image(tmp_path / "images" / "val" / "1.jpg")
    second = f'<image id="1" name="val/1.jpg" width="{WIDTH}" height="{HEIGHT}"/>'
    shapes = f'{CVAT_BOX}<tag label="dog"/><points label="dog" points="1,1"/>'
    text(tmp_path / "annotations.xml", cvat(shapes, "dog cat", second, ' subset="Train"'))
    source = read_boxes(tmp_path)
    assert source.splits.keys() == {"train", "validation"} and source.names == ("dog", "cat")
    assert "not boxes were skipped: 1 tag, 1 points" in source.warnings[0]


def test_an_image_that_cvat_lists_twice_is_used_once_with_all_of_its_shapes(tmp_path: Path) -> None:
    image(tmp_path / "0.jpg")
    other = f'<box label="dog" xtl="1" ytl="2" xbr="9" ybr="8"/>{CVAT_BOX}'
    again = f'<image id="1" name="0.jpg" width="{WIDTH}" height="{HEIGHT}">{other}</image>'
    text(tmp_path / "annotations.xml", cvat(images=again))
    source = read_boxes(tmp_path)
    assert first_boxes(source) == [("cat", BOX), ("dog", (1, 2, 9, 8))]
    assert len(source.splits["train"].annotations) == 1
    assert "1 images that are listed twice were used once" in source.warnings[0]
    text(tmp_path / "annotations.xml", cvat(images=again.replace(f'"{WIDTH}"', '"7"')))
    with pytest.raises(DataError, match="listed twice with different sizes"):
        read_boxes(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (cvat('<box label="cat" xtl="6"/>'), "missing or not numbers"),
        (cvat('<box xtl="6"/>'), "has no label"),
        (cvat(CVAT_BOX.replace("/>", ' rotation="inf"/>')), "missing or not numbers"),
        (cvat('<polygon label="cat" points="1,2;nan,4;5,6"/>'), "missing or not numbers"),
        (cvat()[:90], "is not valid XML"),
        ("<annotations><track id='0'/></annotations>", "export it in that format"),
        ("<annotations/>", "no image is listed"),
    ],
)
def test_a_faulty_cvat_file_is_refused(tmp_path: Path, content: str, words: str) -> None:
    image(tmp_path / "0.jpg")
    text(tmp_path / "annotations.xml", content)
    with pytest.raises(DataError, match=words) as caught:
        read_boxes(tmp_path)
    assert "annotations.xml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["", "cam1/"])
@pytest.mark.parametrize("listed", ["data/", "/content/darknet/data/", "", "data\\"])
def test_cvats_yolo_export_may_have_subfolders(tmp_path: Path, folder: str, listed: str) -> None:
    names = [f"obj_train_data/{folder}{i}.jpg" for i in range(3)]
    for name in names:
        image(tmp_path / name)
        text((tmp_path / name).with_suffix(".txt"), "1 0.3 0.35 0.4 0.5\n")
    text(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    text(tmp_path / "obj.names", "dog\ncat\n")
    text(tmp_path / "train.txt", "".join(f"{listed}{name}\n" for name in names))
    source = read_boxes(tmp_path)
    assert first_boxes(source) == [("cat", BOX)] and source.warnings == ()
    assert source.names == ("dog", "cat") and len(source.splits["train"].annotations) == 3


def test_a_missing_image_of_a_list_is_not_taken_from_another_folder(tmp_path: Path) -> None:
    image(tmp_path / "images/cam1/0.jpg")
    text(tmp_path / "labels/cam1/0.txt", "0 0.3 0.35 0.4 0.5\n")
    text(tmp_path / "train.txt", "images/cam1/0.jpg\nimages/cam2/0.jpg\n")
    text(tmp_path / "data.yaml", "train: train.txt\nnames: [cat]\n")
    sizes = [each.size for each in read_boxes(tmp_path).splits["train"].annotations]
    assert sizes == [(HEIGHT, WIDTH), None]


# ---- Pascal VOC ----

VOC_BOX = "<bndbox><xmin>6</xmin><ymin>4</ymin><xmax>30</xmax><ymax>24</ymax></bndbox>"


def voc(content: str = f"<object><name>cat</name>{VOC_BOX}</object>") -> str:
    return f"<annotation>{content}</annotation>"


@pytest.mark.parametrize(
    "content",
    [
        voc().replace("<annotation>", '<annotation xmlns="http://x">'),
        voc().replace("object>", "Object>"),
        voc().upper().replace("CAT", "cat"),
    ],
    ids=["namespace", "Object", "upper case"],
)
def test_voc_files_differ_in_namespace_and_case(tmp_path: Path, content: str) -> None:
    image(tmp_path / "0.jpg")
    text(tmp_path / "0.xml", content)
    assert first_boxes(read_boxes(tmp_path)) == [("cat", BOX)]


@pytest.mark.parametrize("encoding", ["gbk", "gb2312", "shift_jis", "utf-16", "utf-8-sig", "big5"])
def test_voc_files_may_have_any_encoding_that_they_declare(tmp_path: Path, encoding: str) -> None:
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    image(tmp_path / "0.jpg")
    text(
        tmp_path / "0.xml",
        f'<?xml version="1.0" encoding="{declared}"?>\n' + voc().replace("cat", "人"),
        encoding,
    )
    assert first_boxes(read_boxes(tmp_path)) == [("人", BOX)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (voc(f"<object><name>cat</name>{VOC_BOX}{VOC_BOX}</object>"), "contains 2 <bndbox>"),
        (voc(f"<object><name>cat</name><name>dog</name>{VOC_BOX}</object>"), "contains 2 <name>"),
        ("<doc><object/></doc>", "its root is <doc>"),
        ('<?xml version="1.0" encoding="base64"?><annotation/>', "is not valid XML"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "is not valid XML"),
    ],
)
def test_an_ambiguous_or_foreign_xml_file_is_refused(
    tmp_path: Path, content: str, words: str
) -> None:
    image(tmp_path / "0.jpg")
    text(tmp_path / "0.xml", content)
    with pytest.raises(DataError, match=words) as caught:
        read_boxes(tmp_path)
    assert "0.xml" in str(caught.value) and "\n" not in str(caught.value)


def test_rotated_boxes_in_voc_files_of_cvat_become_the_boxes_around_them(tmp_path: Path) -> None:
    rotation = (
        "<attributes><attribute><name>rotation</name><value>90</value></attribute></attributes>"
    )
    box = VOC_BOX.replace("6<", "20<").replace("4</ymin", "10</ymin").replace("30<", "40<")
    image(tmp_path / "0.jpg")
    text(
        tmp_path / "0.xml",
        voc(f"<object><name>cat</name>{box.replace('24<', '20<')}{rotation}</object>"),
    )
    source = read_boxes(tmp_path)
    assert first_boxes(source) == [("cat", (25, 5, 35, 25))]
    assert "1 rotated boxes were replaced" in source.warnings[0]


def test_the_image_of_another_split_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    for split, name in (("train", "0"), ("val", "1")):
        image(tmp_path / "images" / split / f"{name}.jpg")
        text(tmp_path / "annotations" / split / f"{name}.xml", voc())
    text(tmp_path / "annotations" / "train" / "1.xml", voc())
    samples = read_boxes(tmp_path).splits["train"].samples
    assert [Path(samples.name(i)).parts[-2:] for i in range(2)] == [
        ("train", "0.jpg"),
        ("train", "1.jpg"),
    ]


# ---- YOLO's pose labels and names ----

BOX_LINE = "0 0.3 0.35 0.4 0.5"


def yolo(root: Path, line: str, config: str = "", count: int = 3) -> Path:
    for i in range(count):
        image(root / "images" / f"{i}.jpg")
        text(root / "labels" / f"{i}.txt", line + "\n")
    text(root / "data.yaml", f"train: images\nnames: [cat]\n{config}\n")
    return root


@pytest.mark.parametrize(
    ("points", "config"),
    [
        (" 0.2 0.3 0.25 0.3", "kpt_shape: [2, 2]"),
        (" 0.2 0.3 2 0 0 0", "kpt_shape: [2, 3]"),
        (" 0.2 0.3 2 0.25 0.3 1", ""),  # known by the visibilities
        (" 0.2 0.3 2 0.95 0.9 1", ""),  # and keypoints may lie outside of their box
        ("", "kpt_shape: [2, 3]"),
    ],
    ids=["without visibility", "with visibility", "not declared", "far keypoint", "box only"],
)
def test_the_box_of_a_pose_label_is_not_the_outline_of_its_keypoints(
    tmp_path: Path, points: str, config: str
) -> None:
    source = read_boxes(yolo(tmp_path, BOX_LINE + points, config))
    assert first_boxes(source) == [("cat", BOX)]
    assert bool(source.warnings) == (not config)


def test_pose_labels_that_cannot_be_told_from_outlines_are_named(tmp_path: Path) -> None:
    source = read_boxes(yolo(tmp_path / "pose", BOX_LINE + " 0.2 0.3 0.25 0.3"))
    assert "kpt_shape: [2, 2] to data.yaml if these are pose labels" in source.warnings[0]
    outlines = yolo(tmp_path / "outlines", "0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6")
    assert read_boxes(outlines).warnings == ()


@pytest.mark.parametrize(
    ("line", "config", "words"),
    [
        (BOX_LINE + " 0.2 0.3", "kpt_shape: [2, 2]", r"expected 4 or 8"),
        (BOX_LINE, "kpt_shape: [2, 4]", "kpt_shape="),
        (BOX_LINE, "kpt_shape: many", "kpt_shape='many'"),
        (BOX_LINE + " 0.5", "", "is not a box"),
    ],
)
def test_pose_labels_of_another_length_are_refused(
    tmp_path: Path, line: str, config: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_boxes(yolo(tmp_path, line, config))


def test_an_image_that_is_listed_twice_is_used_once(tmp_path: Path) -> None:
    root = yolo(tmp_path, BOX_LINE)
    text(root / "data.yaml", "train: [images, images]\nnames: [cat]\n")
    source = read_boxes(root)
    assert len(source.splits["train"].annotations) == 3
    assert "3 images that are listed twice were used once" in source.warnings[0]


def test_binary_names_in_yaml_are_refused(tmp_path: Path) -> None:
    root = yolo(tmp_path, BOX_LINE)
    text(root / "data.yaml", "train: images\nnames: [!!binary aGVsbG8=]\n")
    with pytest.raises(DataError, match="expected names by class id"):
        read_boxes(root)


def test_names_in_yaml_are_taken_as_written(tmp_path: Path) -> None:
    root = yolo(tmp_path, BOX_LINE)
    text(root / "data.yaml", "train: images\nval: null\nnames: [no, yes, null, 007, 1.0]\n")
    assert read_boxes(root).names == ("no", "yes", "null", "007", "1.0")
