"""The models that are averaged: what they must have in common, and how they are measured."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from visiongraft.adaptation.networks import merged_network
from visiongraft.backbone import BEFORE, DATA_LICENSE
from visiongraft.data.samples import EvaluationSplit
from visiongraft.errors import OptionError, name_some
from visiongraft.model import TransferModel, load
from visiongraft.network import Network
from visiongraft.options import is_integer
from visiongraft.preparation.starting import lists_in
from visiongraft.registry.manager import plugins
from visiongraft.saving.saved_model import SAVED_MODEL
from visiongraft.saving.training_images import TrainingImages
from visiongraft.task import Task
from visiongraft.training.evaluation import decode_samples, measure
from visiongraft.training.measuring.evaluation_data import (
    EvaluationData,
    prepare_evaluation,
    prepare_samples,
)
from visiongraft.training.resuming.epochs import kept_epochs, read_epoch
from visiongraft.training.resuming.inputs import changed_options

log = logging.getLogger("visiongraft")

Model = str | Path | TransferModel


@dataclass(frozen=True)
class Members:
    """Models that can be averaged.

    Attributes:
        names: How messages and the model card call them.
        models: The models, with merged adapters.
    """

    names: tuple[str, ...]
    models: tuple[TransferModel, ...]

    @classmethod
    def of(cls, given: Sequence[Model], task: type[Task] | None = None) -> Members:
        """Load models and check that they can be averaged.

        Args:
            given: Models, or folders of saved models and runs.
            task: The class of their task, if it is not an installed plugin's.

        Raises:
            OptionError: They differ in what averaging keeps.
            ArtifactError: One cannot be loaded.
        """
        return cls._checked(*load_models(given, task))

    @classmethod
    def of_epochs(
        cls,
        runs: Sequence[Model],
        epochs: Literal["all"] | Sequence[int],
        task: type[Task] | None = None,
    ) -> Members:
        """Load the weights of epochs that runs kept, and check that they can be averaged.

        Args:
            runs: Run folders.
            epochs: Numbers of epochs, from 1; ``"all"`` for those that each run kept.
            task: The class of their task, if it is not an installed plugin's.

        Raises:
            OptionError: A run did not keep one of them, or there are fewer than two.
            ArtifactError: One cannot be loaded.
        """
        names, models = [], []
        for run in runs:
            folder = _run_folder(run)
            for epoch in _chosen_epochs(folder, epochs):
                model = load(folder, task=task)
                model.network.load_state_dict(read_epoch(folder, epoch), strict=False)
                names.append(f"{folder} epoch {epoch + 1}")
                models.append(model)
        if len(models) < 2:
            raise OptionError(f"a soup takes at least two epochs; {names[0]} is a single one")
        return cls._checked(names, models)

    @classmethod
    def _checked(cls, names: Sequence[str], models: Sequence[TransferModel]) -> Members:
        for name, model in zip(names[1:], models[1:], strict=True):
            difference = next(_differences(models[0], model), None)
            if difference is not None:
                raise OptionError(f"{name} cannot be averaged with {names[0]}: {difference}")
        if not all(_are_related(models[0], model) for model in models[1:]):
            log.warning(
                "the models do not start from the same weights according to their provenance; averages "
                "are good only of models that do"
            )
        return cls(tuple(names), tuple(models))

    @property
    def states(self) -> list[dict[str, Tensor]]:
        """The tensors of each model that inference needs, on the CPU."""
        return [
            {n: t.detach().cpu() for n, t in merged_network(m.network).inference_state().items()}
            for m in self.models
        ]

    @property
    def training_images(self) -> TrainingImages | None:
        """Digests of the images that any of them was trained on; ``None`` if one does not know."""
        known = self.models[0].training_images
        for model in self.models[1:]:
            other = model.training_images
            known = None if known is None or other is None else known.joined(other)
        return known

    def network(self) -> Network:
        """Return a copy of the first model's network, for an average, with the licenses of all."""
        network = deepcopy(merged_network(self.models[0].network)).eval()
        info = network.backbone.info
        known = dict(info.provenance)
        for number, model in enumerate(self.models[1:], 2):
            for key, value in model.backbone_info.provenance.items():
                if key.rpartition(" ")[2] == "license" and known.get(key) != value:
                    known[f"model {number}: {key}"] = value
        network.backbone.info = replace(info, provenance=known)
        return network

    def evaluation(self, data: Any) -> EvaluationData | None:
        """Prepare the images to measure averages on.

        Args:
            data: Labeled data; the validation images of the first run if ``None`` and at hand.

        Returns:
            The readable ones; ``None`` if there are none at hand.
        """
        first, images = self.models[0], self.training_images
        channels = first.backbone_info.in_channels
        if data is not None:
            return prepare_evaluation(first.task, data, channels, images)
        samples = first.proof_samples()
        if samples is None:
            return None
        split = EvaluationSplit(samples, "validation")
        return prepare_samples(split, channels, images, first.task.inputs)


def load_models(
    given: Sequence[Model], task: type[Task] | None = None
) -> tuple[list[str], list[TransferModel]]:
    """Load models, and name them as messages do.

    Args:
        given: Models, or folders of saved models and runs.
        task: The class of their task, if it is not an installed plugin's.

    Returns:
        Names and models.

    Raises:
        ArtifactError: One cannot be loaded.
        OptionError: One is neither a model nor a path.
    """
    names = [_name(each, position) for position, each in enumerate(given)]
    models = [each if isinstance(each, TransferModel) else load(each, task=task) for each in given]
    return names, models


