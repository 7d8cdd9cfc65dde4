"""Commands that train: ``fit`` and ``demo``."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from inspect import signature
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiongraft.cli.failures import Interrupted
from visiongraft.cli.options import Callbacks, Json, TaskOptions, Trackers, named_task_options
from visiongraft.cli.output import Answer, print_line, table
from visiongraft.cli.plugin_options import chosen_arguments
from visiongraft.cli.settings import given_settings, setting_help, takes_settings
from visiongraft.errors import OptionError, PluginError, near_matches

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

DEMOS = "visiongraft.demos"  # entry points: name -> function(folder) that returns a report


@takes_settings()
def fit(
    ctx: typer.Context,
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help=setting_help("data"))] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to write.", show_default="runs/DATA-1, -2, ...")
    ] = None,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings by name in a .yaml, .toml or .json file, or of the run in a folder; options "
            "that are passed replace them.",
        ),
    ] = None,
    task_options: TaskOptions = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate of the schedule's main phases.",
            show_default="the schedule's own",
        ),
    ] = None,
    callback: Callbacks = None,
    tracker: Trackers = None,
    report: Annotated[
        bool,
        typer.Option("--report/--no-report", help="Write report.html into the run folder."),
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")
    ] = False,
    allow_changed_data: Annotated[
        bool,
        typer.Option(
            "--allow-changed-data", help="Resume also with changed data and weights files."
        ),
    ] = False,
    as_json: Json = False,
    **settings: Any,
) -> Answer:
    """Fine-tune a pretrained backbone on DATA and write the run to a folder."""
    from visiongraft.registry.declared import refuse_undeclared_settings

    given = _with_file(config, given_settings(ctx, {**settings, "learning_rate": learning_rate}))
    stored = given.pop("data", None)
    source = stored if data is None else data
    if source is None and not resume:
        raise OptionError("Missing argument 'DATA'")
    refuse_undeclared_settings(given)  # before torch is imported
    if task_options:
        options = named_task_options(given.get("task"), task_options)
        given["task_options"] = {**(given.get("task_options") or {}), **options}
    if callback or not report:
        chosen = dict.fromkeys([*_default_callbacks(), *(callback or [])])
        given["callbacks"] = [name for name in chosen if report or name != "report"]
    if tracker:
        given["trackers"] = tracker
    if allow_changed_data:
        given["allow_changed_data"] = True
    folder = _new_run(source, resume) if out is None else out
    return _trained(_fit(source, folder, resume, given), folder)


def _with_file(config: Path | None, passed: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a file, if there is one, with those that were passed in their place."""
    if config is None:
        return passed
    from visiongraft.cli.settings_file import read_settings

    stored = read_settings(config)
    if "budget" in passed:  # it chooses the number of epochs
        stored.pop("epochs", None)
    return {**stored, **passed}


def _new_run(data: Any, resume: bool) -> Path:
    """Return the next free run folder that is named like the dataset, and print it."""
    from visiongraft.training.execution.launchers import read_launch

    if resume:
        raise OptionError("--resume requires --out FOLDER, the run to continue")
    if read_launch().processes > 1:
        raise OptionError("several processes require --out FOLDER, so that all write the same run")
    path = Path(data if isinstance(data, str) else "data").resolve()  # those of heads are several
    name = re.sub(r"[^\w.-]+", "-", path.name if path.is_dir() else path.stem) or "data"
    paths = (Path("runs", f"{name}-{number}") for number in count(1))
    folder = next(path for path in paths if not path.exists())
    print_line(f"run folder: {folder}", sys.stderr)
    return folder


def _fit(data: Any, out: Path, resume: bool, options: dict[str, Any]) -> TransferModel:
    """Train; an interruption names the command that continues."""
    from visiongraft.fitting import fit as train
    from visiongraft.training.resuming.run_folder import STRENGTHS

    try:
        return train(data, out=out, resume=resume, **options)
    except KeyboardInterrupt:
        allowed = ["--allow-changed-data"] if "allow_changed_data" in options else []
        source = [data] if isinstance(data, str) else []
        arguments = ["fit", *source, "--out", str(out), "--resume", *allowed, *chosen_arguments()]
        command = shlex.join(["visiongraft", *arguments])
        last = "checkpoints/last.safetensors"
        if (out / last).is_file() or any(out.glob(f"{STRENGTHS}/*/{last}")):
            raise Interrupted(f"interrupted; continue with: {command}") from None
        raise Interrupted("interrupted before the first checkpoint; nothing to resume") from None


