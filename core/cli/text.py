"""Commands for classifiers of texts: ``zero-shot`` and ``write-classes``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiongraft.cli.options import Json, TaskOptions, named_task_options, parse_size
from visiongraft.cli.output import Answer, refuse_existing, shown_warnings, table
from visiongraft.errors import OptionError

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

TEMPLATE = "a photo of a {}."


def zero_shot(
    classes: Annotated[
        list[str],
        typer.Argument(
            metavar="CLASSES...", help="Class names, or NAME=WORDS;WORDS to write in their place."
        ),
    ],
    backbone: Annotated[str, typer.Option(help="As for fit, such as open_clip/ViT-B-32.openai.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    text: Annotated[
        str | None,
        typer.Option(help="Text encoder, such as wordllama; that of the backbone if unset."),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Text with {} in place of the class; repeatable, vectors are averaged.",
            show_default=TEMPLATE,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labeled images for the temperature; with another text encoder than the backbone's, "
            "those of some of the classes."
        ),
    ] = None,
    seen_penalty: Annotated[
        float | None,
        typer.Option(
            help="Subtracted from the cosines of classes with images, if others have none; chosen if unset."
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="pretrained, or none for random ones.")
    ] = "pretrained",
    in_channels: Annotated[int, typer.Option(min=1, help="Number of image channels.")] = 3,
    size: Annotated[
        Any,
        typer.Option(
            parser=parse_size,
            metavar="N|HEIGHTxWIDTH",
            help="Network input; the backbone's if unset.",
        ),
    ] = None,
    resize: Annotated[
        str | None, typer.Option(help="crop, stretch or pad; the backbone's if unset.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Task that recognizes classes by texts.")
    ] = None,
    task_options: TaskOptions = None,
    as_json: Json = False,
) -> Answer:
    """Make a classifier of CLASSES that are described in words, without training."""
    from visiongraft.text.zero_shot import zero_shot as make

    refuse_existing(out)
    options = named_task_options(task, task_options) if task_options else None
    with shown_warnings():
        model = make(
            read_classes(classes),
            backbone,
            text=text,
            templates=template or TEMPLATE,
            data=data,
            seen_penalty=seen_penalty,
            weights=None if weights == "none" else weights,
            in_channels=in_channels,
            size=size,
            resize=resize,
            task=task,
            task_options=options,
        )
    model.save(out)
    return _made(model, out)


def write_classes(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Saved model folder, made by zero-shot.")
    ],
    classes: Annotated[
        list[str],
        typer.Argument(
            metavar="CLASSES...", help="Class names, or NAME=WORDS;WORDS to write in their place."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write, such as classes.safetensors.")],
    text: Annotated[
        str | None,
        typer.Option(help="Text encoder of MODEL, if it is a folder that MODEL does not name."),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Text with {} in place of the class; repeatable; those of MODEL if unset."
        ),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Write CLASSES for a file that MODEL was exported to with --open-classes true; see predict --classes."""
    from visiongraft.model import load
    from visiongraft.text.classes import save_classes

    save_classes(out, load(model), read_classes(classes), text=text, templates=template)
    names = list(read_classes(classes))
    return Answer({"classes": names, "file": str(out)}, [f"{len(names)} classes written to {out}"])


def read_classes(given: Sequence[str]) -> list[str] | dict[str, list[str]]:
    """Read class names, some with the words to write in their place.

    Args:
        given: Names, and ``NAME=WORDS;WORDS``.

    Raises:
        OptionError: A name appears twice.

    Examples:
        >>> read_classes(["cat", "car=car;taxi"])
        {'cat': ['cat'], 'car': ['car', 'taxi']}
    """
    if not any("=" in each for each in given):
        return list(given)
    found: dict[str, list[str]] = {}
    for each in given:
        name, _, words = each.partition("=")
        if name in found:
            raise OptionError(f"class {name!r} appears twice")
        found[name] = words.split(";") if words else [name.replace("_", " ")]
    return found


def _made(model: TransferModel, out: Path) -> Answer:
    """Describe how a model was made."""
    from visiongraft.text.zero_shot import FACT

    facts: dict[str, Any] = model.facts[FACT]
    values = {"model": str(out), **facts, "provenance": model.backbone_info.provenance}
    shown = [[name, _shown(value)] for name, value in facts.items()]
    return Answer(values, [table(["zero-shot", "value"], shown), f"model saved to {out}"])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {', '.join(each)}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
