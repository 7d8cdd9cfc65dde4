"""The batch size that is not given: the usual one, or what fits into a GPU or is fast enough on a CPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size

from visiongraft.config import AUTO, BATCH_SIZE
from visiongraft.data.batch import Batch
from visiongraft.errors import TrainingError
from visiongraft.registry.callbacks import listen
from visiongraft.schedules import Phase
from visiongraft.system.memory import available_memory, used_memory
from visiongraft.training.batches.loaders import TRAIN
from visiongraft.training.batches.sources import ImageBatches
from visiongraft.training.engine import Engine
from visiongraft.training.evaluation import decode_batches
from visiongraft.training.phases import ReadyPhase, ready_steps, set_up_phase
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import VALIDATION
from visiongraft.training.transfer.preparing import prepare_losses
from visiongraft.tuning.plans import planned_phases
from visiongraft.tuning.rehearsal import rehearsal

log = logging.getLogger("visiongraft")

WHAT = "batch_size='auto'"
SMALLEST = 2  # batch norm cannot train on one sample
LARGEST = 128  # learning rates are meant for batches of at most 32
FEWEST_STEPS = 4  # of an epoch
CLOSE = 0.95  # fraction of the highest throughput that is enough
REPEATS, SECONDS = 3, 1.0  # timed steps of each size, fewer if they take longer
FULL = 0.9  # fraction of a GPU's memory that steps may use, since the rest is fragmented
SMALL_SETS = {256: 8, 512: 16}  # batch sizes below a number of training images
LIMIT = 30.0  # seconds after which no larger size is tried on a CPU


@dataclass(frozen=True)
class BatchChoice:
    """A batch size that was chosen by measuring.

    Attributes:
        size: The batch size.
        reason: Why, in words.
        accumulate: Batches whose gradients are accumulated in a step; more than 1 if memory does not allow the
            batch size that the number of images calls for.
    """

    size: int
    reason: str
    accumulate: int = 1

    def __str__(self) -> str:
        """Describe the choice in one line."""
        steps = f" in steps of {self.accumulate} batches" if self.accumulate > 1 else ""
        return f"batch size {self.size}{steps}: {self.reason}"


def set_batch_size(run: Run, asked: int | str | None, accelerator: Accelerator) -> None:
    """Set the batch size of a run, unless it was given as a number.

    Args:
        run: The run, before its first step.
        asked: What the user passed: a number, ``"auto"`` to measure it, or ``None``.
        accelerator: Device, precision and processes.

    Raises:
        TrainingError: ``"auto"``, and not even the smallest size fits.
    """
    if asked == AUTO:
        use_batch_size(run, find_batch_size(run, accelerator))
    elif asked is None:
        each = max(1, _usual_size(run) // int(accelerator.num_processes))
        run.config = replace(run.config, batch_size=each)


def usual_batch_size(images: int) -> int:
    """Return the batch size for a number of training images, over all processes.

    With few images, small batches leave more steps in an epoch.

    Examples:
        >>> usual_batch_size(100), usual_batch_size(300), usual_batch_size(50_000)
        (8, 16, 32)
    """
    return next((size for most, size in SMALL_SETS.items() if images < most), BATCH_SIZE)


def _usual_size(run: Run) -> int:
    """Return the batch size of a run, over all processes; large if a loss gets better with more samples in a batch."""
    compares = run.network.task.loss_over_pairs or bool(run.streams)
    return BATCH_SIZE if compares else usual_batch_size(len(run.training))


def find_batch_size(run: Run, accelerator: Accelerator) -> BatchChoice:
    """Choose the batch size of a run by trial steps, on a copy of its network.

    The phase that is tried is the most demanding one of the schedule.

    Args:
        run: The run, before its first step; it is left as it was.
        accelerator: Device, precision and processes.

    Returns:
        On a GPU the largest size that fits, on a CPU the smallest one of nearly the highest throughput;
        in both cases at most 128, and with at least four steps in an epoch. Where memory allows less than the
        usual size, the largest that it allows, in steps of several batches.

    Raises:
        TrainingError: Not even the smallest size fits.
    """
    with rehearsal(run, accelerator, WHAT) as copy:
        sizes = candidates(len(run.training))
        engine = Engine(copy, listen(()), accelerator)
        prepare_losses(engine.images)
        if len(sizes) == 1:
            return BatchChoice(sizes[0], f"the only one for {len(run.training)} training images")
        index, phase = _most_demanding(copy, accelerator)
        choose = _largest if accelerator.device.type == "cuda" else _fast_enough
        choice = choose(copy, accelerator, sizes, index, phase)
        if choice.accumulate > 1 and run.config.accumulate > 1:  # as the user wants it
            return replace(choice, accumulate=1)
        return choice


def use_batch_size(run: Run, choice: BatchChoice) -> None:
    """Train a run with the batch size that was chosen, and say so as it begins."""
    run.config = replace(run.config, batch_size=choice.size)
    if choice.accumulate > 1:
        run.config = replace(run.config, accumulate=choice.accumulate)
    run.notes += (str(choice),)
    log.info("%s", choice)


def candidates(images: int) -> list[int]:
    """Return the batch sizes to try for a number of training images, in rising order.

    Examples:
        >>> candidates(100), candidates(5), candidates(100_000)
        ([2, 4, 8, 16], [2], [2, 4, 8, 16, 32, 64, 128])
    """
    most = min(LARGEST, images // FEWEST_STEPS)
    return [2**power for power in range(1, 8) if SMALLEST <= 2**power <= most] or [SMALLEST]


def _most_demanding(run: Run, accelerator: Accelerator) -> tuple[int, Phase]:
    """Find the phase whose steps need the most memory on a GPU, or the most time on a CPU."""
    phases = planned_phases(
        run.schedule, run.network.backbone.stages, run.config.epochs, run.network.task
    )
    kinds = {
        (phase.trainable, phase.batch_norm): (index, phase) for index, phase in enumerate(phases)
    }
    if len(kinds) == 1:
        return next(iter(kinds.values()))

    def demand(kind: tuple[int, Phase]) -> float:
        _forget_peak(accelerator)
        with _trial(run, accelerator, SMALLEST, *kind) as trial:
            trial.step()
            return _peak(accelerator) or trial.seconds()

    return max(kinds.values(), key=demand)


def _largest(
    run: Run, accelerator: Accelerator, sizes: Sequence[int], index: int, phase: Phase
) -> BatchChoice:
    """Try sizes from the largest one down until one fits into memory."""
    failed = 0
    for size in reversed(sizes):
        if _fits(run, accelerator, size, index, phase):
            why = f"{failed} does not fit" if failed else "no larger one was tried"
            name = accelerator.device.type
            reason = f"the largest that fits into the memory of {name}; {why}"
            return BatchChoice(size, reason, _batches_of_a_step(run, size, sizes))
        failed = size
    raise TrainingError(
        f"{WHAT}: not even {failed} images fit into the memory of {accelerator.device.type}; choose a "
        "smaller size or backbone"
    )


def _fits(run: Run, accelerator: Accelerator, size: int, index: int, phase: Phase) -> bool:
    """Try two steps, the second with the state of the optimizer, and an evaluation batch."""
    _forget_peak(accelerator)
    try:
        with _trial(run, accelerator, size, index, phase) as trial:
            trial.step()
            trial.step()
            trial.evaluate()
        return _peak(accelerator) <= FULL
    except Exception as error:
        if not should_reduce_batch_size(error):
            raise
        error.__traceback__ = None  # which holds the tensors of the step
        accelerator.free_memory()
        return False


def _forget_peak(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(accelerator.device)


def _peak(accelerator: Accelerator) -> float:
    """Return the largest fraction of a GPU's memory that was allocated at once; 0 without a GPU."""
    if accelerator.device.type != "cuda":
        return 0.0
    total = torch.cuda.get_device_properties(accelerator.device).total_memory
    return torch.cuda.max_memory_allocated(accelerator.device) / total


