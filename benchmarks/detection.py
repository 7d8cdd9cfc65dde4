"""Compare pretrained and random backbones for detection: the same training from three starts.

    python benchmarks/detection.py [--data FOLDER] [--set NAME] [--weights FILE] [--epochs N]
        [--head NAME] [--size N] [--export] [--image FILE]

FOLDER/NAME contains a dataset in any format that detection reads, such as ``raccoon`` or
``coco256``; without FOLDER, shapes are drawn on photographs of scikit-image. The backbones are
``bundled/efficientnet_lite0``, ``torchvision/mobilenet_v2`` if a weights file is given, and
``bundled/efficientnet_lite0`` with random weights, all trained for the same number of epochs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import visiongraft

# Tuned by hand on the validation split of each. With 128 images of 80 classes, training everything
# from the start learns nothing in this time; training the head on frozen features does.
EPOCHS = {"raccoon": 10, "coco256": 10}
TUNING = {
    "raccoon": "lp_ft(probe_epochs=5, probe_learning_rate=2e-3, learning_rate=3e-4)",
    "coco256": "lp_ft(probe_epochs=8, probe_learning_rate=3e-3, learning_rate=3e-4)",
}
FROM_SCRATCH = "full(learning_rate=2e-3, layer_decay=1.0, batch_norm='train')"


class Progress:
    """Print each epoch, and keep the best one."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.best: dict[str, Any] = {}

    @visiongraft.hookimpl
    def epoch_ended(self, record: dict[str, Any]) -> None:
        metrics = record["validation"]
        seconds = time.perf_counter() - self.start
        scores = f"mAP {metrics['mAP']:.3f}  AP50 {metrics.get('AP50', 0):.3f}"
        print(f"  epoch {record['epoch'] + 1:3d}  {seconds:5.0f} s  {scores}", flush=True)
        if not self.best or metrics["mAP"] > self.best["mAP"]:
            self.best = metrics


def draw_shapes(folder: Path, count: int = 80) -> Path:
    """Draw discs, squares and triangles of random colors on crops of photographs."""
    import skimage.data

    random = np.random.default_rng(0)
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    names = ["disc", "square", "triangle"]
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for i in range(count):
        photo = photos[i % len(photos)]
        y, x = (int(random.integers(0, n - 200)) for n in photo.shape[:2])
        image = Image.fromarray(photo[y : y + 200, x : x + 200])
        images.append({"id": i, "file_name": f"{i:03d}.png", "height": 200, "width": 200})
        for left in (0, 100)[: int(random.integers(1, 3))]:
            side = int(random.integers(50, 95))
            x, y = left + int(random.integers(0, 100 - side)), int(random.integers(0, 200 - side))
            kind = int(random.integers(3))
            corners = [(x, y), (x + side, y + side)]
            fill = tuple(int(v) for v in random.integers(0, 256, 3))
            brush = ImageDraw.Draw(image)
            if kind == 0:
                brush.ellipse(corners, fill=fill)
            elif kind == 1:
                brush.rectangle(corners, fill=fill)
            else:
                brush.polygon([(x, y + side), (x + side, y + side), (x + side // 2, y)], fill=fill)
            row = {"id": len(rows), "image_id": i, "category_id": kind, "bbox": [x, y, side, side]}
            rows.append(row)
        image.save(folder / f"{i:03d}.png")
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "shapes.json").write_text(json.dumps(content))
    return folder / "shapes.json"


def train(
    name: str, data: Path, export: bool, image: Path | None, **settings: Any
) -> dict[str, Any]:
    """Train once, and return the scores."""
    print(name, flush=True)
    progress = Progress()
    with tempfile.TemporaryDirectory() as folder:
        model = visiongraft.fit(
            data, task="detection", callbacks=[progress], out=Path(folder) / "run", **settings
        )
        row = {"start": name, "seconds": time.perf_counter() - progress.start, **progress.best}
        if export:
            proof = model.export(Path(folder) / "model.onnx")
            row["mAP_torch"], row["mAP_onnx"] = proof.metric_torch, proof.metric_exported
            print(f"  exported: mAP {proof.metric_exported:.4f}, PyTorch {proof.metric_torch:.4f}")
        if image is not None:
            draw_grid(model, image)
    return row


def draw_grid(model: visiongraft.TransferModel, file: Path, columns: int = 4) -> None:
    """Draw the detections in the first validation images, with their scores."""
    assert model.validation is not None
    some = [model.validation.load(i) for i in range(columns)]
    grid = Image.new("RGB", (columns * 200, 200))
    for i, (pixels, detected) in enumerate(zip(some, model.predict(some), strict=True)):
        drawn = model.task.draw(Image.fromarray(pixels), detected)
        grid.paste(drawn.resize((200, 200)), (i * 200, 0))
    grid.quantize(128).save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", default="raccoon")
    parser.add_argument("--weights", type=Path, help="weights file of torchvision/mobilenet_v2")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--head", default="ssdlite")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--image", type=Path, help="draw detections of the first model to this file"
    )
    parser.add_argument("--export", action="store_true", help="also export and compare the metrics")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = draw_shapes(Path(folder)) if args.data is None else args.data / args.set
        common: dict[str, Any] = {
            "task_options": {"head": args.head},
            "size": args.size,
            "batch_size": args.batch_size,
            "epochs": args.epochs or (EPOCHS.get(args.set, 16) if args.data else 6),
            "device": "cpu",
        }
        lite = "bundled/efficientnet_lite0"
        tuning = TUNING.get(args.set, TUNING["raccoon"])
        starts: list[dict[str, Any]] = [{"backbone": lite, "schedule": tuning}]
        if args.weights is not None:
            mobile = "torchvision/mobilenet_v2"
            starts += [{"backbone": mobile, "weights": args.weights, "schedule": tuning}]
        starts += [{"backbone": lite, "weights": None, "schedule": FROM_SCRATCH}]
        rows = []
        for start in starts:
            name = start["backbone"] + (", random" if start.get("weights", "") is None else "")
            rows.append(train(name, data, args.export, args.image, **common, **start))
            args.image = None  # only for the first model
    print(f"\n{'start':36} {'seconds':>8} {'mAP':>7} {'AP50':>7} {'AP75':>7}")
    for row in rows:
        scores = " ".join(f"{row.get(name) or 0:7.3f}" for name in ("mAP", "AP50", "AP75"))
        print(f"{row['start']:36} {row['seconds']:8.0f} {scores}")


if __name__ == "__main__":
    main()
