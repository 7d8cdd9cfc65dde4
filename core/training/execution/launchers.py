"""Environment variables of launchers: processes are checked, settings are ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from visiongraft.errors import TrainingError

# What torchrun, Intel MPI or Slurm, Open MPI and MVAPICH set, in this order, as Accelerate reads them.
WORLD_SIZE = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
LOCAL_RANK = (
    "LOCAL_RANK",
    "MPI_LOCALRANKID",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
)
PORT = ("MASTER_PORT",)
LAUNCHERS = "start the processes with torchrun or accelerate launch"

PREFIXES = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_")
HARMLESS = {"ACCELERATE_DEBUG_MODE", "ACCELERATE_CPU_AFFINITY"}  # they change no result
FLAGS = {"0", "1", "true", "false", "yes", "no", "on", "off", "y", "n", "t", "f"}
NEUTRAL = {"", "0", "false", "no", "none"}  # what accelerate launch sets if nothing is asked for
NEUTRAL_COUNTS = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}


@dataclass(frozen=True)
class Launch:
    """How a launcher started this process.

    Attributes:
        processes: Number of processes of the run.
        rank: Position of this one.
    """

    processes: int
    rank: int


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Read and check what a launcher says about the processes of a run.

    Args:
        environment: Environment variables.

    Returns:
        The number of processes, and which one this is.

    Raises:
        TrainingError: A variable is not a number, is out of range, or is missing.

    Examples:
        >>> read_launch({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"})
        Launch(processes=2, rank=1)
    """
    processes = _number(environment, WORLD_SIZE, 1, None)
    most = 1 if processes is None else processes[1]
    rank = _number(environment, RANK, 0, most)
    local = _number(environment, LOCAL_RANK, -1, most)
    _number(environment, PORT, 1, 65536)
    if processes is not None and most > 1:
        for names, found in ((RANK, rank), (LOCAL_RANK, local)):
            if found is None:
                raise TrainingError(
                    f"environment variable {processes[0]}={most} is set, but {names[0]} is not; "
                    f"{LAUNCHERS}, or unset it"
                )
    return Launch(most, 0 if rank is None else rank[1])


def _number(
    environment: Mapping[str, str], names: tuple[str, ...], least: int, end: int | None
) -> tuple[str, int] | None:
    """Return the first variable that is set, and its value."""
    for name in names:
        text = environment.get(name)
        if text is None:
            continue
        digits = text.strip().removeprefix("-")
        value = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
        if value is None or value < least or (end is not None and value >= end):
            among = "" if end is None else f" below {end}"
            raise TrainingError(
                f"environment variable {name}={text[:40]!r} is not an integer of at least "
                f"{least}{among}; {LAUNCHERS}, or unset it"
            )
        return name, value
    return None


def ignored_settings(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """List the settings in environment variables that do not change a run.

    Args:
        environment: Environment variables.

    Returns:
        At most one line that names them; none for those that ask for nothing.

    Examples:
        >>> ignored_settings({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "False"})
        ()
    """
    asking = [
        f"{name}={environment[name][:40]!r}"
        for name in sorted(environment)
        if _is_setting(name, environment[name])
        and environment[name].lower() not in NEUTRAL
        and environment[name] != NEUTRAL_COUNTS.get(name)
    ]
    if not asking:
        return ()
    line = f"environment variables do not change a run: ignoring {', '.join(asking)}"
    return (f"{line}; use the settings accumulate, precision and device instead",)


@contextmanager
def without_settings() -> Iterator[None]:
    """Hide settings in environment variables, and launchers of one process, from Accelerate.

    One process has nobody to join; trying to would wait for a host that may not exist.
    """
    hidden = {name: value for name, value in os.environ.items() if _is_setting(name, value)}
    if read_launch().processes == 1:
        names = (*WORLD_SIZE, *RANK, *LOCAL_RANK)
        hidden |= {name: os.environ[name] for name in names if name in os.environ}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _is_setting(name: str, value: str) -> bool:
    harmless = name in HARMLESS and value.lower() in FLAGS  # Accelerate refuses other values
    return name.startswith(PREFIXES) and not harmless
