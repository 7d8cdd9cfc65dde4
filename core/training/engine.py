"""The loop: phases, epochs, steps; it knows schedules and receipts, and no task."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pluggy
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from visiongraft.config import FitConfig
from visiongraft.data.batch import Batch
from visiongraft.data.loader import (
    BatchIndices,
    checked_batches,
    ordered_batches,
    shard,
    shard_batches,
    shuffled_batches,
)
from visiongraft.data.samples import Samples
from visiongraft.errors import CheckpointError, TrainingError, VisiongraftError
from visiongraft.network import Network
from visiongraft.saving.files import write_bytes, write_json, write_tensors
from visiongraft.schedules import Phase, Schedule
from visiongraft.seeds import mix_seed, random_state, restore_random_state, seed_everything, seeded
from visiongraft.training.batches import ImageLoaders, PhaseBatches, choose_batches
from visiongraft.training.checkpoint import Checkpoint, RunState, group, read_best
from visiongraft.training.ema import EMA
from visiongraft.training.evaluation import decode_batches, measure, scalars
from visiongraft.training.freezing import (
    FrozenSnapshot,
    apply_phase,
    check_moments,
    check_optimizer,
    frozen_tensors,
    parameter_groups,
)
from visiongraft.training.optimizers import (
    build_optimizer,
    learning_rate_factor,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)

log = logging.getLogger("visiongraft")

# A checkpoint at the end of an epoch is skipped while the last one is younger than this: resume is
# exact from any checkpoint, so this only bounds the work that a crash can cost.
CHECKPOINT_SECONDS = 10.0


@dataclass
class Run:
    """One training run, as callbacks see it.

    Attributes:
        config: Its settings.
        network: What trains.
        schedule: Yields the phases.
        training: Training samples.
        validation: Validation samples.
        folder: The run folder, or ``None`` to keep nothing on disk.
        scratch: Where temporary files may go.
        state: Position and results so far.
        warnings: One line each on what a user should know as the run begins.
    """

    config: FitConfig
    network: Network
    schedule: Schedule
    training: Samples
    validation: Samples
    folder: Path | None
    scratch: Path
    state: RunState = field(default_factory=RunState)
    warnings: tuple[str, ...] = ()

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per finished epoch."""
        return self.state.history


