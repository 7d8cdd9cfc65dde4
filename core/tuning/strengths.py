"""Several strengths of a transfer loss, such as ``l2_sp(alpha=[0.01, 0.1, 1])``: each is trained, the best is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from visiongraft.config import FitConfig
from visiongraft.errors import OptionError
from visiongraft.lookup.methods import find_transfer_loss
from visiongraft.options import is_number
from visiongraft.preparation.building import build_backbone, build_run, build_transfer
from visiongraft.preparation.datasets import RunData
from visiongraft.saving.files import write_bytes, write_json
from visiongraft.seeds import preserved
from visiongraft.training.resuming.run_folder import DATA_CHECKS, METRICS, STRENGTHS
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import for_trials, is_preferred
from visiongraft.training.selection.keeping import rank_of_best
from visiongraft.training.selection.trials import Trial

log = logging.getLogger("visiongraft")

TABLE = "strengths.json"
MOST = 20  # a run that trains more often than this was hardly meant


def settings_of_trials(config: FitConfig) -> list[FitConfig]:
    """Return the settings of each training of a run: one for each combination of strengths.

    The trainings share a time budget, and the probability of error of a confidence.

    Args:
        config: The settings of the run.

    Returns:
        Those of its trainings; ``[config]`` if no transfer loss has several strengths.

    Raises:
        OptionError: The strengths are not distinct numbers of at least 0, or do not go with a setting.
    """
    options: list[list[dict[str, Any]]] = []
    for stored in config.transfer_loss:
        choice = find_transfer_loss(stored)
        values = choice.strengths
        if values is None:
            options.append([stored])
            continue
        name = choice.kind.strength_option
        _check_strengths(choice.name, name, values)
        options.append([{**stored, "options": {**stored["options"], name: v}} for v in values])
    if all(len(each) == 1 for each in options):
        return [replace(config, transfer_loss=[each[0] for each in options])]
    trials = [list(losses) for losses in product(*options)]
    if len(trials) > MOST:
        raise OptionError(
            f"transfer_loss: {len(trials)} combinations of strengths, more than {MOST}; each is a training"
        )
    if config.privacy is not None:
        raise OptionError(
            "privacy: each strength of a transfer loss is a training that spends privacy of its own; pass one strength"
        )
    select = for_trials(config.select, len(trials))
    budget = None if config.budget is None else config.budget / len(trials)
    return [replace(config, transfer_loss=each, select=select, budget=budget) for each in trials]


def _check_strengths(loss: str, option: str, values: Sequence[Any]) -> None:
    if not values or not all(is_number(value) and value >= 0 for value in values):
        raise OptionError(f"{option}={values!r} of {loss} is not a list of numbers of at least 0")
    if len(set(values)) != len(values):
        raise OptionError(f"{option}={values!r} of {loss} names a strength twice")


@dataclass
class Strengths:
    """The trainings of a run with several strengths.

    Attributes:
        run: The run, with the network of the first training.
        asked: The settings that the user asked for.
        settings: Those of each training.
        data: What all train on.
        network: The network in memory that all begin with, if there is one.
        done: The trainings so far.
        kept: The best of them, and its position.
    """

    run: Run
    asked: FitConfig
    settings: Sequence[FitConfig]
    data: RunData
    network: nn.Module | None = None
    done: list[Trial] = field(default_factory=list)
    kept: tuple[Run, int] | None = None

    @property
    def config(self) -> FitConfig:
        """The settings of the whole, with what was measured for it."""
        asked = {name: getattr(self.asked, name) for name in ("transfer_loss", "select", "budget")}
        return replace(self.run.config, **asked)

    def runs(self) -> Iterator[Run]:
        """Yield the trainings as runs, each in a folder of its own within that of the run.

        Raises:
            VisiongraftError: A transfer loss cannot be made with one of the strengths.
        """
        run, count = self.run, len(self.settings)
        configs = [replace(run.config, transfer_loss=each.transfer_loss) for each in self.settings]
        with preserved():  # before hours have gone into the first
            for config in configs[1:]:
                build_transfer(config, run.network, run.scratch)
        for index, config in enumerate(configs):
            folder = None if run.folder is None else run.folder / _folder(index)
            if folder is not None:
                self._make(folder)
            own = replace(run, folder=folder) if index == 0 else self._build(config, folder)
            own.notes += (f"training {index + 1} of {count}: {describe(config)}",)
            yield own

    def _make(self, folder: Path) -> None:
        """Create the folder of a training, with what is known of the data."""
        assert self.run.folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        for found in self.run.folder.glob(DATA_CHECKS):
            write_bytes(folder / found.name, found.read_bytes())

    def _build(self, config: FitConfig, folder: Path | None) -> Run:
        run, task = self.run, self.data.task
        built = None
        if self.network is not None:
            built = build_backbone(config, task, run.scratch, self.network)
        own = build_run(config, run.schedule, self.data, folder, run.scratch, built)
        own.warnings = own.notes = ()  # the first training has said them
        return own

    def note(self, run: Run) -> bool:
        """Take note of a training that has ended.

        Returns:
            Whether it is the best so far; of equal ones the first is.
        """
        index = len(self.done)
        self.done.append(Trial(describe(run.config), _folder(index), run.state))
        if self.kept is None or is_preferred(_rank(run), _rank(self.kept[0])):
            self.kept = run, index
            return True
        return False

    def best(self) -> Run:
        """Return the best training, in the folder of the whole."""
        assert self.kept is not None
        best, index = self.kept
        assert best.state.best is not None
        if best.state.best["unsatisfied"]:
            log.warning(
                "no strength satisfies select=%r; %s comes closest",
                self.asked.select,
                self.done[index].name,
            )
        return replace(best, folder=self.run.folder)

    def facts(self) -> dict[str, Any]:
        """Return what the model states about the trainings, by their transfer losses."""
        headline = self.run.network.task.headline
        return {trial.name: trial.facts(headline) for trial in self.done}

    def write(self, folder: Path) -> None:
        """Write the records and receipts of the best training, and a table of all.

        Args:
            folder: The folder of the whole.
        """
        assert self.kept is not None
        best, index = self.kept
        lines = "".join(json.dumps(record) + "\n" for record in best.history)
        write_bytes(folder / METRICS, lines.encode())
        write_json(folder / "receipts.json", best.state.receipts)
        write_json(folder / TABLE, {"kept": self.done[index].name, "trainings": self.facts()})


def describe(config: FitConfig) -> str:
    """Return the transfer losses of a training as a user writes them.

    Examples:
        ``"l2_sp(alpha=0.1), mcc"``
    """
    return ", ".join(_call(each) for each in config.transfer_loss)


def _call(choice: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in choice["options"].items())
    return f"{choice['name']}({options})" if options else str(choice["name"])


def _rank(run: Run) -> tuple[int, float, float]:
    assert run.state.best is not None
    return rank_of_best(run, run.state.best)


def _folder(index: int) -> str:
    return f"{STRENGTHS}/{index + 1}"
