"""Commands on classifiers: few labeled images beside texts, and thresholds by group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiongraft.cli.options import GroupedBy, Json
from visiongraft.cli.output import Answer, refuse_existing, shown_warnings, table

if TYPE_CHECKING:
    from visiongraft.model import TransferModel


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
    from visiongraft.plugins.classification.tip_adapter import FACT

    made = _made(model, "tip_adapter", data, out, alpha=alpha, beta=beta)
    facts = made.facts[FACT]
    line = f"{facts['images']} images added, alpha {facts['alpha']:g}, beta {facts['beta']:g}"
    return Answer({"model": str(out), **facts}, [f"{line}; model saved to {out}"])


def learn_prompts(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Run or saved model folder, as of zero-shot."),
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Labeled images of its classes.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    context: Annotated[
        int | None,
        typer.Option(
            help="Number of vectors that begin at random; the words of the template if unset."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the images.")] = 50,
    learning_rate: Annotated[float, typer.Option(help="Initial learning rate.")] = 0.002,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 32,
    text: Annotated[
        str | None,
        typer.Option(help="Text encoder, if the model does not name where it is, as of a folder."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of random vectors and the order of images.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Learn vectors in place of the words before each class, from few labeled images (CoOp)."""
    from visiongraft.plugins.classification.prompt_learning import NEAREST
    from visiongraft.text.learned import FACT

    made = _made(
        model, "learn_prompts", data, out, context=context, epochs=epochs,
        learning_rate=learning_rate, batch_size=batch_size, text=text, seed=seed,
    )  # fmt: skip
    facts = made.facts[FACT]
    before, after = facts["cross-entropy before"], facts["cross-entropy after"]
    lines = [f"nearest words: {', '.join(facts[NEAREST])}"] if facts[NEAREST] else []
    line = f"cross-entropy of {facts['images']} images: {before:.3f} before, {after:.3f} after"
    return Answer({"model": str(out), **facts}, [*lines, f"{line}; model saved to {out}"])


def _made(model: Path, method: str, data: str, out: Path, **options: Any) -> TransferModel:
    """Make a model from another and labeled images, and save it."""
    from visiongraft.errors import OptionError
    from visiongraft.model import load

    refuse_existing(out)
    with shown_warnings():
        loaded = load(model)
        if method not in loaded.task.model_methods():
            raise OptionError(f"{model} is a model for task {loaded.task.name!r}, not a classifier")
        made: TransferModel = getattr(loaded, method)(data, **options)
    made.save(out)
    return made


def group_thresholds(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or saved model folder.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Dataset with labels and groups.")],
    by: GroupedBy,
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
    save: Annotated[
        bool,
        typer.Option(
            "--save", help="Keep them in the model and in files that are exported from it."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of halves and intervals.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Choose thresholds by group so that rates are alike, and measure what this gains and costs."""
    from visiongraft.errors import OptionError
    from visiongraft.model import load
    from visiongraft.saving.files import write_json
    from visiongraft.saving.saved_model import add_facts, model_folder
    from visiongraft.task_contract.group_rules import RULES

    if out is not None:
        refuse_existing(out)
    with shown_warnings():
        loaded = load(model)
        if "group_thresholds" not in loaded.task.model_methods():
            raise OptionError(f"{model} is a model for task {loaded.task.name!r}, not a classifier")
        found = loaded.group_thresholds(
            data, groups=by, constraint=constraint, positive=positive, seed=seed, save=save
        )
        if save and loaded.run_folder is None:  # a saved model, and no run
            add_facts(model_folder(model), loaded.network, {RULES: found.facts()})
    if out is not None:
        write_json(out, found.to_json())
    return Answer(found.to_json(), [table(*found.table()), *found.statements()])
