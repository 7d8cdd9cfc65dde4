"""``visiongraft demo``: detect textile defects, end to end from images to a verified ONNX file.

The images come from the package ``conformal-clip-data``: simulated photographs of woven textile
that are free of defects (``nominal``), have one small defect (``local``) or are defective all over
(``global``). ImageNet features barely capture the small defects: a linear probe misses them, and
fine-tuning is worthwhile.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visiongraft.errors import OptionError, PluginError
from visiongraft.saving.files import write_bytes, write_figure, write_json

CLASS_NAMES = ("global", "local", "nominal")
IMAGES = {"train": 180, "val": 40, "test": 100}  # per class
BACKBONE = "bundled/efficientnet_lite0"
COMMON: dict[str, Any] = {
    "task": "classification",
    # The rates suit a head that starts at random: at them, one that starts well loses it. Without
    # augmentation, so that the features of frozen stages can be cached. With label
    # smoothing, because overconfident logits amplify the rounding differences between runtimes.
    "task_options": {"augment": "none", "label_smoothing": 0.1, "head_start": "random"},
    "backbone": BACKBONE,
    "size": 250,  # native image size
    "resize": "stretch",  # a crop would cut off defects at the border
    "batch_size": 16,
}
PROBE: dict[str, Any] = {"schedule": "linear_probe", "epochs": 20}
FINE_TUNING: dict[str, Any] = {
    "schedule": "milestones(at={2: 'stage4'})",
    "epochs": 10,
    "learning_rate": 5e-4,  # textile is far from the pretraining domain
}
MANIFEST, REPORT = "images.csv", "report.json"
OUTPUT_NAMES = {
    MANIFEST,
    REPORT,
    "probe",
    "fine-tuned",
    "textile.onnx",
    "textile.onnx.certificate.json",
    "curve.png",
    "predictions.png",
}


def run(out: Path) -> dict[str, Any]:
    """Fine-tune, evaluate, export and predict; print progress to standard error.

    Args:
        out: Output folder; an earlier demo in it is replaced.

    Returns:
        The report, as JSON values; ``summary`` contains its lines of text.

    Raises:
        PluginError: The images are not installed.
        OptionError: The folder contains other files.
    """
    import visiongraft
    from visiongraft.lookup.exported import open_exported

    start = time.monotonic()
    images = _find_images()
    _clear(out)
    data = out / MANIFEST
    test_set = _write_manifest(data, images)
    _print_progress(f"1/4 linear probe: train a head on the frozen backbone {BACKBONE}")
    probe = visiongraft.fit(data, out=out / "probe", **COMMON, **PROBE)
    before = probe.evaluate(data)["accuracy"]
    _print_progress("2/4 fine-tuning")
    model = visiongraft.fit(data, out=out / "fine-tuned", **COMMON, **FINE_TUNING)
    after = model.evaluate(data)["accuracy"]
    _print_progress("3/4 export to ONNX, verified against PyTorch")
    certificate = model.export(out / "textile.onnx", data=data)
    _print_progress("4/4 prediction with onnxruntime, from the ONNX file alone")
    predicted = open_exported(out / "textile.onnx").predict([path for path, _ in test_set])
    correct = sum(p.label == label for p, (_, label) in zip(predicted, test_set, strict=True))
    _draw_curve(out)
    _draw_predictions(out / "predictions.png", test_set, predicted)
    report = {
        "out": str(out),
        "images": {split: count * len(CLASS_NAMES) for split, count in IMAGES.items()},
        "accuracy_linear_probe": before,
        "accuracy_fine_tuned": after,
        "accuracy_onnx": correct / len(test_set),
        "difference_onnx": certificate.difference,
        "mismatches_onnx": certificate.mismatches,
        "seconds": round(time.monotonic() - start),
    }
    report["summary"] = _summary(report)
    write_json(out / REPORT, report)
    return report


def _find_images() -> Path:
    try:
        from conformal_clip_data import textile_simulated_root
    except ImportError as error:
        raise PluginError(
            'the images of the demo are not installed; pip install "visiongraft[demo]"'
        ) from error
    return Path(textile_simulated_root())


def _clear(out: Path) -> None:
    """Empty the folder if it contains nothing but an earlier demo."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_demo(out))):
        raise OptionError(
            f"{out} contains files that are not from the demo; choose another --out folder"
        )
    if out.is_dir():
        shutil.rmtree(out)
    out.mkdir(parents=True)


