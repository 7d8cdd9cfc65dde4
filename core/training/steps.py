"""The steps of an epoch: their batches, accumulated gradients and losses, over all processes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from visiongraft.data.batch import Batch, StepInfo
from visiongraft.data.loader import BatchIndices, checked_batches, shard_batches, shuffled_batches
from visiongraft.errors import TrainingError
from visiongraft.loss_parts import LossPart, read_parts
from visiongraft.optimizers import name_parts
from visiongraft.seeds import seeded
from visiongraft.training.execution.recomputing import checkpointed_modules, recomputing
from visiongraft.training.optimizers import OptimizerWatch, PhaseOptimizer
from visiongraft.training.run import Run
from visiongraft.training.weights.norms import gradient_norms, is_sampled


class LossNotFiniteError(TrainingError):
    """The loss of a step is not a finite number."""


@dataclass
class Steps:
    """The steps of a run's epochs.

    Attributes:
        run: The run.
        accelerator: Its device, precision and processes.
        count: Steps in the present epoch.
    """

    run: Run
    accelerator: Accelerator
    count: int = 1

    @cached_property
    def watch(self) -> OptimizerWatch:
        """Watches the optimizers that the task steps itself."""
        return OptimizerWatch(self.run.network.task.name)

    @cached_property
    def checkpointed(self) -> tuple[nn.Module, ...]:
        """The modules whose activations the backward pass recomputes."""
        run = self.run
        on = run.config.gradient_checkpointing
        return checkpointed_modules(run.network.backbone) if on else ()

    def plan(self) -> list[BatchIndices]:
        """Sample the batches of the present epoch, and group those of one step."""
        batches, count = self._sample_batches(), self.run.config.accumulate
        steps = [batches[i : i + count] for i in range(0, len(batches), count)]
        self.count = len(steps)
        return steps

    def mine(self, steps: list[BatchIndices]) -> list[list[int]]:
        """Return the part of each batch that this process loads.

        A process without samples runs one of the others with weight 0.
        """
        rank = self.accelerator.process_index
        return [
            batch[rank] or next(part for part in batch if part)[:1]
            for step in steps
            for batch in step
        ]

    def step(
        self,
        model: nn.Module,
        optimizers: Sequence[PhaseOptimizer],
        step: BatchIndices,
        batches: Iterator[Batch],
        mixes: bool,
    ) -> dict[str, float]:
        """Update the network once by each optimizer that is due, on the same batches.

        Args:
            model: The prepared network.
            optimizers: The optimizers of the phase.
            step: Samples of each batch and process.
            batches: Loads the batches of this process.
            mixes: Whether the task mixes the samples of a batch.

        Returns:
            Mean loss parts of this process, and their sum as ``"loss"``. With several optimizers the
            parts are called ``optimizer.part``.

        Raises:
            LossNotFiniteError: The loss is not finite.
        """
        state = self.run.state
        due = [each for each in optimizers if state.steps % each.spec.every == 0]
        loaded = self._loaded(step, batches, mixes)
        if len(due) != 1:  # otherwise each batch is loaded when its turn comes
            loaded = list(loaded)
        reported: dict[str, list[float]] = {}
        for each in due:
            sums = self._update(model, each, step, loaded)
            reported |= name_parts(sums, each.spec, len(self.run.optimizers))
        for name, (value, weight) in reported.items():
            before = state.sums.get(name, [0.0, 0.0])
            state.sums[name] = [before[0] + value, before[1] + weight]
        return _means(reported)

    def _loaded(self, step: BatchIndices, batches: Iterator[Batch], mixes: bool) -> Iterable[Batch]:
        """Load the batches of a step, mixed if they are to be."""
        run, state, rank = self.run, self.run.state, self.accelerator.process_index
        task, progress = run.network.task, self._progress()
        for position in range(len(step)):
            batch = next(batches).to(self.accelerator.device)
            batch.step = StepInfo(number=state.steps, progress=progress)
            if mixes:
                with seeded(run.config.seed, "mix", state.epoch, state.step, position, rank):
                    batch.images, batch.targets = task.mix(batch.images, batch.targets)
            yield batch

    def _update(
        self, model: nn.Module, each: PhaseOptimizer, step: BatchIndices, batches: Iterable[Batch]
    ) -> dict[str, list[float]]:
        """Accumulate the gradients of one step's batches and make one step of one optimizer.

        The loss is that of all batches and processes together. A sum with a weight of its own can be
        divided only when all weights are known, so that its batches go backward together.

        Returns:
            Of each loss part the sum and the weight of this process.
        """
        accelerator, owner = self.accelerator, self.run.network.task.name
        rank = accelerator.process_index
        sums: dict[str, list[float]] = {}
        waiting: list[tuple[dict[str, LossPart], int]] = []
        for position, (whole, batch) in enumerate(zip(step, batches, strict=True)):
            spec = each.spec
            batch.step = replace(batch.step, optimizer=spec.name, transfer=spec.transfer_losses)
            last = position == len(step) - 1
            with nullcontext() if last else accelerator.no_sync(model):
                with (
                    accelerator.autocast(),
                    self.watch.watching(),
                    recomputing(self.checkpointed),
                ):
                    parts = read_parts(model(batch), owner)
                waiting.append((parts, len(whole[rank])))
                if last or self._can_go_backward(parts):
                    self._backward(waiting, step)
                    waiting = []
            add_parts(sums, parts, len(whole[rank]))
        self._check_finite(sums)
        self._finish(model, each)
        return sums

    def _can_go_backward(self, parts: Mapping[str, LossPart]) -> bool:
        """Check whether the gradients of a batch can be computed before the rest of its step is known.

        Processes have to go backward together, also if one of them lacks a part with a weight.
        """
        at_once = not self.run.network.task.varying_loss_parts
        return at_once and all(part.weight is None for part in parts.values())

    def _backward(self, waiting: list[tuple[dict[str, LossPart], int]], step: BatchIndices) -> None:
        """Compute the gradients of batches, each weighted by its fraction of the whole step."""
        processes = self.accelerator.num_processes
        total = sum(len(part) for batch in step for part in batch)
        weights = self._total_weights(waiting)
        terms = []
        for parts, count in waiting:
            means = [part.value.float() for part in parts.values() if part.weight is None]
            if means:
                # Processes average their gradients, so each counts by its fraction times their number.
                terms.append(torch.stack(means).sum() * (count * processes / total))
            for name, part in parts.items():
                if part.weight is not None:
                    scale = processes / weights[name] if count and weights[name] else 0.0
                    terms.append(part.value.float() * scale)
        self.accelerator.backward(torch.stack(terms).sum() if len(terms) > 1 else terms[0])

    def _total_weights(self, waiting: list[tuple[dict[str, LossPart], int]]) -> dict[str, float]:
        """Add up the weights of parts that have their own, over batches and processes."""
        weights: dict[str, Tensor] = {}
        for parts, count in waiting:
            for name, part in parts.items():
                if part.weight is not None:
                    weight = part.weight.double() if count else part.weight.double() * 0
                    weights[name] = weights[name] + weight if name in weights else weight
        names = self._names_of_all(weights)
        if not names:
            return {}
        nothing = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        together = torch.stack([weights.get(name, nothing) for name in names])
        if self.accelerator.num_processes > 1:
            together = cast(Tensor, self.accelerator.reduce(together))
        return dict(zip(names, together.tolist(), strict=True))

    def _names_of_all(self, own: Iterable[str]) -> list[str]:
        """Return the names of loss parts that any process has, sorted."""
        task = self.run.network.task
        if self.accelerator.num_processes > 1 and task.varying_loss_parts:
            return sorted({*gather_object(sorted(own))})
        return sorted(own)

    def _finish(self, model: nn.Module, each: PhaseOptimizer) -> None:
        """Measure and clip the gradients, and make the step."""
        run, accelerator = self.run, self.accelerator
        accelerator.unscale_gradients(each.optimizer)  # once: a second time is refused
        if is_sampled(run.state.step, self.count):
            for part, norm in gradient_norms(run.network).items():
                before = run.state.gradients.get(part, [0.0, 0])
                run.state.gradients[part] = [before[0] + norm, before[1] + 1]
        self._clip(each)
        each.optimizer.step()
        model.zero_grad(set_to_none=True)  # of the parameters of other optimizers, too

    def _clip(self, each: PhaseOptimizer) -> None:
        clip_norm = each.spec.clip_norm or self.run.config.clip_norm
        if clip_norm:
            held = [p for group in each.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(held, clip_norm)

    def _check_finite(self, sums: dict[str, list[float]]) -> None:
        state = self.run.state
        if not all(math.isfinite(number) for pair in sums.values() for number in pair):
            means = {name: value for name, (value, _) in sums.items()}
            raise LossNotFiniteError(
                f"the loss is not finite ({means}) in phase {state.phase + 1}, epoch "
                f"{state.epoch + 1}, step {state.step + 1}; {self._cause()}, or lower the learning rate"
            )

    def _progress(self) -> float:
        state = self.run.state
        return min(1.0, (state.epoch + state.step / self.count) / self.run.config.epochs)

    def _cause(self) -> str:
        """Describe what to look for if a loss is not finite."""
        network = self.run.network
        damaged = [n for n, t in network.named_parameters() if not t.isfinite().all()]
        damaged += [n for n, t in network.named_buffers() if t.isnan().any()]
        if damaged:
            return f"tensor {damaged[0]!r} of the network is not finite: look for damaged weights"
        return "look for targets that are not finite"

    def mean_losses(self) -> dict[str, float]:
        """Return the mean loss parts of the present epoch so far, over the samples of all processes."""
        own = self.run.state.sums
        names = self._names_of_all(own)
        sums = torch.tensor([own.get(n, [0.0, 0.0]) for n in names], dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            sums = cast(Tensor, self.accelerator.reduce(sums.to(self.accelerator.device))).cpu()
        return _means(dict(zip(names, sums.tolist(), strict=True)))

    def _sample_batches(self) -> BatchIndices:
        """Sample by the task's own batch sampler, or at random."""
        run, config, epoch = self.run, self.run.config, self.run.state.epoch
        task, count, processes = run.network.task, len(run.training), self.accelerator.num_processes
        own = task.batch_sampler(
            run.training, config.batch_size, processes, seed=config.seed, epoch=epoch
        )
        if own is not None:
            return checked_batches(own, count, processes, task.name)
        size = config.batch_size * processes
        return shard_batches(
            shuffled_batches(count, size, config.seed, epoch, processes), processes
        )


def add_parts(sums: dict[str, list[float]], parts: dict[str, LossPart], count: int) -> None:
    """Add the parts of a batch to sums.

    Args:
        sums: Of each part its sum and weight so far; changed in place.
        parts: The parts of the batch.
        count: Number of its samples; 0 adds nothing, as for a batch that another process counts.
    """
    for name, part in parts.items():
        value, weight = float(part.value.detach()), float(count)
        if part.weight is None:
            value *= count
        elif count:
            weight = float(part.weight)
        else:
            value = 0.0
        before = sums.get(name, [0.0, 0.0])
        sums[name] = [before[0] + value, before[1] + weight]


def _means(sums: dict[str, list[float]]) -> dict[str, float]:
    """Return the mean of each part, 0 for one that is over nothing, and their sum as ``"loss"``."""
    means = {name: value / weight if weight else 0.0 for name, (value, weight) in sums.items()}
    return {**means, "loss": sum(means.values())}
