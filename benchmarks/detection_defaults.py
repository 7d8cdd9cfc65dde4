"""Which defaults win in detection: candidates trained on the same images, by the score after the last epoch.

    python benchmarks/detection_defaults.py --results FILE.jsonl [--data FOLDER] [--sets NAME ...]
        [--streets FOLDER] [--heads NAME ...] [--candidates NAME ...] [--seeds N ...] [--size N] [--epochs N] [--limit N]

The sets are "shapes", drawn on photographs of scikit-image, "streets", boxes around parts of CamVid's masks (every
third training and every second validation image of --streets), and folders of FOLDER in any format that detection
reads. All boxes with a confidence of 0.001 or more count, as a short training ends below the usual 0.05.
Finished cells are appended to the results and not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from cells import mean_and_error, train_cells
from detection import draw_shapes
from PIL import Image
from scipy import ndimage

import visiongraft
from visiongraft.plugins.detection.models.heads import HEADS

CHOSEN = "chosen"
ALONE = "lp_ft(probe_epochs=3, probe_learning_rate={alone}, learning_rate={rate})"
CANDIDATES: dict[str, dict[str, Any]] = {
    CHOSEN: {},
    "head alone at 3e-3, then 5e-4": {"schedule": ALONE.format(alone=3e-3, rate=5e-4)},
    "head alone at 3e-3, then 1e-3": {"schedule": ALONE.format(alone=3e-3, rate=1e-3)},
    "head alone at 3e-3, then 2e-3": {"schedule": ALONE.format(alone=3e-3, rate=2e-3)},
    "head alone at 3e-3, then 3e-3": {"schedule": ALONE.format(alone=3e-3, rate=3e-3)},
    "head alone at 5e-4, then 5e-4": {"schedule": ALONE.format(alone=5e-4, rate=5e-4)},
    "everything at 5e-4": {"schedule": "full(learning_rate=5e-4)"},
    "everything at 1e-3": {"schedule": "full(learning_rate=1e-3)"},
    "everything at 2e-3": {"schedule": "full(learning_rate=2e-3)"},
    "everything at 1e-3, layer decay of 0.7": {
        "schedule": "full(learning_rate=1e-3, layer_decay=0.7)"
    },
    "EMA of 0.9": {"ema": 0.9},
    "EMA of 0.98": {"ema": 0.98},
    "letterbox": {"resize": "letterbox"},
    "mosaic of half the images": {"task_options": {"mosaic": 0.5}},
    "strong augmentation": {"task_options": {"augment": "strong"}},
    "no augmentation": {"task_options": {"augment": "none"}},
    "batch norm frozen": {"schedule": "lp_ft(batch_norm='frozen')"},
    "layer decay of 0.85": {"schedule": "lp_ft(layer_decay=0.85)"},
}
STREET_CLASSES = ("car", "pedestrian", "bicyclist")
LEAST_SIDE = 24  # of a box in pixels


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        dataset: Name of the dataset.
        head: Name of the detector.
        seed: Of the run, and of the division into training and validation images.
        candidate: Name of the candidate.
        size: Size of the images in pixels.
        epochs: Number of epochs.
    """

    dataset: str
    head: str
    seed: int
    candidate: str
    size: int
    epochs: int


def street_boxes(source: Path, folder: Path) -> Path:
    """Draw boxes around connected parts of CamVid's masks, and write them as a COCO file with the images."""
    names = (source / "classes.txt").read_text(encoding="utf-8").split()
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for split, step, most in (("train", 3, 110), ("val", 2, 45)):
        for path in sorted((source / "images" / split).glob("*.jpg"))[::step][:most]:
            mask = np.asarray(Image.open(source / "masks" / split / f"{path.stem}.png"))
            boxes = list(_parts(mask, names))
            if not boxes:
                continue
            height, width = mask.shape
            image = {"id": len(images), "file_name": path.name, "height": height, "width": width}
            for kind, box in boxes:
                rows.append(
                    {"id": len(rows), "image_id": image["id"], "category_id": kind, "bbox": box}
                )
            shutil.copy(path, folder)
            images.append(image)
    categories = [{"id": kind, "name": name} for kind, name in enumerate(STREET_CLASSES)]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "streets.json").write_text(json.dumps(content))
    return folder / "streets.json"


def _parts(mask: Any, names: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
    for kind, name in enumerate(STREET_CLASSES):
        labels, _ = ndimage.label(mask == names.index(name))
        for rows, columns in ndimage.find_objects(labels):
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            if min(box[2:]) >= LEAST_SIDE:
                yield kind, box


def train(cell: Cell, given: argparse.Namespace) -> dict[str, float]:
    """Train one cell, and return mAP and AP50 of its last epoch."""
    start = time.process_time()
    candidate = dict(CANDIDATES[cell.candidate])
    options = {"head": cell.head, "score_threshold": 0.001, **candidate.pop("task_options", {})}
    with tempfile.TemporaryDirectory() as name:
        if cell.dataset == "shapes":
            data = draw_shapes(Path(name))
        elif cell.dataset == "streets":
            data = street_boxes(given.streets, Path(name))
        else:
            data = given.data / cell.dataset
        model = visiongraft.fit(
            data,
            task="detection",
            task_options=options,
            backbone="bundled/efficientnet_lite0",
            size=cell.size,
            epochs=cell.epochs,
            seed=cell.seed,
            batch_size=8,
            select="last",
            callbacks=(),
            **candidate,
        )
    metrics = model.facts["metrics"]
    seconds = round(time.process_time() - start, 1)
    return {"mAP": metrics["mAP"], "AP50": metrics["AP50"], "seconds": seconds}


def table(
    found: Mapping[Cell, Mapping[str, float]], heads: Sequence[str], sets: Sequence[str]
) -> str:
    """Return a Markdown table: mAP in percent by head, candidate and dataset, with standard errors over seeds."""
    lines = [f"| head | settings | {' | '.join(sets)} |", f"| --- | --- |{' --- |' * len(sets)}"]
    for head, candidate in product(heads, CANDIDATES):
        columns = [
            mean_and_error(
                [
                    100 * values["mAP"]
                    for cell, values in found.items()
                    if (cell.dataset, cell.head, cell.candidate) == (name, head, candidate)
                ]
            )
            for name in sets
        ]
        if any(column != "-" for column in columns):
            lines.append(f"| {head} | {candidate} | {' | '.join(columns)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("detection_defaults.jsonl"))
    parser.add_argument("--data", type=Path, help="folder of datasets")
    parser.add_argument("--streets", type=Path, help="CamVid, with images/ and masks/")
    parser.add_argument("--sets", nargs="+", default=["shapes"])
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=["ssdlite"])
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="cells to train at most")
    given = parser.parse_args(arguments)
    cells = [
        Cell(dataset, head, seed, candidate, given.size, given.epochs)
        for seed, dataset, head, candidate in product(
            given.seeds, given.sets, given.heads, given.candidates
        )
    ]
    trained = train_cells(cells, lambda cell: train(cell, given), given.results, given.limit)
    found = {cell: trained[cell] for cell in cells if cell in trained}
    print(table(found, given.heads, given.sets))


if __name__ == "__main__":
    main()
