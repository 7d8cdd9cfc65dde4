"""Keep the head of the model that a run continues with, as far as it fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visiongraft.errors import ArtifactError, OptionError, name_some
from visiongraft.network import Network
from visiongraft.preparation.starting import lists_in
from visiongraft.saving.saved_config import read_config
from visiongraft.saving.saved_model import WEIGHTS, model_folder
from visiongraft.saving.tensor_files import read_tensors
from visiongraft.saving.tensors import damaged, first
from visiongraft.task import Task, create_task
from visiongraft.task_contract.class_rows import ClassRows
from visiongraft.training.resuming.inputs import changed_options

HEAD = "head."
SHOWN = 4  # parts or classes in a line
WHOLE, BY_CLASS, NEW, LEFT = "kept", "kept by class", "begun anew", "not used"

Rows = Mapping[str, ClassRows | None]


@dataclass(frozen=True)
class KeptHead:
    """What a network took over from the head of a model.

    Attributes:
        tensors: What became of each tensor, by name: ``"kept"``, ``"kept by class"``, ``"begun anew"``, or
            ``"not used"`` for one that only the model has.
        classes: The classes whose rows were kept.
        new_classes: The classes whose rows begin anew.
    """

    tensors: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    new_classes: tuple[str, ...] = ()

    def parts(self, state: str) -> list[str]:
        """Name the largest parts of the head of which all tensors share a state."""
        return [name for name, found in _parts(self.tensors, "") if found == state]

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        found: dict[str, Any] = {"backbone": WHOLE}
        found |= {s: p for s in (WHOLE, BY_CLASS, NEW, LEFT) if (p := self.parts(s))}
        if self.parts(BY_CLASS):
            found |= {"classes kept": self.classes, "classes begun anew": self.new_classes}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}

    def notes(self) -> tuple[str, ...]:
        """Describe what was kept, in one line or two."""
        if set(self.tensors.values()) <= {WHOLE}:
            return ("start: the backbone and all of the head are kept",)
        kept = ", ".join(filter(None, ["backbone", _some(self.parts(WHOLE))]))
        lines = [f"start: kept: {kept}"]
        if self.parts(BY_CLASS):
            classes, anew = (_some(each) or "none" for each in (self.classes, self.new_classes))
            layers = _some(self.parts(BY_CLASS))
            lines.append(f"start: classes kept in {layers}: {classes}; begun anew: {anew}")
        return tuple(lines)

    def warnings(self) -> tuple[str, ...]:
        """Name what was not kept."""
        new, left = self.parts(NEW), self.parts(LEFT)
        found = [f"{_some(new)} of the head begins anew"] if new else []
        found += [f"{_some(left)} of the model's head is not used"] if left else []
        return (f"start: {'; '.join(found)}",) if found else ()


def keep_head(network: Network, folder: Path, shown: str) -> KeptHead:
    """Load the head of a saved model into a network for the same task, as far as it fits.

    Args:
        network: The network; changed in place.
        folder: The saved model, or a run folder.
        shown: How messages call it.

    Returns:
        What was kept.

    Raises:
        ArtifactError: The file is damaged.
        OptionError: Nothing of the head fits, or the data have other classes and the task does not say
            which tensors depend on them.
    """
    path = model_folder(folder) / WEIGHTS
    given = {
        n.removeprefix(HEAD): t for n, t in read_tensors(path)[0].items() if n.startswith(HEAD)
    }
    own = network.head.state_dict()
    before = create_task(type(network.task), read_config(path.parent).task_options)
    old_rows, new_rows = _class_rows(before, network, shown)
    found: dict[str, str] = dict.fromkeys([*own, *given], NEW)
    fitted: dict[str, Tensor] = {}
    classes: dict[str, bool] = {}
    for name, tensor in given.items():
        if name not in own:
            found[name] = LEFT
        elif name in old_rows or name in new_rows:
            rows = _moved_rows(old_rows.get(name), new_rows.get(name), tensor, own[name])
            if rows is not None:
                found[name], fitted[name] = BY_CLASS, rows.tensor
                classes |= rows.classes
        elif tensor.shape == own[name].shape:
            found[name], fitted[name] = WHOLE, tensor
    if given and not fitted:
        raise OptionError(
            f"start={shown}: no tensor of the model's head fits the task; pass backbone={shown} "
            "instead of start, to begin with a new head"
        )
    learned = {n: fitted[n] for n, _ in network.head.named_parameters() if n in fitted}
    fault = first(damaged({f"{HEAD}{n}": t for n, t in learned.items()}, network.state_dict()))
    if fault:
        raise ArtifactError(f"{path} is damaged: {fault}")
    network.head.load_state_dict(fitted, strict=False)
    names = tuple(name for name, kept in classes.items() if kept)
    return KeptHead(found, names, tuple(name for name, kept in classes.items() if not kept))


def _class_rows(before: Task, network: Network, shown: str) -> tuple[Rows, Rows]:
    """Return the class rows of both heads; none if both know the same classes."""
    one, other = lists_in(before.metadata()), lists_in(network.task.metadata())
    if one == other:
        return {}, {}
    old = before.class_rows(network.backbone)
    new = network.task.class_rows(network.backbone)
    if old is None or new is None:
        raise OptionError(
            f"start={shown}: the data have {'; '.join(changed_options(one, other))}, and task "
            f"{network.task.name!r} does not say which tensors of its head depend on them "
            f"(Task.class_rows); pass backbone={shown} instead of start, to begin with a new head"
        )
    return old, new


@dataclass(frozen=True)
class _Rows:
    """A tensor some of whose rows were kept, and by class whether its rows were."""

    tensor: Tensor
    classes: dict[str, bool]


def _moved_rows(
    old: ClassRows | None, new: ClassRows | None, given: Tensor, own: Tensor
) -> _Rows | None:
    """Copy the rows of classes that both know by name; ``None`` if the layouts differ."""
    if old is None or new is None or given.shape[1:] != own.shape[1:]:
        return None
    layouts = [(rows.groups, rows.each, rows.before) for rows in (old, new)]
    if layouts[0] != layouts[1] or (len(given), len(own)) != (old.count, new.count):
        return None
    position = {name: i for i, name in enumerate(old.names)}
    pairs = [(i, i) for i in range(-old.before, 0)]
    pairs += [(position[name], i) for i, name in enumerate(new.names) if name in position]
    if not pairs:
        return None
    source = [row for i, _ in pairs for row in old.rows(i)]
    target = [row for _, i in pairs for row in new.rows(i)]
    moved = own.clone()
    moved[torch.tensor(target)] = given[torch.tensor(source)].to(own.dtype)
    return _Rows(moved, {name: name in position for name in new.names})


def _parts(states: Mapping[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the largest parts whose tensors share a state, in the order of the tensors."""
    groups: dict[str, dict[str, str]] = {}
    for name, state in states.items():
        groups.setdefault(name.partition(".")[0], {})[name.partition(".")[2]] = state
    for group, inside in groups.items():
        part = f"{prefix}{group}"
        if len(set(inside.values())) == 1:
            yield part, next(iter(inside.values()))
        else:
            yield from _parts(inside, f"{part}.")


def _some(names: Iterable[str]) -> str:
    return name_some(names, SHOWN)
