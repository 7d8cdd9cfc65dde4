"""Small datasets of many kinds, to choose defaults on and to confirm them on others.

    python benchmarks/small_sets.py --data FOLDER --out FOLDER

Each is written as OUT/NAME/{train,val}/CLASS/*.png, made from what is at hand: labeled folders, crops of
street scenes by their most frequent class, crops of photographs by the photograph, faces, digits,
textiles. The two groups share no source: TUNING is for choosing, HELD_OUT for confirming what was chosen.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Item = tuple[str, str, Image.Image]  # split, class and image
MOST = {"train": 300, "val": 60}  # images of a class

TEXTURES = ("brick", "grass", "gravel", "coins", "page", "text", "moon", "clock")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "immunohistochemistry")
SCENE_CLASSES = ("sky", "building", "road", "tree", "car")  # of CamVid; others fill no crop


def labeled_folder(part: str) -> Callable[[Path], Iterator[Item]]:
    """Return a function that reads FOLDER/PART/{train,val}/CLASS/*."""

    def read(data: Path) -> Iterator[Item]:
        for split in ("train", "val"):
            for path in sorted((data / part / split).glob("*/*")):
                yield split, path.parent.name, Image.open(path).convert("RGB")

    return read


def photograph_crops(names: Sequence[str], side: int) -> Callable[[Path], Iterator[Item]]:
    """Return a function that crops scikit-image's pictures: the left part trains, the right one validates."""

    def read(data: Path) -> Iterator[Item]:
        import skimage.data

        for name in names:
            image = Image.fromarray(np.asarray(getattr(skimage.data, name)())).convert("RGB")
            middle = int(image.width * 0.6)
            for split, left, right in (("train", 0, middle), ("val", middle, image.width)):
                columns = _starts(left, right - side, 12)
                for top in _starts(0, image.height - side, 12):
                    for start in columns:
                        yield split, name, image.crop((start, top, start + side, top + side))

    return read


def scene_crops(data: Path) -> Iterator[Item]:
    """Crop CamVid: a crop is of the class that fills most of it, if that is 70 % or more."""
    root, side = data / "segmentation/camvid", 72
    names = (root / "classes.txt").read_text().split()
    for split, part in (("train", "train"), ("val", "test")):
        for path in sorted((root / "images" / part).glob("*.jpg"))[::3]:
            image = Image.open(path).convert("RGB")
            mask = np.asarray(Image.open(root / "masks" / part / f"{path.stem}.png"))
            for top in range(0, image.height - side + 1, side):
                for left in range(0, image.width - side + 1, side):
                    found = np.bincount(mask[top : top + side, left : left + side].ravel())
                    label = names[int(found.argmax())]
                    if label in SCENE_CLASSES and found.max() >= 0.7 * side * side:
                        yield split, label, image.crop((left, top, left + side, top + side))


def raccoon_crops(data: Path) -> Iterator[Item]:
    """Crop raccoons, and as large parts of the same photographs without one."""
    root, random = data / "detection/raccoon", np.random.default_rng(0)
    for split in ("train", "val"):
        content = json.loads((root / "coco" / f"instances_{split}.json").read_text())
        boxes: dict[int, list[Any]] = {}
        for row in content["annotations"]:
            boxes.setdefault(row["image_id"], []).append(row["bbox"])
        for row in content["images"]:
            image = Image.open(root / "JPEGImages" / row["file_name"]).convert("RGB")
            for x, y, width, height in boxes.get(row["id"], []):
                yield (
                    split,
                    "raccoon",
                    image.crop((int(x), int(y), int(x + width), int(y + height))),
                )
            side = min(image.size) // 3
            for _ in range(20):
                left = int(random.integers(0, image.width - side + 1))
                top = int(random.integers(0, image.height - side + 1))
                if not any(_overlap((left, top, side, side), b) for b in boxes.get(row["id"], [])):
                    yield split, "other", image.crop((left, top, left + side, top + side))
                    break


def faces(data: Path) -> Iterator[Item]:
    """Read ORL's 40 people: seven photographs of each train, three validate."""
    for person in sorted((data / "faces/orl/images").iterdir()):
        for number, path in enumerate(sorted(person.iterdir())):
            yield "val" if number >= 7 else "train", person.name, Image.open(path).convert("RGB")


def textiles(data: Path) -> Iterator[Item]:
    """Read the demo's photographs of textiles: faultless, or with one of two kinds of faults."""
    from conformal_clip_data import textile_simulated_root

    for folder in sorted(Path(textile_simulated_root()).iterdir()):
        for number, path in enumerate(sorted(folder.rglob("*.*"))[:360]):
            yield "val" if number >= 300 else "train", folder.name, Image.open(path).convert("RGB")


