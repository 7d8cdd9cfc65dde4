"""Metrics of the user's own beside those of the task: objects of torchmetrics, or their names with options."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, cast
from warnings import catch_warnings, simplefilter

from torch import Tensor, nn

from visiongraft.errors import OptionError, PluginError, near_matches, type_and_message
from visiongraft.network import Network
from visiongraft.registry.calls import read_call
from visiongraft.seeds import preserved
from visiongraft.task import Arrays, Metrics, Task
from visiongraft.training.evaluation import decode_samples

if TYPE_CHECKING:
    from torchmetrics import Metric

    from visiongraft.data.samples import Samples

MODULES = ("", ".classification", ".detection", ".segmentation", ".image", ".regression")
COUNTS = ("num_classes", "num_labels")  # options that the number of class names answers
TRIED = 8  # images that a metric is tried on before training
FORM = (
    "a metric of torchmetrics, its name with options such as 'MulticlassAUROC(num_classes=3)', a list of "
    "these, or a dict from names to them"
)


def read_metrics(given: Any) -> dict[str, Any]:
    """Read the argument ``metrics`` of ``fit`` and ``evaluate``.

    Args:
        given: A metric of torchmetrics, a ``MetricCollection``, a name with or without options, a list of
            these, or a dict from names to them. A text may begin with the name of its results and ``=``.

    Returns:
        Metrics, or their names with options as text, by the name of their results: by default that of
        their class.

    Raises:
        OptionError: It is something else, or two have the same name.

    Examples:
        >>> read_metrics(["MulticlassF1Score", "auroc=MulticlassAUROC(average='none')"])
        {'MulticlassF1Score': 'MulticlassF1Score', 'auroc': "MulticlassAUROC(average='none')"}
    """
    found: dict[str, Any] = {}
    for name, metric in _pairs(given):
        if re.fullmatch(r"[^\s<>=(),]+", name) is None or not name.isprintable():
            raise OptionError(
                f"metrics: {name!r} is not a name; use letters, digits, '_', '-' and '.'"
            )
        if name in found:
            raise OptionError(f"metrics: two are named {name!r}; pass a dict from names to them")
        found[name] = metric
    return found


def _pairs(given: Any) -> Iterator[tuple[str, Any]]:
    if given is None:
        return
    if isinstance(given, str):
        named = re.match(r"\s*([^\s=(]+)\s*=\s*(.+)", given, re.DOTALL)
        name, text = named.groups() if named else (read_call(given, "metric")[0], given)
        read_call(text, "metric")
        yield name, text.strip()
    elif isinstance(given, Mapping) or _is_collection(given):
        for name, metric in given.items():
            if not (isinstance(metric, str) or _is_metric(metric)):
                raise OptionError(f"metrics: {name!r} is {_what(metric)}, not {FORM}")
            yield str(name), metric
    elif _is_metric(given):
        yield type(given).__name__, given
    elif isinstance(given, Sequence):
        for one in given:
            yield from _pairs(one)
    else:
        raise OptionError(f"metrics is of type {type(given).__name__}, not {FORM}")


def _what(metric: Any) -> str:
    """Describe what is no metric; settings of a run hold ``None`` for objects."""
    return "an object of another run" if metric is None else f"a {type(metric).__name__}"


def _is_metric(value: object) -> bool:
    return _is_of_torchmetrics(value, "Metric")


def _is_collection(value: object) -> bool:
    return _is_of_torchmetrics(value, "MetricCollection")


def _is_of_torchmetrics(value: object, kind: str) -> bool:
    """Check the class by its names, so that nothing is imported that the user has not."""
    names = {(k.__module__.partition(".")[0], k.__name__) for k in type(value).__mro__}
    return ("torchmetrics", kind) in names


def stored_metrics(given: Any) -> dict[str, str | None] | None:
    """Return what the settings of a run hold of the argument: texts, and ``None`` for objects."""
    found = read_metrics(given)
    return {n: m if isinstance(m, str) else None for n, m in found.items()} or None


@dataclass(frozen=True)
class OwnMetrics:
    """Metrics of the user's own, for one task.

    Attributes:
        metrics: Objects of torchmetrics by the name of their results; they are copied before they count anything.
        results: Names of the results that they have made so far. The task may have some that begin like theirs: a task
            of several heads has ``species.accuracy`` also beside a metric ``species``.
    """

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    results: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, given: Any, task: Task) -> OwnMetrics:
        """Make the metrics that were passed.

        Args:
            given: As for ``read_metrics``.
            task: Bound to its data: the number of its class names is ``num_classes``, where a text leaves it
                out.

        Raises:
            OptionError: A metric cannot be made.
            PluginError: torchmetrics is not installed.
        """
        chosen = read_metrics(given)
        return cls({n: _make(n, m, task) if isinstance(m, str) else m for n, m in chosen.items()})

    def names(self, result: str) -> bool:
        """Check whether a result that was computed is that of one of these metrics."""
        return result in self.results

    def beside(self, task: Task) -> Metrics:
        """Return empty metrics that measure what the task's do, and these."""
        return _Both(task, self) if self.metrics else task.build_metrics()

    def try_on(self, network: Network, samples: Samples) -> None:
        """Measure a few samples, so that what cannot be measured is known before training.

        Args:
            network: The network; left in evaluation mode.
            samples: Labeled samples.

        Raises:
            OptionError: A metric does not take the task's predictions, or has the name of one of its metrics.
        """
        if not self.metrics:
            return
        task, few = network.task, samples.subset(range(min(TRIED, len(samples))))
        both = _Both(task, self)
        with preserved(), catch_warnings():
            simplefilter("ignore")  # of few samples
            for decoded, targets, _ in decode_samples(network, few, TRIED):
                both.update(decoded, targets)
            both.compute()


