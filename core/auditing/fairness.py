"""``fairness``: is a model as good for one group of images as for another?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.groups import SMALL, group_names
from visiongraft.data.samples import Samples
from visiongraft.errors import OptionError, PluginError
from visiongraft.model import TransferModel, load
from visiongraft.options import check_integer, checks_keywords
from visiongraft.saving.saved_model import add_facts, model_folder
from visiongraft.seeds import mix_seed
from visiongraft.task import Task
from visiongraft.training.evaluation import decode_samples, scalars
from visiongraft.training.measuring.evaluation_data import prepare_evaluation
from visiongraft.training.measuring.margins import Estimate
from visiongraft.training.measuring.own_metrics import OwnMetrics

ENDS = (0.025, 0.975)  # of an interval of 95 %
SHUFFLES = 199

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """The results of one group.

    Attributes:
        name: Value that its images have in common.
        images: Their number.
        small: Whether they are too few to compare the group with others.
        metrics: Each metric of the task; with ``small`` its interval is the value alone.
    """

    name: str
    images: int
    small: bool
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class Fairness:
    """How the metrics of groups differ.

    Attributes:
        headline: The task's main metric.
        by: What defines the groups.
        groups: All groups, by name.
        differences: Of each metric the largest difference between groups that are not small.
        ratios: Likewise the smallest ratio, where values are positive.
        chance: How often groups of these sizes that are drawn at random differ by as much in the headline;
            ``None`` if fewer than two groups can be compared, or most random groups have no value to compare with.
        own: Names of the results of the user's own metrics.
        chances: ``chance`` of each of these.
    """

    headline: str
    by: str
    groups: tuple[Group, ...]
    differences: dict[str, Estimate]
    ratios: dict[str, Estimate]
    chance: float | None
    own: tuple[str, ...]
    chances: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""

        def plain(metrics: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
            return {name: vars(estimate) for name, estimate in metrics.items()}

        groups = [{**vars(g), "metrics": plain(g.metrics)} for g in self.groups]
        parts = {"differences": plain(self.differences), "ratios": plain(self.ratios)}
        return {**vars(self), "groups": groups, **parts}

    def facts(self, data: Any) -> dict[str, Any]:
        """Return what model card and report tell, as JSON values.

        Args:
            data: What was measured on.
        """
        groups = {}
        for group in self.groups:
            value = group.metrics[self.headline]
            groups[group.name or "(none)"] = {
                "images": group.images,
                self.headline: value.value,
                "from": None if group.small else value.low,
                "to": None if group.small else value.high,
            }
        where = Path(data).name if isinstance(data, (str, Path)) else "data in memory"
        return {"by": self.by, "data": where, "groups": groups, "findings": self.statements()}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and rows of a table of the headline, and of the user's own metrics, by group."""
        rows, names = [], [self.headline, *self.own]
        for group in self.groups:
            row = [group.name or "(none)", str(group.images)]
            for value in (group.metrics[name] for name in names):
                interval = (
                    "too few images" if group.small else f"{value.low:.3f} to {value.high:.3f}"
                )
                row += [f"{value.value:.3f}", interval]
            rows.append(row)
        return [self.by, "images", *(head for name in names for head in (name, "95 %"))], rows

    def statements(self) -> list[str]:
        """Return what was found, one line each."""
        small = [group.name or "(none)" for group in self.groups if group.small]
        lines = [f"too few images to compare: {', '.join(small)}"] if small else []
        if len(self.groups) - len(small) < 2:
            return [*lines, "fewer than two groups have enough images to be compared"]
        for name, chance in {self.headline: self.chance, **self.chances}.items():
            if name not in self.differences:
                lines.append(f"{name} has no value in groups that could be compared")
                continue
            gap = self.differences[name]
            found = (
                f"largest difference in {name}: {gap.value:.3f} ({gap.low:.3f} to {gap.high:.3f})"
            )
            if chance is None:
                lines.append(
                    f"{found}; most random groups have no value, so that it cannot be told from chance"
                )
                continue
            verdict = "can" if chance < 0.05 else "cannot"
            lines.append(
                f"{found}; random groups differ by as much with a probability of {chance:.2f}, so that it {verdict} "
                "be told from chance"
            )
        return lines


