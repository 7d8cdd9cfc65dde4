"""A small dataset for the conformance kit, of those of the heads' tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiongraft.task import Task, TaskExamples


def combined_examples(heads: Mapping[str, Task]) -> TaskExamples | None:
    """Combine the examples of heads; ``None`` if a head has none."""
    found = {head: task.examples() for head, task in heads.items()}
    known = {head: examples for head, examples in found.items() if examples is not None}
    if len(known) < len(found):
        return None
    makers = _Makers(known)
    return TaskExamples(makers.make_dataset, make_streams=makers.make_streams)


@dataclass(frozen=True)
class _Makers:
    heads: Mapping[str, TaskExamples]

    def make_dataset(self, folder: Path, count: int, seed: int) -> dict[str, Any]:
        """Create a dataset for each head in a folder of its own."""
        found = {}
        for head, examples in self.heads.items():
            own = folder / head
            own.mkdir(parents=True, exist_ok=True)
            found[head] = examples.make_dataset(own, count, seed)
        return found

    def make_streams(self, folder: Path, count: int, seed: int) -> dict[str, Any]:
        """Create the streams of all heads."""
        found: dict[str, Any] = {}
        for head, examples in self.heads.items():
            if examples.make_streams is not None:
                own = folder / head
                own.mkdir(parents=True, exist_ok=True)
                found |= examples.make_streams(own, count, seed)
        return found
