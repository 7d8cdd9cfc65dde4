"""Draw ``gallery-*.jpg``: results of video classification, of several tasks on one backbone, and of retrieval by words.

Run it from anywhere: ``python docs/images/gallery.py [video] [several] [words]``. It needs scikit-image, whose photographs of
these names are in the public domain or under CC0, and wordllama. What is shown was not trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

import visiongraft as vg
from visiongraft.plugins.video.task import Video

HERE = Path(__file__).parent
SIDE = 96
PHOTOGRAPHS = {
    "cat": data.chelsea,
    "coffee": data.coffee,
    "astronaut": data.astronaut,
    "rocket": data.rocket,
    "galaxies": data.hubble_deep_field,
}
CAPTIONS = {
    "cat": "a cat with brown fur",
    "coffee": "a cup of coffee on a table",
    "astronaut": "a woman, an astronaut in a space suit",
    "rocket": "a rocket before its launch at dusk",
    "galaxies": "stars and galaxies in the night sky",
}
QUESTIONS = ("something to drink", "an animal", "the universe")
SETTINGS: dict[str, Any] = {"size": SIDE, "epochs": 1, "schedule": "linear_probe", "callbacks": ()}


def crops(name: str, count: int, seed: int, side: int = SIDE) -> list[Image.Image]:
    """Cut squares out of a photograph at random."""
    random, photo = np.random.default_rng(seed), PHOTOGRAPHS[name]()
    corners = [[int(random.integers(0, n - side)) for n in photo.shape[:2]] for _ in range(count)]
    return [Image.fromarray(photo[top : top + side, left : left + side]) for top, left in corners]


def row(images: list[Image.Image], title: str) -> Image.Image:
    """Put images beside each other, below a title."""
    canvas = Image.new("RGB", (len(images) * SIDE, SIDE + 20), "white")
    ImageDraw.Draw(canvas).text((4, 3), title, fill="black", font=ImageFont.load_default(13))
    for i, image in enumerate(images):
        canvas.paste(image.resize((SIDE, SIDE)), (i * SIDE, 20))
    return canvas


def save(rows: list[Image.Image], name: str) -> None:
    """Write rows below each other."""
    canvas = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for each in rows:
        canvas.paste(each, (0, top))
        top += each.height
    canvas.save(HERE / f"gallery-{name}.jpg", quality=88)


def video() -> None:
    """Classify clips of a camera that moves over a photograph."""

    def clip(name: str, seed: int) -> np.ndarray:
        (wide,) = crops(name, 1, seed, 2 * SIDE)
        steps = np.linspace(0, SIDE, 8).astype(int)
        frames = [wide.crop((x, SIDE // 2, x + SIDE, SIDE // 2 + SIDE)) for x in steps]
        return np.stack([np.asarray(frame) for frame in frames])

    names = ("cat", "coffee", "astronaut")
    clips = [(clip(name, seed), name) for name in names for seed in range(6)]
    unseen = [(clip(name, seed), name) for name in names for seed in range(50, 53)]
    model = vg.fit((clips, unseen), task=Video(frames=4), **SETTINGS)
    print("video", model.evaluate(unseen)["accuracy"])
    shown = [unseen[i][0] for i in (0, 4, 8)]
    rows = []
    for frames, found in zip(shown, model.predict(shown), strict=True):
        images = [Image.fromarray(frames[i]) for i in (0, 2, 5, 7)]
        rows.append(row(images, f"{found.label} {found.score:.2f}"))
    save(rows, "video")


def several_model() -> tuple[vg.TransferModel, list[tuple[Image.Image, dict[str, Any]]]]:
    """Train two heads on one backbone: the class of a crop, and what is bright in it.

    Returns:
        The model, and crops that it has not seen.
    """

    def sample(name: str, image: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
        mask = (np.asarray(image.convert("L")) > 110).astype(np.uint8)
        return image, {"kind": name, "bright": mask}

    names = ["cat", "coffee", "astronaut"]
    heads = {"kind": "classification", "bright": "segmentation(channels=32)"}
    training = [sample(name, image) for name in names for image in crops(name, 24, 0)]
    unseen = [sample(name, image) for name in names for image in crops(name, 4, 1)]
    model = vg.fit(
        (training, unseen),
        task=vg.MultiTask(heads),
        **{**SETTINGS, "epochs": 12, "schedule": "lp_ft"},
    )
    return model, unseen


def several() -> None:
    """Find the class of a crop and what is bright in it, with two heads on one backbone."""
    model, unseen = several_model()
    results = model.evaluate(unseen)
    print("several", {key: value for key, value in results.items() if isinstance(value, float)})
    shown = [unseen[i][0].resize((320, 320)) for i in (0, 5, 10)]
    drawn = [
        model.task.draw(i, found) for i, found in zip(shown, model.predict(shown), strict=True)
    ]
    canvas = Image.new("RGB", (len(drawn) * drawn[0].width, max(each.height for each in drawn)))
    for i, each in enumerate(drawn):
        canvas.paste(each, (i * each.width, 0))
    save([canvas.resize((canvas.width * 2 // 3, canvas.height * 2 // 3))], "several")


def words() -> None:
    """Find crops by words that are in none of the captions."""
    training = [(crop, CAPTIONS[name]) for name in PHOTOGRAPHS for crop in crops(name, 20, 0)]
    unseen = [crop for name in PHOTOGRAPHS for crop in crops(name, 8, 1)]
    model = vg.fit(training, task="retrieval", **SETTINGS)
    similarities = model.embed(text=list(QUESTIONS)) @ model.embed(unseen).T
    rows = [
        row([unseen[i] for i in np.argsort(-line)[:5]], f'"{question}"')
        for question, line in zip(QUESTIONS, similarities, strict=True)
    ]
    save(rows, "words")


if __name__ == "__main__":
    pictures = {"video": video, "several": several, "words": words}
    for chosen in sys.argv[1:] or pictures:
        pictures[chosen]()
