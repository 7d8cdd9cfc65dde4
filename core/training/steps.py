"""The steps of an epoch: their batches, accumulated gradients and losses, over all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from visiongraft.data.batch import Batch
from visiongraft.data.loader import BatchIndices, checked_batches, shard_batches, shuffled_batches
from visiongraft.errors import TrainingError
from visiongraft.seeds import seeded
from visiongraft.training.optimizers import OptimizerWatch
from visiongraft.training.run import Run


@dataclass(frozen=True)
class Steps:
    """The steps of a run's epochs.

    Attributes:
        run: The run.
        accelerator: Its device, precision and processes.
    """

    run: Run
    accelerator: Accelerator

    @cached_property
    def watch(self) -> OptimizerWatch:
        """Watches the optimizers that the task steps itself."""
        return OptimizerWatch(self.run.network.task.name)

    def plan(self) -> list[BatchIndices]:
        """Sample the batches of the present epoch, and group those of one step."""
        batches, count = self._sample_batches(), self.run.config.accumulate
        return [batches[i : i + count] for i in range(0, len(batches), count)]

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
        optimizer: torch.optim.Optimizer,
        step: BatchIndices,
        batches: Iterator[Batch],
        mixes: bool,
    ) -> dict[str, float]:
        """Accumulate the gradients of one step's batches, each weighted by its fraction of the samples.

        Args:
            model: The prepared network.
            optimizer: Its optimizer.
            step: Samples of each batch and process.
            batches: Loads the batches of this process.
            mixes: Whether the task mixes the samples of a batch.

        Returns:
            Mean loss parts of this process, and their sum as ``"loss"``.

        Raises:
            TrainingError: The loss is not finite.
        """
        run, state, accelerator = self.run, self.run.state, self.accelerator
        processes, rank = accelerator.num_processes, accelerator.process_index
        total = sum(len(part) for batch in step for part in batch)
        sums: dict[str, float] = {}
        for position, whole in enumerate(step):
            count = len(whole[rank])
            batch = next(batches).to(accelerator.device)
            if mixes:
                with seeded(run.config.seed, "mix", state.epoch, state.step, position, rank):
                    batch.images, batch.targets = run.network.task.mix(batch.images, batch.targets)
            last = position == len(step) - 1
            with nullcontext() if last else accelerator.no_sync(model):
                with accelerator.autocast(), self.watch.watching():
                    losses: dict[str, Tensor] = model(batch)
                loss = torch.stack([part.float() for part in losses.values()]).sum()
                # Processes average their gradients, so each counts by its fraction times their number.
                accelerator.backward(loss * (count * processes / total))
            for name, part in [("loss", loss), *losses.items()]:
                sums[name] = sums.get(name, 0.0) + float(part.detach()) * count
        if not all(abs(s) < float("inf") for s in sums.values()):
            raise TrainingError(
                f"the loss is not finite ({sums}) in phase {state.phase + 1}, epoch "
                f"{state.epoch + 1}, step {state.step + 1}; {self._cause()}, or lower the learning rate"
            )
        if run.config.clip_norm:
            trainable = [p for p in model.parameters() if p.requires_grad]
            accelerator.clip_grad_norm_(trainable, run.config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mine = sum(len(batch[rank]) for batch in step)
        for name, value in {**sums, "samples": float(mine)}.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        return {name: value / max(mine, 1) for name, value in sums.items()}

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
        names = sorted(self.run.state.sums)
        sums = torch.tensor([self.run.state.sums[n] for n in names], dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            sums = cast(Tensor, self.accelerator.reduce(sums.to(self.accelerator.device))).cpu()
        total = dict(zip(names, sums.tolist(), strict=True))
        samples = total.pop("samples")
        return {name: value / samples for name, value in total.items()}

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