def _fast_enough(
    run: Run, accelerator: Accelerator, sizes: Sequence[int], index: int, phase: Phase
) -> BatchChoice:
    """Measure the throughput of rising sizes, as far as memory allows."""
    started = time.monotonic()
    speeds: dict[int, float] = {}
    grown, why = 0, ""
    for size in sizes:
        if 2 * grown > available_memory():
            why = f"{size} might not fit into memory"
            largest = max(speeds)
            if (batches := _batches_of_a_step(run, largest, sizes)) > 1:
                return BatchChoice(largest, why, batches)
            break
        if speeds and time.monotonic() - started > LIMIT:
            why = f"larger ones were not tried after {LIMIT:.0f} s"
            break
        before = used_memory()
        with _trial(run, accelerator, size, index, phase) as trial:
            trial.step()
            grown = max(grown, used_memory(peak=True) - before)
            speeds[size] = trial.images / trial.seconds()
    return choice_of(speeds, f"; {why}" if why else "")


def _batches_of_a_step(run: Run, size: int, sizes: Sequence[int]) -> int:
    """Return how many batches of the largest size that memory allows make one of the usual size."""
    return max(1, min(_usual_size(run), sizes[-1]) // size)


def choice_of(speeds: dict[int, float], why: str = "") -> BatchChoice:
    """Choose the smallest batch size whose throughput is close to the highest.

    Args:
        speeds: Images per second by batch size.
        why: Why no larger size was measured, to add to the reason.

    Examples:
        >>> print(choice_of({8: 20.0, 16: 39.0, 32: 40.0}))
        batch size 16: close to the highest throughput (images/s: 8: 20, 16: 39, 32: 40)
    """
    size = min(s for s, speed in speeds.items() if speed >= CLOSE * max(speeds.values()))
    measured = ", ".join(f"{s}: {speed:.3g}" for s, speed in speeds.items())
    return BatchChoice(size, f"close to the highest throughput (images/s: {measured}){why}")


@dataclass
class _Trial:
    """Steps on one batch, which is loaded once."""

    engine: Engine
    ready: ReadyPhase
    indices: list[int]
    batch: Batch

    @property
    def images(self) -> int:
        """Number of images of the batch."""
        return len(self.indices)

    def step(self) -> None:
        """Make one step."""
        batches = iter([replace(self.batch)])
        if self.engine.streams.samples:
            batches = self.engine.streams.join(batches, 1, {})
        self.engine.steps.step(
            self.ready.model,
            self.ready.optimizers,
            [[self.indices]],
            batches,
            self.ready.batches.mixes,
        )

    def seconds(self) -> float:
        """Measure the fastest of several steps."""
        times: list[float] = []
        while len(times) < REPEATS and sum(times) < SECONDS:
            started = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - started)
        return min(times)

    def evaluate(self) -> None:
        """Decode a batch of validation images."""
        run, images = self.engine.run, self.engine.images
        count = min(len(run.validation), run.config.batch_size)
        batches = images.loader(VALIDATION).batches([[(i, 0) for i in range(count)]])
        for _ in decode_batches(run.network, batches):
            pass


@contextmanager
def _trial(
    run: Run, accelerator: Accelerator, size: int, index: int, phase: Phase
) -> Iterator[_Trial]:
    """Prepare steps of a phase at a batch size, on the largest batch of an epoch."""
    run = replace(run, config=replace(run.config, batch_size=size))
    engine = Engine(run, listen(()), accelerator)
    indices = max((batch[0] for step in engine.steps.plan() for batch in step), key=len)
    made = set_up_phase(run, index, phase)
    augment = phase.augment and engine.images.transform is not None
    batches = ImageBatches(engine.images, augment)
    batch = next(engine.images.loader(TRAIN, augment).batches([[(i, 0) for i in indices]]))
    with ready_steps(run, phase, made, batches, accelerator) as ready:
        ready.model.train()
        yield _Trial(engine, ready, indices, batch)
