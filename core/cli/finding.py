"""Commands that measure before a run: ``advise`` and ``lr-find``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from visiongraft.cli.options import Json, TaskOptions
from visiongraft.cli.output import Answer, shown_warnings, table
from visiongraft.cli.settings import setting_help, takes_settings, with_task_options
from visiongraft.saving.files import write_bytes

# Settings of `fit` that advice is about, or that it does not compute with.
NOT_ADVISED = (
    "backbone",
    "start",
    "schedule",
    "budget",
    "transfer_loss",
    "adapters",
    "streams",
    "privacy",
    "metrics",
    "augment",
)
NOTE = "(95% intervals; *: cannot be distinguished from the best)"


@takes_settings(without=NOT_ADVISED)
def advise(
    ctx: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help=setting_help("data"))],
    *,
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A backbone to consider, or the folder of a saved model; repeatable.",
            show_default="that of fit",
        ),
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What ranks backbones, as listed by `visiongraft scorers`; the first decides; repeatable.",
            show_default="h_score, linear_probe, knn, logme, parameters; of embeddings knn, class_mean, parameters",
        ),
    ] = None,
    within: Annotated[
        str, typer.Option(metavar="TIME", help="Time that advice may take, such as 90s or 3min.")
    ] = "3min",
    images: Annotated[int, typer.Option(help="The most training images to use.")] = 1000,
    target: Annotated[
        float | None,
        typer.Option(
            metavar="ACCURACY",
            help="Tell how many labels this accuracy needs, between 0 and 1.",
            show_default="the number from which on twice as many gain less than a point",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .html file to write the report into, as one page."),
    ] = None,
    task_options: TaskOptions = None,
    as_json: Json = False,
    **settings: Any,
) -> Answer:
    """Report before training which backbone fits DATA, what a probe reaches, and what to repair."""
    given = with_task_options(ctx, settings, task_options, scorers=scorer)
    from visiongraft.advice.advising import BACKBONES
    from visiongraft.advice.advising import advise as compute
    from visiongraft.pages.writing import check_page

    page = None if html is None else check_page(html)
    advice = compute(
        data,
        backbones=backbone or BACKBONES,
        scorers=scorer or None,
        within=within,
        images=images,
        target=target,
        **given,
    )
    columns, rows = advice.table()
    shown: list[Any] = [table(columns, rows)] if rows else []
    if rows and advice.ranking[0].scores:
        shown.append(NOTE)
    written = []
    if page is not None:
        write_bytes(page, advice.html().encode())
        written.append(f"report written to {page}")
    return Answer(asdict(advice), [*shown, *advice.lines(), *written])


@takes_settings(without=("budget", "privacy", "metrics"))
def lr_find(
    ctx: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help=setting_help("data"))],
    *,
    phase: Annotated[int, typer.Option(help="Phase of the schedule, from 1.")] = 1,
    lowest: Annotated[float, typer.Option(help="The first learning rate.")] = 1e-6,
    highest: Annotated[float, typer.Option(help="The last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 100,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .png or .svg file to draw the losses into."),
    ] = None,
    task_options: TaskOptions = None,
    as_json: Json = False,
    **settings: Any,
) -> Answer:
    """Measure the loss on DATA at rising learning rates, and suggest rates to train with."""
    given = with_task_options(ctx, settings, task_options)
    from visiongraft.tuning.rates import check_plot

    if plot is not None:
        check_plot(plot)
    from visiongraft.tuning.rate_finder import lr_find as find

    with shown_warnings():
        sweep = find(data, phase=phase, lowest=lowest, highest=highest, steps=steps, **given)
    if plot is not None:
        sweep.plot(plot)
    values = {**sweep.to_json(), **({"plot": str(plot)} if plot is not None else {})}
    notes = [sweep.caution] if sweep.caution and sweep.valley is not None else []
    if len(sweep.phases) > 1:
        labels = ", ".join(f"{i} {label}" for i, label in enumerate(sweep.phases, start=1))
        notes.append(f"phases of the schedule: {labels}; --phase sweeps another one")
    saved = notes if plot is None else [*notes, f"plot saved to {plot}"]
    if sweep.valley is None or sweep.steepest is None:
        return Answer(values, [str(sweep), *saved])
    row = [str(phase), sweep.trained, f"{sweep.valley:.1e}", f"{sweep.steepest:.1e}"]
    parts: list[Any] = [table(["phase", "trained", "valley", "steepest"], [row])]
    if sweep.settings:
        how = sweep.settings.replace("{rate}", f"{sweep.valley:.1e}")
        parts.append(f'to train with the valley: visiongraft fit ... --schedule "{how}"')
    return Answer(values, [*parts, *saved])
