"""How much each group of training images counts in the loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from visiongraft.data.groups import SMALL, group_names
from visiongraft.errors import CheckpointError, OptionError
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import VALIDATION

TRAINING = "training"


@dataclass(frozen=True)
class TrainingGroups:
    """The groups of the training images.

    Attributes:
        names: Name of the group of each image.
        counts: Number of images of each group, by name.
    """

    names: Sequence[str]
    counts: Mapping[str, int]

    @classmethod
    def of(cls, run: Run) -> TrainingGroups:
        """Find the groups of a run.

        Raises:
            OptionError: There are none, or a single one.
        """
        names = run.group_names[TRAINING]
        counts = dict(sorted(Counter(names).items()))
        if len(counts) < 2:
            raise OptionError(
                f"groups: all {len(names)} training images are in one group, {names[0]!r}"
            )
        return cls(names, counts)

    @property
    def digest(self) -> str:
        """Digest of who is in which group."""
        return sha256("\n".join(self.names).encode()).hexdigest()

    def factor(self, group: str, images: int, total: int) -> float:
        """Return how much more a step sees of a group than its share of the training images, 1 on average.

        Args:
            group: Name of the group.
            images: Number of images of the group in the step.
            total: Number of all images in the step.
        """
        return images / total * len(self.names) / self.counts[group]


def begin_groups(run: Run, groups: Any) -> None:
    """Find the groups of a run's images; let all count alike at first, and warn of those that are small.

    Args:
        run: The run before its first step; changed in place.
        groups: What defines them, see ``group_names``; ``None`` for none.

    Raises:
        OptionError: The groups cannot be found, or the settings or the task do not go with them.
    """
    if groups is None:
        return
    run.group_names = {TRAINING: group_names(run.training, groups)}
    try:
        run.group_names[VALIDATION] = group_names(run.validation, groups)
    except OptionError as error:
        run.warnings += (f"the validation images are not measured by group: {error}",)
    found = TrainingGroups.of(run)
    _refuse_settings(run)
    if run.config.group_training is not None:
        weight = 1 / len(found.counts)
        weights = dict.fromkeys(found.counts, weight)
        run.state.groups = {"digest": found.digest, "weights": weights, "sums": {}}
    small = [f"{name or '(none)'} ({n})" for name, n in found.counts.items() if n < SMALL]
    if small:
        line = (
            f"groups of fewer than {SMALL} training images: {', '.join(small)}; what is learned about them, and "
            "metrics of as few validation images, may be chance"
        )
        run.warnings += (line,)


def check_groups(run: Run, before: RunState) -> None:
    """Refuse to resume a run with other groups.

    Args:
        run: The run with its groups as they are now.
        before: Its state when it stopped.

    Raises:
        CheckpointError: An image is in another group than before.
    """
    if before.groups.get("digest") != run.state.groups.get("digest"):
        raise CheckpointError(
            f"cannot resume: groups={run.config.groups!r} puts training images into other groups than before; restore "
            "them, or start a new run"
        )


def updated_weights(
    weights: Mapping[str, float],
    losses: Mapping[str, float],
    factors: Mapping[str, float],
    step_size: float,
) -> dict[str, float]:
    """Return the weights of groups after a step of group DRO: those with a high loss count more.

    Args:
        weights: The weights so far, whose sum is 1.
        losses: Mean loss of the groups that the step has images of.
        factors: How much more the step sees of them than on average.
        step_size: How fast weights change.

    Returns:
        New weights, whose sum is 1.

    Examples:
        >>> found = updated_weights({"a": 0.5, "b": 0.5}, {"a": 2.0, "b": 0.0}, {"a": 1.0, "b": 1.0}, 1.0)
        >>> round(found["a"], 3)
        0.881
    """
    grown = {g: step_size * losses.get(g, 0.0) * factors.get(g, 0.0) for g in weights}
    most = max(grown.values())
    raised = {g: w * math.exp(min(0.0, grown[g] - most)) for g, w in weights.items()}
    total = sum(raised.values())
    return {g: w / total for g, w in raised.items()}


def groups_of_epoch(run: Run) -> dict[str, Any]:
    """Return what the record of an epoch says about groups, and begin to sum anew."""
    state = run.state.groups
    if not state:
        return {}
    losses = {g: total / images for g, (total, images) in sorted(state["sums"].items())}
    state["sums"] = {}
    return {"groups": {"weights": dict(state["weights"]), "losses": losses}}


def group_facts(run: Run) -> dict[str, Any]:
    """Return what is known about the groups of a finished run: of each its images, headline and weight."""
    best = run.state.best or {}
    measured = best.get("results", {}).get("groups", {})
    weights = run.history[best["epoch"]].get("groups", {}).get("weights", {}) if best else {}
    counts = TrainingGroups.of(run).counts
    headline = run.network.task.headline
    facts = {}
    for name in sorted({*counts, *measured}):
        images = measured.get(name, {}).get("images", 0)
        facts[name or "(none)"] = {
            "training images": counts.get(name, 0),
            "validation images": images,
            **({headline: measured[name].get(headline)} if name in measured else {}),
            **({"weight": round(weights[name], 4)} if name in weights else {}),
            **({"note": "too few images to judge"} if images < SMALL else {}),
        }
    return facts


def _refuse_settings(run: Run) -> None:
    config, task = run.config, run.network.task
    if config.group_training is None:
        return
    if len(run.optimizers) > 1 or task.adversarial:
        reason = (
            f"has no meaning where parts train against each other, as those of task {task.name!r}"
        )
    elif task.loss_over_pairs:
        reason = f"needs a loss of each image, and that of task {task.name!r} compares images with each other"
    elif task.targets_in_common:
        reason = f"needs a target of each image, which task {task.name!r} lacks"
    elif run.config.transfer_loss:
        names = ", ".join(repr(each["name"]) for each in config.transfer_loss)
        reason = f"would weigh transfer_loss={names} by groups, too"
    elif run.step_streams:
        reason = f"does not know the groups of the stream {next(iter(run.step_streams))!r}"
    else:
        return
    raise OptionError(f"group_training={config.group_training!r} {reason}; omit one of them")
