"""The command ``match-rates``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, shown_warnings, table


def match_rates(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or saved model folder.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Images of other people.")],
    by: Annotated[
        str,
        typer.Option(
            metavar="FILE.csv", help="A file with the columns path and group, or an attribute."
        ),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(help="Similarity from which two images are one person; the model's if unset."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of bootstrap and permutations.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Measure false matches and false non-matches of a face model within each group of people."""
    from visiongraft.errors import OptionError
    from visiongraft.model import load

    with shown_warnings():
        loaded = load(model)
        if "match_rates" not in loaded.task.model_methods():
            raise OptionError(f"{model} is a model for task {loaded.task.name!r}, not of faces")
        found = loaded.match_rates(data, groups=by, threshold=threshold, seed=seed)
    return Answer(found.to_json(), [table(*found.table()), *found.statements()])
