"""The story of transfer learning with faces: a source task, a target task, and three numbers.

    python examples/source_to_target.py FACES
    python examples/source_to_target.py CELEBA --target LFW
    python examples/source_to_target.py celeba_attributes:CELEBA --source-task classification --target LFW

A network learns a source task: the identities of one set of faces, or its attributes. Its saved model
is the backbone of a second training, on a second set with other identities. The same training also
begins from nothing, and from the ImageNet weights that the source began with. Printed is how well
each of the three tells people apart whom none of them has seen: 10-fold verification accuracy.

FACES is anything that face_embedding reads, such as a folder per person. With one set alone its people
are divided: half for the source, the rest for the target. Where the target has no validation part of
its own, half of its people are held out. No person is in two of the parts.
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

TUNED = "last_n(n=4, learning_rate=3e-4)"
FROM_NOTHING = "full(learning_rate=1e-3, layer_decay=1.0, batch_norm='train')"


Face = tuple[Samples, int, str]  # where an image is, and whom it shows


class People:
    """Images of some people, as a dataset of (image, name)."""

    def __init__(self, faces: Sequence[Face]) -> None:
        self.faces = faces
        self.targets = [name for _, _, name in faces]

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        samples, position, name = self.faces[index]
        return samples.load(position), name


def divided(data: str) -> tuple[People, People]:
    """Divide the people of one set: every second one for the source, the rest for the target."""
    splits = FaceEmbedding().read(data)
    source: list[Face] = []
    target: list[Face] = []
    everyone = sorted({*splits.train.counts(), *splits.validation.counts()})
    first = set(everyone[::2])
    for part in (splits.train, splits.validation):
        for position in range(len(part)):
            name = part.target(position).identity
            (source if name in first else target).append((part, position, name))
    return People(source), People(target)


def main(words: Sequence[str] | None = None) -> dict[str, float]:
    """Run the story.

    Args:
        words: Those of the command line.

    Returns:
        Verification accuracy by where the training began.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--target")
    parser.add_argument("--source-task", default="face_embedding")
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--tuned", default=TUNED, help="schedule from given weights")
    parser.add_argument("--from-nothing", default=FROM_NOTHING, help="schedule without any")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--validation", type=float, default=0.5, help="share of the target's people"
    )
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    weights = None if given.weights == "none" else given.weights
    source, target = (given.source, given.target) if given.target else divided(given.source)
    common: dict[str, Any] = {"epochs": given.epochs, "seed": given.seed, "callbacks": ()}
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = vg.fit(
            source,
            task=given.source_task,
            backbone=given.backbone,
            weights=weights,
            schedule=given.tuned,
            size=given.size,
            **common,
        )
        model.save(Path(folder) / "source")
        headline = model.task.headline
        print(f"source task: {headline} {model.facts['metrics'][headline]:.4f}", flush=True)
        beginnings: dict[str, dict[str, Any]] = {
            "from nothing": {"backbone": given.backbone, "weights": None},
            "from ImageNet": {"backbone": given.backbone, "weights": weights},
            "from the source": {"backbone": Path(folder) / "source", "weights": "pretrained"},
        }
        for name, beginning in beginnings.items():
            schedule = given.from_nothing if beginning["weights"] is None else given.tuned
            model = vg.fit(
                target,
                task="face_embedding",
                schedule=schedule,
                size=given.size,
                validation=given.validation,
                **beginning,
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
