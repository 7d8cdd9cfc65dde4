"""The command ``assemble``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiongraft.cli.options import Json, TaskOptions, named_task_options, parse_size
from visiongraft.cli.output import Answer, refuse_existing, shown_warnings


def assemble(
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    task: Annotated[str, typer.Option(help="Name of the task.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Name of a backbone, or the folder of a saved model.",
            show_default="the one that the file is recognized to be of",
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="File with the weights of backbone and head, or pretrained for those of the backbone."
        ),
    ] = "pretrained",
    task_options: TaskOptions = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|HEIGHTxWIDTH",
            help="Network input size in pixels, one number or height and width.",
        ),
    ] = None,
    resize: Annotated[
        str | None, typer.Option(help="How images are resized: crop, stretch or pad.")
    ] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Number of image channels.")] = 3,
    partial: Annotated[
        bool, typer.Option("--partial", help="Load the tensors of the backbone that fit.")
    ] = False,
    weights_license: Annotated[
        str | None,
        typer.Option(
            help="License of the file, which the model then states.",
            show_default="the one that a safetensors file states",
        ),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Make a model of published weights of backbone and head, without training."""
    from visiongraft.preparation.assembling import assemble as put_together

    refuse_existing(out)
    options = named_task_options(task, task_options) if task_options else {}
    with shown_warnings():
        model = put_together(
            task,
            backbone,
            weights,
            task_options=options,
            in_channels=in_channels,
            size=parse_size(size) if size else None,
            resize=resize,
            partial=partial,
            weights_license=weights_license,
        )
    model.save(out)
    of = model.facts["assembled"]["of"]
    values = {"model": str(out), "backbone": model.backbone_info.name, **model.facts["assembled"]}
    return Answer(
        values, [f"{model.task.name} on {model.backbone_info.name}: {of}", f"model saved to {out}"]
    )
