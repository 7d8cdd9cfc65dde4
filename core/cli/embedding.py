"""The command ``embed``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiongraft.cli.inputs import given_inputs, skipped_line
from visiongraft.cli.options import BatchSize, Json, TextEncoder
from visiongraft.cli.output import Answer, shown_warnings
from visiongraft.cli.prediction_table import TABLES, write_rows
from visiongraft.errors import OptionError
from visiongraft.saving.files import write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".npz", *TABLES)


def embed(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run or saved model folder.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES...", help="Image or video files, or folders of these."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="File to write: .npz with the arrays names and embeddings, or a .csv or .parquet table.",
        ),
    ] = Path("embeddings.npz"),
    text: Annotated[
        list[str] | None,
        typer.Option(help="A text to embed instead, of models for retrieval; repeatable."),
    ] = None,
    batch_size: BatchSize = 32,
    text_encoder: TextEncoder = None,
    as_json: Json = False,
) -> Answer:
    """Write one vector for each image: the embedding that MODEL computes."""
    if out.suffix.lower() not in SUFFIXES or out.is_dir():
        raise OptionError(f"--out {out}: pass a file with the suffix {', '.join(SUFFIXES)}")
    if bool(images) == bool(text):
        raise OptionError("pass images, or --text TEXT")
    if not model.is_dir():
        raise OptionError(
            f"{model} is no folder; of an exported file, export with --extra-outputs embedding"
        )
    from visiongraft.model import load

    unreadable: list[str] = []
    with shown_warnings():
        loaded = load(model, text_encoder=text_encoder)
        if text:
            names, vectors = list(text), loaded.embed(text=text)
        else:
            given, unreadable = given_inputs(images or [], None, 0, loaded.task.inputs)
            names, vectors = (
                [str(path) for path in given],
                loaded.embed(given, batch_size=batch_size),
            )
    _write(out, names, vectors)
    count, length = vectors.shape
    lines = [f"{count} embeddings of length {length} written to {out}"]
    lines += skipped_line(unreadable, loaded.task.inputs)
    values = {"out": str(out), "embeddings": count, "length": length, "unreadable": unreadable}
    return Answer(values, lines)


def _write(path: Path, names: list[str], vectors: NDArray[Any]) -> None:
    if path.suffix.lower() == ".npz":
        import numpy as np

        content = io.BytesIO()
        np.savez_compressed(content, names=np.array(names, dtype=np.str_), embeddings=vectors)
        write_bytes(path, content.getvalue())
        return
    columns = [f"e{i}" for i in range(vectors.shape[1])]
    rows = [
        {"name": name, **dict(zip(columns, row, strict=True))}
        for name, row in zip(names, vectors.tolist(), strict=True)
    ]
    write_rows(path, rows, ["name", *columns])
