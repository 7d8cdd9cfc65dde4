"""The command ``tip-adapter``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, refuse_existing, shown_warnings


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
