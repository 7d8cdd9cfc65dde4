"""Which attributes of images are linearly separable in what each layer of a model computes.

Linear probes as in Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016; each
image is judged by the probe that was fitted to all others.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.probes import fit_linear_probe
from visiongraft.averaging.members import Model, load_models
from visiongraft.data.check import find_unreadable
from visiongraft.data.decode import printable
from visiongraft.data.manifest import PATH_COLUMNS, cell_text, find_base, find_column, read_rows
from visiongraft.data.names import find_listed
from visiongraft.data.report import count_and_name
from visiongraft.errors import DataError, OptionError, escape_unprintable
from visiongraft.html import html_table
from visiongraft.inputs.samples import InputSamples
from visiongraft.network import Network
from visiongraft.options import check_integer
from visiongraft.task import Task
from visiongraft.training.embedding import pooled_layers
from visiongraft.training.measuring.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 2  # images of a value
COLUMNS = ("attribute", "layer", "accuracy", "low", "high", "baseline", "images", "values")
ERROR = 0.05  # of intervals


@dataclass(frozen=True)
class ProbedLayer:
    """How well a linear probe on one layer tells the values of one attribute apart.

    Attributes:
        attribute: Name of the attribute.
        layer: ``"map K, stride S"`` for the mean of a feature map over all positions, from fine to coarse, or
            ``"embedding"``.
        accuracy: Fraction of the images whose value a probe on all others predicts.
        low: Lower end of its interval of 95 % (Wilson, 1927).
        high: Upper end.
        baseline: Fraction of the most frequent value, which needs no image.
        images: Number of images.
        values: Number of different values.
    """

    attribute: str
    layer: str
    accuracy: float
    low: float
    high: float
    baseline: float
    images: int
    values: int


@dataclass(frozen=True)
class ProbedLayers:
    """Probes of attributes, layer by layer; ``print`` shows a table.

    Attributes:
        backbone: What computed the layers.
        rows: One for each attribute and layer, from the input to the output.
        left_out: What was not looked at, one line each.
    """

    backbone: str
    rows: tuple[ProbedLayer, ...]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def to_csv(self) -> str:
        """Return a table with one row for each attribute and layer."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**vars(row)} for row in self.rows)
        return text.getvalue()

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return column titles and rows: accuracies with one column per layer."""
        by_attribute: dict[str, list[ProbedLayer]] = {}
        for row in self.rows:
            by_attribute.setdefault(row.attribute, []).append(row)
        layers = list(dict.fromkeys(row.layer for row in self.rows))
        rows = [
            [name, *(f"{row.accuracy:.3f}" for row in own), f"{own[0].baseline:.3f}"]
            for name, own in by_attribute.items()
        ]
        return ["attribute", *layers, "most frequent"], rows

    def statements(self) -> Iterator[str]:
        """Put in words where each attribute is told apart best."""
        for name in dict.fromkeys(row.attribute for row in self.rows):
            own = [row for row in self.rows if row.attribute == name]
            best = max(own, key=lambda row: row.accuracy)
            where = f"{best.layer} ({best.accuracy:.3f}, {best.low:.3f} to {best.high:.3f})"
            error = ERROR / len(own)  # one of many layers is better by chance more easily
            if _interval(best.accuracy, best.images, error)[0] > best.baseline:
                yield f"{name}: best in {where}"
            else:
                yield f"{name}: nowhere better than the most frequent value, {best.baseline:.3f}; best in {where}"
        yield from self.left_out

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw accuracies over the layers, with the most frequent value as a dotted line.

        Args:
            path: A .png or .svg file to write.
        """
        from matplotlib.figure import Figure

        from visiongraft.saving.files import write_figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        layers = list(dict.fromkeys(row.layer for row in self.rows))
        for i, name in enumerate(dict.fromkeys(row.attribute for row in self.rows)):
            own = [row for row in self.rows if row.attribute == name]
            values = [row.accuracy for row in own]
            ends = np.array([[r.accuracy - r.low, r.high - r.accuracy] for r in own]).clip(0).T
            color = f"C{i}"
            axes.errorbar(
                range(len(own)), values, ends, marker="o", capsize=3, color=color, label=name
            )
            axes.axhline(own[0].baseline, linestyle=":", color=color)
        axes.set_xticks(range(len(layers)), layers, rotation=20, ha="right")
        axes.set_ylabel("accuracy of a linear probe")
        axes.legend()
        if path is not None:
            write_figure(Path(path), figure)
        return figure

    def _repr_html_(self) -> str:
        return html_table(*self.table()) + html_table([""], [[line] for line in self.statements()])

    def __str__(self) -> str:
        columns, rows = self.table()
        lines = ["  ".join(row) for row in [columns, *rows]]
        return "\n".join(map(escape_unprintable, [*lines, *self.statements()]))


