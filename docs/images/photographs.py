"""Draw ``photographs.jpg``: tiles of five photographs, what a linear probe calls them, and why.

Run it from anywhere: ``python docs/images/photographs.py``. It needs scikit-image, whose photographs of these names are
in the public domain or under CC0. Every second tile of each photograph is for validation.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data

import visiongraft as vg

PHOTOGRAPHS = {
    "cat": data.chelsea,
    "coffee": data.coffee,
    "astronaut": data.astronaut,
    "rocket": data.rocket,
    "galaxies": data.hubble_deep_field,
}
SIDE, MOST, SHOWN_SIDE = 96, 24, 192
SHOWN = {
    "cat": 2,
    "coffee": 7,
    "astronaut": 3,
    "rocket": 7,
    "galaxies": 3,
}  # of the validation tiles


def tiles(photo: Image.Image) -> list[Image.Image]:
    """Cut a photograph into tiles that do not overlap, row by row."""
    corners = [
        (left, top)
        for top in range(0, photo.height - SIDE + 1, SIDE)
        for left in range(0, photo.width - SIDE + 1, SIDE)
    ]
    found = [photo.crop((x, y, x + SIDE, y + SIDE)) for x, y in corners[:MOST]]
    return [tile.resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC) for tile in found]


Pairs = list[tuple[Image.Image, str]]


def trained_probe() -> tuple[vg.TransferModel, dict[str, list[Image.Image]], Pairs, Pairs]:
    """Train a probe on every second tile; return it, all tiles, and those of training and validation."""
    cut = {name: tiles(Image.fromarray(photo())) for name, photo in PHOTOGRAPHS.items()}
    training, validation = (
        [(tile, name) for name, found in cut.items() for tile in found[first::2]]
        for first in (0, 1)
    )
    model = vg.fit(
        (training, validation),
        task="classification",
        schedule="linear_probe",
        epochs=1,
        size=SHOWN_SIDE,
        device="cpu",
        callbacks=(),
    )
    return model, cut, training, validation


def main() -> None:
    """Train, measure and draw: predictions above, explanations below."""
    model, cut, _, validation = trained_probe()
    print(model.evaluate(validation)["accuracy"], "on", len(validation), "tiles")
    shown = [cut[name][1::2][number] for name, number in SHOWN.items()]
    drawn = [
        model.task.draw(tile, prediction)
        for tile, prediction in zip(shown, model.predict(shown), strict=True)
    ]
    maps = [found.draw() for found in vg.explain(model, shown, "grad_cam")]
    height = drawn[0].height
    canvas = Image.new("RGB", (len(shown) * SHOWN_SIDE, height + SHOWN_SIDE))
    for i, (above, below) in enumerate(zip(drawn, maps, strict=True)):
        canvas.paste(above, (i * SHOWN_SIDE, 0))
        canvas.paste(below, (i * SHOWN_SIDE, height))
    canvas.save(Path(__file__).with_suffix(".jpg"), quality=85)


if __name__ == "__main__":
    main()
