"""visiongraft against fastai, a careful loop with timm, a bare PyTorch loop and scikit-learn's probe.

    python benchmarks/peers.py accuracy --sets FOLDER [--results FILE.jsonl] [--group held_out] [...]
    python benchmarks/peers.py speed --data FOLDER [--size N] [--repeat N] [--parts NAME ...]

All train the same architecture from the same weights on the same images, with the same number of epochs and
batches; visiongraft gets no other option, so its defaults are what is measured. fastai is installed into an
environment of its own beside the results, which shares PyTorch with this one; ``--fastai PYTHON`` names an
interpreter that has it already. timm's own train.py is not in its package; ``timm_style`` follows its recipe.

accuracy: FOLDER is made by small_sets.py. Accuracy and calibration error after the last epoch on val/,
in the datasets, numbers of images and seeds of defaults.py.

speed: FOLDER contains train/CLASS and val/CLASS. Each ratio is of two measurements of one round; printed are the
medians over rounds, and the extremes. ``memory`` is the growth of the peak in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import peer_loops
import torch
from cells import train_cells
from defaults import GROUPS
from peer_loops import Outcome, Settings
from safetensors.torch import save_file
from small_sets import subset

import visiongraft
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.classification.metrics import SingleLabelMetrics

BACKBONE, ARCHITECTURE = "bundled/efficientnet_lite0", "tf_efficientnet_lite0"
OURS, FASTAI = "visiongraft", "fastai"
METHODS = (OURS, FASTAI, "timm_style", "probe")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cell:
    """One training of one toolkit.

    Attributes:
        dataset: Name of the dataset.
        images: Training images.
        size: Side of the network's input in pixels.
        seed: Of the choice of images and of the run.
        method: Which toolkit trains.
    """

    dataset: str
    images: int
    size: int
    seed: int
    method: str


class EpochClock:
    """Records the seconds of each training epoch, without validation."""

    def __init__(self) -> None:
        self.start = self.last = 0.0
        self.seconds: list[float] = []

    @visiongraft.hookimpl
    def phase_started(self) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    @visiongraft.hookimpl
    def step_ended(self) -> None:
        """Note the time; that of the last step remains."""
        self.last = time.perf_counter()

    @visiongraft.hookimpl
    def epoch_ended(self) -> None:
        """Keep the time of the last step, and start again after validation."""
        self.seconds.append(self.last - self.start)
        self.start = time.perf_counter()


# ---- one training ----


def ours(settings: Settings, **options: Any) -> Outcome:
    """Train with visiongraft's defaults and ``options``."""
    clock = EpochClock()
    training, validation = (pairs(Path(settings.data) / split) for split in ("train", "val"))
    few = list({label: (path, label) for path, label in validation}.values())
    model = visiongraft.fit(
        (training, few),  # what it measures after each epoch is not used
        task="classification",
        backbone=BACKBONE,
        size=settings.size,
        seed=settings.seed,
        workers=settings.workers,
        select="last",
        callbacks=[clock],
        **options,
    )
    names = model.task.class_names
    predictions = model.predict([path for path, _ in validation])
    probabilities = np.array([list(p.probabilities.values()) for p in predictions])
    targets = np.array([names.index(label) for _, label in validation])
    return Outcome(probabilities, targets, clock.seconds)


def pairs(folder: Path) -> list[tuple[Path, str]]:
    """Return all images of a folder with their class names."""
    return [(path, path.parent.name) for path in sorted(folder.glob("*/*"))]