@checks_keywords
def fairness(
    model: str | Path | TransferModel,
    data: Any,
    *,
    groups: str | Path | Callable[[str], str],
    replicates: int = 100,
    seed: int = 0,
    batch_size: int = 32,
    metrics: Any = None,
    save: bool = False,
) -> Fairness:
    """Compare the metrics of groups of images, with intervals, by fairlearn's ``MetricFrame``.

    Every metric of the task is computed for each group. The largest difference and the smallest ratio between
    groups have intervals of a bootstrap over images. Since a largest difference is never below 0, its interval
    cannot tell whether there is any; ``chance`` does, by a permutation test.

    Args:
        model: A model, or the folder of a run or a saved model.
        data: Labeled data in any form that ``evaluate`` takes.
        groups: An attribute of the samples, such as a further column of a table; a file with the columns ``path``
            and ``group``; or a function from the name of a sample, such as its path, to the name of its group.
        replicates: Number of bootstrap replicates, at least 20.
        seed: Seed of bootstrap and permutations.
        batch_size: Images per forward pass.
        metrics: Metrics of your own beside the task's, as for ``fit``; ``None`` for those of the run, if ``fit`` has
            just returned the model.
        save: Write the results into the model card, from where reports take them, too; ``model`` is then a folder.

    Returns:
        The metrics by group, and how they differ.

    Raises:
        OptionError: No sample has the attribute, or there is one group only.
        PluginError: fairlearn is not installed.

    Examples:
        ``print(visiongraft.fairness("runs/a", "people.csv", groups="skin_type").statements())``
    """
    check_integer("replicates", replicates, least=20)
    frame_class = _metric_frame()
    if save and isinstance(model, TransferModel):
        raise OptionError("save=True needs the folder of the model, whose card is written")
    chosen = model if isinstance(model, TransferModel) else load(model)
    _refuse_pairs(chosen.task)
    channels = chosen.backbone_info.in_channels
    samples = prepare_evaluation(chosen.task, data, channels, chosen.training_images).samples
    values = group_names(samples, groups)
    counts = Counter(values)
    if len(counts) < 2:
        raise OptionError(f"groups: all {len(samples)} images are in one group, {values[0]!r}")
    own = chosen.metrics if metrics is None else OwnMetrics.of(metrics, chosen.task)
    own.try_on(chosen.network, samples)
    rows = _Rows.of(chosen, samples, batch_size, own)
    names = list(rows.measure(np.arange(len(samples))))
    compared = np.array(
        [i for i, value in enumerate(values) if counts[value] >= SMALL], dtype=np.int64
    )
    labels = np.array(values)
    several = len(set(labels[compared])) > 1

    def chance_of(name: str) -> float | None:
        return _chance(rows, labels, compared, name, seed)

    frame = None
    if several:
        frame = frame_class(
            metrics={name: partial(_metric, rows, name) for name in names},
            y_true=compared,
            y_pred=compared,
            sensitive_features=labels[compared],
            n_boot=replicates,
            ci_quantiles=list(ENDS),
            random_state=seed,
        )
    differences = {} if frame is None else _estimates(frame.difference(), frame.difference_ci())
    found = Fairness(
        chosen.task.headline,
        str(groups) if isinstance(groups, (str, Path)) else getattr(groups, "__name__", "group"),
        tuple(_group(rows, labels, value, counts[value], frame, names) for value in sorted(counts)),
        differences,
        {} if frame is None else _estimates(frame.ratio(), frame.ratio_ci()),
        chance_of(chosen.task.headline) if several else None,
        tuple(filter(own.names, names)),
        {name: chance_of(name) for name in differences if own.names(name)},
    )
    if save and not isinstance(model, TransferModel):
        add_facts(model_folder(Path(model)), chosen.network, {"fairness": found.facts(data)})
    return found


def _refuse_pairs(task: Task) -> None:
    """Refuse tasks whose results have no meaning for images that are drawn several times."""
    if task.metrics_over_pairs or task.targets_in_common:
        own = (
            "; call match_rates"
            if "match_rates" in task.model_methods()
            else "; call evaluate with by=..."
        )
        raise OptionError(
            f"task {task.name!r} compares images with each other, so that intervals by drawing images again would be "
            f"wrong{own}"
        )


