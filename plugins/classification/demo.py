"""``visiongraft demo``: find defects in textile, the whole way from images to an ONNX file.

The images are those of the package ``conformal-clip-data``: simulated photographs of a woven
textile, sound (``nominal``), with a small spot that is woven wrongly (``local``), or woven wrongly
all over (``global``). ImageNet's features hardly show the small spots, so a linear probe misses
them, and fine-tuning pays.
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
from visiongraft.saving.files import write_bytes, write_json

LABELS = ("global", "local", "nominal")
IMAGES = {"train": 180, "val": 40, "test": 100}  # per label
BACKBONE = "bundled/efficientnet_lite0"
COMMON: dict[str, Any] = {
    "task": "classification",
    # Not augmented, so that what frozen stages compute can be replayed. Smoothed, because a network
    # that is certain of everything magnifies the last digits, in which no two runtimes agree.
    "task_options": {"augment": "none", "label_smoothing": 0.1},
    "backbone": BACKBONE,
    "size": 250,  # the images' own
    "resize": "stretch",  # a crop would cut off spots at the border
    "batch_size": 16,
}
PROBE: dict[str, Any] = {"schedule": "linear_probe", "epochs": 20}
FINE_TUNING: dict[str, Any] = {
    "schedule": "milestones(at={2: 'stage4'})",
    "epochs": 10,
    "learning_rate": 5e-4,  # textile is far from what the backbone has seen
}
MANIFEST, REPORT = "images.csv", "report.json"
WRITTEN = {
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
    """Fine-tune, prove, export and predict; tell each step on standard error.

    Args:
        out: Folder to write; an earlier demo in it is replaced.

    Returns:
        The report, as JSON values; ``summary`` holds its lines for people.

    Raises:
        PluginError: The images are not installed.
        OptionError: The folder holds something else.
    """
    import visiongraft
    from visiongraft.exported import open_exported

    start = time.monotonic()
    images = _find_images()
    _clear(out)
    data = out / MANIFEST
    validation = _write_manifest(data, images)
    _tell(f"1/4 linear probe: a head on frozen {BACKBONE}")
    probe = visiongraft.fit(data, out=out / "probe", **COMMON, **PROBE)
    before = probe.evaluate(data)["accuracy"]
    _tell("2/4 fine-tuning")
    model = visiongraft.fit(data, out=out / "fine-tuned", **COMMON, **FINE_TUNING)
    after = model.evaluate(data)["accuracy"]
    _tell("3/4 export to ONNX, proved against PyTorch")
    certificate = model.export(out / "textile.onnx", data=data)
    _tell("4/4 prediction with onnxruntime from the file alone")
    predicted = open_exported(out / "textile.onnx").predict([path for path, _ in validation])
    right = sum(p.label == label for p, (_, label) in zip(predicted, validation, strict=True))
    _draw_curve(out)
    _draw_predictions(out / "predictions.png", validation, predicted)
    report = {
        "out": str(out),
        "images": {part: count * len(LABELS) for part, count in IMAGES.items()},
        "accuracy_linear_probe": before,
        "accuracy_fine_tuned": after,
        "accuracy_onnx": right / len(validation),
        "difference_onnx": certificate.difference,
        "flips_onnx": certificate.mismatches,
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
            'the demo\'s images are not installed; pip install "visiongraft[demo]"'
        ) from error
    return Path(textile_simulated_root())


def _clear(out: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_demo(out))):
        raise OptionError(f"{out} holds something else than a demo; choose another --out folder")
    if out.is_dir():
        shutil.rmtree(out)
    out.mkdir(parents=True)


def _is_demo(out: Path) -> bool:
    """Judge by all names and by the table's labels: people have tables of that name too."""
    if not {entry.name for entry in out.iterdir()} <= WRITTEN or not (out / MANIFEST).is_file():
        return False
    with open(out / MANIFEST, newline="", encoding="utf-8", errors="replace") as table:
        return {row.get("label") for row in csv.DictReader(table)} == set(LABELS)


def _write_manifest(path: Path, images: Path) -> list[tuple[Path, str]]:
    """Divide the images, evenly spaced within each label; give the test part."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "label", "split"])
    validation = []
    for label in LABELS:
        files = sorted((images / label).iterdir())
        wanted = sum(IMAGES.values())
        chosen = [files[i * len(files) // wanted] for i in range(wanted)]
        parts = _spread(IMAGES)
        for file, part in zip(chosen, parts, strict=True):
            writer.writerow([file, label, part])
            if part == "test":
                validation.append((file, label))
    write_bytes(path, table.getvalue().encode())
    return validation


def _spread(counts: dict[str, int]) -> list[str]:
    """Alternate between the parts, in proportion to their counts."""
    places = [((i + 0.5) / count, part) for part, count in counts.items() for i in range(count)]
    return [part for _, part in sorted(places)]


def _draw_curve(out: Path) -> None:
    """Draw the validation accuracy of both runs over their epochs."""
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
    _save(figure, out / "curve.png")


def _draw_predictions(
    path: Path, validation: Sequence[tuple[Path, str]], predicted: Sequence[Any]
) -> None:
    """Draw a row of held-out images for each label, with what the ONNX file says of them."""
    from matplotlib.figure import Figure
    from PIL import Image

    columns = 5
    figure = Figure(figsize=(2.2 * columns, 2.5 * len(LABELS)), layout="constrained")
    grid = figure.subplots(len(LABELS), columns)
    for row, label in enumerate(LABELS):
        places = [i for i, (_, true) in enumerate(validation) if true == label]
        for column in range(columns):
            index = places[column * len(places) // columns]
            guess = predicted[index]
            axes = grid[row, column]
            axes.imshow(Image.open(validation[index][0]).convert("RGB"))
            axes.set_xticks([])
            axes.set_yticks([])
            color = "darkgreen" if guess.label == label else "firebrick"
            axes.set_title(f"{guess.label} {guess.score:.2f}", color=color, fontsize=10)
        grid[row, 0].set_ylabel(f"true: {label}")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=100)
    write_bytes(path, image.getvalue())


def _summary(report: dict[str, Any]) -> list[str]:
    proof = (
        f"differs from PyTorch by {report['difference_onnx']:.0e} at most, "
        f"{report['flips_onnx']} changed decisions"
    )
    return [
        f"accuracy on {report['images']['test']} held-out images:",
        f"  linear probe  {report['accuracy_linear_probe']:.3f}",
        f"  fine-tuned    {report['accuracy_fine_tuned']:.3f}",
        f"  ONNX file     {report['accuracy_onnx']:.3f}  ({proof})",
        f"in {report['out']}: fine-tuned/model, textile.onnx, curve.png, predictions.png",
        f"took {report['seconds'] // 60} min {report['seconds'] % 60} s",
    ]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
