"""``audit``: whether a run's model tells its training images from others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from visiongraft.auditing.attacks import (
    Attack,
    Floats,
    confidence,
    judge,
    likelihood_ratios,
    permitted_area,
)
from visiongraft.auditing.canaries import attack_canaries
from visiongraft.backbone import Features
from visiongraft.config import FitConfig
from visiongraft.data.loader import BatchLoader, SampleDataset, default_workers, ordered_batches
from visiongraft.data.samples import Samples
from visiongraft.errors import ArtifactError, OptionError, one_line
from visiongraft.fitting import fit
from visiongraft.loss_parts import read_parts
from visiongraft.model import TransferModel, load
from visiongraft.network import Network
from visiongraft.options import check_integer, checks_keywords
from visiongraft.preparation.datasets import Given, RunData, read_run_data
from visiongraft.preparation.resumed import merged, resumed_settings
from visiongraft.schedules import Schedule
from visiongraft.seeds import mix_seed, seeded
from visiongraft.task import Task
from visiongraft.task_contract.checks import read_evaluation
from visiongraft.training.resuming.inputs import RunInputs
from visiongraft.training.resuming.run_folder import check_run

FEWEST = 10  # images on either side
STEPS = 200  # of a shadow head, on all of its images together
RATE = 5e-3
BATCH = 32


@dataclass(frozen=True)
class Audit:
    """What attacks find out about the training images of a run.

    Attributes:
        members: Number of training images.
        others: Number of images that were not in training.
        attacks: How well each attack tells them apart.
        left_out: Why an attack was not tried, by its name.
        privacy: Of a private run ``epsilon``, ``delta`` and ``permitted_auc``, the largest area that they permit.
    """

    members: int
    others: int
    attacks: tuple[Attack, ...]
    left_out: dict[str, str]
    privacy: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return {**vars(self), "attacks": [attack.to_json() for attack in self.attacks]}

    def statements(self) -> list[str]:
        """Return what was found, one line each."""
        lines = [
            f"{a.name}: AUC {a.auc:.3f} ({a.low:.3f} to {a.high:.3f}), true positives at 1 % false "
            f"positives: {a.found_at_low_rate:.1%}"
            for a in self.attacks
        ]
        lines += [f"{name}: not tried, {reason}" for name, reason in self.left_out.items()]
        if self.privacy:
            lines.append(f"privacy permits an AUC of up to {self.privacy['permitted_auc']:.3f}")
        return lines


@checks_keywords
def audit(
    run: str | Path, *, data: Any = None, shadows: int = 16, canaries: int = 0, seed: int = 0
) -> Audit:
    """Attack the model of a run: can its training images be told from others?

    The first attack compares losses: those of training images tend to be lower (Yeom et al., 2018). The
    second, LiRA (Carlini et al., 2022), compares the loss of each image with those of shadow models that
    were trained with and without it; here these are heads on the features of the backbone, which is why it
    needs a backbone that did not train, and a head on the embedding.

    Args:
        run: A run folder; its training data must be where they were.
        data: Images that were not in training, in any form that ``evaluate`` takes; the run's validation images if
            ``None``. They should come from where the training images come from: an attack also finds any other difference.
        shadows: Number of shadow heads, at least 4; 0 leaves LiRA out.
        canaries: Number of canaries, at least 20: training images whose targets are exchanged for those of others.
            The run is trained once more, in memory, with about half of them, and attacked by their losses. This shows
            what a training like it remembers, also where no other images are at hand.
        seed: Seed of the shadow heads, the canaries and the intervals.

    Returns:
        Areas under ROC curves with intervals of 95 %: 0.5 for an attack that guesses.

    Raises:
        ArtifactError: The folder is no run.
        OptionError: The images differ from those that the run was trained on, or there are too few.

    Examples:
        ``print(visiongraft.audit("runs/flowers").statements())``
    """
    check_integer("shadows", shadows, least=0)
    if 0 < shadows < 4:
        raise OptionError(
            f"shadows={shadows}: LiRA needs at least 4 shadow heads, or 0 to leave it out"
        )
    check_integer("canaries", canaries, least=0)
    folder = Path(run)
    check_run(folder)
    model, found = load(folder), _data_of(folder)
    members = found.checked.train
    others = found.checked.validation if data is None else _others(model, data)
    if min(len(members), len(others)) < FEWEST:
        raise OptionError(
            f"{len(members)} training images and {len(others)} others are too few; {FEWEST} of each are needed"
        )
    attacks: list[Attack] = []
    left_out = _hidden_loss(model, canaries)
    reason = left_out.get("loss") or ("switched off" if shadows == 0 else _no_shadows(model))
    if not left_out:
        inside, outside = (_measure(model.network, samples) for samples in (members, others))
        attacks.append(judge("loss", -inside.losses, -outside.losses, seed))
    if not reason:
        try:
            scores = _lira(model, [inside, outside], shadows, seed)
            cut = len(members)
            attacks.append(judge("lira", scores[:cut], scores[cut:], seed))
        except (RuntimeError, IndexError, AttributeError, TypeError) as error:  # of a head on maps
            reason = f"the head does not run on the embedding alone ({one_line(error)})"
    if reason:
        left_out["lira"] = reason
    if canaries:
        attacks.append(_canaries(folder, canaries, seed))
    return Audit(len(members), len(others), tuple(attacks), left_out, _privacy(model))


@dataclass(frozen=True)
class _Measured:
    """What an attacker measures on some images.

    Attributes:
        losses: float64 (N,), the loss of each image.
        pooled: (N, D), its embedding.
        targets: Its target.
    """

    losses: Floats
    pooled: Tensor
    targets: list[Any]


def _canaries(folder: Path, count: int, seed: int) -> Attack:
    config, task, schedule = _settings(folder)
    sets = merged(config.evaluate_on, None), merged(config.streams, None)

    def measure(network: Network, samples: Samples) -> Floats:
        return _measure(network, samples).losses

    return attack_canaries(config, task, schedule, Given(config.data, *sets), count, seed, measure)


def _settings(folder: Path) -> tuple[FitConfig, Task, Schedule]:
    """Read the settings of a run."""
    defaults = {n: p.default for n, p in inspect.signature(fit).parameters.items()}
    return resumed_settings(folder, defaults, defaults)


def _data_of(folder: Path) -> RunData:
    """Read the data of a run again, and compare them with those that it was trained on."""
    config, task, _ = _settings(folder)
    if config.start is not None:
        raise OptionError(
            "audit cannot read the data of a run that continued with a model; audit a run without start"
        )
    sets = merged(config.evaluate_on, None), merged(config.streams, None)
    found = read_run_data(Given(config.data, *sets), task, config, None, False)
    before = RunInputs.read(folder)
    if before is None:
        raise ArtifactError(f"{folder} has no inputs.json that tells what it was trained on")
    now = [each.image for each in found.checked.digests["training"]]
    if now != [each.image for each in before.samples["training"]]:
        raise OptionError(f"the training images of {folder} are not those that it was trained on")
    return found


def _others(model: TransferModel, data: Any) -> Samples:
    return read_evaluation(model.task, data).samples


def _measure(network: Network, samples: Samples) -> _Measured:
    """Compute the loss and the embedding of each image, without augmentation."""
    losses, pooled, targets = [], [], []
    loss = deepcopy(network.loss).cpu().eval()
    for batch in _batches(network, samples):
        with torch.no_grad():
            features = network.backbone(batch.images.to(next(network.parameters()).device))
            outputs = network.head(features)
        pooled.append(features.pooled.float().cpu())
        for row, target in enumerate(batch.targets):
            losses.append(_loss(network.task, loss, _of_one(outputs, row), [target]))
            targets.append(target)
    return _Measured(np.array(losses), torch.cat(pooled), targets)


def _batches(network: Network, samples: Samples) -> Iterator[Any]:
    network.eval()
    loader = BatchLoader(
        SampleDataset(samples, network.preprocess_on_cpu()),
        list,
        default_workers(next(network.parameters()).device),
    )
    plan = ordered_batches(len(samples), 1 if network.one_size else BATCH)
    return loader.batches([[(i, 0) for i in batch] for batch in plan])


def _loss(task: Any, loss: Any, outputs: Any, targets: list[Any]) -> float:
    with torch.no_grad():
        parts = read_parts(loss(outputs, task.collate(targets)), task.name)
    return sum(part.mean for part in parts.values())


def _of_one(outputs: Any, row: int) -> Any:
    """Return the outputs of one image of a batch."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[row : row + 1].cpu()

    return pytree.tree_map_only(Tensor, cut, outputs)


