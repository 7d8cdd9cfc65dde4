"""Commands for plugin authors."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiongraft.cli.options import Json
from visiongraft.cli.output import Answer, table
from visiongraft.cli.plugin_options import choice_with

if TYPE_CHECKING:
    from visiongraft.testing import Result


def new_plugin(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the task, such as ripeness.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; visiongraft-NAME if unset.")
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Create an installable plugin package with a task whose tests already pass."""
    from visiongraft.scaffold import new_plugin as write

    files = write(name, out)
    folder = files[0].parent
    lines = [str(file) for file in files]
    lines.append(f"next: cd {shlex.quote(str(folder))} && pip install -e '.[dev]' && pytest")
    return Answer({"folder": str(folder), "files": [str(file) for file in files]}, lines)


def check_plugin(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of a plugin or a distribution, or a Python file."
        ),
    ],
    as_json: Json = False,
) -> Answer:
    """Check everything that plugin NAME provides, from data to export; exit with 1 on a failure."""
    from visiongraft.testing import check_plugin as results_of

    results: list[Result] = []
    is_file = name.endswith(".py")
    with choice_with(name).used() if is_file else nullcontext():
        for result in results_of(Path(name).stem if is_file else name):
            line = f"{result.outcome}: {result.subject}: {result.check}"
            print(line, file=sys.stderr, flush=True)
            results.append(result)
    counts = Counter(result.outcome for result in results)
    rows = [[r.subject, r.check, r.outcome, f"{r.seconds:.1f}"] for r in results]
    parts: list[Any] = [table(["subject", "check", "outcome", "seconds"], rows)]
    parts += [f"failed: {r.subject}: {r.message}" for r in results if r.outcome == "failed"]
    parts += _not_tried(results)
    parts.append(", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "not tried")))
    values = {
        "plugin": name,
        "passed": counts["passed"],
        "failed": counts["failed"],
        "not_tried": counts["not tried"],
        "checks": results,
    }
    return Answer(values, parts, exit_code=1 if counts["failed"] else 0)


def _not_tried(results: Iterable[Result]) -> list[str]:
    """Return a line for each reason why checks were not tried."""
    checks: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.outcome == "not tried":
            checks.setdefault((result.subject, result.message), []).append(result.check)
    return [
        f"not tried: {subject}: {names[0] if len(names) == 1 else f'{len(names)} checks'}: {message}"
        for (subject, message), names in checks.items()
    ]
