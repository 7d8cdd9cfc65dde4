"""What sites gain by training together: accuracy over how unlike they are, and megabytes sent.

    python benchmarks/federated.py DATA --work FOLDER --results FILE [--sites N] [--skews SKEW ...] [--ways WAY ...]

DATA is an image folder with train/ and val/. The training images are divided among the sites, and all are measured on
val/. How sites differ (SKEW):

labels-0.1, labels-1, labels-100: shares of each class are drawn from a Dirichlet distribution; with alpha = 100 sites are
    alike, with 0.1 most have hardly any image of some class. Each site has at least four images of two classes, which
    it needs to train at all.
contrast, blur: labels as with alpha = 100, and the images of each site have one of five contrasts (1, 0.6, 0.35, 0.2, 0.1)
    or are blurred by one of five radii (0, 0.5, 1, 2, 3 of 96 pixels). The accuracy is the mean over val/ with each of the
    five; a model of a site is measured with that of its site.

Ways: "central" trains a head on all images together, "local" a head at each site by itself (mean accuracy), the others
train together: "head", "lora", "full" (batch norm frozen), "full_norms" (batch norm trains and travels), and "full_fedbn"
(batch norm trains and stays at the sites).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import train_cells
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

import visiongraft
from visiongraft.plugins.federated.config import FederatedConfig
from visiongraft.plugins.federated.simulation import simulate

ROUNDS = 5
LEAST = 4  # images of each of two classes
ALIKE = 100.0  # alpha of sites whose images differ, and not their labels
CONTRASTS = (1.0, 0.6, 0.35, 0.2, 0.1)
SKEWS = ("labels-0.1", "labels-1", "labels-100", "contrast", "blur")
RADII = (0.0, 0.5, 1.0, 2.0, 3.0)  # of images of 96 pixels
FIT: Mapping[str, Any] = {"task": "classification", "batch_size": 16}
NORMS = "full(batch_norm='train')"
SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "head": {"schedule": "linear_probe", "learning_rate": 2e-3, "epochs": 2},
    "lora": {"schedule": "full", "adapters": ["lora"], "learning_rate": 2e-3, "epochs": 1},
    "full": {"schedule": "full", "learning_rate": 3e-4, "epochs": 1},
    "full_norms": {"schedule": NORMS, "learning_rate": 3e-4, "epochs": 1},
    "full_fedbn": {"schedule": NORMS, "learning_rate": 3e-4, "epochs": 1},
}


@dataclass(frozen=True)
class Cell:
    """One training: dataset, number of sites, how they differ, and way.

    Attributes:
        data: Folder of the dataset.
        sites: Number of sites.
        skew: How they differ.
        way: How they train.
        size: Size of the images in pixels.
        images: Number of training images per class at most; 0 for all.
    """

    data: str
    sites: int
    skew: str
    way: str
    size: int = 96
    images: int = 0

    @property
    def alpha(self) -> float:
        """Parameter of the Dirichlet distribution of the labels."""
        return float(self.skew.removeprefix("labels-")) if self.levels == (None,) else ALIKE

    @property
    def levels(self) -> tuple[float | None, ...]:
        """How the images of sites differ: contrasts, radii, or not at all."""
        return {"contrast": CONTRASTS, "blur": RADII}.get(self.skew, (None,))


def divide(labels: NDArray[np.int64], sites: int, alpha: float, seed: int) -> list[list[int]]:
    """Divide images among sites: shares of each class are drawn from a Dirichlet distribution."""
    generator = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(sites)]
    classes = np.unique(labels)
    for which in classes:
        images = generator.permutation(np.flatnonzero(labels == which))
        shares = generator.dirichlet([alpha] * sites)
        cuts = (np.cumsum(shares)[:-1] * len(images)).astype(int)
        for part, more in zip(parts, np.split(images, cuts), strict=True):
            part.extend(map(int, more))
    for part in parts:  # a site cannot train on fewer; it takes them from the one that has most
        counts = [sum(labels[i] == which for i in part) for which in classes]
        most = np.argsort(-np.array(counts), kind="stable")[:2]
        for which in classes[np.sort(most)]:
            while sum(labels[i] == which for i in part) < LEAST:
                giver = max(parts, key=lambda p: sum(labels[i] == which for i in p))
                moved = next(i for i in giver if labels[i] == which)
                giver.remove(moved)
                part.append(moved)
    return parts


def images_of(folder: Path, most: int) -> list[Path]:
    """Return the images of all classes, at most so many of each; 0 for all."""
    found = []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(kind.iterdir())
        found += files[:most] if most else files
    return found


def write_sites(cell: Cell, work: Path) -> dict[str, str]:
    """Write image folders of the sites and return their paths by name."""
    files = images_of(Path(cell.data).resolve() / "train", cell.images)
    names = sorted({file.parent.name for file in files})
    labels = np.array([names.index(file.parent.name) for file in files])
    folder = work / f"{Path(cell.data).name}-{cell.sites}-{cell.skew}-{cell.images}"
    found = {}
    for number, part in enumerate(divide(labels, cell.sites, cell.alpha, seed=0)):
        site = folder / f"site{number:02d}"
        level = cell.levels[number % len(cell.levels)]
        write_images([files[i] for i in part], site, cell, level)
        found[site.name] = str(site)
    return found


def write_images(files: list[Path], folder: Path, cell: Cell, level: float | None) -> None:
    """Write images by class: links, or images of another contrast or blurred."""
    for file in files:
        path = folder / file.parent.name / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if level is None and not path.is_symlink():
            path.symlink_to(file)
        if level is None or path.with_suffix(".png").exists():
            continue
        image = Image.open(file).convert("RGB")
        scale = cell.size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)))
        if cell.skew == "contrast":
            image = ImageEnhance.Contrast(image).enhance(level)
        elif level:
            image = image.filter(ImageFilter.GaussianBlur(level * cell.size / 96))
        image.save(path.with_suffix(".png"))


def measured_on(cell: Cell, work: Path) -> list[str]:
    """Return the folders to measure on, one for each way in which images of sites differ."""
    source = Path(cell.data).resolve() / "val"
    if cell.levels == (None,):
        return [str(source)]
    folders = []
    for level in cell.levels:
        folder = work / f"{Path(cell.data).name}-val-{cell.size}-{cell.skew}-{level}"
        write_images(images_of(source, 0), folder, cell, level)
        folders.append(str(folder))
    return folders


def accuracy(models: list[Any], folders: list[str], of_sites: bool) -> float:
    """Return the mean accuracy of models of sites, each on images like those of its site, or of one model on all."""
    if of_sites:
        pairs = [(model, folders[i % len(folders)]) for i, model in enumerate(models)]
    else:
        pairs = [(models[0], folder) for folder in folders]
    return statistics.mean(model.evaluate(folder)["accuracy"] for model, folder in pairs)


def train(cell: Cell, work: Path) -> dict[str, Any]:
    """Train one way, and return the accuracy on val/ and the megabytes that were sent."""
    data = Path(cell.data)
    names = sorted(path.name for path in (data / "train").iterdir() if path.is_dir())
    options = {"class_names": names, "multi_label": False, "augment": "none"}
    fit = {**FIT, "size": cell.size, "task_options": {**options, "head_start": "random"}}
    sites, folders = write_sites(cell, work), measured_on(cell, work)
    if cell.way in ("central", "local"):
        alone = {**SCHEDULES["head"], "epochs": SCHEDULES["head"]["epochs"] * ROUNDS}
        sets = [together(sites, cell, work)] if cell.way == "central" else list(sites.values())
        models = [
            visiongraft.fit(path, **fit, **alone, select="last", callbacks=()) for path in sets
        ]
        return {"accuracy": accuracy(models, folders, cell.way == "local"), "megabytes": 0.0}
    personal = ["norms"] if cell.way == "full_fedbn" else []
    values = {
        "fit": {**fit, **SCHEDULES[cell.way]},
        "rounds": ROUNDS,
        "sites": sites,
        "personal": personal,
    }
    out = work / f"{data.name}-{cell.sites}-{cell.skew}-{cell.images}-{cell.way}"
    result = simulate(FederatedConfig.of(values), out)
    models = [visiongraft.load(p) for p in sorted(out.glob("sites/*/model"))]
    return {
        "accuracy": accuracy(models, folders, bool(personal)),
        "megabytes": result["bytes"] / 1e6,
    }


def together(sites: Mapping[str, str], cell: Cell, work: Path) -> str:
    """Write a folder with links to the images of all sites."""
    folder = work / f"{Path(cell.data).name}-{cell.sites}-{cell.skew}-{cell.images}-together"
    for name, site in sites.items():
        for file in Path(site).glob("*/*"):
            link = folder / file.parent.name / f"{name}-{file.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    return str(folder)


def main() -> None:
    """Train all cells that the results do not contain yet, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--skews", nargs="+", default=SKEWS)
    parser.add_argument("--ways", nargs="+", default=["central", "local", *SCHEDULES])
    parser.add_argument("--size", type=int, default=96, help="size of the images in pixels")
    parser.add_argument("--images", type=int, default=0, help="training images per class at most")
    options = parser.parse_args()
    cells = [
        Cell(options.data, options.sites, skew, way, options.size, options.images)
        for way in options.ways
        for skew in options.skews
    ]
    found = train_cells(cells, lambda cell: train(cell, options.work), options.results, len(cells))
    print(table({cell: found[cell] for cell in cells}))


def table(found: Mapping[Cell, Mapping[str, Any]]) -> str:
    """Return a Markdown table: accuracy in percent by skew, and megabytes of one training."""
    skews = list(dict.fromkeys(cell.skew for cell in found))
    lines = [f"| way | {' | '.join(skews)} | MB |", "| --- |" + " --- |" * (len(skews) + 1)]
    for way in dict.fromkeys(cell.way for cell in found):
        own = {cell.skew: values for cell, values in found.items() if cell.way == way}
        cells = [f"{100 * own[skew]['accuracy']:.1f}" for skew in skews]
        sent = max(values["megabytes"] for values in own.values())
        lines.append(f"| {way} | {' | '.join(cells)} | {sent:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
