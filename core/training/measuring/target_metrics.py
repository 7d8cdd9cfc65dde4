"""Measuring a network on the streams of the domain that it is for, without looking at labels."""

from __future__ import annotations

import torch
from torch import Tensor

from visiongraft.extra_outputs import first_features
from visiongraft.loss_parts import read_parts
from visiongraft.training.class_logits import has_several_classes, states_class_logits
from visiongraft.training.measuring.label_free import LabelFree
from visiongraft.training.measuring.weighted_risk import weighted_risk
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import VALIDATION
from visiongraft.training.transfer.adapting import TargetImages

MOST = 1000  # images of a stream that are measured, and no more
MOST_SINGLE = 250  # validation images whose losses are computed one by one
FEW = 16  # targets that show whether an image can have several classes
FEWEST = 4  # images of which a risk can be estimated


def measure_target(run: Run, targets: TargetImages, name: str) -> dict[str, float]:
    """Measure the present network on a stream.

    Args:
        run: The run; its network is left in evaluation mode.
        targets: The images.
        name: Name of the stream.

    Returns:
        The metrics of ``LabelFree``, if the task has class logits, and ``weighted_risk``, if each image
        has a loss of its own. Labels of the stream are never read; those of the validation images
        are.
    """
    network, free, pooled = run.network.eval(), LabelFree(), []
    several: bool | None = None
    with torch.no_grad():
        for batch in targets.some(name, run.streams[name], MOST):
            features = network.backbone(batch.images)
            pooled.append(features.pooled.float().cpu())
            logits = network.task.class_logits(network.head(features))
            if logits is not None and several is None:
                several = _several_classes(run, logits.shape[1])
            if logits is not None and not several:
                free.update(logits)
    found = free.compute()
    if has_single_losses(run) and min(len(run.validation), sum(map(len, pooled))) >= FEWEST:
        losses, own = _validation_losses(run, targets)
        found["weighted_risk"] = weighted_risk(losses, own, torch.cat(pooled))
    return found


def has_single_losses(run: Run) -> bool:
    """Check whether the loss of a batch is the mean of losses that single images of each split have."""
    task = run.network.task
    compares = task.loss_over_pairs or task.adversarial or task.streams
    return task.splits_alike and not compares and len(run.optimizers) == 1


def _several_classes(run: Run, classes: int) -> bool:
    """Check whether a few validation images show that classes do not exclude each other."""
    task, count = run.network.task, len(run.validation)
    if states_class_logits(task):
        return False
    few = min(FEW, count)
    chosen = [run.validation.target(position * count // few) for position in range(few)]
    return any(has_several_classes(task, task.collate([one]), classes) for one in chosen)


def _validation_losses(run: Run, targets: TargetImages) -> tuple[Tensor, Tensor]:
    """Return losses (N,) and embeddings (N, D) of validation images."""
    network, losses, pooled = run.network, [], []
    with torch.no_grad():
        for batch in targets.some(VALIDATION, run.validation, MOST_SINGLE, alone=True):
            with first_features(network.backbone) as features:
                parts = read_parts(network.task.training_step(network, batch), network.task.name)
            losses.append(sum(part.mean for part in parts.values()))
            pooled.append(features[0].pooled.float().cpu())
    return torch.tensor(losses), torch.cat(pooled)
