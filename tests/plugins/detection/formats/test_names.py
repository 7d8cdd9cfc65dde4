"""Names of classes and files mean the same in every format of boxes."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from visiongraft.plugins.detection.data import DetectionSamples, read_evaluation, read_splits
from visiongraft.plugins.detection.formats.reading import read_boxes

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "grün") for form in ("NFC", "NFD"))
BOX = (6, 4, 30, 24)
HEIGHT, WIDTH = 40, 60


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), "gray").save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def escaped(name: str) -> str:
    """Escape a name for XML; character references are how XML has control characters."""
    return "".join(c if c.isprintable() else f"&#{ord(c)};" for c in name)


def coco(root: Path, names: Sequence[str]) -> None:
    x1, y1, x2, y2 = BOX
    box = [x1, y1, x2 - x1, y2 - y1]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(len(names))],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i, "bbox": box} for i in range(len(names))
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    text(root / "a.json", json.dumps(content))


def voc(root: Path, names: Sequence[str]) -> None:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), BOX, strict=True)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners)
    for i, name in enumerate(names):
        entry = f"<object><name>{escaped(name)}</name><bndbox>{box}</bndbox></object>"
        text(root / f"{i}.xml", f"<annotation>{entry}</annotation>")


def yolo(root: Path, names: Sequence[str]) -> None:
    for i in range(len(names)):
        text(root / f"{i}.txt", f"{i} 0.3 0.35 0.4 0.5\n")
    listed = "".join(f"- {json.dumps(name)}\n" for name in names)
    text(root / "data.yaml", f"train: .\nnames:\n{listed}")


def labelme(root: Path, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        shape = {"label": name, "points": [BOX[:2], BOX[2:]], "shape_type": "rectangle"}
        text(root / f"{i}.json", json.dumps({"shapes": [shape]}))


def cvat(root: Path, names: Sequence[str]) -> None:
    corners = zip(("xtl", "ytl", "xbr", "ybr"), BOX, strict=True)
    box = " ".join(f'{name}="{value}"' for name, value in corners)
    images = "".join(
        f'<image name="{i}.png"><box label="{escaped(name)}" {box}/></image>'
        for i, name in enumerate(names)
    )
    text(root / "annotations.xml", f"<annotations>{images}</annotations>")


Write = Callable[[Path, Sequence[str]], None]
FORMATS: dict[str, Write] = {
    "COCO": coco,
    "VOC": voc,
    "YOLO": yolo,
    "LabelMe": labelme,
    "CVAT": cvat,
}


@pytest.fixture(params=FORMATS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Sequence[str]], Path]:
    def write_format(names: Sequence[str]) -> Path:
        for i in range(len(names)):
            image(tmp_path / f"{i}.png")
        FORMATS[request.param](tmp_path, names)
        return tmp_path

    return write_format


WriteNames = Callable[[Sequence[str]], Path]


def test_names_in_another_unicode_form_are_one_class(write: WriteNames) -> None:
    found = read_boxes(write((DECOMPOSED, COMPOSED, "cat")))
    assert set(found.names) == {COMPOSED, "cat"} and len(found.names) == 2
    given = read_evaluation(write((DECOMPOSED, COMPOSED, "cat")), (DECOMPOSED, "cat"))
    assert [target.labels for target in given.samples.targets] == [(0,), (0,), (1,)]


def test_names_that_differ_in_case_or_spaces_only_are_warned_about(write: WriteNames) -> None:
    splits = read_splits(write(("cat", "CAT", "c at", "dog", "dog")))
    (line,) = [line for line in splits.warnings if "class names that differ only" in line]
    assert all(repr(name) in line for name in ("cat", "CAT", "c at")) and "dog" not in line
    assert isinstance(splits.train, DetectionSamples)
    assert set(splits.train.class_names) == {"cat", "CAT", "c at", "dog"}


def test_distinct_names_are_not_warned_about(write: WriteNames) -> None:
    names = ("cat", "dog", "cats", "gruen", COMPOSED)
    assert not any("one class" in line for line in read_boxes(write(names)).warnings)
    splits = read_splits(write((*names, *names)))
    assert not any("differ only" in line for line in splits.warnings)


def test_control_characters_in_names_are_escaped(write: WriteNames) -> None:
    assert set(read_boxes(write(("a\tb", "c\u2028d"))).names) == {"a\\tb", "c\\u2028d"}


def test_several_ids_of_yolo_with_one_name_are_one_class_with_a_warning(tmp_path: Path) -> None:
    for i in range(3):
        image(tmp_path / f"{i}.png")
    yolo(tmp_path, ("cat", "dog", "cat"))
    found = read_boxes(tmp_path)
    assert found.names == ("cat", "dog")
    assert any("class ids 0, 2 are all named 'cat' and are one class" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        ("sub/a b.png", "sub\\a b.png"),
        ("sub/a b.png", "sub/a%20b.png"),
        (f"sub/{COMPOSED}.png", f"sub/{DECOMPOSED}.png"),
        (f"sub/{DECOMPOSED}.png", f"sub\\{COMPOSED}.png"),
    ],
)
def test_images_are_found_in_other_spellings_of_their_names(
    tmp_path: Path, on_disk: str, written: str
) -> None:
    def found(data: Path) -> list[str]:
        samples = read_boxes(data).splits["train"].samples
        return [samples.name(i) for i in range(len(samples))]

    for name in ("coco", "cvat", "list", "export"):
        image(tmp_path / name / on_disk)
        expected = [str(tmp_path / name / on_disk)]
        root = tmp_path / name
        if name == "coco":
            coco(root, ("cat",))
            content = (root / "a.json").read_text()
            text(root / "a.json", content.replace('"0.png"', json.dumps(written)))
        elif name == "cvat":
            cvat(root, ("cat",))
            content = (root / "annotations.xml").read_text()
            text(root / "annotations.xml", content.replace("0.png", written))
        else:
            prefix = "" if name == "list" else "data/obj/"
            text(root / "train.txt", f"{prefix}{written}\n")
            text(root / "data.yaml", "train: train.txt\nnames: [cat]\n")
            text((root / on_disk).with_suffix(".txt"), "0 0.3 0.35 0.4 0.5\n")
        assert found(root) == expected, name


def test_label_files_are_found_in_another_unicode_form(tmp_path: Path) -> None:
    image(tmp_path / "images" / f"{COMPOSED}.png")
    text(tmp_path / "labels" / f"{DECOMPOSED}.txt", "0 0.3 0.35 0.4 0.5\n")
    text(tmp_path / "classes.txt", "cat\n")
    (annotation,) = read_boxes(tmp_path).splits["train"].annotations
    assert annotation.names == ["cat"]