def scikit_digits(data: Path) -> Iterator[Item]:
    """Read scikit-learn's digits, of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = Image.fromarray((pixels * 255 / 16).astype(np.uint8)).convert("RGB")
        yield "val" if number >= 1200 else "train", str(label), image


TUNING: dict[str, Callable[[Path], Iterator[Item]]] = {
    "hymenoptera": labeled_folder("classification/hymenoptera"),
    "cifar10": labeled_folder("classification/cifar10_small"),
    "mnist": labeled_folder("domain_adaptation/digits/mnist"),
    "textures": photograph_crops(TEXTURES, 48),
    "scenes": scene_crops,
    "faces": faces,
}
HELD_OUT: dict[str, Callable[[Path], Iterator[Item]]] = {
    "alphadigits": labeled_folder("domain_adaptation/digits/binaryalphadigs"),
    "scikit_digits": scikit_digits,
    "photographs": photograph_crops(PHOTOGRAPHS, 80),
    "raccoons": raccoon_crops,
    "textiles": textiles,
}


def write_set(name: str, data: Path, folder: Path) -> Path:
    """Write one dataset, unless it is there.

    Args:
        name: Of ``TUNING`` or ``HELD_OUT``.
        data: Folder of the sources.
        folder: Where the datasets go.

    Returns:
        Its folder, with the splits ``train`` and ``val``.
    """
    root = folder / name
    if root.is_dir():
        return root
    unfinished = folder / f"{name}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    counts: dict[tuple[str, str], int] = {}
    for split, label, image in ({**TUNING, **HELD_OUT})[name](data):
        number = counts[split, label] = counts.get((split, label), 0) + 1
        if number > MOST[split]:
            continue
        path = unfinished / split / label / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _no_larger(image).save(path)
    if not counts:
        raise SystemExit(
            f"small_sets: {data} has no images for {name}; docs/benchmarks.md lists what it contains"
        )
    unfinished.rename(root)
    return root


def subset(root: Path, images: int, seed: int, folder: Path, validation: int | None = 1) -> Path:
    """Link a random choice of training images, equally many of each class, and validation images.

    Args:
        root: Folder of the dataset.
        images: Training images; each class gets at least two.
        seed: Of the choice.
        folder: Where the links go.
        validation: Of each class, or ``None`` for all. One is enough where what is measured after each
            epoch is not used.

    Returns:
        The folder.
    """
    per_class = max(2, images // sum(p.is_dir() for p in (root / "train").iterdir()))
    return link_subset(root, folder, lambda files: draw(files, per_class, seed), validation)


def draw(files: Sequence[Path], count: int, seed: int) -> list[Path]:
    """Return a random choice of files, in their order."""
    order = np.random.default_rng([seed, len(files)]).permutation(len(files))
    return [files[i] for i in sorted(order[:count])]


def link_subset(
    root: Path,
    folder: Path,
    choose: Callable[[list[Path]], list[Path]],
    validation: int | None = 1,
) -> Path:
    """Link chosen training images of each class, and validation images.

    Args:
        root: Folder of the dataset, with the splits ``train`` and ``val``.
        folder: Where the links go.
        choose: Returns the chosen ones of a class's training images.
        validation: As in ``subset``.

    Returns:
        The folder.
    """
    for split in ("train", "val"):
        for label in sorted(p for p in (root / split).iterdir() if p.is_dir()):
            files = sorted(label.iterdir())
            files = choose(files) if split == "train" else files[:validation]
            (folder / split / label.name).mkdir(parents=True)
            for file in files:
                (folder / split / label.name / file.name).symlink_to(file.resolve())
    return folder


def _no_larger(image: Image.Image, side: int = 256) -> Image.Image:
    scale = side / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    return image if scale >= 1 else image.resize(size, Image.Resampling.BICUBIC)


def _starts(first: int, last: int, count: int) -> NDArray[np.int64]:
    """Return evenly spaced positions, each once."""
    return np.unique(np.linspace(first, max(first, last), count).astype(np.int64))


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(
        one[axis] < other[axis] + other[axis + 2] and other[axis] < one[axis] + one[axis + 2]
        for axis in (0, 1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in (*TUNING, *HELD_OUT):
        root = write_set(name, given.data, given.out)
        for split in ("train", "val"):
            counts = [len(list(p.iterdir())) for p in sorted((root / split).iterdir())]
            print(f"{name:15} {split:6} {len(counts):3} classes, {sum(counts):5} images")


if __name__ == "__main__":
    main()
