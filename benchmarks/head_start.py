"""The closed-form start of a head against scikit-learn's logistic regression, on the same frozen features.

    python benchmarks/head_start.py --sets FOLDER [--images N ...] [--seeds N] [--size N]

FOLDER is made by small_sets.py. Prints accuracy and calibration error in percent on val/, and seconds, as means
over draws of the training images, for each dataset and their mean, as a Markdown table. Logistic regression gets
standardized features, and its strength is chosen by cross-validation within the training images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from small_sets import HELD_OUT, TUNING, subset

from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.classification.closed_form import linear_classifier
from visiongraft.plugins.classification.metrics import SingleLabelMetrics
from visiongraft.preprocess import Preprocess

Floats = NDArray[np.floating[Any]]
ClassIds = NDArray[np.int64]


class Features:
    """The features of images, each computed once."""

    def __init__(self, size: int) -> None:
        self.backbone = load_backbone(
            "bundled/efficientnet_lite0", weights="pretrained", size=size
        ).eval()
        self.preprocess = Preprocess(self.backbone.info.preprocess)
        self.known: dict[Path, Floats] = {}

    @torch.no_grad()
    def of(self, folder: Path, names: Sequence[str]) -> tuple[Floats, ClassIds]:
        """Return features (N, D) and class ids (N,) of FOLDER/CLASS/*."""
        files = sorted(folder.glob("*/*"))
        for file in {file.resolve() for file in files} - set(self.known):
            image = np.array(Image.open(file).convert("RGB"))
            pixels = self.preprocess(torch.from_numpy(image)[None])
            self.known[file] = self.backbone(pixels).pooled[0].numpy()
        labels = np.array([names.index(file.parent.name) for file in files])
        return np.stack([self.known[file.resolve()] for file in files]), labels


def closed_form(features: Floats, labels: ClassIds, unseen: Floats, classes: int) -> Floats:
    """Predict by the classifier from which training starts."""
    layer = linear_classifier(features, labels, classes)
    logits = torch.from_numpy(unseen @ layer.weight.T + layer.bias)
    return logits.softmax(1).numpy()


def logistic_regression(features: Floats, labels: ClassIds, unseen: Floats, classes: int) -> Floats:
    """Predict by logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    strengths = {"logisticregression__C": np.logspace(-4, 1, 6)}
    folds = min(3, int(np.bincount(labels).min()))
    search = GridSearchCV(pipeline, strengths, cv=folds, scoring="neg_log_loss")
    probabilities: Floats = search.fit(features, labels).predict_proba(unseen)
    return probabilities


METHODS: dict[str, Callable[[Floats, ClassIds, Floats, int], Floats]] = {
    "closed form": closed_form,
    "logistic regression": logistic_regression,
}


def measure(features: Features, root: Path, images: int, seeds: int) -> NDArray[np.float64]:
    """Return accuracy, calibration error and seconds of each method on one dataset, (methods, 3)."""
    names = sorted(path.name for path in (root / "train").iterdir())
    unseen, targets = features.of(root / "val", names)
    results = np.zeros((seeds, len(METHODS), 3))
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            data = subset(root, images, seed, Path(name) / "data")
            known, labels = features.of(data / "train", names)
        for position, method in enumerate(METHODS.values()):
            start = time.process_time()
            probabilities = method(known, labels, unseen, len(names))
            seconds = time.process_time() - start
            metrics = SingleLabelMetrics(names)
            decoded = {"probabilities": probabilities, "labels": probabilities.argmax(1)}
            metrics.update(decoded, torch.from_numpy(targets))
            found = metrics.compute()
            scores = 100 * found["accuracy"], 100 * found["calibration_error"], seconds
            results[seed, position] = scores
    return results.mean(0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--images", nargs="+", type=int, default=[60, 200])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, default=96)
    given = parser.parse_args(arguments)
    if given.sets is None:
        print("head_start: pass --sets FOLDER to measure something", file=sys.stderr)
        return
    warnings.filterwarnings("ignore", module="sklearn")
    features = Features(given.size)
    print("| images | dataset |" + "".join(f" {m}: accuracy | ECE | seconds |" for m in METHODS))
    print("| --- | --- |" + " --- | --- | --- |" * len(METHODS))
    for images in given.images:
        rows = {}
        for name in (*TUNING, *HELD_OUT):
            rows[name] = measure(features, given.sets / name, images, given.seeds)
            print(_row(images, name, rows[name]), flush=True)
        print(_row(images, "mean", np.mean(list(rows.values()), axis=0)), flush=True)


def _row(images: int, name: str, results: NDArray[np.float64]) -> str:
    cells = (f" {a:.1f} | {e:.1f} | {s:.2f} |" for a, e, s in results)
    return f"| {images} | {name} |" + "".join(cells)


if __name__ == "__main__":
    main()
