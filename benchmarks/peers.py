"""visiongraft against fastai, a careful loop with timm, a bare PyTorch loop and scikit-learn's probe.

    python benchmarks/peers.py accuracy --sets FOLDER [--results FILE.jsonl] [--group held_out] [...]
    python benchmarks/peers.py dense [--boxes DATASET] [--masks DATASET] [--epochs N] [...]
    python benchmarks/peers.py speed --data FOLDER [--boxes DATASET] [--masks DATASET] [--repeat N] [...]

All train the same architecture from the same weights on the same images, with the same number of epochs and
batches; visiongraft gets no other option, so its defaults are what is measured. fastai is installed into an
environment of its own beside the results, which shares PyTorch with this one; ``--fastai PYTHON`` names an
interpreter that has it already. timm's own train.py is not in its package; ``timm_style`` follows its recipe.

accuracy: FOLDER is made by small_sets.py. Accuracy and calibration error after the last epoch on val/,
in the datasets, numbers of images and seeds of defaults.py.

dense: mAP and mean IoU after the last epoch on the validation images, against the reference loops of torchvision's
FCOS and RetinaNet and of smp's FPN, each with visiongraft's head or decoder of the same name.

speed: FOLDER contains train/CLASS and val/CLASS. Each ratio is of two measurements of one round, each in a
process of its own; printed are the medians over rounds, and the extremes. Peak memory is by how much training
raises that of the process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import our_runs
import peer_loops
import torch
from cells import mean_and_error, train_cells
from defaults import GROUPS
from our_runs import BACKBONE, scores
from peer_loops import Settings
from peer_speed import PARTS, Peers, measure, run, run_fastai
from safetensors.torch import save_file
from small_sets import subset
from tables import table_head, table_row, with_lead

from visiongraft.lookup.backbones import load_backbone

ARCHITECTURE = "tf_efficientnet_lite0"
HEADS = ("fcos", "retinanet", "fpn")
OURS, FASTAI = "visiongraft", "fastai"
METHODS = (OURS, FASTAI, "timm_style", "probe")


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
        clock=given.clock,
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
            outcome = our_runs.classification(settings)
        elif cell.method == FASTAI:
            outcome = run_fastai(settings, given.fastai)
        else:
            outcome = getattr(peer_loops, cell.method)(settings)
    return {**scores(outcome), "seconds": round(time.perf_counter() - start, 1)}


def accuracy_table(
    found: Mapping[Cell, Mapping[str, float]], names: Sequence[str], methods: Sequence[str]
) -> str:
    """Return accuracy and calibration error of toolkits in percent, with our lead on the best other."""
    leads = ["lead"] if methods[0] == OURS and len(methods) > 1 else []
    lines = table_head(["images", "dataset", *methods, *leads])
    summary = with_lead if leads else _means
    for images in sorted({cell.images for cell in found}):
        sets: dict[str, list[list[float]]] = {}
        errors = []
        for name, seed in product(names, sorted({cell.seed for cell in found})):
            # Only what all have finished is compared.
            runs = [
                values
                for method in methods
                for cell, values in found.items()
                if (cell.dataset, cell.images, cell.seed, cell.method)
                == (name, images, seed, method)
            ]
            if len(runs) == len(methods):
                sets.setdefault(name, []).append([100 * run["accuracy"] for run in runs])
                errors.append([100 * run["calibration_error"] for run in runs])
        if sets:
            lines += [table_row([str(images), name, *summary(rows)]) for name, rows in sets.items()]
            means = [
                [float(np.mean(column)) for column in zip(*r, strict=True)] for r in sets.values()
            ]
            lines.append(table_row([str(images), "mean", *summary(means)]))
            lines.append(table_row([str(images), "ECE", *_means(errors), *[""] * len(leads)]))
    return "\n".join(lines)


def _means(rows: Sequence[Sequence[float]]) -> list[str]:
    return [f"{np.mean(column):.1f}" for column in zip(*rows, strict=True)]


def accuracy(given: argparse.Namespace, folder: Path) -> None:
    """Train all cells that are not finished, and print the table."""
    names, common = GROUPS[given.group], common_settings(given, folder)
    methods = [method for method in METHODS if method in given.methods]
    cells = [
        Cell(dataset, images, given.size, seed, method)
        for seed, dataset, images, method in product(given.seeds, names, given.images, methods)
    ]
    run = partial(train, given=given, common=common)
    trained = train_cells(cells, run, given.results, given.limit)
    wanted = set(cells)
    found = {cell: values for cell, values in trained.items() if cell in wanted}
    print(accuracy_table(found, names, methods))


# ---- detection and segmentation ----


def dense(given: argparse.Namespace, folder: Path) -> None:
    """Train each toolkit once per seed, and print scores and the seconds of all epochs."""
    common = replace(common_settings(given, folder), epochs=given.epochs, batch_size=8)
    print(f"{'toolkit':24} {'score':>14} {'seconds':>8}")
    for head, peer, data in (
        ("fcos", "torchvision FCOS", given.boxes),
        ("retinanet", "torchvision RetinaNet", given.boxes),
        ("fpn", "smp FPN", given.masks),
    ):
        if data is None or head not in given.heads:
            continue
        task, option = ("segmentation", "decoder") if head == "fpn" else ("detection", "head")
        options = {"task": task, "task_options": {option: head}}
        for name, arguments in ((f"visiongraft {head}", options), (peer, {})):
            kind = "visiongraft dense" if arguments else peer
            runs = [
                run(kind, replace(common, data=str(data), seed=seed), **arguments)
                for seed in given.seeds
            ]
            score = mean_and_error([100 * each["scores"]["score"] for each in runs])
            seconds = statistics.median(sum(each["seconds"]) for each in runs)
            print(f"{name:24} {score:>14} {seconds:8.0f}", flush=True)


# ---- speed ----


def speed(given: argparse.Namespace, folder: Path) -> None:
    """Measure all parts in rounds, and print ratios."""
    common = replace(common_settings(given, folder), data=str(given.data), workers=given.workers)
    peers = Peers(common, given.fastai, given.boxes, given.masks)
    print(measure(peers, given.parts, given.repeat))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--size", type=int, default=128)
    common.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu on a machine that does other work",
    )
    common.add_argument("--fastai", help="an interpreter that has fastai")
    common.add_argument("--environment", type=Path, default=Path("fastai-environment"))
    images = argparse.ArgumentParser(add_help=False)
    images.add_argument("--boxes", type=Path, help="a dataset for detection")
    images.add_argument("--masks", type=Path, help="a dataset for segmentation")
    mode = modes.add_parser("accuracy", parents=[common])
    mode.add_argument("--sets", type=Path, required=True)
    mode.add_argument("--results", type=Path, default=Path("peers.jsonl"))
    mode.add_argument("--group", choices=GROUPS, default="held_out")
    mode.add_argument("--images", nargs="+", type=int, default=[60, 200])
    mode.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    mode.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    mode.add_argument("--limit", type=int, default=sys.maxsize, help="cells to train at most")
    mode = modes.add_parser("dense", parents=[common, images])
    mode.add_argument("--epochs", type=int, default=10)
    mode.add_argument("--seeds", nargs="+", type=int, default=[0])
    mode.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    mode = modes.add_parser("speed", parents=[common, images])
    mode.add_argument("--data", type=Path, required=True)
    mode.add_argument("--repeat", type=int, default=3)
    mode.add_argument("--workers", type=int, default=0)
    mode.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given = parse(arguments)
    if given.mode == "speed" or (given.mode == "accuracy" and FASTAI in given.methods):
        given.fastai = given.fastai or install_fastai(given.environment.resolve())
    with tempfile.TemporaryDirectory() as folder:
        {"accuracy": accuracy, "dense": dense, "speed": speed}[given.mode](given, Path(folder))


if __name__ == "__main__":
    main()
