"""Commands on what a model does to people: ``audit``, ``forget`` and ``fairness``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import GroupedBy, Json, MetricNames
from visiongraft.cli.output import Answer, shown_warnings, table


def audit(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[
        str | None,
        typer.Option(help="Images that were not in training; the validation images if unset."),
    ] = None,
    shadows: Annotated[
        int, typer.Option(min=0, help="Number of shadow heads of LiRA; 0 leaves it out.")
    ] = 16,
    canaries: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of training images to mislabel in another training that is attacked.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of shadow heads and intervals.")] = 0,
    as_json: Json = False,
) -> Answer:
    """Attack the model of RUN: can its training images be told from others?"""
    from visiongraft.auditing.audit import audit as audit_run

    with shown_warnings():
        found = audit_run(run, data=data, shadows=shadows, canaries=canaries, seed=seed)
    counts = f"{found.members} training images against {found.others} others"
    return Answer(found.to_json(), [counts, *found.statements()])


def forget(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES...", help="Image files, folders, or digests.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new run.")],
    as_json: Json = False,
) -> Answer:
    """Train RUN again without IMAGES: the model that it would have been without them."""
    from visiongraft.auditing.forgetting import RECORD
    from visiongraft.auditing.forgetting import forget as forget_images
    from visiongraft.saving.files import read_json

    with shown_warnings():
        model = forget_images(run, images, out=out)
    record = read_json(out / RECORD)
    headline = model.task.headline
    line = (
        f"{len(record['images'])} images left out, {record['training_images']} are left; {headline} "
        f"{model.facts['metrics'][headline]:.4f}; model saved to {out / 'model'}. Delete {run}, what was exported "
        "from it, and shared features (visiongraft cache clear)"
    )
    return Answer(
        {**record, "model": str(out / "model"), "metrics": model.facts["metrics"]}, [line]
    )


def fairness(
    model: Annotated[Path, typer.Argument(help="Run or saved model folder.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Dataset with labels and groups.")],
    by: GroupedBy,
    replicates: Annotated[int, typer.Option(min=20, help="Bootstrap replicates.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of bootstrap and permutations.")] = 0,
    save: Annotated[
        bool, typer.Option("--save", help="Write the results into the model card.")
    ] = False,
    metric: MetricNames = None,
    as_json: Json = False,
) -> Answer:
    """Compare the metrics of MODEL for groups of images, with intervals."""
    from visiongraft.auditing.fairness import fairness as compare_groups

    with shown_warnings():
        found = compare_groups(
            model, data, groups=by, replicates=replicates, seed=seed, metrics=metric, save=save
        )
    return Answer(found.to_json(), [table(*found.table()), *found.statements()])
