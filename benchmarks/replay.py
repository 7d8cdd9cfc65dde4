"""What replay saves: 20 epochs of head training against one pass over the data.

    python benchmarks/replay.py [--data FOLDER] [--backbone NAME] [--weights FILE] [--repeat N]

Without FOLDER it takes 400 of the demo's photos. Each figure is the median of the repetitions, all
in one process and one after the other; the ratios are what to look at.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import visiongraft


class Clock:
    """Records when the phase began, when its first step ended, and when it was proved."""

    def __init__(self) -> None:
        self.began = self.first_step = self.ended = 0.0

    @visiongraft.hookimpl
    def phase_started(self) -> None:
        self.began = time.perf_counter()

    @visiongraft.hookimpl
    def step_ended(self) -> None:
        self.first_step = self.first_step or time.perf_counter()

    @visiongraft.hookimpl
    def phase_ended(self) -> None:
        self.ended = time.perf_counter()


def timed_fit(data: str, epochs: int, **settings: Any) -> Clock:
    """Train the head on frozen features, and return the times."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        visiongraft.fit(
            data,
            task="classification",
            schedule="linear_probe",
            epochs=epochs,
            out=Path(folder) / "run",
            replay_shared=False,  # what is measured is the pass that fills the cache
            callbacks=[clock],
            **settings,
        )
    return clock


def demo_photos(count: int, folder: Path) -> str:
    """Link some of the demo's photos into a folder per label."""
    from conformal_clip_data import textile_simulated_root

    for label in sorted(p for p in textile_simulated_root().iterdir() if p.is_dir()):
        (folder / label.name).mkdir()
        for photo in sorted(label.glob("*.jpg"))[: count // 3]:
            (folder / label.name / photo.name).symlink_to(photo)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or demo_photos(400, Path(folder))
        settings = {"backbone": given.backbone, "weights": given.weights}
        rows: dict[str, list[float]] = {"fill": [], "replayed": [], "plain": []}
        for _ in range(given.repeat):
            replayed = timed_fit(data, 20, **settings)
            rows["fill"].append(replayed.first_step - replayed.began)
            rows["replayed"].append(replayed.ended - replayed.began)
            plain = timed_fit(data, 2, replay=False, **settings)
            rows["plain"].append((plain.ended - plain.began) / 2)
    fill, total, epoch = (statistics.median(v) for v in rows.values())
    print(f"{given.backbone}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"one pass that fills the store         {fill:7.2f} s")
    print(f"20 epochs of head training in all     {total:7.2f} s   {total / fill:5.2f} x the pass")
    print(
        f"one epoch without replay              {epoch:7.2f} s   {20 * epoch / total:5.2f} x for 20"
    )


if __name__ == "__main__":
    main()