def _is_demo(out: Path) -> bool:
    """Check all file names and the labels in the table: a user may have a table of that name."""
    if (
        not {entry.name for entry in out.iterdir()} <= OUTPUT_NAMES
        or not (out / MANIFEST).is_file()
    ):
        return False
    with open(out / MANIFEST, newline="", encoding="utf-8", errors="replace") as table:
        return {row.get("label") for row in csv.DictReader(table)} == set(CLASS_NAMES)


def _write_manifest(path: Path, images: Path) -> list[tuple[Path, str]]:
    """Write the table of images and splits; return the test images with their labels."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "label", "split"])
    test_set = []
    for label in CLASS_NAMES:
        files = sorted((images / label).iterdir())
        count = sum(IMAGES.values())
        chosen = [files[i * len(files) // count] for i in range(count)]
        for file, split in zip(chosen, _interleave(IMAGES), strict=True):
            writer.writerow([file, label, split])
            if split == "test":
                test_set.append((file, label))
    write_bytes(path, table.getvalue().encode())
    return test_set


def _interleave(counts: dict[str, int]) -> list[str]:
    """Alternate between the splits, in proportion to their counts."""
    positions = [
        ((i + 0.5) / count, split) for split, count in counts.items() for i in range(count)
    ]
    return [split for _, split in sorted(positions)]


def _draw_curve(out: Path) -> None:
    """Plot the validation accuracy of both runs over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for run, label in (("probe", "linear probe"), ("fine-tuned", "fine-tuning")):
        lines = (out / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        accuracies = [json.loads(line)["validation"]["accuracy"] for line in lines]
        axes.plot(range(1, len(accuracies) + 1), accuracies, marker="o", label=label)
    axes.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(out / "curve.png", figure)


def _draw_predictions(
    path: Path, test_set: Sequence[tuple[Path, str]], predicted: Sequence[Any]
) -> None:
    """Plot one row of test images per class, titled with the predictions of the ONNX file."""
    from matplotlib.figure import Figure
    from PIL import Image

    columns = 5
    figure = Figure(figsize=(2.2 * columns, 2.5 * len(CLASS_NAMES)), layout="constrained")
    grid = figure.subplots(len(CLASS_NAMES), columns)
    for row, label in enumerate(CLASS_NAMES):
        indices = [i for i, (_, true) in enumerate(test_set) if true == label]
        for column in range(columns):
            index = indices[column * len(indices) // columns]
            prediction = predicted[index]
            axes = grid[row, column]
            axes.imshow(Image.open(test_set[index][0]).convert("RGB"))
            axes.set_xticks([])
            axes.set_yticks([])
            color = "darkgreen" if prediction.label == label else "firebrick"
            axes.set_title(f"{prediction.label} {prediction.score:.2f}", color=color, fontsize=10)
        grid[row, 0].set_ylabel(f"true: {label}")
    write_figure(path, figure)


def _summary(report: dict[str, Any]) -> list[str]:
    agreement = (
        f"differs from PyTorch by at most {report['difference_onnx']:.0e}, "
        f"{report['mismatches_onnx']} changed predictions"
    )
    return [
        f"accuracy on {report['images']['test']} test images:",
        f"  linear probe  {report['accuracy_linear_probe']:.3f}",
        f"  fine-tuned    {report['accuracy_fine_tuned']:.3f}",
        f"  ONNX file     {report['accuracy_onnx']:.3f}  ({agreement})",
        f"output in {report['out']}: fine-tuned/model, textile.onnx, curve.png, predictions.png",
        f"took {report['seconds'] // 60} min {report['seconds'] % 60} s",
    ]


def _print_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