class _Both:
    """The metrics of a task, and some of the user's own."""

    def __init__(self, task: Task, own: OwnMetrics) -> None:
        self._task, self._metrics, self._made = task, task.build_metrics(), own.results
        self._own = {name: _copy(metric) for name, metric in own.metrics.items()}

    def update(self, decoded: Arrays, targets: Any) -> None:
        """Accumulate one batch."""
        self._metrics.update(decoded, targets)
        for name, metric in self._own.items():
            pair = self._task.metric_inputs(name, decoded, targets)
            if pair is not None:
                with _named(name, metric):
                    metric.update(*pair)

    def compute(self) -> dict[str, Any]:
        """Compute the results of the task's metrics, and of the others beside them."""
        results = self._metrics.compute()
        for name, metric in self._own.items():
            with _named(name, metric):
                found = _values(name, metric.compute() if metric.update_called else None)
            _refuse_same(results, found)
            results |= found
            self._made.update(found)
        return results


@contextmanager
def _named(name: str, metric: Metric) -> Iterator[None]:
    """Name the metric that cannot be computed."""
    try:
        yield
    except Exception as error:  # torchmetrics raises many kinds
        what = f"metric {name!r} ({type(metric).__name__})"
        raise OptionError(
            f"{what} does not fit what the task predicts: {type_and_message(error)}"
        ) from error


def _copy(metric: Metric) -> Metric:
    """Copy a metric without what it has counted; all processes of a run count the same samples."""
    copied = metric.clone().cpu()
    copied.reset()
    for module in cast(nn.Module, copied).modules():
        if _is_metric(module):
            cast(Any, module).sync_on_compute = False
    return copied


def _values(name: str, result: Any) -> dict[str, Any]:
    """Convert what a metric computed to JSON values; several results by name are ``name.result``."""
    if isinstance(result, Mapping):
        return {
            n: v for key, one in result.items() for n, v in _values(f"{name}.{key}", one).items()
        }
    return {name: _plain(result)}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _plain(value.item() if value.numel() == 1 else value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (bool, int, float)):
        return None if math.isnan(value) else float(value)
    return value


def _refuse_same(results: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    for name in own.keys() & results.keys():
        raise OptionError(
            f"metrics: the task has a metric {name!r} of its own; pass yours by another name, "
            f"metrics={{'own_{name}': ...}}"
        )


# ---- from names to metrics ----


def _make(name: str, text: str, task: Task) -> Metric:
    """Make a metric from its name and options."""
    called, options = read_call(text, "metric")
    kind = _find_class(called)
    classes = _class_count(name, task)
    for option, parameter in signature(kind).parameters.items():
        unset = parameter.default in (Parameter.empty, None)
        if option in COUNTS and unset and option not in options and classes:
            options[option] = classes
    try:
        made: Metric = kind(**options)
    except Exception as error:  # whatever its constructor checks
        raise OptionError(
            f"metric {text!r} cannot be made: {type_and_message(error)}; see its documentation of torchmetrics"
        ) from error
    return made


def _find_class(name: str) -> Any:
    try:
        modules = [import_module(f"torchmetrics{module}") for module in MODULES]
    except ImportError as error:
        raise PluginError(
            'metrics by name need torchmetrics: pip install "visiongraft[metrics]"'
        ) from error
    kind = modules[0].Metric
    found = {
        own: value
        for module in modules
        for own, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, kind) and value is not kind
    }
    if name not in found:
        raise OptionError(f"torchmetrics has no metric {name!r}{near_matches(name, found)}")
    return found[name]


def _class_count(name: str, task: Task) -> int:
    """Count the class names of a task, or of the head that a metric's name begins with."""
    metadata = task.metadata()
    head = name.partition(".")[0]
    return len(metadata.get(f"{head}.class_names", metadata.get("class_names", ())))
