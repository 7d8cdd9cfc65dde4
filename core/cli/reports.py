"""Commands that show what a run learned: ``report`` and ``explain``."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visiongraft.cli.inputs import readable_inputs, skipped_line
from visiongraft.cli.options import BatchSize, Json, check_folder, check_suffix, refuse_input
from visiongraft.cli.output import Answer, shown_warnings, table
from visiongraft.errors import OptionError
from visiongraft.saving.files import write_bytes

if TYPE_CHECKING:
    from visiongraft.explaining.explaining import Explanation
    from visiongraft.explaining.nearest import NearestImages


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The .html file to write.", show_default="report.html in RUN"
        ),
    ] = None,
    exported: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="An exported file whose certificate is shown; repeatable.",
            show_default="those in RUN",
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    umap: Annotated[
        bool, typer.Option("--umap", help="Make the map of the images by UMAP; takes longer.")
    ] = False,
    batch_size: BatchSize = 32,
    as_json: Json = False,
) -> Answer:
    """Write the report of RUN as one HTML page: curves, data, worst mistakes, a map of the images."""
    from visiongraft.reporting.writing import report as write_report

    with shown_warnings():
        page = write_report(
            run,
            out,
            exported=exported or None,
            projection="umap" if umap else "pca",
            batch_size=batch_size,
        )
    lines = [f"report written to {page}"]
    if open_page and not webbrowser.open(page.resolve().as_uri()):
        lines.append("warning: no browser was found to open it")
    return Answer({"path": str(page)}, lines)


def explain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or saved model folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Image files or folders.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for the images with their maps.")
    ] = Path("explanations"),
    method: Annotated[
        str,
        typer.Option(
            help="grad_cam, layer_cam, integrated_gradients, occlusion, attention_rollout or rise; or nearest, "
            "for the nearest training images."
        ),
    ] = "grad_cam",
    target: Annotated[
        str | None,
        typer.Option(
            help="What to explain, such as a class; with several heads HEAD or HEAD.CLASS.",
            show_default="what is predicted",
        ),
    ] = None,
    similar_to: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Explain the similarity to this image instead."),
    ] = None,
    checks: Annotated[
        bool,
        typer.Option("--checks", help="Check whether each map can be trusted."),
    ] = False,
    training: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Training data for the method nearest.",
            show_default="those of the run",
        ),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Show which parts of IMAGES the results of MODEL depend on, or the training images nearest to them."""
    from visiongraft.explaining.explaining import NEAREST
    from visiongraft.explaining.explaining import explain as compute
    from visiongraft.explaining.nearest import nearest_images
    from visiongraft.inputs import IMAGES as KIND

    check_folder("out", out)
    given, unreadable = readable_inputs(images, KIND)
    found: Sequence[Explanation | NearestImages]
    if method == NEAREST:
        if target is not None or similar_to is not None or checks:
            raise OptionError("--method nearest takes no --target, --similar-to or --checks")
        with shown_warnings():
            found = nearest_images(model, given, training=training, save=out)
    elif training is not None:
        raise OptionError("--training is for --method nearest")
    else:
        with shown_warnings():
            found = compute(
                model, given, method, target=target, similar_to=similar_to, checks=checks, save=out
            )
    lines = [f"{each.image}: {each.summary()}" for each in found]
    if found:
        lines.append(f"{'images' if method == NEAREST else 'maps'} drawn into {out}")
    lines += skipped_line(unreadable, KIND)
    values = [each.to_json() for each in found]
    return Answer({"explanations": values, "unreadable": unreadable, "out": str(out)}, lines)


def probe_layers(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or saved model folder.")],
    attributes: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="A .csv, .tsv or .parquet file with a column path and one column per attribute.",
        ),
    ],
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .csv file to write all figures into.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .png or .svg file to draw the accuracies into."),
    ] = None,
    batch_size: BatchSize = 32,
    as_json: Json = False,
) -> Answer:
    """Show which attributes of images a linear probe tells apart in each layer of MODEL."""
    if csv is not None:
        check_suffix("csv", csv, (".csv",))
        refuse_input("csv", csv, (attributes,))
    if plot is not None:
        check_suffix("plot", plot, (".png", ".svg"))
    from visiongraft.explaining.layers import probe_layers as probe

    with shown_warnings():
        found = probe(model, attributes, batch_size=batch_size)
    lines = list(found.statements())
    if csv is not None:
        write_bytes(csv, found.to_csv().encode())
        lines.append(f"all figures written to {csv}")
    if plot is not None:
        found.plot(plot)
        lines.append(f"plot saved to {plot}")
    return Answer(found.to_json(), [table(*found.table()), *lines])
