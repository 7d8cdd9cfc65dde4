"""How a task judges labels that are more than classes of images, such as boxes, by a model that has not seen them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.comparison import Arrays

if TYPE_CHECKING:
    from visiongraft.task import Task


@dataclass(frozen=True)
class JudgedLabels:
    """What a judge says about the labels of images.

    Attributes:
        quality: float64 (N,), from 0 (surely wrong) to 1.
        wrong: bool (N,), whether the label of the image is likely wrong.
        remarks: What is likely wrong with each image, in a few words; empty if nothing is.
    """

    quality: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    remarks: Sequence[str]


class LabelJudge(ABC):
    """Collects results and labels image by image, and judges the labels at the end.

    Attributes:
        task: Decodes the results that ``update`` is given, such as the task with further options.
    """

    task: Task

    @abstractmethod
    def update(self, decoded: Arrays, targets: Any) -> None:
        """Take note of a batch.

        Args:
            decoded: The output of ``Task.decode`` as arrays.
            targets: Collated targets, on the CPU.
        """

    @abstractmethod
    def compute(self) -> JudgedLabels:
        """Judge all images, in the order in which they came."""
