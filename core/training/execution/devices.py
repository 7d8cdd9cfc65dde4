"""Where a run computes: devices, precision and processes, through Accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin

from visiongraft.config import FitConfig
from visiongraft.errors import TrainingError, one_line
from visiongraft.system.memory import keep_freed_memory
from visiongraft.training.execution.launchers import LAUNCHERS, read_launch, without_settings


def make_accelerator(config: FitConfig) -> Accelerator:
    """Make the accelerator of a run.

    Accelerate keeps one state per process; it is renewed if an earlier run had other settings.

    Args:
        config: Settings; device and precision are used. Processes come from the launcher's environment.

    Returns:
        The accelerator.

    Raises:
        TrainingError: The device cannot compute in this precision, or environment variables of a
            launcher are wrong.
    """
    # Accelerate joins processes on CPUs only with an explicit ``cpu=True``; otherwise each of
    # them would train by itself and write to the same folder.
    launched = read_launch().processes > 1
    cpu = config.device == "cpu" or (launched and not torch.cuda.is_available())
    shared = AcceleratorState._shared_state
    if shared and (
        shared.get("_mixed_precision") != config.precision
        or (shared["device"].type == "cpu") != (cpu or not torch.cuda.is_available())
    ):
        AcceleratorState._reset_state(reset_partial_state=shared["num_processes"] == 1)
    keep_freed_memory()
    with without_settings():
        _join(cpu)
        return _accelerator(config, cpu)


def _join(cpu: bool) -> None:
    """Join the processes of the run, as far as they have not been joined."""
    try:
        PartialState(cpu=cpu)
    except (RuntimeError, ValueError) as error:  # torch.distributed raises these
        PartialState._reset_state()  # which would pass for a joined one
        raise TrainingError(
            f"the processes of the run cannot be joined: {one_line(error)}; {LAUNCHERS}"
        ) from error


def _accelerator(config: FitConfig, cpu: bool) -> Accelerator:
    try:
        made = Accelerator(
            mixed_precision=config.precision,
            cpu=cpu,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        if config.precision != "no" and not made.native_amp:  # it would compute in float32 unsaid
            raise ValueError(f"{config.precision} is not available on {made.device.type}")
        return made
    except ValueError as error:
        raise TrainingError(
            f"precision={config.precision!r} does not work on this device: {error}"
        ) from error
