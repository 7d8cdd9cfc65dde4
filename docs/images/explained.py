"""Draw ``explain-*.jpg`` of methods, tasks and boxes, ``cam.jpg``, ``detection-crops.jpg`` and ``detection-hundred.jpg``.

Run it from anywhere: ``python docs/images/explained.py [NAME ...]``. It needs scikit-image, captum and onnxruntime. The photographs are
those of ``photographs.py``, the shapes on them those of ``benchmarks/detection.py``.
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from gallery import several_model
from matplotlib import colormaps
from photographs import SIDE, trained_probe
from PIL import Image, ImageDraw, ImageFont
from skimage import data

import visiongraft as vg
from visiongraft.plugins.detection.drawing import draw_boxes
from visiongraft.plugins.detection.prediction import Detected, DetectedObject

HERE = Path(__file__).parent
SHAPES = runpy.run_path(str(HERE.parents[1] / "benchmarks" / "detection.py"))["draw_shapes"]
CELL, TITLE = 144, 20
SHOWN = {"cat": 2, "astronaut": 3, "rocket": 7}  # of the validation tiles
METHODS = ("grad_cam", "layer_cam", "integrated_gradients", "occlusion", "rise")
SETTINGS: dict[str, Any] = {"callbacks": (), "device": "cpu"}


def grid(rows: list[list[tuple[str, Image.Image]]], name: str) -> None:
    """Write images below each other, each below its title."""
    width = max(map(len, rows)) * CELL
    canvas = Image.new("RGB", (width, len(rows) * (CELL + TITLE)), "white")
    brush, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for i, row in enumerate(rows):
        for j, (title, image) in enumerate(row):
            left, top = j * CELL, i * (CELL + TITLE)
            brush.rectangle([left, top, width, top + TITLE], fill="white")  # of a long title
            brush.text((left + 3, top + 3), title, fill="black", font=font)
            canvas.paste(image.convert("RGB").resize((CELL - 2, CELL - 2)), (left, top + TITLE))
    canvas.save(HERE / f"{name}.jpg", quality=88)


def methods() -> None:
    """Explain the same answers by each method; attention by a small transformer that was trained on these tiles only."""
    model, cut, training, _ = trained_probe()
    transformer = vg.fit(
        training,
        task="classification",
        backbone="timm/vit_tiny_patch16_224",
        weights=None,
        size=SIDE,
        schedule="full(learning_rate=1e-3, layer_decay=1.0)",
        epochs=20,
        batch_size=16,
        **SETTINGS,
    )
    rows = []
    for name, number in SHOWN.items():
        tile = cut[name][1::2][number]
        maps = [(each, vg.explain(model, tile, each)[0].draw()) for each in METHODS]
        attention = vg.explain(transformer, tile, "attention_rollout")[0]
        rows.append([(name, tile), *maps, ("attention_rollout", attention.draw())])
    grid(rows, "explain-methods")


def tasks() -> None:
    """Explain what two heads say of a crop, and why two tiles are alike."""
    both, unseen = several_model()
    heads = vg.explain(both, unseen[0][0], "occlusion")
    model, cut, _, _ = trained_probe()
    reference, other = cut["cat"][5], cut["cat"][7]
    alike = vg.explain(model, other, "grad_cam", similar_to=reference)[0]
    row = [("a crop", unseen[0][0]), *((each.target, each.draw()) for each in heads)]
    grid([[*row, ("similar to this?", reference), ("cosine", alike.draw())]], "explain-tasks")


def boxes(folder: Path) -> None:
    """Explain two boxes of a detector, and draw crops of what it found."""
    model = vg.fit(
        SHAPES(folder),
        task="detection",
        schedule="full(learning_rate=1e-3)",
        epochs=16,
        size=192,
        batch_size=8,
        **SETTINGS,
    )
    crops(model, folder)
    photo = model.validation.load(0)
    found = vg.explain(model, photo, "occlusion")[:2]
    row = [("an image", Image.fromarray(photo)), *((each.target, each.draw()) for each in found)]
    grid([row], "explain-boxes")


def crops(model: Any, folder: Path) -> None:
    """Show what ``save_crops`` writes of one image, beside the drawn detections."""
    photos = [model.validation.load(i) for i in range(6)]
    model.predict(photos, save=folder / "found", save_crops=True, score_threshold=0.4)
    drawn = sorted((folder / "found").glob("*.[jp][pn]g"))
    rows = [[(path.name, Image.open(path)) for path in drawn]]
    cropped = sorted((folder / "found" / "crops").glob("*/*.jpg"))
    for start in range(0, min(len(cropped), 12), 6):
        some = cropped[start : start + 6]
        rows.append([(f"{path.parent.name}/{path.name}", Image.open(path)) for path in some])
    grid(rows, "detection-crops")


def cam() -> None:
    """Export a file with class activation maps, and draw those that onnxruntime computes with it."""
    model, cut, _, _ = trained_probe()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photographs.onnx"
        model.export(file, extra_outputs=["cam"])
        session = onnxruntime.InferenceSession(file)
        tile = cut["astronaut"][1::2][SHOWN["astronaut"]]
        (maps,) = session.run(["cam"], {"images": np.asarray(tile)[None]})
    row = [("images", tile)]
    highest = float(maps.max())
    for name, values in zip(model.task.class_names, maps[0], strict=True):
        heat = colormaps["turbo"](np.clip(values / highest, 0, 1))[..., :3]
        picture = Image.fromarray((heat * 255).astype(np.uint8)).resize(
            tile.size, Image.Resampling.BICUBIC
        )
        row.append((f"cam of {name}", Image.blend(tile, picture, 0.5)))
    grid([row], "cam")


def hundred() -> None:
    """Draw a hundred shapes on a photograph, and a box around each as if a detector had found it."""
    random = np.random.default_rng(0)
    photo = Image.fromarray(data.coffee())
    brush = ImageDraw.Draw(photo)
    objects = []
    for row in range(10):
        for column in range(10):
            side = int(random.integers(16, 32))
            x, y = column * 59 + int(random.integers(0, 26)), row * 39 + int(random.integers(0, 7))
            kind = int(random.integers(2))
            fill = tuple(int(v) for v in random.integers(0, 256, 3))
            (brush.ellipse, brush.rectangle)[kind]([x, y, x + side, y + side], fill=fill)
            box = tuple(map(float, (x, y, x + side, y + side)))
            objects.append(DetectedObject(("disc", "square")[kind], 0.9, box))
    drawn = draw_boxes(photo, Detected(tuple(objects)))
    drawn.save(HERE / "detection-hundred.jpg", quality=85)


def main() -> None:
    """Draw those that are named, or all."""
    names = sys.argv[1:] or ["methods", "tasks", "boxes", "cam", "hundred"]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            globals()[name](*([Path(folder)] if name == "boxes" else []))


if __name__ == "__main__":
    main()
