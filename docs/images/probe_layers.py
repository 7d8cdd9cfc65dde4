"""Draw ``probe-layers.png``: which attributes of crops of photographs the layers of the default backbone hold.

Run it from anywhere: ``python docs/images/probe_layers.py``. It needs scikit-image.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import visiongraft as vg

HERE = Path(__file__).parent
PHOTOGRAPHS = {"cat": data.chelsea, "coffee": data.coffee, "astronaut": data.astronaut}
SIDE, COUNT = 96, 80


def write_crops(folder: Path) -> Path:
    """Write random crops of each photograph, some mirrored and some brighter, and a table of this."""
    generator = np.random.default_rng(0)
    rows = ["path,photograph,mirrored,brighter"]
    for name, photo in PHOTOGRAPHS.items():
        pixels = photo()
        for number in range(COUNT):
            top, left = (int(generator.integers(0, n - SIDE)) for n in pixels.shape[:2])
            crop = pixels[top : top + SIDE, left : left + SIDE].astype(float)
            mirrored, brighter = (bool(generator.integers(2)) for _ in range(2))
            crop = crop[:, ::-1] if mirrored else crop
            crop = crop * 1.15 if brighter else crop
            Image.fromarray(crop.clip(0, 255).astype(np.uint8)).save(
                folder / f"{name}-{number}.png"
            )
            rows.append(f"{name}-{number}.png,{name},{mirrored},{brighter}")
    table = folder / "attributes.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    return table


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        table = write_crops(Path(name))
        images = Path(name, "train")
        for photograph in PHOTOGRAPHS:  # a head is needed to make a model; it is not looked at
            (images / photograph).mkdir(parents=True)
            for number in range(4):
                crop = Image.open(Path(name, f"{photograph}-{number}.png"))
                crop.save(images / photograph / f"{number}.png")
        model = vg.fit(
            images,
            task="classification",
            schedule="linear_probe",
            epochs=1,
            size=SIDE,
            callbacks=(),
        )
        found = vg.probe_layers(model, table)
        print(found)
        found.plot(HERE / "probe-layers.png")
