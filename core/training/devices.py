"""Where a run computes: devices, precision and processes, through Accelerate."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from visiongraft.config import FitConfig
from visiongraft.errors import TrainingError


def make_accelerator(config: FitConfig) -> Accelerator:
    """Make the accelerator of a run.

    Accelerate keeps one state per process; it is renewed if an earlier run had other settings.

    Args:
        config: Settings; device and precision are used. Processes come from the launcher's environment.

    Returns:
        The accelerator.

    Raises:
        TrainingError: The device cannot compute in this precision.
    """
    # Accelerate joins processes on CPUs only with an explicit ``cpu=True``; otherwise each of
    # them would train by itself and write to the same folder.
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    cpu = config.device == "cpu" or (launched and not torch.cuda.is_available())
    shared = AcceleratorState._shared_state
    if shared and (
        shared.get("_mixed_precision") != config.precision
        or (shared["device"].type == "cpu") != (cpu or not torch.cuda.is_available())
    ):
        AcceleratorState._reset_state(reset_partial_state=shared["num_processes"] == 1)
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    try:
        made = Accelerator(mixed_precision=config.precision, cpu=cpu, kwargs_handlers=handlers)
        if config.precision != "no" and not made.native_amp:  # it would compute in float32 unsaid
            raise ValueError(f"{config.precision} is not available on {made.device.type}")
        return made
    except ValueError as error:
        raise TrainingError(
            f"precision={config.precision!r} does not work on this device: {error}"
        ) from error