class Engine:
    """Runs a schedule from its start, or from a checkpoint.

    Args:
        run: What to train.
        callbacks: A pluggy manager with the run's callbacks.
        accelerator: From ``devices.make_accelerator``.
    """

    def __init__(self, run: Run, callbacks: pluggy.PluginManager, accelerator: Accelerator) -> None:
        self.run = run
        self.hooks = callbacks.hook
        self.accelerator = accelerator
        self.device: torch.device = self.accelerator.device
        run.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = EMA(run.network, run.config.ema) if run.config.ema else None
        self.optimizer: torch.optim.Optimizer | None = None
        self.images = ImageLoaders(
            run.network, run.config, self.device, run.training, run.validation
        )
        transfer = run.network.transfer
        self.source = transfer.digest() if transfer is not None else None
        self.best: dict[str, Tensor] = {}
        self.best_written = True
        self.last_checkpoint = time.monotonic()

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to callbacks."""
        return bool(self.accelerator.is_main_process)

    def train(self, checkpoint: Checkpoint | None = None) -> None:
        """Run all phases; the network ends with the weights of the best epoch.

        Args:
            checkpoint: Where to go on, or ``None`` to begin.

        Raises:
            ReceiptError: Something frozen changed.
            TrainingError: The loss is not finite.
            CheckpointError: The backbone to start from is not the one that the run began with.
        """
        run = self.run
        seed_everything(mix_seed(run.config.seed, "train", self.accelerator.process_index))
        if checkpoint is not None:
            self._restore_network(checkpoint)
        self._write_history()
        if self.main:
            self.hooks.run_started(run=run)
            for line in run.warnings:  # now that callbacks show what is logged
                log.warning("%s", line)
        phases = run.schedule.phases(run.network.backbone.stages, run.config.epochs)
        index = 0
        phase: Phase | None = next(phases, None)
        while phase is not None:
            if index == run.state.phase:
                self._run_phase(index, phase, checkpoint)
                checkpoint = None
            past = [r for r in run.history if r["phase"] <= index]
            index += 1
            try:
                phase = phases.send(past)
            except StopIteration:
                phase = None
        self._finish()

    # ---- phases ----

    def _run_phase(self, index: int, phase: Phase, checkpoint: Checkpoint | None) -> None:
        run, state = self.run, self.run.state
        network = run.network
        apply_phase(network, phase)
        if not any(p.requires_grad for p in network.parameters()):
            raise TrainingError("nothing trains in this phase: the head has no parameters")
        groups = parameter_groups(network, phase, run.config.weight_decay)
        before, where = self.optimizer, f"at the start of phase {index}"
        self.optimizer = build_optimizer(run.config.optimizer, groups, before)
        check_optimizer(network, self.optimizer, where)
        check_moments(before, self.optimizer, where)
        if self.ema and not state.snapshot:
            self.ema.adopt(network, frozen_tensors(network))
        snapshot = (
            FrozenSnapshot(state.snapshot) if state.snapshot else FrozenSnapshot.take(network)
        )
        state.snapshot = snapshot.digests
        if self.main:
            self.hooks.phase_started(run=run, phase=phase, index=index)
        with ExitStack() as stack:
            phase_batches, state.replayed = choose_batches(
                self.images,
                phase,
                stack,
                folder=run.scratch,
                processes=self.accelerator.num_processes,
                decided=state.replayed,
            )
            model, optimizer = self._prepare(network, self.optimizer)
            if checkpoint is not None:
                self._restore_training(checkpoint)
            while state.phase_epoch < phase.epochs and not self._exhausted():
                self._train_epoch(model, optimizer, phase_batches, phase)
                self._finish_epoch(phase_batches, phase)
            self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
            self.accelerator.free_memory()
        ema = self.ema.tensors if self.ema else None
        receipt = snapshot.check(network, self.optimizer, phase=phase, index=index, ema=ema)
        if network.transfer is not None and self.source is not None:
            network.transfer.check(self.source, f"in phase {index}")
        state.receipts.append(receipt.to_json())
        state.phase, state.phase_epoch, state.stale = index + 1, 0, 0
        state.snapshot, state.replayed = {}, None
        if self.main:
            if run.folder:
                write_json(run.folder / "receipts.json", state.receipts)
            self.hooks.phase_ended(run=run, receipt=receipt)

    def _prepare(
        self, network: Network, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap for this phase: processes hook the gradients of what trains now, and only that."""
        model = self.accelerator.prepare_model(network)
        return model, self.accelerator.prepare_optimizer(optimizer)

    def _exhausted(self) -> bool:
        patience = self.run.config.patience
        return patience is not None and self.run.state.stale >= patience

    # ---- epochs ----

    def _train_epoch(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        phase_batches: PhaseBatches,
        phase: Phase,
    ) -> None:
        run, state, config = self.run, self.run.state, self.run.config
        rank = self.accelerator.process_index
        plan = self._sample_batches()
        steps = [plan[i : i + config.accumulate] for i in range(0, len(plan), config.accumulate)]
        # A process without samples runs one of the others with weight 0.
        mine = [
            batch[rank] or next(part for part in batch if part)[:1]
            for step in steps[state.step :]
            for batch in step
        ]
        batches = phase_batches.train(mine, state.epoch)
        frozen = set(frozen_tensors(run.network)) if self.ema else set()
        model.train()
        for step in range(state.step, len(steps)):
            done = state.phase_epoch * len(steps) + step
            set_learning_rate(optimizer, learning_rate_factor(done, phase.epochs * len(steps)))
            losses = self._step(model, optimizer, steps[step], batches, phase_batches.mixes)
            if self.ema:
                self.ema.update(run.network, frozen)
            state.step = step + 1
            if self.main:
                self.hooks.step_ended(run=run, step=step + 1, steps=len(steps), losses=losses)
            if config.checkpoint_every and state.step % config.checkpoint_every == 0:
                self._write_checkpoint()

    def _sample_batches(self) -> BatchIndices:
        """Sample the epoch's batches, by the task's own sampler or at random."""
        run, config, epoch = self.run, self.run.config, self.run.state.epoch
        task, processes, count = (
            run.network.task,
            self.accelerator.num_processes,
            len(run.training),
        )
        own = task.batch_sampler(
            run.training, config.batch_size, processes, seed=config.seed, epoch=epoch
        )
        if own is not None:
            return checked_batches(own, count, processes, task.name)
        size = config.batch_size * processes
        batches = shuffled_batches(count, size, config.seed, epoch, processes)
        return shard_batches(batches, processes)

    def _step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        step: BatchIndices,
        batches: Iterator[Batch],
        mixes: bool,
    ) -> dict[str, float]:
        """Accumulate the gradients of one step's batches, each weighted by its fraction of the samples."""
        run, state = self.run, self.run.state
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        total = sum(len(part) for batch in step for part in batch)
        sums: dict[str, float] = {}
        for position, whole in enumerate(step):
            count = len(whole[rank])
            batch = next(batches).to(self.device)
            if mixes:
                with seeded(run.config.seed, "mix", state.epoch, state.step, position, rank):
                    batch.images, batch.targets = run.network.task.mix(batch.images, batch.targets)
            with self._synchronized(model, position == len(step) - 1):
                with self.accelerator.autocast():
                    losses: dict[str, Tensor] = model(batch)
                loss = torch.stack([part.float() for part in losses.values()]).sum()
                # Processes average their gradients, so each counts by its fraction times their number.
                self.accelerator.backward(loss * (count * processes / total))
            for name, part in [("loss", loss), *losses.items()]:
                sums[name] = sums.get(name, 0.0) + float(part.detach()) * count
        if not all(abs(s) < float("inf") for s in sums.values()):
            raise TrainingError(
                f"the loss is not finite ({sums}) in phase {state.phase + 1}, epoch "
                f"{state.epoch + 1}, step {state.step + 1}; look for targets that are not "
                "finite, or lower the learning rate"
            )
        if run.config.clip_norm:
            trainable = [p for p in model.parameters() if p.requires_grad]
            self.accelerator.clip_grad_norm_(trainable, run.config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mine = sum(len(batch[rank]) for batch in step)
        for name, value in {**sums, "samples": float(mine)}.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        return {name: value / max(mine, 1) for name, value in sums.items()}

    def _synchronized(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else self.accelerator.no_sync(model)

    def _finish_epoch(self, phase_batches: PhaseBatches, phase: Phase) -> None:
        run, state = self.run, self.run.state
        applied = self.ema.applied(run.network) if self.ema else nullcontext()
        with applied:
            results = self._validate(phase_batches)
            better = self._note_best(results)
        record = {
            "epoch": state.epoch,
            "phase": state.phase,
            "trainable": phase.trainable,
            "learning_rate": phase.learning_rate,
            "replayed": bool(state.replayed),
            "train": self._mean_losses(),
            "validation": scalars(results),
            "best": better,
        }
        state.history.append(record)
        state.epoch += 1
        state.phase_epoch += 1
        state.step, state.sums = 0, {}
        ended = state.phase_epoch == phase.epochs or self._exhausted()
        self._append_history(record)
        if ended or time.monotonic() - self.last_checkpoint > CHECKPOINT_SECONDS:
            self._write_checkpoint()
        if self.main:
            self.hooks.epoch_ended(run=run, record=record)

    def _validate(self, phase_batches: PhaseBatches) -> dict[str, Any]:
        """Evaluate on all processes together; each gets all results, in the same order."""
        run = self.run
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        plan = ordered_batches(len(run.validation), run.config.batch_size * processes)
        mine = [part for b in plan if (part := shard(b, rank, processes))]
        decoded = (
            (d, b.targets) for d, b in decode_batches(run.network, phase_batches.validation(mine))
        )
        everyones = decoded if processes == 1 else gather_object(list(decoded))
        return measure(run.network.task, everyones)

    def _mean_losses(self) -> dict[str, float]:
        names = sorted(self.run.state.sums)
        sums = torch.tensor([self.run.state.sums[n] for n in names], dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            sums = cast(Tensor, self.accelerator.reduce(sums.to(self.device))).cpu()
        total = dict(zip(names, sums.tolist(), strict=True))
        samples = total.pop("samples")
        return {name: value / samples for name, value in total.items()}

    def _note_best(self, results: dict[str, Any]) -> bool:
        task, state = self.run.network.task, self.run.state
        value = results.get(task.headline)
        if not isinstance(value, (int, float)):
            raise TrainingError(f"the task's metrics lack its headline {task.headline!r}")
        sign = 1.0 if task.better == "higher" else -1.0
        if state.best is not None and not _is_better(sign * value, sign * state.best["value"]):
            state.stale += 1
            return False
        file = f"best-{state.epoch}.safetensors"
        state.best = {"epoch": state.epoch, "value": value, "file": file, "results": results}
        state.stale = 0
        self.best = {
            n: t.detach().to("cpu", copy=True) for n, t in self.run.network.state_dict().items()
        }
        self.best_written = False
        return True

    # ---- files ----

    def _write_history(self) -> None:
        if self.main and self.run.folder:
            lines = "".join(json.dumps(record) + "\n" for record in self.run.history)
            write_bytes(self.run.folder / "metrics.jsonl", lines.encode())

    def _append_history(self, record: dict[str, Any]) -> None:
        if self.main and self.run.folder:
            with open(self.run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _write_checkpoint(self) -> None:
        """Write the best weights first, so that a checkpoint never names a file that is not there."""
        run = self.run
        if run.folder is None:
            return
        tensors, values = random_state()
        ranks = gather_object([(tensors, {"random": values, "sums": run.state.sums})])
        self.last_checkpoint = time.monotonic()
        if not self.main:
            return
        folder = run.folder / "checkpoints"
        best = run.state.best
        if not self.best_written and best is not None:
            write_tensors(folder / best["file"], self.best, {"epoch": best["epoch"]})
            self.best_written = True
        self._checkpoint(ranks).write(folder / "last.safetensors")
        for old in folder.glob("best-*.safetensors"):
            if best is None or old.name != best["file"]:
                old.unlink()
        self.hooks.checkpoint_saved(run=run, path=folder / "last.safetensors")

    def _checkpoint(self, ranks: list[tuple[dict[str, Tensor], dict[str, Any]]]) -> Checkpoint:
        assert self.optimizer is not None
        optimizer, optimizer_values = optimizer_tensors(self.optimizer)
        groups = {
            "network": dict(self.run.network.state_dict()),
            "optimizer": optimizer,
            "ema": self.ema.tensors if self.ema else {},
        }
        for rank, (tensors, _) in enumerate(ranks):
            groups[f"random{rank}"] = tensors
        scaler = self.accelerator.scaler
        values = {
            "optimizer": optimizer_values,
            "random": [values["random"] for _, values in ranks],
            "sums": [values["sums"] for _, values in ranks],
            "ema_updates": self.ema.updates if self.ema else 0,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "source": self.source,
        }
        return Checkpoint(self.run.state, groups, values)

    def _restore_network(self, checkpoint: Checkpoint) -> None:
        if checkpoint.values.get("source") != self.source:
            raise CheckpointError(
                f"cannot resume: backbone {self.run.config.backbone!r} has other weights now than "
                "when the run began, and its transfer loss measures the distance from them"
            )
        self.run.state = checkpoint.state
        try:
            self.run.network.load_state_dict(dict(group(checkpoint, "network")))
        except RuntimeError as error:
            raise CheckpointError(
                "cannot resume: the checkpoint does not fit the network; with other data or another "
                "version of a plugin start another run"
            ) from error
        if self.ema:
            for name, tensor in group(checkpoint, "ema").items():
                self.ema.tensors[name].copy_(tensor)
            self.ema.updates = checkpoint.values["ema_updates"]
        best = self.run.state.best
        if best is not None and self.run.folder:
            saved = self.run.folder / "checkpoints" / best["file"]
            self.best = read_best(saved)

    def _restore_training(self, checkpoint: Checkpoint) -> None:
        """Restore optimizer and random states, as the last thing before the first step."""
        assert self.optimizer is not None
        restore_optimizer(
            self.optimizer, group(checkpoint, "optimizer"), checkpoint.values["optimizer"]
        )
        scaler = self.accelerator.scaler
        if scaler is not None and checkpoint.values["scaler"]:
            scaler.load_state_dict(checkpoint.values["scaler"])
        rank = self.accelerator.process_index
        states = checkpoint.values["random"]
        if rank < len(states):
            restore_random_state(dict(group(checkpoint, f"random{rank}")), states[rank])
            self.run.state.sums = checkpoint.values["sums"][rank]

    def _finish(self) -> None:
        run = self.run
        if not self.best:
            raise VisiongraftError(f"schedule {run.schedule.name!r} ran no epoch")
        run.network.load_state_dict(self.best)
        assert run.state.best is not None
        run.network.task = run.network.task.after_training(run.state.best["results"])
        run.network.held_in_eval = ()
        run.network.eval()
        self.accelerator.wait_for_everyone()


def _is_better(value: float, best: float) -> bool:
    """Compare two headlines; one that is not a number is worse than any other."""
    return value > best or (math.isnan(best) and not math.isnan(value))
