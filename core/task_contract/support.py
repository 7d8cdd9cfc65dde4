"""What a task hands to exporters, transfer losses and the conformance kit, with defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from visiongraft.comparison import Arrays, Disagreement, compare_arrays

Size = tuple[int, int]
Operators = Mapping[Any, Callable[..., Any]]


@dataclass(frozen=True)
class ExportSupport:
    """How exported files of a task are compared with PyTorch, and what exporting it needs.

    Attributes:
        compare: Measures how far the second of two sets of decoded outputs, of the same batch, is
            from the first: ``compare(reference, candidate)``. The default compares floats by
            relative difference and counts differing integers as mismatches.
        rescale: Converts results for images of one size to another size of the same images:
            ``rescale(decoded, size, target_size)``, sizes as (height, width). Files with a fixed
            input size are measured this way, because targets refer to the original images. Supply
            it if results are positions in pixels. ``None`` resizes the maps of a task with
            ``full_resolution_outputs`` by nearest neighbor, and changes nothing else.
        operators: For each exporter, by name, a function that returns its implementations of the
            operators that the task defines with ``torch.library``: a dict such as
            ``{torch.ops.mine.op.default: function}``, of onnxscript functions for ``"onnx"`` and of
            decompositions for ``"pt2"``.
    """

    compare: Callable[[Arrays, Arrays], Disagreement] = compare_arrays
    rescale: Callable[[Arrays, Size, Size], Arrays] | None = None
    operators: Mapping[str, Callable[[], Operators]] = field(default_factory=dict)

    def operators_for(self, exporter: str) -> dict[Any, Callable[..., Any]]:
        """Return an exporter's implementations of the task's operators, if there are any."""
        return dict(self.operators[exporter]()) if exporter in self.operators else {}


@dataclass(frozen=True)
class TaskExamples:
    """A small dataset that ``visiongraft.testing`` checks a task with.

    Attributes:
        make_dataset: Creates a dataset that can be learned: ``make_dataset(folder, count, seed)``.
            It may write files into the folder, which is empty, and returns what ``Task.read`` and
            ``Task.read_evaluation`` accept, without splits of its own. There are at least 8 images,
            small (about 20 to 60 pixels a side), of several sizes, not all square, that clearly show
            what the task predicts; another seed makes other images of the same classes. If a target
            may be empty (no label, no box), some are.
        ideal: Returns the decoded outputs of a model that is always right, from collated targets:
            ``ideal(targets)``. ``None`` if there is no such thing. The targets are those of
            ``Task.proof_samples``, by which exported files are measured.
        make_streams: Creates what a user passes for each of ``Task.streams``, by name:
            ``make_streams(folder, count, seed)``, of ``count`` images each. Required if there are any.
    """

    make_dataset: Callable[[Path, int, int], Any]
    ideal: Callable[[Any], Arrays] | None = None
    make_streams: Callable[[Path, int, int], Mapping[str, Any]] | None = None


def find_class_logits(outputs: Any, class_names: Sequence[str] | None) -> Tensor | None:
    """Find the only tensor among a head's outputs that has one channel for each class.

    Args:
        outputs: A tensor, or a tuple or dict of tensors.
        class_names: The names of the classes, if there are any.

    Returns:
        Floats (N, C, ...) with C of at least 2; ``None`` if there is no such tensor, or several.
    """
    if not class_names or len(class_names) < 2:
        return None
    found = [
        leaf
        for leaf in pytree.tree_leaves(outputs)
        if isinstance(leaf, Tensor)
        and leaf.is_floating_point()
        and leaf.ndim >= 2
        and leaf.shape[1] == len(class_names)
    ]
    return found[0] if len(found) == 1 else None
