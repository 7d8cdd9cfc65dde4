"""What happened in training: curves, phases, and which stages were frozen when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from visiongraft.options import is_number
from visiongraft.pages.figures import HEIGHT, ROW, draw_lines, new_figure, style_legend
from visiongraft.pages.parts import Figure, Part, Table
from visiongraft.reporting.contract import ReportSection

HEAD = "head"


class Curves(ReportSection):
    """Loss, metric and learning rate over the epochs, with phases shaded."""

    name, title, position = "curves", "Training", 10

    def parts(self) -> Iterator[Part]:
        run = self.run
        history = run.history
        epochs = [record["epoch"] + 1 for record in history]
        losses: dict[str, Any] = {"training": (epochs, [r["train"]["loss"] for r in history])}
        if any("validation_loss" in record for record in history):
            values = [record.get("validation_loss", {}).get("loss") for record in history]
            losses["validation"] = (epochs, values)
        yield self._curve("loss", losses, "Loss over the epochs; the shading shows phases")
        name = run.task.headline
        metrics = {"validation": (epochs, [r["validation"].get(name) for r in history])}
        for part in history[0].get("evaluate_on", {}):
            values = [record["evaluate_on"].get(part, {}).get(name) for record in history]
            if any(value is not None for value in values):
                metrics[part] = (epochs, values)
        yield self._curve(name, metrics, f"{name} over the epochs")
        own = {
            metric: (epochs, [r["validation"].get(metric) for r in history])
            for metric in run.config.metrics or {}
            if is_number(history[-1]["validation"].get(metric))
        }
        if own:
            yield self._curve("own metrics", own, "The user's own metrics on the validation images")
        free = {
            f"{part} {metric}": (epochs, [r["evaluate_on"][part].get(metric) for r in history])
            for part, found in history[0].get("evaluate_on", {}).items()
            if part in (run.config.streams or {})
            for metric in found
        }
        if free:
            yield self._curve("without labels", free, "Metrics of streams, which need no labels")
        rates = {"peak of the phase": (epochs, [r["learning_rate"] for r in history])}
        curve = self._curve("learning rate", rates, "Learning rate of each phase", "0.00e+0")
        curve.model.y_range.start = 0
        yield curve
        stages = list(dict.fromkeys(run.network.backbone.info.stage_of.values()))
        yield Figure(
            draw_freezing(history, [*stages, HEAD]),
            "Stages that trained in each epoch, with the norms of weights and gradients",
        )
        yield Table(
            ["phase", "epochs", "trained", "learning rate"],
            [
                (phase + 1, len(own), own[0]["trainable"], own[0]["learning_rate"])
                for phase, own in ((p, list(g)) for p, g in groupby(history, _phase))
            ],
            "Phases",
        )

    def _curve(
        self, label: str, lines: dict[str, Any], caption: str, digits: str = "0.0000"
    ) -> Figure:
        axes = new_figure("epoch", label)
        _shade(axes, self.run.history)
        draw_lines(axes, lines, digits=digits)
        axes.xaxis.ticker.min_interval = 1
        return Figure(axes, caption)


def draw_freezing(history: Sequence[Any], stages: Sequence[str]) -> Any:
    """Draw which stages trained in which epoch.

    Args:
        history: The records of the epochs.
        stages: Names from the input to the head.

    Returns:
        The figure.
    """
    from bokeh.models import ColumnDataSource, HoverTool

    cells: dict[str, list[Any]] = {name: [] for name in ("x", "y", "state", "color", "norms")}
    for record in history:
        for stage in stages:
            norms = record.get("norms", {}).get(stage)
            trains = norms is not None
            cells["x"].append(record["epoch"] + 1)
            cells["y"].append(stage)
            cells["state"].append("trained" if trains else "frozen")
            cells["color"].append("#e07b39" if trains else "#6f9fc8")
            cells["norms"].append(
                f"weights {norms['weights']:.3g}, gradients {norms['gradients']:.3g}"
                if trains
                else ""
            )
    height = max(HEIGHT // 2, 90 + ROW * len(stages))
    axes = new_figure("epoch", "", height=height, y_range=list(stages))
    source = ColumnDataSource(cells)
    drawn = axes.rect(
        "x",
        "y",
        0.94,
        0.86,
        source=source,
        fill_color="color",
        line_color=None,
        legend_group="state",
    )
    axes.add_tools(
        HoverTool(
            renderers=[drawn], tooltips=[("", "@y: @state"), ("epoch", "@x"), ("norms", "@norms")]
        )
    )
    style_legend(axes)
    axes.xaxis.ticker.min_interval = 1
    axes.grid.visible = False
    return axes


def _phase(record: Any) -> int:
    phase: int = record["phase"]
    return phase


def _shade(axes: Any, history: Sequence[Any]) -> None:
    """Shade every other phase."""
    from bokeh.models.annotations import BoxAnnotation

    for phase, records in groupby(history, _phase):
        own = list(records)
        if phase % 2:
            axes.add_layout(
                BoxAnnotation(
                    left=own[0]["epoch"] + 0.5,
                    right=own[-1]["epoch"] + 1.5,
                    fill_alpha=0.12,
                    fill_color="#808080",
                    line_color=None,
                )
            )
