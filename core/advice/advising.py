"""``advise``: which backbone, which schedule, and what is wrong with the data, before training."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.advice.candidates import (
    Candidate,
    Embedded,
    embed,
    load_candidate,
    scorer_input,
    seconds_per_image,
)
from visiongraft.advice.costs import ScheduleCost, schedule_costs, seconds_to_measure
from visiongraft.advice.curves import LearningCurve, learning_curve
from visiongraft.advice.evidence import Evidence, conclude
from visiongraft.advice.findings import (
    Finding,
    color_findings,
    feature_findings,
    leak_findings,
    size_findings,
)
from visiongraft.advice.ranking import RankedBackbone, rank, unscored
from visiongraft.advice.report import Advice, statements
from visiongraft.advice.sampling import balanced_order, identities_of, labels_of, renumbered
from visiongraft.advice.trials import Trials
from visiongraft.config import FitConfig
from visiongraft.data.check import CheckedSplits, check_samples
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import DataError, OptionError, WeightsError
from visiongraft.inputs import IMAGES
from visiongraft.lookup.methods import find_scorer
from visiongraft.options import check_integer, is_number
from visiongraft.preparation.arguments import completed_settings, new_settings
from visiongraft.scorers import ClassIds, ScorerChoice
from visiongraft.seeds import preserved
from visiongraft.system.durations import parse_duration
from visiongraft.task import Task
from visiongraft.task_contract.checks import bound, read_splits

log = logging.getLogger("visiongraft")

BACKBONES = ("bundled/efficientnet_lite0",)
SCORERS = (
    "h_score",
    "linear_probe",
    "knn",
    "logme",
    "parameters",
)  # the best of the benchmark first
SCORERS_OF_IDENTITIES = ("knn", "class_mean", "parameters")  # the nearest other image is the same
# Settings of `fit` that advice is about, or that it does not compute with.
REFUSED = (
    "backbone",
    "start",
    "schedule",
    "budget",
    "transfer_loss",
    "adapters",
    "streams",
    "privacy",
    "metrics",
    "augment",
)
TIMED = 64  # images that reading and backbones are timed on
USED = 0.4  # fraction of the time for reading images and computing features
TRIED = 0.8  # fraction of the time after which evidence trainings have ended
UNREADABLE_OF_FEW = 0.05  # fraction of few images that may be unreadable
FEWEST = 32  # images that are always used, if there are as many


def advise(
    data: Any,
    *,
    backbones: Sequence[str | Path] = BACKBONES,
    scorers: Sequence[str] | None = None,
    within: float | str = "3min",
    images: int = 1000,
    target: float | None = None,
    **settings: Any,
) -> Advice:
    """Report before training which backbone fits a dataset, what a probe reaches, and what to repair.

    Features of some training images are computed once by each backbone, and from these scores with
    intervals and ties, a learning curve with an extrapolation, likely label errors, outliers and
    near-duplicates. Of the best backbone the head, the last stages and all stages are trained for a short
    time, and so is a small network from random weights. A few steps of each schedule are timed on this
    machine. Nothing is kept but cached features. What has no meaning for the task, or no time, is left out,
    and said.

    Args:
        data: As for ``fit``.
        backbones: Names, or folders of saved models.
        scorers: What ranks backbones, see ``visiongraft scorers``; the first decides. ``None`` for
            ``h_score``, ``linear_probe``, ``knn``, ``logme`` and ``parameters``, or for tasks that embed
            images ``knn``, ``class_mean`` and ``parameters``.
        within: Time that advice may take, in seconds or such as ``"3min"``; fewer images are used to stay
            within it.
        images: The most training images to use.
        target: Accuracy to tell the number of labels for; ``None`` for the number from which on twice as
            many gain less than a point.
        settings: Settings of ``fit``, such as ``task``, ``size`` and ``weights``.

    Returns:
        The advice; ``print`` shows it.

    Raises:
        DataError: The dataset cannot be read, or has fewer than two classes.
        WeightsError: The weights of no backbone could be loaded.
        VisiongraftError: An argument is invalid.
    """
    started = time.monotonic()
    seconds = _seconds(within)
    check_integer("images", images, 2)
    if target is not None and not (is_number(target) and 0 < target < 1):
        raise OptionError(f"target={target!r} is not an accuracy above 0 and below 1")
    if isinstance(backbones, (str, Path)) or not backbones:
        raise OptionError(f"backbones={backbones!r} is not a list of names or folders")
    if scorers is not None and (isinstance(scorers, str) or not scorers):
        raise OptionError(f"scorers={scorers!r} is not a list of names")
    given = completed_settings(advise, data, settings, without=REFUSED)
    config, task, _ = new_settings({**given, "backbone": str(backbones[0])})
    if task.inputs != IMAGES:
        raise OptionError(
            f"advice is about images, but task {task.name!r} takes {task.inputs.name}"
        )
    choices = None if scorers is None else [find_scorer(scorer) for scorer in scorers]
    with preserved():
        asked = Asked(choices, seconds, images, target, given["learning_rate"])
        return _Adviser(config, task, asked, started).advise(data, [str(b) for b in backbones])


@dataclass(frozen=True)
class Asked:
    """What advice is asked for.

    Attributes:
        scorers: What ranks backbones; ``None`` for what suits the task.
        within: Seconds that advice may take.
        images: The most training images to use.
        target: Accuracy to tell the number of labels for, if any.
        learning_rate: The option of ``fit`` of this name, if the user set it.
    """

    scorers: Sequence[ScorerChoice] | None
    within: float
    images: int
    target: float | None
    learning_rate: float | None


@dataclass(frozen=True)
class _Images:
    """The images that advice is computed from.

    Attributes:
        checked: Readable samples of both splits, in the proportion of all.
        labels: Class ids 0..C-1 of the training samples; ``None`` if the task has no single class.
        identities: What they show, 0..I-1, if the task embeds images.
    """

    checked: CheckedSplits
    labels: ClassIds | None
    identities: ClassIds | None

    @property
    def ranked_by(self) -> ClassIds | None:
        """What scorers of backbones are given."""
        return self.identities if self.labels is None else self.labels


@dataclass(frozen=True)
class _Adviser:
    """Computes one advice.

    Attributes:
        config: Settings of the run that it is for.
        task: The task.
        asked: What is asked for.
        started: When it began, by ``time.monotonic``.
    """

    config: FitConfig
    task: Task
    asked: Asked
    started: float

    def advise(self, data: Any, backbones: Sequence[str]) -> Advice:
        splits = read_splits(self.task, data, self.config.held_out, self.config.seed)
        task = bound(self.task, splits.train)
        labels = labels_of(task, splits.train)
        kinds = labels if labels is not None else identities_of(task, splits.train)
        if kinds is not None and len(np.unique(kinds)) < 2:
            kind = "class" if labels is not None else "identity"
            raise DataError(
                f"all training images are of one {kind}; advice needs images of at least two"
            )
        candidates, left_out = self._load(task, backbones)
        order = balanced_order(kinds, len(splits.train), self.config.seed)
        used = self._choose(task, splits, order, candidates)
        candidates, embedded = self._embed(candidates, used.checked.train, left_out)
        ranking, curve, best = self._rank(candidates, embedded, used)
        chosen = replace(self.config, backbone=candidates[best].name)
        findings = self._findings(candidates[best], embedded[best], used)
        evidence = self._evidence(chosen, task, used, embedded[best])
        costs = self._costs(chosen, task, used, embedded[best].seconds, len(splits.train))
        advice = Advice(
            task=task.name,
            images=len(used.checked.train),
            available=len(splits.train),
            classes=None if labels is None else len(np.unique(labels)),
            identities=None if labels is not None or kinds is None else len(np.unique(kinds)),
            ranking=tuple(ranking),
            left_out=left_out,
            curve=curve,
            evidence=evidence,
            costs=tuple(costs),
            findings=tuple(findings),
            warnings=(*splits.warnings, *used.checked.report.warnings),
            seconds=time.monotonic() - self.started,
            within=self.asked.within,
        )
        majority = None if used.labels is None else float(np.bincount(used.labels).max())
        chance = None if majority is None else majority / len(used.checked.train)
        return replace(advice, statements=tuple(statements(advice, chance)))

    def _load(self, task: Task, backbones: Sequence[str]) -> tuple[list[Candidate], dict[str, str]]:
        """Load the backbones whose weights are at hand."""
        config, found, left_out = self.config, [], {}
        cuda = config.device != "cpu" and torch.cuda.is_available()
        for name in dict.fromkeys(backbones):
            try:
                candidate = load_candidate(
                    name,
                    config.weights,
                    torch.device("cuda" if cuda else "cpu"),
                    in_channels=config.in_channels,
                    size=config.size or task.input_size,
                    resize=config.resize or task.resize,
                    partial=config.partial,
                    weights_license=config.weights_license,
                )
            except WeightsError as error:
                left_out[name] = str(error)
                continue
            found.append(candidate)
        if not found:
            named = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise WeightsError(
                next(iter(left_out.values()))
                if len(left_out) == 1
                else f"no backbone could be loaded; {named}"
            )
        return found, left_out

    def _choose(
        self,
        task: Task,
        splits: Splits,
        order: NDArray[np.intp],
        candidates: Sequence[Candidate],
    ) -> _Images:
        """Choose as many images as there is time for, and check them."""
        first = order[: min(TIMED, self.asked.images)]
        began = time.monotonic()
        part = self._checked(splits, first).train
        each = (time.monotonic() - began) / len(first)
        each += sum(seconds_per_image(candidate, part) for candidate in candidates)
        each *= 1 + len(splits.validation) / len(splits.train)
        left = USED * self.asked.within - (time.monotonic() - self.started)
        count = min(len(order), self.asked.images, max(FEWEST, int(left / each)))
        checked = self._checked(splits, order[:count])
        found = labels_of(task, checked.train)  # those of readable images
        shown = identities_of(task, checked.train) if found is None else None
        return _Images(
            checked, *(None if ids is None else renumbered(ids) for ids in (found, shown))
        )

    def _checked(self, splits: Splits, chosen: NDArray[np.intp]) -> CheckedSplits:
        """Check training images, and validation images in proportion."""
        fraction = len(chosen) / len(splits.train)
        count = max(1, round(fraction * len(splits.validation)))
        others = balanced_order(None, len(splits.validation), self.config.seed)[:count]
        return check_samples(
            splits.train.subset(chosen.tolist()),
            splits.validation.subset(others.tolist()),
            channels=self.config.in_channels,
            save=False,
            limit=None if len(chosen) == len(splits.train) else UNREADABLE_OF_FEW,
        )

    def _embed(
        self, candidates: Sequence[Candidate], samples: Samples, left_out: dict[str, str]
    ) -> tuple[list[Candidate], list[Embedded]]:
        """Compute the features of the candidates; leave out those whose features are not finite."""
        found = []
        for candidate in candidates:
            embedded = embed(candidate, samples)
            if np.isfinite(embedded.features).all():
                found.append((candidate, embedded))
            else:
                left_out[candidate.name] = "it computes features that are not finite"
        if not found:
            raise DataError(
                f"backbone {candidates[0].name!r} computes features that are not finite; its weights are "
                "damaged, or it needs another preprocessing"
            )
        return [candidate for candidate, _ in found], [embedded for _, embedded in found]

    def _rank(
        self, candidates: Sequence[Candidate], embedded: Sequence[Embedded], used: _Images
    ) -> tuple[list[RankedBackbone], LearningCurve | None, int]:
        """Rank the backbones; return the position of the best one, too."""
        seconds, ids = [each.seconds for each in embedded], used.ranked_by
        if ids is None:
            pairs = zip(candidates, embedded, strict=True)
            return [unscored(candidate, each) for candidate, each in pairs], None, 0
        inputs = [
            scorer_input(candidate, each, ids, self.config.seed)
            for candidate, each in zip(candidates, embedded, strict=True)
        ]
        ranking = rank(inputs, seconds, self._scorers(used))
        best = [given.backbone for given in inputs].index(ranking[0].name)
        if used.labels is None:
            return ranking, None, best
        curve = learning_curve(
            embedded[best].features, used.labels, self.config.seed, self.asked.target
        )
        return ranking, curve, best

    def _scorers(self, used: _Images) -> Sequence[ScorerChoice]:
        if self.asked.scorers is not None:
            return self.asked.scorers
        names = SCORERS if used.labels is not None else SCORERS_OF_IDENTITIES
        return [find_scorer(name) for name in names]

    def _evidence(
        self, config: FitConfig, task: Task, used: _Images, embedded: Embedded
    ) -> Evidence | None:
        """Train parts of the best backbone, as far as there is time."""
        if used.labels is None:
            return None
        labels = labels_of(task, used.checked.train)
        assert labels is not None
        deadline = self.started + TRIED * self.asked.within
        trials = Trials(config, task, used.checked, labels, self.asked.learning_rate, deadline)
        trials.run(embedded)
        return conclude(trials.trained, trials.left_out)

    def _costs(
        self, config: FitConfig, task: Task, used: _Images, seconds: float, images: int
    ) -> Sequence[ScheduleCost]:
        """Time the schedules, if there is time for it."""
        needed = seconds_to_measure(config, seconds)
        if time.monotonic() - self.started + needed > self.asked.within:
            return ()
        return schedule_costs(config, task, used.checked, images)

    def _findings(self, candidate: Candidate, embedded: Embedded, used: _Images) -> list[Finding]:
        """Look for what is wrong with the images, by the features of one backbone."""
        train, validation = used.checked.train, used.checked.validation
        others, names = embed(candidate, validation), _names(train)
        return [
            *size_findings(used.checked.report, candidate.backbone.info.preprocess.size),
            *color_findings(train, self.config.in_channels),
            *leak_findings(embedded.features, others.features, names, _names(validation)),
            *feature_findings(embedded.features, used.ranked_by, names),
        ]


def _names(samples: Samples) -> list[str]:
    return [samples.name(i) for i in range(len(samples))]


def _seconds(within: float | str) -> float:
    seconds = parse_duration(within)
    if not is_number(seconds) or seconds <= 0:
        raise OptionError(f"within={within!r} is not a time such as 90s or 3min")
    return float(seconds)
