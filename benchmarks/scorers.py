"""Which score predicts what a source is worth: rank correlations with real fine-tuning.

    python benchmarks/scorers.py --data FOLDER --out FOLDER [--sources A B] [--targets C D] [...]

FOLDER contains labeled folders NAME/{train,val}/CLASS/*. A source is one of these, on which a network is
trained from random weights, the same with permuted labels ("cifar-permuted"), random weights ("random0",
"random1", ...), or the name of a pretrained backbone, with a file of its weights if they are not at hand
("bundled/efficientnet_lite0", "torchvision/mobilenet_v2=FILE"). Each source is then
fine-tuned on few images of each target, and scored on the same images before. Finished cells are
appended to OUT/cells.jsonl and not trained again. Afterwards it prints the rank correlation of each score
with the accuracy on val/ over the sources, for each target: Kendall's tau-b, and weighted by hyperbolic ranks of
the accuracy, so that the order of the best sources counts most (Vigna, 2015).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import read_cells, train_cells
from scipy.stats import kendalltau, weightedtau

import visiongraft
from visiongraft.advice.candidates import embed, load_candidate, scorer_input
from visiongraft.data.samples import TargetSamples
from visiongraft.errors import OptionError
from visiongraft.lookup.methods import find_scorer
from visiongraft.registry.manager import plugins

PERMUTED = "-permuted"


@dataclass(frozen=True)
class Cell:
    """One source on one target.

    Attributes:
        target: Name of a labeled folder.
        source: See the top of this file.
        seed: Of the images and the run.
    """

    target: str
    source: str
    seed: int


def source_of(name: str, given: argparse.Namespace) -> tuple[str, str | None]:
    """Return backbone and weights of a source; train it on first use."""
    if name.startswith("random"):
        return given.backbone, None
    if "/" in name:
        backbone, _, file = name.partition("=")
        return backbone, file or "pretrained"
    folder = Path(given.out) / "sources" / name
    if not (folder / "model").exists():
        samples = read(Path(given.data) / name.removesuffix(PERMUTED), "train")
        if name.endswith(PERMUTED):
            order = np.random.default_rng(0).permutation(len(samples))
            samples = TargetSamples(samples, tuple(samples.target(int(i)) for i in order))
        chosen = few(samples, given.source_images, 0)
        pairs = [(samples.load(i), samples.target(i)) for i in chosen]
        train(pairs, given.backbone, None, folder, given, given.source_epochs, seed=0)
    return str(folder), "pretrained"


def read(folder: Path, split: str) -> Any:
    """Return labeled samples of one split."""
    task = plugins().get("task", "classification")()
    splits = task.read(folder)
    return splits.train if split == "train" else splits.validation


def train(
    data: Any,
    backbone: str,
    weights: str | None,
    out: Path | None,
    given: argparse.Namespace,
    epochs: int,
    seed: int,
) -> Any:
    """Train all of a network."""
    return visiongraft.fit(
        data,
        task="classification",
        backbone=backbone,
        weights=weights,
        size=given.size,
        schedule="full(layer_decay=1.0)",
        learning_rate=given.learning_rate,
        epochs=epochs,
        seed=seed,
        select="last",
        out=out,
        callbacks=(),
    )


def run_cell(cell: Cell, given: argparse.Namespace) -> dict[str, Any]:
    """Score a source on few images of a target, and fine-tune it on them."""
    folder = Path(given.data) / cell.target
    samples = read(folder, "train")
    chosen = few(samples, given.images, cell.seed)
    backbone, weights = source_of(cell.source, given)
    torch.manual_seed(int(cell.source.removeprefix("random")) if weights is None else 0)
    candidate = load_candidate(
        backbone, weights, torch.device("cpu"), in_channels=3, size=given.size, resize=None
    )
    labels = np.unique([samples.target(i) for i in chosen], return_inverse=True)[1]
    scored = scorer_input(candidate, embed(candidate, samples.subset(chosen)), labels, 0)
    scores = {}
    for name in given.scorers or plugins().scorers():
        try:
            scores[name] = find_scorer(name).score(scored)
        except OptionError:
            scores[name] = None
    with tempfile.TemporaryDirectory() as scratch:
        start = Path(scratch) / "backbone.safetensors"
        save_backbone(candidate.backbone, start)
        pairs = [(samples.load(i), samples.target(i)) for i in chosen]
        name = given.backbone if weights is None else backbone
        own = str(start) if weights is None else weights
        model = train((pairs, pairs[:2]), name, own, None, given, given.epochs, cell.seed)
    held_out = read(folder, "val")
    pairs = [(held_out.load(i), held_out.target(i)) for i in few(held_out, given.test_images, 0)]
    return {"accuracy": model.evaluate(pairs)["accuracy"], "scores": scores}


def save_backbone(backbone: torch.nn.Module, path: Path) -> None:
    """Write the weights of a backbone, so that what was scored is what trains."""
    from safetensors.torch import save_file

    save_file({n: t.contiguous().clone() for n, t in backbone.state_dict().items()}, path)


def few(samples: Any, images: int, seed: int) -> list[int]:
    """Choose the same number of images of each class at random."""
    targets = np.array([samples.target(i) for i in range(len(samples))])
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(targets == label) for label in np.unique(targets)]
    return [int(i) for group in groups for i in generator.permutation(group)[:images]]


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """Yield all pairs of different sources and targets."""
    for seed, target, source in product(given.seeds, given.targets, given.sources):
        if source.removesuffix(PERMUTED) != target:
            yield Cell(target, source, seed)


def tau(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Return Kendall's tau-b."""
    return float(kendalltau(scores, accuracies).statistic)


