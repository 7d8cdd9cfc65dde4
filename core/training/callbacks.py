"""Built-in callbacks of a run: progress on the terminal, curves."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from visiongraft.errors import escape_unprintable
from visiongraft.hookspecs import hookimpl
from visiongraft.options import is_number
from visiongraft.saving.files import write_figure
from visiongraft.system.durations import describe_duration
from visiongraft.system.progress import Display, current_display
from visiongraft.training.selection.outcome import Outcome
from visiongraft.training.selection.tradeoff import draw_tradeoff

if TYPE_CHECKING:
    import pluggy

    from visiongraft.schedules import Phase
    from visiongraft.training.freezing import Receipt
    from visiongraft.training.run import Run
    from visiongraft.training.selection.trials import Trial

log = logging.getLogger("visiongraft")
EPOCHS = logging.getLogger("visiongraft.epochs")  # a line for each epoch, for the log of the run


class ConsoleProgress:
    """Shows a bar per epoch and a line per result on standard error."""

    name = "progress"

    def __init__(self) -> None:
        self.display = current_display() or Display()
        self.console = self.display.console
        self.bar: Any = None
        self.began = 0.0  # the epoch that is running
        self.handler = _ConsoleLog(self.console)

    @hookimpl
    def run_started(self, run: Run) -> None:
        """Start the display."""
        log.addHandler(self.handler)
        self.console.print(
            f"{run.network.backbone.info.name} for {run.network.task.name}: "
            f"{len(run.training)} training, {len(run.validation)} validation images"
        )
        if run.config.adapters:
            names = ", ".join(one["name"] for one in run.config.adapters)
            self.console.print(f"adapters: {names}; schedule: {run.schedule.call}", markup=False)
        for line in run.notes:
            self.console.print(line, markup=False)
        if run.state.epoch or run.state.step:
            self.console.print(
                f"resuming at epoch {run.state.epoch + 1}, step {run.state.step + 1}"
            )
        if run.state.before:
            self.console.print(f"before training: {_headlines(run.state.before, run)}")

    @hookimpl
    def phase_started(self, run: Run, phase: Phase, index: int) -> None:
        """Print what trains."""
        parameters = sum(p.numel() for p in run.network.parameters() if p.requires_grad)
        epochs = "epoch" if phase.epochs == 1 else "epochs"
        self.began = time.monotonic()
        self.console.print(
            f"phase {index + 1}: {phase.label}, {phase.epochs} {epochs}, "
            f"{parameters:,} trainable parameters{f'; {phase.reason}' if phase.reason else ''}"
        )

    @hookimpl
    def step_ended(self, run: Run, step: int, steps: int, losses: dict[str, float]) -> None:
        """Advance the bar."""
        if not self.console.is_terminal:
            return
        loss = f"loss {losses['loss']:.4f}"
        if self.bar is None:
            label = f"epoch {run.state.epoch + 1}/{run.config.epochs}"
            self.bar = self.display.begin(label, steps, loss)
        self.display.bars.update(self.bar, completed=step, note=loss)

    @hookimpl
    def epoch_ended(self, run: Run, record: dict[str, Any]) -> None:
        """Print the results."""
        self._end_bar()
        now = time.monotonic()
        took, self.began = now - self.began, now
        left = run.config.epochs - record["epoch"] - 1
        rest = f", about {describe_duration(took * left)} left" if left else ""
        line = epoch_line(run, record)
        self.console.print(f"{line}; {describe_duration(took)}{rest}", markup=False)

    @hookimpl
    def phase_ended(self, receipt: Receipt) -> None:
        """Print the receipt."""
        if receipt.frozen:
            self.console.print(f"receipt: {len(receipt.frozen)} frozen tensors unchanged")

    @hookimpl
    def run_finished(self, run: Run) -> None:
        """End the display with the best epoch and the last one."""
        self._end()
        outcome = Outcome.of(run.history, run.network.task, len(run.validation), run.config.select)
        for line in filter(None, (str(outcome), outcome.caution)):
            self.console.print(line, markup=False)

    @hookimpl
    def strength_chosen(self, run: Run, trials: Sequence[Trial]) -> None:
        """Print what each strength came to."""
        kept, headline = run.state, run.network.task.headline
        for trial in trials:
            facts = trial.facts(headline)
            mark = " *" if trial.state is kept else ""
            unsatisfied = "" if facts["satisfied"] else ", does not satisfy select"
            self.console.print(
                f"{trial.name}: {headline} {facts[headline]:.4f} at epoch {facts['epoch'] + 1}{unsatisfied}{mark}",
                markup=False,
            )

    @hookimpl
    def run_failed(self) -> None:
        """End the display."""
        self._end()

    def _end_bar(self) -> None:
        if self.bar is not None:
            self.display.end(self.bar)
            self.bar = None

    def _end(self) -> None:
        self._end_bar()
        log.removeHandler(self.handler)


def shows_progress(callbacks: pluggy.PluginManager) -> bool:
    """Check whether progress is among the callbacks of a run."""
    # Not get_plugins(), which is a set: a callback of a user need not be hashable.
    return any(isinstance(one, ConsoleProgress) for _, one in callbacks.list_name_plugin())


def epoch_line(run: Run, record: Mapping[str, Any]) -> str:
    """Describe an epoch in one line: loss, headline metric, a star if it is the best so far."""
    headline = run.network.task.headline
    mark = " *" if record["best"] else ""
    replayed = " (replayed)" if record["replayed"] else ""
    others = _headlines(record.get("evaluate_on", {}), run)
    alpha = f" at alpha {record['alpha']:g}" if "alpha" in record else ""
    own = (
        f", {name} {value:.4f}"
        for name in run.metrics.metrics
        if is_number(value := record["validation"].get(name))
    )
    return (
        f"epoch {record['epoch'] + 1}/{run.config.epochs}: loss {record['train']['loss']:.4f}, "
        f"{headline} {record['validation'][headline]:.4f}{alpha}{''.join(own)}{mark}{replayed}"
        f"{', ' if others else ''}{others}"
    )


def _headlines(results: dict[str, dict[str, float]], run: Run) -> str:
    """Return the headline metric of each evaluation set, and all metrics of streams, in one line."""
    name = run.network.task.headline
    return ", ".join(
        f"{part} {metric} {value:.4f}"
        for part, metrics in results.items()
        for metric, value in metrics.items()
        if metric == name or part in run.streams
    )


class _ConsoleLog(logging.Handler):
    def __init__(self, console: Any) -> None:
        super().__init__(logging.INFO)
        self.console = console
        self.addFilter(lambda record: record.name != EPOCHS.name)  # these are printed with times

    def emit(self, record: logging.LogRecord) -> None:
        label = "warning: " if record.levelno >= logging.WARNING else ""
        self.console.print(label + escape_unprintable(record.getMessage()), markup=False)


class Curves:
    """Draws loss and headline metric over the epochs into ``curves.png`` of the run folder.

    Metrics of streams, which need no labels, have a panel of their own. If ``select`` bounds metrics of
    evaluation sets, the trade-off is drawn into ``tradeoff.png``.
    """

    name = "curves"

    @hookimpl
    def run_finished(self, run: Run) -> None:
        """Draw."""
        self._draw(run, ())

    @hookimpl
    def strength_chosen(self, run: Run, trials: Sequence[Trial]) -> None:
        """Draw the training that is kept, and the trade-off of all."""
        self._draw(run, trials)

    def _draw(self, run: Run, trials: Sequence[Trial]) -> None:
        if run.folder is None:
            return
        from matplotlib.figure import Figure

        headline, first = run.network.task.headline, run.history[0].get("evaluate_on", {})
        streams = [name for name in run.target_streams if first.get(name)]
        panels = 3 if streams else 2
        figure = Figure(figsize=(4 * panels, 3.2), dpi=120, layout="constrained")
        loss, metric, *others = figure.subplots(1, panels)
        epochs = [record["epoch"] + 1 for record in run.history]
        loss.plot(epochs, [r["train"]["loss"] for r in run.history], marker="o", color="C0")
        loss.set(title="training loss", xlabel="epoch")
        values = [r["validation"][headline] for r in run.history]
        metric.plot(epochs, values, marker="o", color="C1")
        metric.set(title=f"validation {headline}", xlabel="epoch")
        for name in run.evaluation:
            values = [r["evaluate_on"][name].get(headline) for r in run.history]
            metric.plot(epochs, values, marker=".", linestyle="--", label=name)
        if run.evaluation:
            metric.legend()
        for axes in others:
            _draw_streams(axes, run.history, streams)
        for axes in (loss, metric, *others):
            axes.grid(alpha=0.3)
            axes.xaxis.get_major_locator().set_params(integer=True)
            for before, after in zip(run.history, run.history[1:], strict=False):
                if before["phase"] != after["phase"]:
                    axes.axvline(after["epoch"] + 0.5, color="gray", linestyle=":")
        write_figure(run.folder / "curves.png", figure)
        draw_tradeoff(run, run.folder, trials)


def _draw_streams(axes: Any, history: Sequence[Mapping[str, Any]], streams: Sequence[str]) -> None:
    """Draw the metrics without labels of each stream."""
    epochs = [record["epoch"] + 1 for record in history]
    for stream in streams:
        for metric in history[0]["evaluate_on"][stream]:
            values = [record["evaluate_on"][stream].get(metric) for record in history]
            axes.plot(epochs, values, marker=".", label=f"{stream} {metric}")
    axes.set(title="without labels", xlabel="epoch")
    axes.legend()


@hookimpl
def register_callbacks() -> list[type[Any]]:
    """Provide the built-in callbacks."""
    return [ConsoleProgress, Curves]