def _trained(model: TransferModel, out: Path) -> Answer:
    """Describe a finished run."""
    from visiongraft.reporting.writing import PAGE
    from visiongraft.saving.adapter_folder import is_adapter
    from visiongraft.training.selection.outcome import Outcome

    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    history = [json.loads(line) for line in lines]
    best = [record for record in history if record["best"]][-1]
    headline = model.task.headline
    select = model.facts.get("selection", {}).get("select", "best")
    outcome = Outcome.of(history, model.task, len(model.validation or ()), select)
    values: dict[str, Any] = {
        "run": str(out),
        "model": str(out / "model"),
        "epochs": len(history),
        "best_epoch": best["epoch"],
        "headline": headline,
        "validation": best["validation"],
        "last_epoch": history[-1]["validation"],
        "optimism": outcome.optimism,
        **({} if outcome.nested is None else {"nested_validation": outcome.nested}),
        **{
            name: model.facts[name]
            for name in ("evaluation", "selection", "privacy", "groups", "strengths")
            if name in model.facts
        },
    }
    phases = table(
        ["phase", "trained", "epochs", f"best {headline}"], _phase_rows(history, model.task)
    )
    parts: list[Any] = [phases]
    rows = _set_rows(best.get("evaluate_on", {}), headline)
    if rows:
        parts.append(table(["evaluation set", headline], rows))
    if groups := model.facts.get("groups"):
        parts.append(table(["group", "training images", headline], _group_rows(groups, headline)))
    if strengths := model.facts.get("strengths"):
        rows = [
            [name, str(f["epoch"] + 1), f"{f[headline]:.4f}", "yes" if f["satisfied"] else "no"]
            for name, f in strengths.items()
        ]
        parts.append(table(["transfer loss", "epoch", headline, "satisfies select"], rows))
    if privacy := model.facts.get("privacy"):
        parts.append(
            f"privacy: epsilon {privacy['epsilon']:.3f} spent at delta {privacy['delta']:g}, noise "
            f"{privacy['noise']}; publish {out / 'model'} and files exported from it, not the run"
        )
    saved = f"model saved to {out / 'model'}"
    if (out / PAGE).is_file():
        values["report"] = str(out / PAGE)
        print_line(f"report written to {out / PAGE}", sys.stderr)
    if is_adapter(out / "adapter"):
        values["adapter"] = str(out / "adapter")
        saved += f", adapter to {out / 'adapter'}"
    return Answer(values, [*parts, f"{outcome}; {saved}"])


def _set_rows(results: dict[str, dict[str, float]], headline: str) -> list[list[str]]:
    """Return a row with the headline metric of each evaluation set at the selected epoch."""
    return [
        [name, f"{metrics[headline]:.4f}"]
        for name, metrics in results.items()
        if headline in metrics  # not in those of streams
    ]


def _group_rows(groups: dict[str, Any], headline: str) -> list[list[str]]:
    """Return a row for each group of images, with a remark if it is small."""
    rows = []
    for name, facts in groups.items():
        value = facts.get(headline)
        shown = "not measured" if value is None else f"{value:.4f}"
        note = f" ({facts['note']})" if "note" in facts else ""
        rows.append([name, str(facts["training images"]), shown + note])
    return rows


def _phase_rows(history: list[dict[str, Any]], task: Any) -> list[list[str]]:
    """Return a row with the best headline metric of each phase, counted from one."""
    choose = max if task.better == "higher" else min
    rows = []
    for phase in sorted({record["phase"] for record in history}):
        records = [record for record in history if record["phase"] == phase]
        value = choose(record["validation"][task.headline] for record in records)
        rows.append([str(phase + 1), records[0]["trainable"], str(len(records)), f"{value:.4f}"])
    return rows


def demo(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of the demo; the first one if unset."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo"),
    as_json: Json = False,
) -> Answer:
    """Fine-tune on sample images, export the model with a proof, and predict with the file."""
    from visiongraft.registry.functions import functions

    known = functions(DEMOS)
    if not known:
        raise PluginError("no plugin with a demo is installed")
    chosen = name or min(known)
    if chosen not in known:
        raise PluginError(f"no demo {chosen!r}{near_matches(chosen, known)}")
    report = known[chosen].load()(out)
    return Answer(report, report["summary"])


def _default_callbacks() -> Sequence[str]:
    from visiongraft.fitting import fit as train

    default: Sequence[str] = signature(train).parameters["callbacks"].default
    return default
