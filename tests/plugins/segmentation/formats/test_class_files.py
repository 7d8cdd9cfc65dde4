from __future__ import annotations

from pathlib import Path

import pytest

from visiongraft.errors import DataError
from visiongraft.plugins.segmentation.formats.class_files import read_classes

NAMES = ("Sky", "Road marking")
COLORS = ((128, 128, 128), (1, 2, 3))


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"label_colors.txt": "128 128 128\tSky\n\n1 2 3   Road marking\n"},
        {"colormap.csv": "name,r,g,b\nSky,128,128,128\nRoad marking,1,2,3\n"},
        {"labelmap.txt": "# label:color_rgb\nSky:128,128,128::\nRoad marking:1,2,3:a,b:c\n"},
        {"class_dict.csv": "r, g, b, NAME\n128,128,128,Sky\n1,2,3,Road marking\n"},
        {
            "label_colors.txt": "128 128 128 Sky\n1 2 3 Road marking",
            "classes.txt": "Road marking\nSky",
        },
    ],
    ids=str,
)
def test_color_maps_of_both_formats_are_read(files: dict[str, str], tmp_path: Path) -> None:
    assert read_classes(write(tmp_path, files)) == (NAMES, COLORS)


def test_class_names_are_in_the_order_of_the_lines(tmp_path: Path) -> None:
    write(tmp_path, {"classes.txt": "\ufeffroad\n sky \n\ncar\n"})
    assert read_classes(tmp_path) == (("road", "sky", "car"), ())


def test_class_names_of_labelme_are_read(tmp_path: Path) -> None:
    write(tmp_path, {"class_names.txt": "_background_\ncat\ndog\n"})
    assert read_classes(tmp_path) == (("_background_", "cat", "dog"), ())


def test_without_a_file_there_are_no_names(tmp_path: Path) -> None:
    assert read_classes(tmp_path) == ((), ())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"classes.txt": "\n"}, "classes.txt contains no class names"),
        ({"classes.txt": "a\nb\na\n"}, r"classes.txt: class names \['a'\] appear more than once"),
        ({"label_colors.txt": "1 2 sky\n"}, "entry 1: .* is not three numbers"),
        ({"label_colors.txt": "1 2 300 sky\n"}, "entry 1: .* is not three numbers"),
        ({"label_colors.txt": "1 2 3\n"}, "entry 1: .* is not three numbers"),
        ({"label_colors.txt": "1 2 3 a\n1 2 3 b\n"}, "contains a color twice"),
        ({"colormap.csv": "name,red\n"}, "must have the columns name, r, g, b"),
        ({"colormap.csv": "name,r,g,b\nsky,1,2\n"}, "entry 1: .* is not three numbers"),
        ({"colormap.csv": "", "colormap.txt": ""}, "are both color maps; remove one"),
        ({"labelmap.txt": "sky:1,2"}, "entry 1: .* is not three numbers"),
        ({"labelmap.txt": "sky"}, "entry 1: .* is not three numbers"),
        ({"colormap.txt": "1 2 3 a", "classes.txt": "b"}, "contain different classes; remove one"),
    ],
    ids=str,
)
def test_an_invalid_file_raises_a_one_line_error(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_classes(write(tmp_path, files))
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf_8_raises(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"stra\xdfe\n")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_classes(tmp_path)