def measured(network: Network, data: EvaluationData, batch_size: int) -> dict[str, Any]:
    """Measure a network on prepared images, as ``TransferModel.evaluate`` does."""
    task = network.task
    decoded = decode_samples(network, data.samples, batch_size)
    return measure(task, ((arrays, targets) for arrays, targets, _ in decoded))


def headline(task: Task, results: Mapping[str, Any]) -> float:
    """Return the headline metric of results, negated if lower is better."""
    value = float(results[task.headline])
    return value if task.better == "higher" else -value


def averaged_model(
    members: Members,
    network: Network,
    averaging: Mapping[str, Any],
    data: EvaluationData | None,
    results: Mapping[str, Any] | None,
) -> TransferModel:
    """Make a model of averaged weights.

    Args:
        members: What was averaged.
        network: The average.
        averaging: How it was made, for the model card.
        data: What it was measured on.
        results: The metrics.

    Returns:
        The model; options that its task determines from results are set.
    """
    facts: dict[str, Any] = {"averaging": dict(averaging)}
    first, *others = (model.task.options() for model in members.models)
    if any(options != first for options in others):
        facts["averaging"]["task options"] = f"those of {members.names[0]}; others differ in some"
    if data is not None and results is not None:
        network.task = network.task.after_training(dict(results))
        facts["data"] = {n: v for n, v in data.facts.items() if n != "warnings"}
        facts["metrics"] = dict(results)
    return TransferModel(
        network,
        facts,
        None if data is None else data.samples,
        training_images=members.training_images,
    )


def _run_folder(run: Model) -> Path:
    folder = run.run_folder if isinstance(run, TransferModel) else Path(run)
    if folder is None:
        raise OptionError("epochs are those of runs; pass run folders, not a model in memory")
    return folder


def _chosen_epochs(folder: Path, epochs: Literal["all"] | Sequence[int]) -> list[int]:
    """Return the epochs of a run to average, from 0."""
    kept = kept_epochs(folder)
    if not kept:
        raise OptionError(
            f"{folder} kept the weights of no epoch; train with keep_epochs=N (--keep-epochs N), or leave epochs out"
        )
    if epochs == "all":
        return kept
    wanted: list[Any] = list(epochs) if isinstance(epochs, (list, tuple, range)) else [epochs]
    if not wanted or not all(is_integer(epoch, 1) for epoch in wanted):
        raise OptionError(
            f"epochs={epochs!r} are neither 'all' nor numbers from 1, such as [3, 4, 5]"
        )
    if len(set(wanted)) != len(wanted):
        raise OptionError(f"epochs={epochs!r} names an epoch twice")
    missing = [epoch for epoch in wanted if epoch - 1 not in kept]
    if missing:
        has = ", ".join(str(epoch + 1) for epoch in kept)
        raise OptionError(f"{folder} did not keep epoch {missing[0]}; it has {has}")
    return [epoch - 1 for epoch in wanted]


def _name(model: Model, position: int) -> str:
    if isinstance(model, str | Path):
        return str(model)
    if not isinstance(model, TransferModel):
        raise OptionError(f"{model!r} is neither a model nor the folder of one")
    return f"model {position + 1}" if model.run_folder is None else str(model.run_folder)


def _differences(first: TransferModel, other: TransferModel) -> Iterator[str]:
    """Describe what keeps two models from being averaged, the most telling first."""
    names = [plugins().name_of("task", type(model.task)) for model in (first, other)]
    if type(first.task) is not type(other.task):
        yield f"its task is {names[1]!r}, not {names[0]!r}"
    info, own = first.backbone_info, other.backbone_info
    if info.name != own.name:
        yield f"its backbone is {own.name!r}, not {info.name!r}"
    yield from changed_options(*(lists_in(model.task.metadata()) for model in (first, other)))
    options = changed_options(asdict(info.preprocess), asdict(own.preprocess))
    yield from (f"its preprocessing has {option}" for option in options)
    shapes = [
        {n: t.shape for n, t in merged_network(model.network).inference_state().items()}
        for model in (first, other)
    ]
    differing = sorted(n for n in shapes[0].keys() | shapes[1].keys() if _differ(shapes, n))
    if differing:
        yield f"its architecture is another one, {len(differing)} tensors differ: {name_some(differing)}"


def _differ(shapes: Sequence[Mapping[str, Any]], name: str) -> bool:
    return shapes[0].get(name) != shapes[1].get(name)


def _are_related(one: TransferModel, other: TransferModel) -> bool:
    """Check whether two models began with the same weights, or one with those of the other."""
    longer, shorter = sorted(map(_begun_with, (one, other)), key=len, reverse=True)
    return longer[-len(shorter) :] == shorter


def _begun_with(model: TransferModel) -> list[dict[str, str]]:
    """Return what a model began with, what that began with, and so on, without licenses of training images."""
    found: list[dict[str, str]] = [{}]
    for key, value in model.backbone_info.provenance.items():
        depth = 0
        while key.startswith(BEFORE):
            depth, key = depth + 1, key.removeprefix(BEFORE)
        found += [{} for _ in range(depth + 1 - len(found))]
        if not key.endswith(DATA_LICENSE):
            found[depth][key] = value
    if found[-1].get("source", "").startswith(SAVED_MODEL):
        found.append({})  # of a model of which nothing is known
    return found