def _hidden_loss(model: TransferModel, canaries: int) -> dict[str, str]:
    """Return why no attack by losses is tried, if the loss has weights: saved models lack them.

    Raises:
        OptionError: It has, and there are no canaries, whose run still has them.
    """
    if not any(True for _ in model.network.loss.parameters()):
        return {}
    reason = "its loss has weights of its own, which are not saved with the model"
    if not canaries:
        raise OptionError(
            f"task {model.task.name!r} cannot be attacked by losses: {reason}; plant canaries, which train it again: "
            "canaries=40, --canaries 40"
        )
    return {"loss": reason}


def _no_shadows(model: TransferModel) -> str:
    phases = model.facts.get("training", {}).get("phases", [])
    trained = {phase["trainable"] for phase in phases}
    if trained != {"head"}:
        return f"the run trained more than its head ({', '.join(sorted(map(str, trained)))})"
    return ""


def _lira(model: TransferModel, parts: list[_Measured], count: int, seed: int) -> Floats:
    """Train shadow heads on random halves of all images, and score each image."""
    pooled = torch.cat([part.pooled for part in parts])
    targets = [target for part in parts for target in part.targets]
    generator = np.random.default_rng(mix_seed(seed, "shadows"))
    inside = np.zeros((count, len(targets)), dtype=bool)
    for column in range(len(targets)):  # each image is in half of the shadows
        inside[generator.permutation(count)[: count // 2], column] = True
    found = np.stack(
        [_shadow(model, pooled, targets, row, seed, number) for number, row in enumerate(inside)]
    )
    losses = np.concatenate([part.losses for part in parts])
    return likelihood_ratios(confidence(losses), found, inside)


def _shadow(
    model: TransferModel, pooled: Tensor, targets: list[Any], inside: Any, seed: int, number: int
) -> Floats:
    """Train one head, and return its confidence in each image."""
    task = model.task
    with seeded(seed, "shadow", number):
        head = task.build_head(model.network.backbone).train()
        loss = task.build_loss()
        chosen = np.flatnonzero(inside)
        features = Features((), pooled[chosen])
        collated = task.collate([targets[i] for i in chosen])
        optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            parts = read_parts(loss(head(features), collated), task.name)
            torch.stack([part.value for part in parts.values()]).sum().backward()
            optimizer.step()
    head.eval()
    with torch.no_grad():
        outputs = head(Features((), pooled))
    rows = [_loss(task, loss, _of_one(outputs, i), [target]) for i, target in enumerate(targets)]
    return confidence(np.array(rows))


def _privacy(model: TransferModel) -> dict[str, float]:
    facts = model.facts.get("privacy")
    if not facts:
        return {}
    epsilon, delta = float(facts["epsilon"]), float(facts["delta"])
    return {"epsilon": epsilon, "delta": delta, "permitted_auc": permitted_area(epsilon, delta)}
