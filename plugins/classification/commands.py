"""The commands ``tip-adapter`` and ``group-thresholds``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, refuse_existing, shown_warnings, table


def tip_adapter(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Run or saved model folder, such as of zero-shot."),
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labeled images of its classes.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    alpha: Annotated[
        float | None, typer.Option(help="Weight of the images; chosen if unset.")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(help="How fast influence falls with distance; chosen if unset."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Add labeled images to a classifier of texts, without training (Tip-Adapter)."""
    from visiongraft.errors import OptionError
    from visiongraft.model import load
    from visiongraft.plugins.classification.tip_adapter import FACT

    refuse_existing(out)
    with shown_warnings():
        loaded = load(model)
        if "tip_adapter" not in loaded.task.model_methods():
            raise OptionError(f"{model} is a model for task {loaded.task.name!r}, not a classifier")
        made = loaded.tip_adapter(data, alpha=alpha, beta=beta)
    made.save(out)
    facts = made.facts[FACT]
    line = f"{facts['images']} images added, alpha {facts['alpha']:g}, beta {facts['beta']:g}"
    return Answer({"model": str(out), **facts}, [f"{line}; model saved to {out}"])


def group_thresholds(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or saved model folder.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Dataset with labels and groups.")],
    by: Annotated[
        str,
        typer.Option(
            metavar="ATTRIBUTE|FILE.csv",
            help="What defines the groups: a further column of a table, or a file with the columns path and group.",
        ),
    ],
    constraint: Annotated[
        str,
        typer.Option(
            help="What is to be alike: equalized_odds, true_positive_rate_parity, "
            "false_positive_rate_parity or demographic_parity."
        ),
    ] = "equalized_odds",
    positive: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Class that is predicted or not; the second of two."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the rules to.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and intervals.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Choose thresholds by group so that rates are alike, and measure what this gains and costs."""
    from visiongraft.errors import OptionError
    from visiongraft.model import load
    from visiongraft.saving.files import write_json

    if out is not None:
        refuse_existing(out)
    with shown_warnings():
        loaded = load(model)
        if "group_thresholds" not in loaded.task.model_methods():
            raise OptionError(f"{model} is a model for task {loaded.task.name!r}, not a classifier")
        found = loaded.group_thresholds(
            data, groups=by, constraint=constraint, positive=positive, seed=seed
        )
    if out is not None:
        write_json(out, found.to_json())
    return Answer(found.to_json(), [table(*found.table()), *found.statements()])
