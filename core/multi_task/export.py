"""How exported files of several heads are compared with PyTorch: each head by its own task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from visiongraft.backbone import Features
from visiongraft.comparison import Arrays, Disagreement
from visiongraft.data.nearest import at_size
from visiongraft.extra_outputs import ExtraOutput
from visiongraft.multi_task.names import of_head, outputs_of, prefixed
from visiongraft.task import ExportSupport, Task
from visiongraft.task_contract.support import Operators, Size

if TYPE_CHECKING:
    from visiongraft.network import InferenceGraph


@dataclass(frozen=True)
class MultiSupport:
    """The export support of several heads.

    Attributes:
        heads: That of each head.
        dense: Heads whose results are maps.
    """

    heads: Mapping[str, ExportSupport]
    dense: frozenset[str]

    def compare(self, reference: Arrays, candidate: Arrays) -> Disagreement:
        """Compare the results of each head by its task's comparison."""
        if reference.keys() != candidate.keys():
            return Disagreement(float("inf"), 0)
        found = [
            support.compare(of_head(head, reference), of_head(head, candidate))
            for head, support in self.heads.items()
        ]
        return Disagreement(
            max(one.difference for one in found), sum(one.mismatches for one in found)
        )

    def rescale(self, decoded: Arrays, size: Size, target_size: Size) -> Arrays:
        """Convert the results of each head to another size of the same images."""
        found: dict[str, Any] = {}
        for head, support in self.heads.items():
            own: Arrays = of_head(head, decoded)
            if support.rescale is not None:
                own = support.rescale(own, size, target_size)
            elif head in self.dense:
                own = at_size(own, size, target_size)
            found |= prefixed(head, own)
        return found


def combined_support(heads: Mapping[str, Task]) -> ExportSupport:
    """Combine how the heads' tasks are compared and exported."""
    supports = {head: task.export_support() for head, task in heads.items()}
    dense = frozenset(head for head, task in heads.items() if task.full_resolution_outputs)
    combined = MultiSupport(supports, dense)
    exporters = {name for support in supports.values() for name in support.operators}
    operators: dict[str, Callable[[], Operators]] = {
        name: _Operators(tuple(supports.values()), name) for name in sorted(exporters)
    }
    return ExportSupport(combined.compare, combined.rescale, operators)


@dataclass(frozen=True)
class _Operators:
    """Returns the operators of all heads for one exporter."""

    supports: tuple[ExportSupport, ...]
    exporter: str

    def __call__(self) -> Operators:
        found: dict[Any, Callable[..., Any]] = {}
        for support in self.supports:
            found |= support.operators_for(self.exporter)
        return found


@dataclass(frozen=True)
class HeadOutput:
    """An extra output of one head.

    Attributes:
        head: Its name.
        function: What computes it.
    """

    head: str
    function: ExtraOutput

    def __call__(self, graph: Any, features: Features, outputs: Any) -> Tensor:
        """Compute it from the outputs of all heads."""
        return self.function(
            cast("InferenceGraph", HeadGraph(graph, self.head)),
            features,
            outputs_of(self.head, outputs),
        )


class HeadGraph:
    """An inference graph, or a network, as the task of one head sees it."""

    def __init__(self, graph: Any, head: str) -> None:
        self._graph = graph
        self.head = graph.head[head]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)