def probe_layers(
    model: Model, table: str | Path, *, batch_size: int = 32, task: type[Task] | None = None
) -> ProbedLayers:
    """Find out which attributes of images a model can tell apart linearly, and in which layer.

    For each attribute and layer a linear classifier (ridge regression) is fitted to what the frozen backbone
    computes, and each image is judged by the one that was fitted to all other images. An attribute that is
    separable without being needed, such as the camera, may be what a model goes by.

    Args:
        model: A model, or the folder of a saved model or a run.
        table: A CSV, TSV or Parquet file with a column ``path`` (or ``image``, ``file``), relative to its folder, and
            one column per attribute; an empty cell leaves the image out for that attribute.
        batch_size: Images per forward pass.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        Accuracies with intervals, beside the fraction of the most frequent value.

    Raises:
        DataError: The table or its images cannot be read, or no column can be probed.
        OptionError: The model is not about images.

    Examples:
        ``print(visiongraft.probe_layers("runs/flowers", "attributes.csv"))``
    """
    check_integer("batch_size", batch_size, 1)
    (loaded,) = load_models([model], task)[1]
    network = loaded.network.eval()
    if network.task.inputs.layout != "NHWC":
        raise OptionError(
            f"task {network.task.name!r} takes {network.task.inputs.name}, not images"
        )
    files, attributes = _read(Path(table))
    samples = InputSamples(files, network.task.inputs)
    problems = find_unreadable(samples, inputs=network.task.inputs)
    kept = [i for i in range(len(files)) if i not in problems]
    left_out = (
        [count_and_name("images are unreadable", tuple(problems.values()))] if problems else []
    )
    if not kept:
        raise DataError(f"{printable(table)}: none of its images can be read; {left_out[0]}")
    layers = _layers(network, pooled_layers(network, samples.subset(kept), batch_size))
    rows: list[ProbedLayer] = []
    for name, values in attributes.items():
        own = [values[i] for i in kept]
        reason = _why_not(own)
        if reason:
            left_out.append(f"{name} is left out: {reason}")
        else:
            rows += _probed(name, own, layers)
    if not rows:
        raise DataError(f"{printable(table)}: no attribute can be probed; {'; '.join(left_out)}")
    return ProbedLayers(loaded.backbone_info.name, tuple(rows), tuple(left_out))


def _read(table: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """Return the images of a table, and the values of each further column."""
    rows = read_rows(table)
    column = find_column(printable(table), rows[0][1], PATH_COLUMNS)
    names = [cell_text(row[column]) for _, row in rows]
    for (number, _), name in zip(rows, names, strict=True):
        if not name:
            raise DataError(f"{printable(table)}, row {number}: {column} is empty")
    base = find_base(table, names)
    files = [Path(find_listed(base, name) or base / name) for name in names]
    attributes = [each for each in rows[0][1] if each != column]
    if not attributes:
        raise DataError(f"{printable(table)} has no column beside {column}; add one per attribute")
    return files, {a: [cell_text(row.get(a)) for _, row in rows] for a in attributes}


def _layers(network: Network, found: list[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Name what ``pooled_layers`` returned."""
    strides = network.backbone.info.strides
    names = [f"map {i}, stride {stride}" for i, stride in enumerate(strides, 1)]
    return dict(zip([*names, "embedding"], found, strict=True))


def _why_not(values: list[str]) -> str:
    """Return why an attribute cannot be probed, if so."""
    counts = Counter(value for value in values if value)
    if len(counts) < 2:
        return f"it has {'one value' if counts else 'no values'} only"
    common = sum(count for count in counts.values() if count >= FEWEST)
    if common < sum(counts.values()) / 2:
        return f"most of its {len(counts)} values belong to one image; group them, such as numbers into ranges"
    return ""


def _probed(
    name: str, values: list[str], layers: Mapping[str, NDArray[np.float32]]
) -> Iterator[ProbedLayer]:
    known = np.flatnonzero([bool(value) for value in values])
    _, labels = np.unique([values[i] for i in known], return_inverse=True)
    counts = np.bincount(labels)
    for layer, features in layers.items():
        probe = fit_linear_probe(features[known].astype(np.float64), labels.astype(np.int64))
        right = float((probe.left_out == labels).mean())
        low, high = _interval(right, len(known))
        baseline = float(counts.max() / len(known))
        yield ProbedLayer(name, layer, right, low, high, baseline, len(known), len(counts))


def _interval(fraction: float, count: int, error: float = ERROR) -> tuple[float, float]:
    return wilson(fraction, count, NormalDist().inv_cdf(1 - error / 2))
