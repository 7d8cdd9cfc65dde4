"""Commands on exported files: ``verify`` and ``triton``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, table

_WORDS = {True: "passed", False: "FAILED", None: "-"}


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Exported file, such as m.onnx.")],
    data: Annotated[
        str | None,
        typer.Option(help="Labelled pictures; best those that the certificate was made on."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Run or model folder that FILE was made of, to compare with PyTorch."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Check an exported FILE again: its bytes, its certificate, its results; exit with 1 on a breach."""
    from visiongraft.exporters.onnx.recheck import recheck

    verdict = recheck(file, data, model)
    rows = [[point.name, _WORDS[point.passed], point.detail] for point in verdict.points]
    values: dict[str, Any] = {
        "file": file,
        "passed": verdict.passed,
        "points": verdict.points,
        "headline": verdict.headline,
        "certified": verdict.certified,
        "metric": verdict.metric,
    }
    failed = [point.name for point in verdict.points if point.passed is False]
    end = f"{file}: {', '.join(failed)} failed" if failed else f"{file}: nothing is wrong"
    return Answer(values, [table(["check", "result", "found"], rows), end], 1 if failed else 0)


def triton(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Exported file, such as m.onnx.")],
    repository: Annotated[
        Path, typer.Argument(metavar="REPO", help="Model repository; made if needed.")
    ],
    as_json: Json = False,
) -> Answer:
    """Put an exported FILE into a model repository of Triton Inference Server."""
    from visiongraft.exporters.onnx.triton import write_repository

    found = write_repository(file, repository)
    what = "is" if found.added else "was already"
    line = f"{found.path} {what} the latest version of model {found.model}"
    return Answer(asdict(found), [line])
