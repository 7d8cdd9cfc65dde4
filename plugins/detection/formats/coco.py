"""COCO's JSON files of boxes: https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visiongraft.data.decode import printable
from visiongraft.data.listing import files_in, folders_named, one_of_each, subfolders
from visiongraft.data.parsing import read_json, show_value
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError, name_some
from visiongraft.options import is_integer
from visiongraft.plugins.detection.formats.dataset import BoxDataset, BoxSplit, in_order
from visiongraft.plugins.detection.formats.image_files import (
    find_root,
    image_size,
    split_of_name,
)
from visiongraft.plugins.detection.objects import Annotation

FOLDERS = ("annotations", "annotation")
SHAPE = "a COCO file contains the lists images, annotations and categories"


def find_files(folder: Path) -> dict[str, Path]:
    """Find the annotation files of a folder.

    Args:
        folder: Contains ``instances_train.json`` and the like, in itself, in ``annotations/``, or
            one file in each of ``train/``, ``valid/`` and ``test/``.

    Returns:
        Files by split; a single file whose name has no split is ``"train"``. Empty if there are
        none. Other files, such as captions, beside those called ``instances`` are skipped.

    Raises:
        DataError: Two files belong to the same split.
    """
    for parent in (folder, *folders_named(folder, FOLDERS)):
        files = files_in(parent, ".json")
        own = [f for f in files if f.stem.startswith("instances")]
        named = own or [f for f in files if split_of_name(f.stem)]
        found = one_of_each((split_of_name(f.stem), f) for f in named)
        if found:
            return found
        if len(own or files) == 1 and _is_coco((own or files)[0]):
            return {"train": (own or files)[0]}
    below = [f for p in subfolders(folder) for f in files_in(p, ".json")]
    return one_of_each((split_of_name(f.parent.name), f) for f in below)


def read_coco(files: Mapping[str, Path]) -> BoxDataset:
    """Read annotation files.

    Args:
        files: The files by split.

    Returns:
        Images with boxes; class names in the order of the first file's category ids.

    Raises:
        DataError: A file is damaged or contradicts itself.
    """
    warnings: list[str] = []
    splits: dict[str, BoxSplit] = {}
    names: list[tuple[str, ...]] = []
    groups: list[set[str]] = []
    for split, file in files.items():
        content = _load(file)
        categories = _categories(content, file)
        names.append(tuple(categories[i] for i in sorted(categories)))
        groups.append(_group(content, categories))
        found = _read_split(content, categories, (split, file), warnings)
        if len(found.annotations):
            splits[split] = found
    if not splits:
        raise DataError(f"{name_some(map(printable, files.values()))}: no image is listed")
    used = {n for split in splits.values() for each in split.annotations for n in each.names}
    for group in set.union(*groups) - used:
        if all(
            group in own or group not in listed for own, listed in zip(groups, names, strict=True)
        ):
            names = [tuple(n for n in listed if n != group) for listed in names]
            warnings.append(
                f"category 0, {group!r}, has no box and is the supercategory of the others, so it "
                "is not a class; the option class_names can include it"
            )
    return BoxDataset(splits, in_order(*names), tuple(warnings))


def _group(content: dict[str, Any], categories: Mapping[int, str]) -> set[str]:
    """Find a category 0 that is the supercategory of all others, as Roboflow writes it."""
    above = {row.get("supercategory") for row in content["categories"] if row["id"] != 0}
    name, others = categories.get(0), [n for key, n in categories.items() if key != 0]
    return {name} if name is not None and above == {name} and name not in others else set()


def _is_coco(file: Path) -> bool:
    try:
        return {"images", "annotations"} <= _load(file).keys()
    except DataError:
        return False


def _load(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{printable(file)} is not a COCO file; {SHAPE}")
    for name in ("images", "annotations", "categories"):
        rows = content.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{printable(file)} has no list {name!r}; {SHAPE}")
    return content


def _categories(content: dict[str, Any], file: Path) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for row in content["categories"]:
        key, name = _integer(row, "id", file, "a category"), row.get("name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{printable(file)}: category {key} has no name")
        if found.setdefault(key, name) != name:
            raise DataError(
                f"{printable(file)}: category id {key} is both {found[key]!r} and {name!r}; each "
                "category needs its own id"
            )
    return found


def _read_split(
    content: dict[str, Any],
    categories: Mapping[int, str],
    origin: tuple[str, Path],
    warnings: list[str],
) -> BoxSplit:
    split, file = origin
    images = _images(content, file, warnings)
    rows = defaultdict(list)
    unlisted: Counter[int] = Counter()
    for row in content["annotations"]:
        key = _integer(row, "image_id", file, "an annotation")
        if key not in images:
            unlisted[key] += 1
        else:
            rows[key].append(row)
    if unlisted:
        warnings.append(
            f"{printable(file)}: {unlisted.total()} boxes of images that are not listed were "
            f"skipped: image ids {name_some(map(str, unlisted))}"
        )
    # Tools on Windows write backslashes, which are not separators elsewhere.
    names = [row["file_name"].replace("\\", "/") for row in images.values()]
    root = find_root(names, file.parent, split)
    paths = [root / name for name in names]
    annotations = [
        _annotation(rows[key], image, path, categories, file)
        for (key, image), path in zip(images.items(), paths, strict=True)
    ]
    return BoxSplit(FileSamples(paths, [()] * len(paths)), annotations)


def _images(content: dict[str, Any], file: Path, warnings: list[str]) -> dict[int, dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    repeated = []
    for row in content["images"]:
        key, name = _integer(row, "id", file, "an image"), row.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{printable(file)}: image {key} has no file_name")
        if key in images and images[key]["file_name"] != name:
            raise DataError(
                f"{printable(file)}: image id {key} is both {images[key]['file_name']!r} and "
                f"{name!r}; each image needs its own id"
            )
        if key in images:
            repeated.append(name)
        images.setdefault(key, row)
    if repeated:
        warnings.append(
            f"{printable(file)}: {len(repeated)} images that are listed twice were used once: "
            f"{name_some(repeated)}"
        )
    return images


def _annotation(
    rows: list[dict[str, Any]],
    image: dict[str, Any],
    path: Path,
    categories: Mapping[int, str],
    file: Path,
) -> Annotation:
    boxes, names, crowd, areas = [], [], [], []
    for row in rows:
        category = _integer(row, "category_id", file, "an annotation")
        if category not in categories:
            raise DataError(
                f"{printable(file)}: a box in {image['file_name']} has category id {category}, "
                "which is not listed"
            )
        x, y, width, height = _numbers(row.get("bbox"), file, image["file_name"])
        boxes.append((x, y, x + width, y + height))
        names.append(categories[category])
        crowd.append(bool(row.get("iscrowd", 0)))
        area = row.get("area")
        areas.append(float(area) if isinstance(area, (int, float)) else None)
    return Annotation(boxes, names, _size(image) or image_size(path), crowd, areas)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


def _integer(row: dict[str, Any], name: str, file: Path, what: str) -> int:
    value = row.get(name)
    if not is_integer(value):
        raise DataError(
            f"{printable(file)}: {what} has {name}={show_value(value)}, which is not an integer"
        )
    return value


def _numbers(values: Any, file: Path, image: str) -> list[float]:
    good = isinstance(values, list) and len(values) == 4
    if not good or not all(isinstance(v, (int, float)) for v in values):
        raise DataError(
            f"{printable(file)}: a box in {image} has bbox={show_value(values)}; expected x, y, width and "
            "height in pixels"
        )
    return [float(value) for value in values]
