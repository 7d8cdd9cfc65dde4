"""Transfer learning with faces: a source task, a target task, and a comparison of three backbones.

    python examples/source_to_target.py FACES
    python examples/source_to_target.py CELEBA --target LFW
    python examples/source_to_target.py celeba_attributes:CELEBA --source-task classification --target LFW

A network learns a source task: the identities of a face dataset, or its attributes. Its saved model
is the backbone of a second training run on a target dataset with other identities. The same run also
starts from random weights, and from the ImageNet weights that the source started from. The example
prints how well each of the three verifies people that none of them has seen: 10-fold accuracy.

FACES is any dataset that face_embedding reads, such as one folder per person. A single dataset is
divided: half of its people are the source, the rest the target. If the target has no validation split
of its own, half of its people are held out. No person is in two of the splits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import visiongraft as vg
from visiongraft.data.samples import Samples
from visiongraft.plugins.face_embedding.task import FaceEmbedding

FINE_TUNING = "last_n(n=4, learning_rate=3e-4)"
FROM_SCRATCH = "full(learning_rate=1e-3, layer_decay=1.0, batch_norm='train')"


Face = tuple[Samples, int, str]  # samples, position of the image in them, name of the person


class People:
    """Map-style dataset of (image, name)."""

    def __init__(self, faces: Sequence[Face]) -> None:
        self.faces = faces
        self.targets = [name for _, _, name in faces]

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        samples, position, name = self.faces[index]
        return samples.load(position), name


def divide(data: str) -> tuple[People, People]:
    """Divide the people of a dataset: every second one for the source, the rest for the target."""
    splits = FaceEmbedding().read(data)
    source: list[Face] = []
    target: list[Face] = []
    everyone = sorted({*splits.train.counts(), *splits.validation.counts()})
    first = set(everyone[::2])
    for split in (splits.train, splits.validation):
        for position in range(len(split)):
            name = split.target(position).identity
            (source if name in first else target).append((split, position, name))
    return People(source), People(target)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train on the source, then on the target from three different backbones.

    Args:
        arguments: Command-line arguments; those of the process if ``None``.

    Returns:
        Verification accuracy by the weights that training started from.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--target")
    parser.add_argument("--source-task", default="face_embedding")
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument(
        "--fine-tuning", default=FINE_TUNING, help="schedule for pretrained weights"
    )
    parser.add_argument("--from-scratch", default=FROM_SCRATCH, help="schedule for random weights")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--validation", type=float, default=0.5, help="fraction of the target's people"
    )
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    weights = None if options.weights == "none" else options.weights
    source, target = (options.source, options.target) if options.target else divide(options.source)
    common: dict[str, Any] = {"epochs": options.epochs, "seed": options.seed, "callbacks": ()}
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = vg.fit(
            source,
            task=options.source_task,
            backbone=options.backbone,
            weights=weights,
            schedule=options.fine_tuning,
            size=options.size,
            **common,
        )
        model.save(Path(folder) / "source")
        headline = model.task.headline
        print(f"source task: {headline} {model.facts['metrics'][headline]:.4f}", flush=True)
        starts: dict[str, dict[str, Any]] = {
            "from scratch": {"backbone": options.backbone, "weights": None},
            "from ImageNet": {"backbone": options.backbone, "weights": weights},
            "from the source": {"backbone": Path(folder) / "source", "weights": "pretrained"},
        }
        for name, initial in starts.items():
            scratch = initial["weights"] is None
            schedule = options.from_scratch if scratch else options.fine_tuning
            model = vg.fit(
                target,
                task="face_embedding",
                schedule=schedule,
                size=options.size,
                validation=options.validation,
                **initial,
                **common,
            )
            results = model.facts["metrics"]
            found[name] = results["verification_accuracy"]
            print(
                f"{name:<16} verification accuracy {found[name]:.4f} "
                f"+- {results['verification_standard_error']:.4f}, rank-1 {results['rank1']:.4f}",
                flush=True,
            )
        print(f"took {time.perf_counter() - start:.0f} s")
    return found


if __name__ == "__main__":
    main()
