"""Find COCO's files in a folder, and read them as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visiongraft.data.annotations.image_files import split_of_name
from visiongraft.data.decode import printable
from visiongraft.data.listing import files_in, folders_named, one_of_each, subfolders
from visiongraft.data.parsing import read_json
from visiongraft.errors import DataError

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
    for parent in _parents(folder):
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


def load_coco(file: Path) -> dict[str, Any]:
    """Read a COCO file and check that it has COCO's lists.

    Args:
        file: The file.

    Returns:
        Its content.

    Raises:
        DataError: It is not valid JSON, or lacks a list.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{printable(file)} is not a COCO file; {SHAPE}")
    if "images" not in content and isinstance(content.get("shapes"), list):
        raise DataError(
            f"{printable(file)} is a file of LabelMe, not of COCO; pass the folder that contains it "
            "and its image"
        )
    for name in ("images", "annotations", "categories"):
        rows = content.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{printable(file)} has no list {name!r}; {SHAPE}")
    return content


def coco_problem(folder: Path) -> str:
    """Return why no JSON file of a folder is read as COCO.

    Args:
        folder: A folder in which ``find_files`` found none.

    Returns:
        The problem of the first JSON file; empty if there is none, or nothing is wrong with it.
    """
    files = [f for parent in _parents(folder) for f in files_in(parent, ".json")]
    try:
        for file in files[:1]:
            load_coco(file)
    except DataError as error:
        return str(error)
    if len(files) > 1:
        return (
            f"{printable(files[0])} is one of {len(files)} JSON files; name them after splits, such "
            "as instances_train.json, or pass one of them"
        )
    return ""


def _parents(folder: Path) -> list[Path]:
    return [folder, *folders_named(folder, FOLDERS)]


def _is_coco(file: Path) -> bool:
    try:
        load_coco(file)
    except DataError:
        return False
    return True
