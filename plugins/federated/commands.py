"""The command ``federated``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, shown_warnings, table
from visiongraft.errors import OptionError


def federated(
    action: Annotated[
        str,
        typer.Argument(
            metavar="ACTION",
            help="simulate: train all sites on this machine; app: write a Flower app for real sites.",
        ),
    ],
    config: Annotated[Path, typer.Argument(help="Settings in a .toml, .yaml or .json file.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last finished round.")
    ] = False,
    as_json: Json = False,
) -> Answer:
    """Train on the images of several sites, which stay where they are: only what trains travels."""
    if action not in ("simulate", "app"):
        raise OptionError(f"{action!r} is neither simulate nor app")
    from visiongraft.plugins.federated.config import FederatedConfig

    settings = FederatedConfig.read(config)
    if action == "app":
        if resume:
            raise OptionError(
                "an app resumes by its run setting: flwr run ... --run-config resume=true"
            )
        from visiongraft.plugins.federated.flower_app import write_app

        folder = write_app(settings, out)
        line = f"Flower app written to {folder}; start it with flwr run"
        return Answer({"app": str(folder)}, [line])
    from visiongraft.plugins.federated.simulation import simulate

    with shown_warnings():
        result = simulate(settings, out, resume)
    return Answer(result, [table(*_sites(result)), _summary(result, out)])


def _sites(result: dict[str, object]) -> tuple[list[str], list[list[str]]]:
    """Return a table of the final metrics of each site."""
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    names = sorted({name for values in metrics.values() for name in values} - {"images"})
    rows = [
        [
            site,
            f"{values['images']:.0f}",
            *(f"{values[n]:.4f}" if n in values else "" for n in names),
        ]
        for site, values in sorted(metrics.items())
    ]
    return ["site", "validation images", *names], rows


def _summary(result: dict[str, object], out: Path) -> str:
    rounds, sent = result["rounds"], result["bytes"]
    assert isinstance(rounds, list) and isinstance(sent, int)
    own = f"{out / 'model'}, those of the sites in " if result["model"] else ""
    return (
        f"{len(rounds)} rounds; {result['tensors']} tensors of {result['numbers']} numbers travelled, "
        f"{sent / 1e6:.3f} MB in all; models in {own}{out / 'sites'}"
    )
