"""Measure what pretraining gains in segmentation: three backbones, equal numbers of epochs.

    python benchmarks/segmentation.py --data FOLDER [--weights FILE] [--epochs N] [--size HxW]

FOLDER contains images/ and masks/, such as CamVid's; FILE contains ImageNet weights of torchvision's
mobilenet_v2, which is skipped without it. With a pretrained backbone the head is trained first, on
cached features, then everything; with random weights everything is trained from the start, including
batch norms, which suits it best. It prints the mean IoU on the test split, the best mean IoU on the
validation split, and the time. Nothing is measured without FOLDER.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import visiongraft
from visiongraft.cli.options import parse_size

RANDOM = "full(learning_rate=1e-3, layer_decay=1.0, batch_norm='train')"


def measure(name: str, data: str, settings: dict[str, Any]) -> str:
    """Train once and return one row of the table."""
    began = time.perf_counter()
    model = visiongraft.fit(
        data,
        task="segmentation",
        task_options={"decoder": "fpn", "channels": 128},
        batch_size=8,
        **settings,
    )
    seconds = time.perf_counter() - began
    validation = model.facts["metrics"]["mean_iou"]
    results = model.evaluate(data)
    print(
        f"{name}: " + ", ".join(f"{n} {r['iou']:.3f}" for n, r in results["per_class"].items()),
        file=sys.stderr,
    )
    return f"{name:34} {results['mean_iou']:10.3f} {validation:12.3f} {seconds:8.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--weights")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", default="192x256")
    given = parser.parse_args()
    if given.data is None:
        print("segmentation: pass --data FOLDER to measure something", file=sys.stderr)
        return
    common = {"epochs": given.epochs, "size": parse_size(given.size)}
    probe = max(1, given.epochs // 2)
    schedule = "lp_ft(probe_epochs={}, learning_rate=5e-4, layer_decay=0.85, batch_norm='frozen')"
    grafted = {**common, "schedule": schedule.format(probe)}
    rows = [
        measure("bundled/efficientnet_lite0", given.data, grafted),
        measure(
            "random efficientnet_lite0", given.data, {**common, "weights": None, "schedule": RANDOM}
        ),
    ]
    if given.weights:
        settings = {**grafted, "backbone": "torchvision/mobilenet_v2", "weights": given.weights}
        rows.insert(1, measure("torchvision/mobilenet_v2", given.data, settings))
    print(f"{given.epochs} epochs, {given.size} pixels")
    print(f"{'backbone':34} {'mIoU test':>10} {'validation':>12} {'time':>10}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
