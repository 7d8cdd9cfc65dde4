"""Commands that train: ``fit`` and ``demo``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from visiongraft.cli.failures import Interrupted
from visiongraft.cli.options import (
    Json,
    parse_bytes,
    parse_size,
    parse_task_options,
)
from visiongraft.cli.output import Answer, table
from visiongraft.cli.plugin_options import chosen_words
from visiongraft.errors import OptionError, PluginError, near_matches

DEMOS = "visiongraft.demos"  # entry points: name -> function(folder), which gives a report


def fit(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Folder or manifest with the images.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    task: Annotated[str | None, typer.Option(help="What to learn; see `tasks`.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Set a task option; may be repeated."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Name as `backbones` lists it, or a saved model's folder.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="pretrained, none, or a weights file.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="Name as `schedules` lists it, with options: 'last_n(n=2)'."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of all phases together.")] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share to hold out where the data name no part for it.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Network input in pixels: 224 or HEIGHTxWIDTH.")
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(help="crop (keeps the aspect ratio), stretch or pad (keeps the size)."),
    ] = None,
    in_channels: Annotated[int | None, typer.Option(help="Channels of an image.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step and process.")] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak rate of the schedule's main phases; its own if unset."),
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or sgd.")] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Never applied to biases and norms.")
    ] = None,
    transfer_loss: Annotated[
        str | None,
        typer.Option(help="Tie the backbone to its pretrained self: 'l2_sp(alpha=0.01)'."),
    ] = None,
    views: Annotated[
        int | None, typer.Option(help="Number of fixed augmented views of each image.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option(help="auto, on or off: store what frozen stages compute.")
    ] = None,
    replay_dtype: Annotated[str | None, typer.Option(help="float32 or float16.")] = None,
    replay_budget: Annotated[
        str | None, typer.Option(help="Disk space for it, such as 500MB or 4GB.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="no, fp16 or bf16.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches a step.")] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Largest gradient norm; 0 clips nothing.")
    ] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of averaged weights: 0.99.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without improvement that end a phase.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints within an epoch.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that decode images.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best if unset.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes everything random.")] = None,
    callback: Annotated[
        list[str] | None, typer.Option(help="Add a plugin's callback; may be repeated.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in --out stopped.")
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Fine-tune a backbone on DATA and write the run to a folder."""
    given: dict[str, Any] = {
        "task": task,
        "task_options": _task_options(task, settings),
        "backbone": backbone,
        "weights": weights,
        "schedule": schedule,
        "epochs": epochs,
        "validation": validation,
        "size": None if size is None else parse_size(size),
        "resize": resize,
        "in_channels": in_channels,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "transfer_loss": transfer_loss,
        "views": views,
        "replay": replay,
        "replay_dtype": replay_dtype,
        "replay_budget": None if replay_budget is None else parse_bytes(replay_budget),
        "precision": precision,
        "accumulate": accumulate,
        "clip_norm": clip_norm,
        "ema": ema,
        "patience": patience,
        "checkpoint_every": checkpoint_every,
        "workers": workers,
        "device": device,
        "seed": seed,
        "callbacks": _callbacks(callback),
    }
    options = {name: value for name, value in given.items() if value is not None}
    # These two are off at None, which on the command line means "not given".
    if weights == "none":
        options["weights"] = None
    if clip_norm == 0:
        options["clip_norm"] = None
    return _fit(data, out, resume, options)


def _fit(data: str, out: Path, resume: bool, options: dict[str, Any]) -> Answer:
    from visiongraft.fitting import fit as train

    try:
        model = train(data, out=out, resume=resume, **options)
    except KeyboardInterrupt:
        words = ["fit", data, "--out", str(out), "--resume", *chosen_words()]
        command = shlex.join(["visiongraft", *words])
        if (out / "checkpoints" / "last.safetensors").is_file():
            raise Interrupted(f"interrupted; go on with: {command}") from None
        raise Interrupted("interrupted before the first checkpoint; nothing to resume") from None
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    history = [json.loads(line) for line in lines]
    best = [record for record in history if record["best"]][-1]
    headline = model.task.headline
    values = {
        "run": str(out),
        "model": str(out / "model"),
        "epochs": len(history),
        "best_epoch": best["epoch"],
        "headline": headline,
        "validation": best["validation"],
    }
    phases = table(
        ["phase", "trained", "epochs", f"best {headline}"], _phase_rows(history, model.task)
    )
    last = f"{headline} {best['validation'][headline]:.4f} at epoch {best['epoch'] + 1}"
    return Answer(values, [phases, f"{last}; the model is in {out / 'model'}"])


def _phase_rows(history: list[dict[str, Any]], task: Any) -> list[list[str]]:
    """Give the best headline of each phase."""
    choose = max if task.better == "higher" else min
    rows = []
    for phase in sorted({record["phase"] for record in history}):
        records = [record for record in history if record["phase"] == phase]
        value = choose(record["validation"][task.headline] for record in records)
        rows.append([str(phase + 1), records[0]["trainable"], str(len(records)), f"{value:.4f}"])
    return rows


def demo(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which demo; the first if unset.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo"),
    as_json: Json = False,
) -> Answer:
    """Fine-tune on images, prove it, export it and predict with the exported file."""
    from importlib.metadata import entry_points

    points = {point.name: point for point in entry_points(group=DEMOS)}
    if not points:
        raise PluginError("no plugin with a demo is installed")
    chosen = name or min(points)
    if chosen not in points:
        raise PluginError(f"no demo {chosen!r}{near_matches(chosen, points)}")
    report = points[chosen].load()(out)
    return Answer(report, report["summary"])


def _task_options(task: str | None, settings: list[str] | None) -> dict[str, Any] | None:
    if not settings:
        return None
    if task is None:
        raise OptionError("--set sets options of a task; say which with --task NAME")
    from visiongraft.registry.manager import plugins

    return parse_task_options(plugins().get("task", task), settings)


def _callbacks(names: list[str] | None) -> list[str] | None:
    if not names:
        return None
    return list(dict.fromkeys([*_default("callbacks"), *names]))


def _default(parameter: str) -> Any:
    from inspect import signature

    from visiongraft.fitting import fit as train

    return signature(train).parameters[parameter].default
