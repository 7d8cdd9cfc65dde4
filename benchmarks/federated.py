"""What sites gain by training together: accuracy over how unlike their labels are, and megabytes sent.

    python benchmarks/federated.py DATA --work FOLDER --results FILE [--sites N] [--alphas A ...] [--ways WAY ...]

DATA is an image folder with train/ and val/. The training images are divided among the sites with shares of each class
that are drawn from a Dirichlet distribution: with alpha = 100 sites are alike, with 0.1 most have hardly any image
of some class. Each site has at least two images of two classes, which it needs to train at all. All are measured on val/.

Ways: "central" trains on all images together, "local" trains each site by itself (mean accuracy), the others train
together: "head", "lora", "full", and "full_fedbn", whose norms stay at the sites. Images are taken at 96 pixels.
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

import visiongraft
from visiongraft.plugins.federated.config import FederatedConfig
from visiongraft.plugins.federated.simulation import simulate

ROUNDS = 5
LEAST = 4  # images of each of two classes
FIT: Mapping[str, Any] = {"task": "classification", "size": 96, "batch_size": 16}
SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "head": {"schedule": "linear_probe", "learning_rate": 2e-3, "epochs": 2},
    "lora": {"schedule": "full", "adapters": ["lora"], "learning_rate": 2e-3, "epochs": 1},
    "full": {"schedule": "full", "learning_rate": 3e-4, "epochs": 1},
    "full_fedbn": {"schedule": "full(batch_norm='train')", "learning_rate": 3e-4, "epochs": 1},
}


@dataclass(frozen=True)
class Cell:
    """One training: dataset, number of sites, skew of their labels, and way."""

    data: str
    sites: int
    alpha: float
    way: str


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
        for which in classes[:2]:
            while sum(labels[i] == which for i in part) < LEAST:
                giver = max(parts, key=lambda p: sum(labels[i] == which for i in p))
                moved = next(i for i in giver if labels[i] == which)
                giver.remove(moved)
                part.append(moved)
    return parts


def write_sites(cell: Cell, work: Path) -> dict[str, str]:
    """Write image folders of the sites, of links, and return their paths by name."""
    source = Path(cell.data).resolve() / "train"
    files = sorted(source.glob("*/*"))
    names = sorted({file.parent.name for file in files})
    labels = np.array([names.index(file.parent.name) for file in files])
    folder = work / f"{source.parent.name}-{cell.sites}-{cell.alpha:g}"
    found = {}
    for number, part in enumerate(divide(labels, cell.sites, cell.alpha, seed=0)):
        site = folder / f"site{number:02d}"
        for i in part:
            link = site / files[i].parent.name / files[i].name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(files[i])
        found[site.name] = str(site)
    return found


def train(cell: Cell, work: Path) -> dict[str, Any]:
    """Train one way, and return the accuracy on val/ and the megabytes that were sent."""
    data = Path(cell.data)
    names = sorted(path.name for path in (data / "train").iterdir() if path.is_dir())
    options = {"class_names": names, "multi_label": False, "augment": "none"}
    fit = {**FIT, "task_options": {**options, "head_start": "random"}}
    if cell.way in ("central", "local"):
        sets = {"all": str(data / "train")} if cell.way == "central" else write_sites(cell, work)
        alone = {**SCHEDULES["head"], "epochs": SCHEDULES["head"]["epochs"] * ROUNDS}
        models = [
            visiongraft.fit(path, **fit, **alone, select="last", callbacks=())
            for path in sets.values()
        ]
        found = [model.evaluate(data / "val")["accuracy"] for model in models]
        return {"accuracy": statistics.mean(found), "megabytes": 0.0}
    chosen = {**fit, **SCHEDULES[cell.way]}
    personal = ["norms"] if cell.way == "full_fedbn" else []
    values = {
        "fit": chosen,
        "rounds": ROUNDS,
        "sites": write_sites(cell, work),
        "personal": personal,
    }
    out = work / f"{data.name}-{cell.sites}-{cell.alpha:g}-{cell.way}"
    result = simulate(FederatedConfig.of(values), out)
    models = [visiongraft.load(p) for p in sorted(out.glob("sites/*/model"))]
    measured = models if personal else models[:1]
    accuracy = statistics.mean(m.evaluate(data / "val")["accuracy"] for m in measured)
    return {"accuracy": accuracy, "megabytes": result["bytes"] / 1e6}


def main() -> None:
    """Train all cells that the results do not contain yet, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.1, 1, 100])
    parser.add_argument("--ways", nargs="+", default=["central", "local", *SCHEDULES])
    options = parser.parse_args()
    cells = [
        Cell(options.data, options.sites, alpha, way)
        for way in options.ways
        for alpha in (options.alphas[:1] if way == "central" else options.alphas)
    ]
    found = train_cells(cells, lambda cell: train(cell, options.work), options.results, len(cells))
    print(table(found))


def table(found: Mapping[Cell, Mapping[str, Any]]) -> str:
    """Return a Markdown table: accuracy in percent by alpha, and megabytes of the last one."""
    alphas = sorted({cell.alpha for cell in found})
    heads = " | ".join(f"alpha {alpha:g}" for alpha in alphas)
    lines = [f"| way | {heads} | MB |", "| --- |" + " --- |" * (len(alphas) + 1)]
    for way in dict.fromkeys(cell.way for cell in found):
        own = {cell.alpha: values for cell, values in found.items() if cell.way == way}
        cells = [f"{100 * own[a]['accuracy']:.1f}" if a in own else "" for a in alphas]
        sent = max(values["megabytes"] for values in own.values())
        lines.append(f"| {way} | {' | '.join(cells)} | {sent:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