def weighted_tau(scores: Sequence[float], accuracies: Sequence[float]) -> float:
    """Return the weighted tau whose ranks are those of the accuracies."""
    ranks = np.argsort(np.argsort(-np.asarray(accuracies)))
    return float(weightedtau(scores, accuracies, rank=ranks).statistic)


def correlations(
    found: dict[Cell, dict[str, Any]], measure: Callable[[Any, Any], float] = tau
) -> dict[str, dict[str, float]]:
    """Correlate each score with the accuracy over the sources, by scorer and target.

    Args:
        found: Results by cell; several seeds are averaged.
        measure: ``tau`` or ``weighted_tau``.
    """
    result: dict[str, dict[str, float]] = {}
    targets = sorted({cell.target for cell in found})
    scorers = sorted({name for each in found.values() for name in each["scores"]})
    for scorer, target in product(scorers, targets):
        pairs: dict[str, list[tuple[float, float]]] = {}
        for cell, each in found.items():
            if cell.target == target and each["scores"].get(scorer) is not None:
                pairs.setdefault(cell.source, []).append((each["scores"][scorer], each["accuracy"]))
        means = np.array([np.mean(values, axis=0) for values in pairs.values()])
        if len(means) > 2:
            value = measure(means[:, 0], means[:, 1])
            result.setdefault(scorer, {})[target] = float(np.nan_to_num(value))
    return result


def print_table(found: dict[str, dict[str, float]]) -> None:
    """Print correlations, the best scorer first."""
    targets = sorted({target for row in found.values() for target in row})
    print(f"{'scorer':20}" + "".join(f"{target:>16}" for target in [*targets, "mean"]))
    for scorer, row in sorted(found.items(), key=lambda item: -np.mean(list(item[1].values()))):
        values = [*(row.get(target, np.nan) for target in targets), np.mean(list(row.values()))]
        print(f"{scorer:20}" + "".join(f"{value:16.2f}" for value in values))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--scorers", nargs="+")
    parser.add_argument("--backbone", default="simple_cnn")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=20, help="training images of a class")
    parser.add_argument("--source-images", type=int, default=300, help="of a class of a source")
    parser.add_argument("--test-images", type=int, default=100, help="of a class of a target")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--source-epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--limit", type=int, default=10**6)
    given = parser.parse_args(arguments)
    Path(given.out).mkdir(parents=True, exist_ok=True)
    results = Path(given.out) / "cells.jsonl"
    train_cells(cells(given), lambda cell: run_cell(cell, given), results, given.limit)
    found = read_cells(results, Cell)
    for measure in (tau, weighted_tau):
        print(measure.__name__)
        print_table(correlations(found, measure))


if __name__ == "__main__":
    main()
