"""Commands that average models: ``soup`` and ``wise-ft``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiongraft.cli.options import BatchSize, Json
from visiongraft.cli.output import Answer, refuse_existing, shown_warnings, table
from visiongraft.options import is_number

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

Out = Annotated[Path, typer.Option(help="Folder to write the model to.")]
Data = Annotated[
    str | None,
    typer.Option(help="Labeled images to measure on; the validation images of the run if unset."),
]


def soup(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODELS...", help="Run or saved model folders.")
    ],
    out: Out,
    greedy: Annotated[
        bool,
        typer.Option(
            "--greedy", help="Add models from good to bad as long as the metric does not fall."
        ),
    ] = False,
    epochs: Annotated[
        str | None,
        typer.Option(
            help="Average epochs that runs kept, see `fit --keep-epochs`: all, or numbers such as 3,4,5.",
            show_default="the best epoch of each run",
        ),
    ] = None,
    data: Data = None,
    batch_size: BatchSize = 32,
    as_json: Json = False,
) -> Answer:
    """Average the weights of MODELS that were fine-tuned from the same weights, or of epochs of runs."""
    from visiongraft.averaging.soups import soup as average

    refuse_existing(out)
    with shown_warnings():
        model = average(
            models, greedy=greedy, epochs=_numbers(epochs), data=data, batch_size=batch_size
        )
    return _saved(model, out)


def wise_ft(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Run or saved model folder, fine-tuned.")
    ],
    out: Out,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Run or saved model folder before fine-tuning; what the run MODEL continued with if "
            "unset."
        ),
    ] = None,
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            help="Weight of MODEL, from 0 to 1, 0.5 if unset; repeatable, the best one is chosen."
        ),
    ] = None,
    data: Data = None,
    batch_size: BatchSize = 32,
    as_json: Json = False,
) -> Answer:
    """Interpolate between the weights before and after fine-tuning (WiSE-FT)."""
    from visiongraft.averaging.wise_ft import HALF
    from visiongraft.averaging.wise_ft import wise_ft as interpolate

    refuse_existing(out)
    with shown_warnings():
        found = interpolate(model, start, alpha=alpha or HALF, data=data, batch_size=batch_size)
    return _saved(found, out)


def _numbers(text: str | None) -> Any:
    """Read numbers between commas; anything else is left to who checks it."""
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if parts and all(map(str.isdecimal, parts)) else text


def _saved(model: TransferModel, out: Path) -> Answer:
    """Save a model; show how it was averaged, and its metrics."""
    model.save(out)
    averaging, metrics = model.facts["averaging"], model.facts.get("metrics")
    values = {"model": str(out), "averaging": averaging, "metrics": metrics}
    rows = [[name, _shown(value)] for name, value in averaging.items()]
    parts: list[Any] = [table(["averaging", "value"], rows)]
    if metrics is None:
        parts.append("not measured; pass --data to measure it")
    else:
        scalars = {n: v for n, v in metrics.items() if is_number(v, finite=False)}
        parts.append(table(["metric", "value"], [[n, f"{v:.4f}"] for n, v in scalars.items()]))
    return Answer(values, [*parts, f"model saved to {out}"])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {number:.4f}" for name, number in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
