"""What users pass as data: one dataset for each head, or one whose images have targets of several."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiongraft.data.images import load_item
from visiongraft.data.parsing import read_toml, read_yaml
from visiongraft.data.splits import as_pair
from visiongraft.errors import DataError, near_matches


@dataclass(frozen=True)
class HeadItems:
    """The items of a map-style dataset that have a target for one head, as a dataset of its own.

    Attributes:
        dataset: Its items are (image, targets by head).
        head: Name of the head.
        positions: The items that have its target.
    """

    dataset: Any
    head: str
    positions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, targets = self.dataset[self.positions[index]]
        return image, targets[self.head]


def data_by_head(data: Any, heads: Collection[str]) -> tuple[dict[str, Any], bool]:
    """Find the dataset of each head.

    Args:
        data: Datasets by head, or a TOML or YAML file of their paths; a map-style dataset whose targets are
            dicts by head; anything else for all heads; or a pair (training, validation) of these.
        heads: The names of the heads.

    Returns:
        The datasets of the heads that have one, and whether all are one dataset of the same images.

    Raises:
        DataError: A name is not that of a head, or the file cannot be read.
    """
    pair = as_pair(data)
    if pair is not None:
        (first, one), (second, _) = (data_by_head(part, heads) for part in pair)
        if first.keys() != second.keys():
            missing = min(first.keys() ^ second.keys())
            raise DataError(f"head {missing!r} has data in one part of the pair only")
        return {head: (first[head], second[head]) for head in first}, one
    if isinstance(data, str | Path) and _names_heads(Path(data), heads):
        data = read_paths(Path(data))
    if isinstance(data, Mapping):
        for name in data:
            if name not in heads:
                raise DataError(f"data: there is no head {name!r}{near_matches(str(name), heads)}")
        return {name: data[name] for name in heads if name in data}, False
    targets = _targets_by_head(data, heads)
    if targets is None:
        return dict.fromkeys(heads, data), True
    items = {
        head: HeadItems(data, head, tuple(i for i, own in enumerate(targets) if head in own))
        for head in heads
    }
    return {head: own for head, own in items.items() if len(own)}, True


def _names_heads(path: Path, heads: Collection[str]) -> bool:
    """Check whether a file has the paths of the heads' datasets; YAML files may be datasets themselves."""
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return path.suffix == ".toml"
    found = read_yaml(path)
    return isinstance(found, dict) and not found.keys().isdisjoint(heads)


def read_paths(path: Path) -> dict[str, str]:
    """Read a TOML or YAML file with the path of each head's dataset, relative to the file.

    Raises:
        DataError: It cannot be read, or contains anything else.
    """
    found = read_toml(path) if path.suffix == ".toml" else read_yaml(path)
    for name, value in found.items():
        if not isinstance(value, str):
            raise DataError(f"{path}: {name} = {value!r} is not the path of a dataset")
    return {name: str(path.parent / value) for name, value in found.items()}


def _targets_by_head(data: Any, heads: Collection[str]) -> list[Mapping[str, Any]] | None:
    """Return the targets of a map-style dataset if they are dicts by head."""
    if (
        isinstance(data, str | Path)
        or not hasattr(data, "__getitem__")
        or not hasattr(data, "__len__")
    ):
        return None
    if not len(data) or not _has_heads(data, 0):
        return None
    found: list[Mapping[str, Any]] = []
    for index in range(len(data)):
        targets = load_item(data, index)[1]
        unknown = (
            [name for name in targets if name not in heads] if _is_dict(targets) else [targets]
        )
        if unknown or not targets:
            raise DataError(f"item {index}: its targets {targets!r} are not a dict by head")
        found.append({name: target for name, target in targets.items() if target is not None})
    return found


def _has_heads(data: Any, index: int) -> bool:
    item = data[index]
    return isinstance(item, tuple) and len(item) == 2 and _is_dict(item[1])


def _is_dict(targets: Any) -> bool:
    return isinstance(targets, Mapping)
