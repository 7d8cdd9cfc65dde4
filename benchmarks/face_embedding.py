"""Measure how much fine-tuning improves an ImageNet embedding for faces it has never seen.

    python benchmarks/face_embedding.py [--data FOLDER] [--seeds N] [--epochs N] [--plot FILE]

FOLDER is any dataset that the task reads, preferably with a validation split of its own, such as the
ORL faces with ``people_train.txt`` and ``people_val.txt``; without ``--data``, heads are drawn. The
baseline is the embedding of the backbone: the normalized pooled features of the ImageNet network.
Both are measured on the same images of people who are not in training: 10-fold verification accuracy
on the same pairs, and rank-1. The best epoch is selected on these same images, so that the last
epoch is printed too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import visiongraft
from visiongraft.data.loader import BatchLoader, SampleDataset, ordered_batches
from visiongraft.data.samples import Samples
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.face_embedding.evaluation.metrics import FaceMetrics
from visiongraft.plugins.face_embedding.evaluation.plotting import plot_results
from visiongraft.plugins.face_embedding.example import write_folder
from visiongraft.plugins.face_embedding.task import FaceEmbedding
from visiongraft.preprocess import Preprocess

SHOWN = ("verification_accuracy", "verification_standard_error", "equal_error_rate", "rank1")
# The early stages detect edges, in faces as elsewhere; with few people it is better to freeze them.
SCHEDULE = "last_n(n=4, learning_rate=3e-4)"


def measure_backbone(samples: Samples, backbone: str, weights: str | None) -> dict[str, Any]:
    """Measure the pooled features of a backbone that was not trained on faces."""
    task = FaceEmbedding()
    network = load_backbone(backbone, weights, size=task.input_size).eval()
    preprocess = Preprocess(replace(network.info.preprocess, resize="stretch"))
    loader = BatchLoader(SampleDataset(samples, preprocess), task.collate)
    metrics = FaceMetrics()
    plan = [[(i, 0) for i in batch] for batch in ordered_batches(len(samples), 32)]
    for batch in loader.batches(plan):
        with torch.inference_mode():
            embeddings = torch.nn.functional.normalize(network(batch.images).pooled)
        metrics.update({"embedding": embeddings.numpy()}, batch.targets)
    return metrics.compute()


class Epochs:
    """Callback that records the results of every epoch."""

    def __init__(self) -> None:
        self.results: list[dict[str, float]] = []

    @visiongraft.hookimpl
    def epoch_ended(self, record: dict[str, Any]) -> None:
        self.results.append(record["validation"])


def row(name: str, results: dict[str, Any]) -> str:
    accuracy, error, equal, rank1 = (results[key] for key in SHOWN)
    return f"{name:<28} {accuracy:.4f} +- {error:.4f}   {equal:.4f}   {rank1:.4f}"


def compare(data: str, options: argparse.Namespace) -> None:
    splits = FaceEmbedding().read(data)
    print(f"{len(splits.train)} training, {len(splits.validation)} validation images")
    before = measure_backbone(splits.validation, options.backbone, options.weights)
    print(f"{'':<28} 10-fold accuracy    EER      rank-1")
    print(row("untrained embedding", before), flush=True)
    after: dict[str, Any] = {}
    for seed in range(options.seeds):
        start, epochs = time.perf_counter(), Epochs()
        model = visiongraft.fit(
            data,
            task="face_embedding",
            backbone=options.backbone,
            weights=options.weights,
            schedule=options.schedule,
            epochs=options.epochs,
            seed=seed,
            callbacks=[epochs],
        )
        after = model.facts["metrics"]
        print(f"seed {seed}, {time.perf_counter() - start:.0f} s")
        print(row("fine-tuned, best epoch", after))
        print(row("fine-tuned, last epoch", epochs.results[-1]), flush=True)
    if options.plot:
        plot_results({"untrained": before, "fine-tuned": after}, options.plot)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--schedule", default=SCHEDULE)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--plot")
    options = parser.parse_args()
    options.weights = None if options.weights == "none" else options.weights
    with tempfile.TemporaryDirectory() as folder:
        compare(options.data or str(write_folder(Path(folder), 240, seed=0)), options)


if __name__ == "__main__":
    main()