def _metric_frame() -> Any:
    try:
        from fairlearn.metrics import MetricFrame
    except ImportError as error:
        raise PluginError(
            "fairness needs fairlearn: pip install 'visiongraft[fairness]'"
        ) from error
    return MetricFrame


@dataclass(frozen=True)
class _Rows:
    """The decoded results of single images, from which the task measures any selection.

    Attributes:
        task: The task.
        decoded: Results of each image, with a first dimension of 1.
        targets: Its target.
        own: The user's own metrics.
        known: Metrics of selections that were measured, by the bytes of their positions.
    """

    task: Task
    decoded: Sequence[Mapping[str, NDArray[Any]]]
    targets: Sequence[Any]
    own: OwnMetrics
    known: dict[bytes, dict[str, float]]

    @classmethod
    def of(cls, model: TransferModel, samples: Samples, batch_size: int, own: OwnMetrics) -> _Rows:
        decoded: dict[int, Mapping[str, NDArray[Any]]] = {}
        for arrays, _, positions in decode_samples(model.network, samples, batch_size):
            for row, position in enumerate(positions):
                decoded[position] = {name: a[row : row + 1] for name, a in arrays.items()}
        count = range(len(samples))
        targets = [samples.target(i) for i in count]
        return cls(model.task, [decoded[i] for i in count], targets, own, {})

    def measure(self, positions: Positions) -> dict[str, float]:
        """Return the metrics of some images, which may repeat."""
        key = np.asarray(positions, dtype=np.int64).tobytes()
        if key not in self.known:
            metrics = self.own.beside(self.task)
            for chosen in self._batches(positions):
                arrays = {
                    name: np.concatenate([self.decoded[i][name] for i in chosen])
                    for name in self.decoded[chosen[0]]
                }
                metrics.update(arrays, self.task.collate([self.targets[i] for i in chosen]))
            self.known[key] = scalars(metrics.compute())
        return self.known[key]

    def _batches(self, positions: Positions) -> list[list[int]]:
        """Put images together whose results have the same shapes."""
        shapes: dict[Any, list[int]] = {}
        for position in map(int, positions):
            shape = tuple(array.shape for array in self.decoded[position].values())
            shapes.setdefault(shape, []).append(position)
        return list(shapes.values())


def _metric(rows: _Rows, name: str, positions: Any, _: Any) -> float:
    """Measure the images at some positions, which fairlearn takes for labels."""
    return rows.measure(np.asarray(positions)).get(name, float("nan"))


def _group(
    rows: _Rows, labels: NDArray[Any], value: str, count: int, frame: Any, names: Sequence[str]
) -> Group:
    small = count < SMALL
    found = rows.measure(np.flatnonzero(labels == value))
    estimates = {}
    for name in names:
        number = found.get(name, float("nan"))
        ends = (number, number)
        if not small and frame is not None:
            low, high = frame.by_group_ci
            ends = float(low.loc[value, name]), float(high.loc[value, name])
        estimates[name] = Estimate(number, *ends)
    return Group(value, count, small, estimates)


def _estimates(values: Any, ends: Sequence[Any]) -> dict[str, Estimate]:
    found = {
        str(name): Estimate(float(v), *(float(e[name]) for e in ends)) for name, v in values.items()
    }
    return {name: each for name, each in found.items() if np.isfinite(each.value)}


def _chance(
    rows: _Rows, labels: NDArray[Any], compared: Positions, metric: str, seed: int
) -> float | None:
    """Return how often groups at random differ as much in a metric as these do; ``None`` if it is not known."""

    def values(order: Positions) -> NDArray[np.float64]:
        own = labels[compared]
        found = [rows.measure(np.sort(order[own == g])).get(metric, np.nan) for g in np.unique(own)]
        return np.array([one for one in found if np.isfinite(one)], np.float64)

    generator = np.random.default_rng(mix_seed(seed, "groups"))
    measured = values(compared)
    drawn = [values(generator.permutation(compared)) for _ in range(SHUFFLES)]
    judged = [np.ptp(one) for one in drawn if len(one) >= max(2, len(measured))]
    if len(measured) < 2 or len(judged) < SHUFFLES / 2:
        return None
    return (1 + sum(bool(one >= np.ptp(measured) - 1e-12) for one in judged)) / (1 + len(judged))