def fastai(settings: Settings, interpreter: str) -> Outcome:
    """Train with fastai, in its own process."""
    with tempfile.TemporaryDirectory() as name:
        out, words = Path(name) / "out.npz", Path(name) / "settings.json"
        words.write_text(json.dumps({**asdict(settings), "out": str(out)}))
        command = [interpreter, str(HERE / "fastai_peer.py"), str(words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"fastai failed:\n{done.stderr[-2000:]}")
        with np.load(out) as arrays:
            results = arrays["probabilities"], arrays["targets"]
    return Outcome(*results, json.loads(done.stdout.splitlines()[-1])["seconds"])


def install_fastai(folder: Path) -> str:
    """Install fastai into an environment of its own, which shares PyTorch with this one.

    Args:
        folder: Folder of the environment; it is used again if it is there.

    Returns:
        Its interpreter.
    """
    interpreter = folder / "bin" / "python"
    if interpreter.is_file():
        return str(interpreter)
    print(f"installing fastai into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    query = [str(interpreter), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    shared = "\n".join(path for path in sys.path if path.endswith("site-packages"))
    (Path(packages) / "shared.pth").write_text(shared + "\n")
    subprocess.run([str(interpreter), "-m", "pip", "install", "-q", "fastai"], check=True)
    return str(interpreter)


def common_settings(given: argparse.Namespace, folder: Path) -> Settings:
    """Write the weights under timm's names, and return what all peers have in common."""
    backbone = load_backbone(BACKBONE, weights="pretrained", size=given.size)
    weights = {
        name.removeprefix("model."): tensor.contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    save_file(weights, folder / "weights.safetensors")
    preprocess = backbone.info.preprocess
    return Settings(
        data="",
        architecture=ARCHITECTURE,
        weights=str(folder / "weights.safetensors"),
        mean=tuple(preprocess.mean),
        std=tuple(preprocess.std),
        size=given.size,
        threads=torch.get_num_threads(),
    )


# ---- accuracy ----


def train(cell: Cell, given: argparse.Namespace, common: Settings) -> dict[str, float]:
    """Train one cell, and measure it on all validation images."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        source = given.sets / cell.dataset
        data = subset(source, cell.images, cell.seed, Path(name) / "data", validation=None)
        # The peers get no more than a careful user would choose: several steps in an epoch.
        batch = 16 if cell.images < 100 else 32
        settings = replace(common, data=str(data), seed=cell.seed, batch_size=batch)
        if cell.method == OURS:
            outcome = ours(settings)
        elif cell.method == FASTAI:
            outcome = fastai(settings, given.fastai)
        else:
            outcome = getattr(peer_loops, cell.method)(settings)
    return {**scores(outcome), "seconds": round(time.perf_counter() - start, 1)}


def scores(outcome: Outcome) -> dict[str, float]:
    """Return accuracy and calibration error."""
    classes = outcome.probabilities.shape[1]
    metrics = SingleLabelMetrics([str(i) for i in range(classes)])
    decisions = outcome.probabilities.argmax(axis=1)
    arrays = {"probabilities": outcome.probabilities, "labels": decisions}
    metrics.update(arrays, torch.from_numpy(outcome.targets))
    results = metrics.compute()
    return {name: results[name] for name in ("accuracy", "calibration_error")}


def accuracy_table(found: Mapping[Cell, Mapping[str, float]], names: Sequence[str]) -> str:
    """Return the accuracy of each toolkit on each dataset in percent, and its lead on the best peer."""
    lines = [f"{'dataset':16}" + "".join(f"{m:>13}" for m in METHODS) + f"{'lead':>8}"]
    rows = []
    for name in names:
        runs = {c: values for c, values in found.items() if c.dataset == name}
        # Only what all have finished is compared.
        keys = {(c.images, c.size, c.seed) for c in runs}
        whole = [k for k in keys if all(Cell(name, *k, method) in found for method in METHODS)]
        if not whole:
            continue
        means = [
            100 * np.mean([found[Cell(name, *k, m)]["accuracy"] for k in whole]) for m in METHODS
        ]
        rows.append(means)
        lead = means[0] - max(means[1:])
        lines.append(f"{name:16}" + "".join(f"{mean:13.1f}" for mean in means) + f"{lead:8.1f}")
    if rows:
        means = list(np.mean(rows, axis=0))
        lead = means[0] - max(means[1:])
        lines.append(f"{'mean':16}" + "".join(f"{mean:13.1f}" for mean in means) + f"{lead:8.1f}")
        errors = [
            100 * np.mean([v["calibration_error"] for c, v in found.items() if c.method == m])
            for m in METHODS
        ]
        lines.append(f"{'ECE':16}" + "".join(f"{error:13.1f}" for error in errors))
    return "\n".join(lines)


def accuracy(given: argparse.Namespace, folder: Path) -> None:
    """Train all cells that are not finished, and print the table."""
    names, common = GROUPS[given.group], common_settings(given, folder)
    cells = [
        Cell(dataset, images, given.size, seed, method)
        for seed, dataset, images, method in product(
            given.seeds, names, given.images, given.methods
        )
    ]
    run = partial(train, given=given, common=common)
    print(accuracy_table(train_cells(cells, run, given.results, given.limit), names))


# ---- speed ----


def speed(given: argparse.Namespace, folder: Path) -> None:
    """Measure all parts in rounds, and print ratios."""
    common = replace(common_settings(given, folder), data=str(given.data), workers=given.workers)
    ratios: dict[str, list[float]] = {}
    for number in range(given.repeat):
        for name in given.parts:
            for what, ratio in PARTS[name](given, common):
                ratios.setdefault(what, []).append(ratio)
                print(f"round {number + 1}: {what} {ratio:.2f}", file=sys.stderr, flush=True)
    print(f"{'ratio':58} {'median':>8} {'least':>8} {'most':>8}")
    for what, values in ratios.items():
        print(f"{what:58} {statistics.median(values):8.2f} {min(values):8.2f} {max(values):8.2f}")


def frozen(given: argparse.Namespace, common: Settings) -> Iterator[tuple[str, float]]:
    """Compare 20 epochs of training the head."""
    once = peer_loops.one_pass(common)
    cached = sum(
        ours(common, epochs=20, schedule="linear_probe", batch_size=common.batch_size).seconds
    )
    theirs = fastai(replace(common, epochs=0, frozen_epochs=2), given.fastai).seconds
    yield "20 frozen epochs / one pass of a bare loop", cached / once
    yield "20 frozen epochs of fastai / ours", 20 * statistics.median(theirs) / cached


def full(given: argparse.Namespace, common: Settings) -> Iterator[tuple[str, float]]:
    """Compare epochs in which everything trains; the first of each warms up."""
    short = replace(common, epochs=3)
    seconds = statistics.median(
        ours(short, epochs=3, batch_size=short.batch_size, schedule="full").seconds[1:]
    )
    for name in ("bare", "timm_style"):
        theirs = statistics.median(getattr(peer_loops, name)(short).seconds[1:])
        yield f"full epoch / {name}", seconds / theirs
    theirs = statistics.median(fastai(short, given.fastai).seconds[2:])
    yield "full epoch / fastai", seconds / theirs


def to_accuracy(given: argparse.Namespace, common: Settings) -> Iterator[tuple[str, float]]:
    """Compare the training time until fastai's final accuracy is reached."""
    result = fastai(common, given.fastai)
    goal, spent = scores(result)["accuracy"], sum(result.seconds)
    for epochs in (1, 2, 3, 5, 7, 10):  # shorter runs, each with its own schedule
        own = ours(common, epochs=epochs)
        if scores(own)["accuracy"] >= goal:
            yield "time to fastai's final accuracy / fastai's", sum(own.seconds) / spent
            return
    yield "time to fastai's final accuracy / fastai's", float("inf")


def memory(given: argparse.Namespace, common: Settings) -> Iterator[tuple[str, float]]:
    """Compare the growth of peak memory in full training, each in a process of its own."""
    own, bare = (_growth(name, common) for name in ("ours", "bare"))
    yield "peak memory / bare", own / bare


def _growth(name: str, common: Settings) -> float:
    settings = json.dumps(asdict(replace(common, epochs=1)))
    command = [sys.executable, __file__, "grow", name, settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def grow(given: argparse.Namespace) -> None:
    """Print by how many kilobytes one training raises the peak memory of this process."""
    settings = Settings(**json.loads(given.settings))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if given.name == "ours":
        ours(settings, epochs=1, batch_size=settings.batch_size, schedule="full")
    else:
        peer_loops.bare(settings)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


PARTS: dict[str, Callable[[argparse.Namespace, Settings], Iterator[tuple[str, float]]]] = {
    "frozen": frozen,
    "full": full,
    "to_accuracy": to_accuracy,
    "memory": memory,
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--size", type=int, default=128)
    common.add_argument("--fastai", help="an interpreter that has fastai")
    common.add_argument("--environment", type=Path, default=Path("fastai-environment"))
    mode = modes.add_parser("accuracy", parents=[common])
    mode.add_argument("--sets", type=Path, required=True)
    mode.add_argument("--results", type=Path, default=Path("peers.jsonl"))
    mode.add_argument("--group", choices=GROUPS, default="held_out")
    mode.add_argument("--images", nargs="+", type=int, default=[60, 200])
    mode.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    mode.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    mode.add_argument("--limit", type=int, default=sys.maxsize, help="cells to train at most")
    mode = modes.add_parser("speed", parents=[common])
    mode.add_argument("--data", type=Path, required=True)
    mode.add_argument("--repeat", type=int, default=3)
    mode.add_argument("--workers", type=int, default=0)
    mode.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    mode = modes.add_parser("grow")  # used by the part "memory"
    mode.add_argument("name")
    mode.add_argument("settings")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    if given.mode == "grow":
        grow(given)
        return
    given.fastai = given.fastai or install_fastai(given.environment.resolve())
    with tempfile.TemporaryDirectory() as folder:
        {"accuracy": accuracy, "speed": speed}[given.mode](given, Path(folder))


if __name__ == "__main__":
    main()
