"""What the schedules would take on this machine, measured by a few steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visiongraft.config import FitConfig
from visiongraft.data.check import CheckedSplits
from visiongraft.data.samples import Splits
from visiongraft.preparation.arguments import make_schedule, suitable_options
from visiongraft.preparation.building import build_run
from visiongraft.preparation.datasets import RunData
from visiongraft.system.durations import describe_duration
from visiongraft.system.memory import reset_peak_memory, used_memory
from visiongraft.task import Task
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.resuming.run_folder import scratch_folder
from visiongraft.tuning.rehearsal import rehearsal
from visiongraft.tuning.time_budget import Costs

SCHEDULES = ("linear_probe", "lp_ft", "full")  # with ascending need of memory
STEPS = 6  # batches that all kinds of phases together train and evaluate
PASSES = 3  # a training step takes about as long as three passes without gradients


@dataclass(frozen=True)
class ScheduleCost:
    """What one schedule would take.

    Attributes:
        schedule: Its name.
        epochs: Number of epochs.
        seconds: Expected time of the run on this machine.
        memory: Largest memory in bytes: of the GPU or, without one, of this process and what it holds
            otherwise; ``None`` if that is unknown.
        device: Whose memory that is.
    """

    schedule: str
    epochs: int
    seconds: float
    memory: int | None = None
    device: str = "cpu"

    def __str__(self) -> str:
        """Describe the cost in one line."""
        kind = "GPU memory" if self.device == "cuda" else "memory"
        memory = "" if self.memory is None else f", {self.memory / 1e9:.1f} GB of {kind}"
        return f"{self.schedule}: about {describe_duration(self.seconds)} for {self.epochs} epochs{memory}"


def schedule_costs(
    config: FitConfig, task: Task, checked: CheckedSplits, images: int
) -> list[ScheduleCost]:
    """Measure a step of each kind of phase on some of the images, and scale it to all.

    Args:
        config: Settings of the run, with the backbone.
        task: The task, bound to its data.
        checked: Readable samples, in the proportion of all training and validation images.
        images: Number of training images of the whole dataset.

    Returns:
        The cost of ``linear_probe``, ``lp_ft`` and ``full``.
    """
    data = RunData(task, task, Splits(checked.train, checked.validation), checked, {}, {})
    suitable = suitable_options(task, started=config.start is not None)
    schedules = {name: make_schedule(name, None, config.adapters, suitable) for name in SCHEDULES}
    scale = images / len(checked.train)
    accelerator = make_accelerator(config)
    device = accelerator.device.type
    known = _reset_peak(device)
    found = []
    with scratch_folder() as scratch:
        run = build_run(config, schedules[SCHEDULES[0]], data, None, scratch)
        with rehearsal(run, accelerator, "the time of a schedule") as copy:
            costs = Costs(
                copy, accelerator
            )  # kinds of phases that schedules share are measured once
            for name, schedule in schedules.items():
                copy.schedule = schedule
                phases = costs.phases(config.epochs)
                seconds = sum(cost.start + phase.epochs * cost.epoch for phase, cost in phases)
                epochs = sum(phase.epochs for phase, _ in phases)
                total = scale * (costs.once + seconds)
                peak = _peak(device) if known else None
                found.append(ScheduleCost(name, epochs, total, peak, device))
    return found


def seconds_to_measure(config: FitConfig, seconds: float) -> float:
    """Estimate how long ``schedule_costs`` takes.

    Args:
        config: Settings of the run.
        seconds: Time per image of the backbone without gradients.
    """
    return STEPS * PASSES * config.batch_size * seconds


def _reset_peak(device: str) -> bool:
    """Begin to measure memory anew, and return whether it is known."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return device == "cuda" or (device == "cpu" and reset_peak_memory())


def _peak(device: str) -> int | None:
    """Return the largest amount of memory since; ``None`` if it is unknown."""
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else used_memory(peak=True)
    return peak or None
