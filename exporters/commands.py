"""Commands on exported files: ``bench``, ``doctor`` and ``verify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from visiongraft.cli.options import Json, TimeLimit
from visiongraft.cli.output import Answer, shown_warnings, table

_RESULTS = {True: "passed", False: "FAILED", None: "-"}


def doctor(
    provider: Annotated[
        str | None,
        typer.Option(help="Exit with 1 unless this provider works: cpu, cuda or tensorrt."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Show the libraries between onnxruntime and a GPU: which are found or missing, and what to do."""
    from visiongraft.exporters.doctor.chain import examine
    from visiongraft.exporters.doctor.machine import describe_machine
    from visiongraft.exporters.runtime.providers import SHORT

    machine = describe_machine()
    links, diagnoses = examine(list(dict.fromkeys([*SHORT, *([provider] if provider else [])])))
    failed = [d for d in diagnoses if d.provider == provider and not d.works]
    values = {"machine": machine, "links": links, "providers": diagnoses}
    instructions = ", ".join(machine["instructions"])
    parts: list[Any] = [
        f"{machine['cpu']}, {machine['cores']} cores, {instructions}, {machine['system']}",
        "",
        table(["part", "state", "detail"], [[k.name, k.state, k.detail] for k in links]),
        "",
    ]
    remedies = dict.fromkeys((link.needed_for, link.remedy) for link in links if link.remedy)
    parts += [f"to do for {name}: {remedy}" for name, remedy in remedies]
    parts += [f"{d.provider}: {'works' if d.works else d.cause}" for d in diagnoses]
    return Answer(values, parts, exit_code=1 if failed else 0)


def bench(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Exported files to compare.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of images; random ones of 480x640 pixels if unset.")
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Batch size; may be repeated; 1 and 8 if unset."),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(help="Where to run: cpu, cuda or tensorrt; may be repeated; cpu if unset."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all cores if unset.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Run or model folder, to measure PyTorch eager and torch.compile too."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds for each row of the table, after warm-up.")
    ] = 3.0,
    plot: Annotated[Path | None, typer.Option(help="Image to write, such as bench.png.")] = None,
    time_limit: TimeLimit = None,
    as_json: Json = False,
) -> Answer:
    """Measure latency and throughput of exported files, side by side, on the same images."""
    from visiongraft.exporters.bench.measure import measure
    from visiongraft.exporters.bench.plot import check_type, draw

    if plot is not None:
        check_type(plot)
    report = measure(
        files,
        data=data,
        batches=batch or (1, 8),
        providers=provider or ("cpu",),
        threads=threads,
        model=model,
        seconds=seconds,
        time_limit=time_limit,
    )
    if plot is not None:
        draw(report, plot)
    return Answer(asdict(report), [*report.lines(), table(report.COLUMNS, report.rows())])


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Exported file, such as m.onnx.")],
    data: Annotated[
        str | None,
        typer.Option(help="Labeled images, ideally those that the certificate was made on."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Run or model folder that FILE was made from, to compare with PyTorch."),
    ] = None,
    time_limit: TimeLimit = None,
    as_json: Json = False,
) -> Answer:
    """Check an exported FILE again: its bytes, certificate and results; exit with 1 if one fails."""
    from visiongraft.exporters.verification.recheck import recheck

    with shown_warnings():
        report = recheck(file, data, model, time_limit)
    rows = [[check.name, _RESULTS[check.passed], check.detail] for check in report.checks]
    values = {"file": file, "passed": report.passed, **vars(report)}
    failed = [check.name for check in report.checks if check.passed is False]
    end = f"{file}: {', '.join(failed)} failed" if failed else f"{file}: no check failed"
    return Answer(values, [table(["check", "result", "details"], rows), end], 1 if failed else 0)
