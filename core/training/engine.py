"""The loop: phases, epochs, steps; it knows schedules and receipts, and no task."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import pluggy
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object

from visiongraft.data.batch import weights_channels_last
from visiongraft.errors import VisiongraftError
from visiongraft.saving.files import write_bytes, write_json
from visiongraft.schedules import Phase
from visiongraft.seeds import mix_seed, random_state, seed_everything
from visiongraft.training.batches.loaders import ImageLoaders
from visiongraft.training.batches.sources import ImageBatches, PhaseBatches
from visiongraft.training.batches.streams import Streams
from visiongraft.training.callbacks import EPOCHS, epoch_line
from visiongraft.training.freezing import (
    FrozenSnapshot,
    frozen_tensors,
    require_trained,
)
from visiongraft.training.idle import idle_parts
from visiongraft.training.measuring.epochs import LoadedOnce, Measured, Measuring
from visiongraft.training.measuring.margins import refuse_impossible
from visiongraft.training.optimizers import (
    learning_rate_factor,
    set_learning_rate,
)
from visiongraft.training.phases import ReadyPhase, phases_of, ready_phase, set_up_phase
from visiongraft.training.resuming.checkpoint import Checkpoint, read_best
from visiongraft.training.resuming.epochs import remove_epoch, write_epoch
from visiongraft.training.resuming.state import (
    restore_average,
    restore_run,
    restore_steps,
    take_checkpoint,
)
from visiongraft.training.run import Run
from visiongraft.training.selection.keeping import BestWeights, choose_alpha, describe_epoch
from visiongraft.training.step_kinds import details_of_epoch, make_steps, prepared_phase
from visiongraft.training.transfer.adapting import TargetImages, adapted
from visiongraft.training.transfer.preparing import prepare_losses
from visiongraft.training.weights.averages import Average, make_average
from visiongraft.training.weights.head_start import origin_of, refit_head, start_head
from visiongraft.training.weights.interpolation import Interpolation
from visiongraft.training.weights.norms import mean_norms

log = logging.getLogger("visiongraft")

# A checkpoint at the end of an epoch is skipped while the last one is younger than this: resume is
# exact from any checkpoint, so this only bounds the work that a crash can cost.
CHECKPOINT_SECONDS = 10.0


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
        run.network.to(self.device)
        weights_channels_last(run.network)
        self.origin = origin_of(run)
        self.average: Average | None = None
        self.optimizers: list[torch.optim.Optimizer] = []
        self.images = ImageLoaders(
            run.network,
            run.config,
            self.device,
            run.training,
            run.validation,
            run.evaluation,
            tuple(run.streams),
            run.digests,
            run.augment,
        )
        self.streams = Streams(
            run.network,
            run.config,
            self.device,
            run.step_streams,
            accelerator.num_processes,
            accelerator.process_index,
        )
        self.targets = TargetImages(self.images)
        self.steps = make_steps(run, accelerator)
        self.measuring = Measuring(run, self.images, accelerator, self.targets)
        self.path = Interpolation(run.network, run.config.wise_ft) if run.config.wise_ft else None
        self.best = BestWeights()
        self.last_checkpoint = time.monotonic()

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to callbacks."""
        return bool(self.accelerator.is_main_process)

    def measure_before(self) -> None:
        """Measure validation and evaluation sets before training, if anything is compared with it.

        Raises:
            OptionError: ``select`` compares a metric that does not exist.
        """
        run = self.run
        if not (run.evaluation or run.selection.datasets or run.target_streams or run.config.start):
            return
        self.measuring.before(ImageBatches(self.images, augment=False))
        run.selection.check_metrics(run.state.before)
        refuse_impossible(run.selection, run.state.before, self.measuring.counts, run.config.epochs)

    def train(self, checkpoint: Checkpoint | None = None) -> None:
        """Run all phases; the network ends with the weights of the best epoch.

        Args:
            checkpoint: Where to go on, or ``None`` to begin.

        Raises:
            ReceiptError: Something frozen changed.
            TrainingError: The loss is not finite.
            CheckpointError: The checkpoint does not fit the network, or its best weights are missing.
        """
        run = self.run
        if checkpoint is not None:
            restore_run(run, checkpoint)
            if run.state.best is not None and run.folder:
                self.best.tensors = read_best(run.folder / "checkpoints" / run.state.best["file"])
        self._write_history()
        if self.main:
            self.hooks.run_started(run=run)
            for line in run.warnings:  # now that callbacks show what is logged
                log.warning("%s", line)
        self.begin(checkpoint)
        for index, phase in phases_of(run):
            if index == run.state.phase:
                self.run_phase(index, phase, checkpoint)
                checkpoint = None
        self._finish()

    def begin(self, checkpoint: Checkpoint | None = None) -> None:
        """Prepare what the steps of all phases use: transfer losses, averages and random numbers."""
        run = self.run
        if checkpoint is None:
            prepare_losses(self.images)
        self.average = make_average(run.network, run.config)  # shapes of all tensors are known now
        self.best.reserve(run.network.state_dict())
        if self.average and checkpoint is not None:
            restore_average(self.average, checkpoint)
        seed_everything(mix_seed(run.config.seed, "train", self.accelerator.process_index))

    # ---- phases ----

    def run_phase(self, index: int, phase: Phase, checkpoint: Checkpoint | None = None) -> None:
        """Run a phase: its epochs and its receipt.

        Args:
            index: Its position in the schedule.
            phase: The phase.
            checkpoint: Where in the phase to go on, or ``None`` to begin it.
        """
        run, state = self.run, self.run.state
        network = run.network
        made = set_up_phase(run, index, phase, self.optimizers)
        self.optimizers = [each.optimizer for each in made]
        if phase.refit_head and not state.snapshot:
            self.refit_head()
        if self.average and not state.snapshot:
            self.average.adopt(network, frozen_tensors(network))
        snapshot = (
            FrozenSnapshot(state.snapshot) if state.snapshot else FrozenSnapshot.take(network)
        )
        state.snapshot = snapshot.digests
        if self.main:
            self.hooks.phase_started(run=run, phase=phase, index=index)
        with (
            ready_phase(run, phase, made, self.images, self.accelerator) as ready,
            prepared_phase(self.steps, made, ready.batches),
        ):
            if checkpoint is not None:
                restore_steps(self.optimizers, self.accelerator, checkpoint)
            elif index == 0 and not phase.refit_head:
                self.start_head(ready.batches)
            while state.phase_epoch < phase.epochs and not self._exhausted(phase):
                self._train_epoch(ready)
                self._finish_epoch(ready.batches, phase)
        averaged = self.average.tensors if self.average else None
        receipt = snapshot.check(
            network, self.optimizers, phase=phase, index=index, averaged=averaged
        )
        if network.transfer is not None:
            network.transfer.check(f"in phase {index + 1}")
        state.receipts.append(receipt.to_json())
        state.phase, state.phase_epoch, state.stale = index + 1, 0, 0
        state.snapshot, state.replayed, state.head_refit = {}, None, {}
        if self.main:
            if run.folder:
                write_json(run.folder / "receipts.json", state.receipts)
            self.hooks.phase_ended(run=run, receipt=receipt)

    def start_head(self, batches: PhaseBatches) -> None:
        """Let the task compute the start of a new head, before the first step of a run.

        Args:
            batches: Those of the first phase.
        """
        started = start_head(self.images, batches, self.accelerator.num_processes)
        if started:
            self.run.state.head_start = asdict(started)
            self._adopt_head()

    def refit_head(self) -> None:
        """Let the task fit the head anew, before the first step of a phase that asks for it.

        Raises:
            ScheduleError: The task cannot.
        """
        state, processes = self.run.state, self.accelerator.num_processes
        refit = refit_head(self.images, processes, state.head_start, self.origin)
        state.head_refit = asdict(refit)
        self._adopt_head()

    def _adopt_head(self) -> None:
        """Let the average begin with the head that training begins with."""
        head = self.run.network.head.state_dict()
        if self.average:
            self.average.adopt(self.run.network, {f"head.{name}" for name in head})

    def _exhausted(self, phase: Phase) -> bool:
        patience = phase.patience or self.run.config.patience
        return patience is not None and self.run.state.stale >= patience

    # ---- epochs ----

    def _train_epoch(self, ready: ReadyPhase) -> None:
        run, state, config, phase = self.run, self.run.state, self.run.config, ready.phase

        def set_rates(step: int, steps: int) -> None:
            done = state.phase_epoch * steps + step
            held = self._held_from() * steps
            for each in ready.optimizers:
                shape = each.spec.shape or phase.shape
                factor = learning_rate_factor(done, phase.epochs * steps, shape, held=held)
                set_learning_rate(each.optimizer, factor)

        frozen = set(frozen_tensors(run.network)) if self.average else set()
        for steps, losses in self.train_steps(ready, set_rates):
            if self.average:
                self.average.after_step(run.network, frozen)
            if self.main:
                self.hooks.step_ended(run=run, step=state.step, steps=steps, losses=losses)
            if config.checkpoint_every and state.step % config.checkpoint_every == 0:
                self._write_checkpoint()

    def _held_from(self) -> float:
        """Return the epoch of the phase from which learning rates stay as they are."""
        state, config = self.run.state, self.run.config
        if config.swa is None:
            return math.inf
        return config.epochs - config.swa - (state.epoch - state.phase_epoch)

    def train_steps(
        self, ready: ReadyPhase, set_rates: Callable[[int, int], None]
    ) -> Iterator[tuple[int, dict[str, float]]]:
        """Make the remaining steps of the present epoch, one at a time.

        Args:
            ready: The phase.
            set_rates: Sets the learning rates for a step of the epoch, given its number and how many
                there are.

        Yields:
            After each step how many the epoch has, and the mean loss parts of this process.
        """
        state = self.run.state
        steps = self.steps.plan()
        mine = self.steps.mine(steps[state.step :])
        batches = ready.batches.train(mine, state.epoch)
        if self.streams.samples:
            batches = self.streams.join(batches, len(mine), state.streams)
        ready.model.train()
        for step in range(state.step, len(steps)):
            set_rates(step, len(steps))
            losses = self.steps.step(
                ready.model, ready.optimizers, steps[step], batches, ready.batches.mixes
            )
            state.step, state.steps = step + 1, state.steps + 1
            state.streams = self.streams.after(state.streams, len(steps[step]))
            yield len(steps), losses

    def _finish_epoch(self, phase_batches: PhaseBatches, phase: Phase) -> None:
        run, state = self.run, self.run.state
        self._share_buffers()
        if self.average:
            self.average.after_epoch(run.network, frozen_tensors(run.network), state.epoch)
        applied = self.average.applied(run.network) if self.average else nullcontext()
        with applied, self._adapted():
            measured = self._measure_epoch(phase_batches)
            chosen = choose_alpha(run, measured)
            with self._weights_at(chosen.alpha):
                better = self.best.note(run, chosen)
                self._keep_epoch()
        record = {
            "epoch": state.epoch,
            "phase": state.phase,
            "trainable": phase.label,
            "learning_rate": phase.learning_rate,
            **({"reason": phase.reason} if phase.reason else {}),
            **({"head_start": state.head_start} if state.head_start else {}),
            **({"head_refit": state.head_refit} if state.head_refit else {}),
            "replayed": bool(state.replayed),
            "train": self.steps.mean_losses(),
            "norms": mean_norms(state.gradients, run.network),
            **describe_epoch(measured, chosen),
            **details_of_epoch(run),
            "best": better,
        }
        state.history.append(record)
        state.epoch += 1
        state.phase_epoch += 1
        state.step, state.sums, state.gradients = 0, {}, {}
        ended = state.phase_epoch == phase.epochs or self._exhausted(phase)
        self._append_history(record)
        if self.main:
            EPOCHS.info("%s", epoch_line(run, record))
        if ended or time.monotonic() - self.last_checkpoint > CHECKPOINT_SECONDS:
            self._write_checkpoint()
        if self.main:
            self.hooks.epoch_ended(run=run, record=record)

    def _measure_epoch(self, batches: PhaseBatches) -> list[Measured]:
        """Measure the present weights or, with WiSE-FT, each interpolation with those of the beginning."""
        network = self.run.network
        if self.path is None:
            return [self.measuring.all(batches)]
        if self.path.moved(network, frozenset(frozen_tensors(network))):
            batches = ImageBatches(self.images, augment=False)  # cached features are those at 1
        measured, loaded = [], LoadedOnce(batches)
        for alpha in self.path.alphas:
            with self._weights_at(alpha):
                measured.append(self.measuring.all(loaded, alpha))
        return measured

    @contextmanager
    def _weights_at(self, alpha: float | None) -> Iterator[None]:
        """Load the interpolation at an ``alpha``, and adapt it, for the length of a block."""
        if self.path is None or alpha is None:
            yield
            return
        with self.path.applied(self.run.network, alpha), self._adapted():
            yield

    def _adapted(self) -> AbstractContextManager[None]:
        return adapted(self.run, self.targets)

    def _share_buffers(self) -> None:
        """Share the buffers of the first process, whose weights are kept, with all others.

        Each has updated running statistics with its own images, and would evaluate another network.
        """
        if self.accelerator.num_processes == 1:
            return
        averaged = self.average.tensors if self.average else {}
        for name, buffer in self.run.network.named_buffers():
            for tensor in (buffer, averaged.get(name)):
                if tensor is not None:
                    tensor.copy_(broadcast(tensor.contiguous()))

    # ---- files ----

    def _write_history(self) -> None:
        if self.main and self.run.folder:
            lines = "".join(json.dumps(record) + "\n" for record in self.run.history)
            write_bytes(self.run.folder / "metrics.jsonl", lines.encode())

    def _append_history(self, record: dict[str, Any]) -> None:
        if self.main and self.run.folder:
            with open(self.run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _keep_epoch(self) -> None:
        """Write the weights that were measured, and remove those of epochs that are no longer kept."""
        run = self.run
        if run.config.keep_epochs and run.folder and self.main:
            write_epoch(run.folder, run.state.epoch, run.network.inference_state())
            remove_epoch(run.folder, run.state.epoch - run.config.keep_epochs)

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
        self.best.write(folder, best)
        checkpoint = take_checkpoint(run, self.optimizers, self.average, self.accelerator, ranks)
        checkpoint.write(folder / "last.safetensors")
        for old in folder.glob("best-*.safetensors"):
            if best is None or old.name != best["file"]:
                old.unlink()
        self.hooks.checkpoint_saved(run=run, path=folder / "last.safetensors")

    def _finish(self) -> None:
        run = self.run
        if run.state.best is None:
            raise VisiongraftError(f"schedule {run.schedule.name!r} ran no epoch")
        run.network.load_state_dict(self.best.tensors)
        require_trained(run.network, run.state.receipts)
        unsatisfied = run.state.best.get("unsatisfied")
        if self.main and unsatisfied:
            log.warning(
                "no epoch satisfies select=%r; the model is that of epoch %d, which comes closest: %s",
                run.config.select,
                run.state.best["epoch"] + 1,
                "; ".join(unsatisfied),
            )
        if self.main and run.state.best.get("alpha") == 0:
            log.warning(
                "the model is the one that the run started with: nothing that was trained is better and "
                "satisfies select=%r",
                run.config.select,
            )
        if self.main:
            for line in idle_parts(run.network, run.state.receipts):
                log.warning("%s", line)
        run.network.task = run.network.task.after_training(run.state.best["results"])
        run.network.held_in_eval = ()
        run.network.eval()
        self.accelerator.wait_for_everyone()
