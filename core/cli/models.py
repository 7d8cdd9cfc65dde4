"""Commands for trained models: ``evaluate``, ``predict`` and ``export``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiongraft.cli.inputs import given_inputs, skipped_line
from visiongraft.cli.options import (
    BatchSize,
    Callbacks,
    Json,
    MetricNames,
    TextEncoder,
    TimeLimit,
    check_folder,
    check_suffix,
    parse_pairs,
    parse_score_threshold,
    refuse_input,
)
from visiongraft.cli.output import Answer, print_line, shown_warnings, table, to_json
from visiongraft.cli.prediction_table import is_prediction_file, to_csv, write_predictions
from visiongraft.errors import OptionError, name_some
from visiongraft.lookup.exported import ExportedModel, exchange_classes, open_exported
from visiongraft.options import is_number

if TYPE_CHECKING:
    from visiongraft.certificate import Certificate

SEEN = "_seen_in_training"  # end of the names of results that count images, or their subjects
MOST_SAMPLES = 1_000_000  # drawn at once, since all predictions are kept in memory

Model = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="Run folder, saved model folder, or exported file."),
]
STDOUT = Path("-")
Provider = Annotated[
    str | None,
    typer.Option(
        help="Execution provider for an exported file: cpu, cuda or tensorrt; cpu if unset."
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Side in pixels of the overlapping windows that large images are split into."
    ),
]


def evaluate(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Dataset with labels.")],
    by: Annotated[
        str | None,
        typer.Option(
            metavar="ATTRIBUTE",
            help="Also evaluate groups of images, by an attribute such as a further column of a table.",
        ),
    ] = None,
    batch_size: BatchSize = 32,
    tile: Tile = None,
    metric: MetricNames = None,
    provider: Provider = None,
    time_limit: TimeLimit = None,
    text_encoder: TextEncoder = None,
    as_json: Json = False,
) -> Answer:
    """Evaluate MODEL on labeled images."""
    predictor = _exported(model, provider, tile, time_limit)
    with shown_warnings():
        if predictor is None:
            from visiongraft.model import load

            results = load(model, text_encoder=text_encoder).evaluate(
                data, by=by, batch_size=batch_size, tile=tile, metrics=metric
            )
        else:
            results = _evaluate_exported(predictor, data, by, batch_size, metric, text_encoder)
    numbers = [
        [name, _number(value)]
        for name, value in results.items()
        if is_number(value, finite=False) and not name.endswith(SEEN)
    ]
    parts: list[Any] = [table(["metric", "value"], numbers), _measured_on(results)]
    if by is not None:
        parts.append(_group_table(by, results["groups"]))
    return Answer(results, parts)


def _measured_on(results: Mapping[str, Any]) -> str:
    """Describe which images were measured, and how many of them were in training if that is known."""
    names = {None: "", "all": " on all images of the dataset"}
    where = names.get(results["split"], f" on the {results['split']} split")
    found = [
        f"{value} {name.removesuffix(SEEN).replace('_', ' ')} seen in training"
        for name, value in results.items()
        if name.endswith(SEEN) and value is not None
    ]
    return ", ".join([f"measured{where}: {results['images']} images", *found])


def _group_table(by: str, groups: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a table with the scalar metrics of each group."""
    names = [n for n, v in next(iter(groups.values())).items() if is_number(v, finite=False)]
    rows = [
        [value or "(none)", *(_number(metrics.get(name, "")) for name in names)]
        for value, metrics in groups.items()
    ]
    return table([by, *names], rows)


def predict(
    model: Model,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES...", help="Image or video files, or folders of these."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for predictions.json, images with their predictions drawn on, and files "
            "of predictions, such as masks; or a .csv, .parquet or .json file for the predictions alone."
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|-",
            help="A .csv file to write a table into; - to print the table instead of lines.",
        ),
    ] = None,
    batch_size: BatchSize = 32,
    tile: Tile = None,
    provider: Provider = None,
    time_limit: TimeLimit = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Number of images that a generator is to make.", min=1, max=MOST_SAMPLES),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the latents of --samples.", min=0)] = 0,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="File of classes to predict instead of those of an exported file, see write-classes."
        ),
    ] = None,
    score_threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCORE|CLASS=SCORE",
            help="Least score or probability of what is predicted, from 0 to 1, or that of a class; repeatable.",
            show_default="what the task has decided",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(help="The most objects or classes in a prediction.", show_default="all"),
    ] = None,
    save_crops: Annotated[
        bool,
        typer.Option("--save-crops", help="Write the objects in images into crops/CLASS of --out."),
    ] = False,
    groups: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Columns path and group: decide by the thresholds of the model for the group of each image.",
        ),
    ] = None,
    text_encoder: TextEncoder = None,
    as_json: Json = False,
) -> Answer:
    """Predict images; print one line per image."""
    from visiongraft.data.images import image_name

    if csv == STDOUT and as_json:
        raise OptionError("--csv - and --json both print to standard output; choose one")
    if csv not in (None, STDOUT):
        check_suffix("csv", csv, (".csv",), or_else="- for standard output")
    file = out if out is not None and is_prediction_file(out) else None
    folder = out if file is None else None
    for option, written in (("csv", csv), ("out", file)):
        refuse_input(option, written, (model, groups, classes, *(images or [])))
    if folder is not None:
        check_folder("out", folder)
    if save_crops and folder is None:
        raise OptionError("--save-crops needs --out FOLDER")
    threshold = parse_score_threshold(score_threshold)
    predictor = _exported(model, provider, tile, time_limit, text_encoder)
    if classes is not None:
        exchange_classes(predictor, model, classes)
    if predictor is None:
        from visiongraft.model import load

        loaded = load(model, text_encoder=text_encoder)
        inputs = loaded.task.inputs
        given, unreadable = given_inputs(images or [], samples, seed, inputs)
        found = loaded.predict(
            given,
            batch_size=batch_size,
            save=folder,
            tile=tile,
            score_threshold=threshold,
            top=top,
            save_crops=save_crops,
            groups=groups,
        )
    else:
        from visiongraft.inputs import IMAGES, described_inputs

        inputs = described_inputs(predictor.metadata.get("input", {})) or IMAGES
        given, unreadable = given_inputs(images or [], samples, seed, inputs)
        narrowing: dict[str, Any] = {"score_threshold": threshold, "top": top, "groups": groups}
        narrowing["save_crops"] = save_crops or None
        chosen = {n: value for n, value in narrowing.items() if value is not None}
        found = predictor.predict(given, batch_size=batch_size, save=folder, **chosen)
    names = [image_name(one, i) for i, one in enumerate(given)]
    named = [{"image": name, **_values(one)} for name, one in zip(names, found, strict=True)]
    if folder is not None:
        file = folder / "predictions.json"
    for written in (file, csv):
        if written not in (None, STDOUT):
            write_predictions(written, found, named)
    lines = [f"{name}: {_summary(one)}" for name, one in zip(names, found, strict=True)]
    lines += skipped_line(unreadable, inputs)
    if csv == STDOUT:
        for warning in lines[len(found) :]:
            print_line(warning, sys.stderr)
        lines = (
            to_csv(found, named).removesuffix("\n").split("\n")
        )  # other ends of lines may be in names
    return Answer({"predictions": named, "unreadable": unreadable}, lines)


def export(
    model: Model,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File to write, such as model.onnx.")
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="Exporter, as listed by `visiongraft exporters`; chosen by the suffix of FILE if unset."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Labeled images to verify the file on; the validation images if unset."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Set an option of the exporter; repeatable."
        ),
    ] = None,
    callback: Callbacks = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Numeric precision of the file: fp32, fp16, bf16 or int8; fp32 if unset."
        ),
    ] = None,
    text_encoder: TextEncoder = None,
    as_json: Json = False,
) -> Answer:
    """Export MODEL to one file that is proved to agree with PyTorch.

    Any other --NAME VALUE sets an option of the exporter, as --set NAME=VALUE does.
    """
    from visiongraft.registry.declared import refuse_undeclared

    if format is not None:
        refuse_undeclared("exporter", format)  # before torch is imported
    from visiongraft.model import load

    options = parse_pairs(settings or [])
    if precision is not None:
        options["precision"] = precision
    with shown_warnings():
        certificate = load(model, text_encoder=text_encoder).export(
            file, format=format, data=data, callbacks=callback, **options
        )
    rows = [
        [c.inputs, str(c.batch), str(c.images), f"{c.difference:.1e}", str(c.mismatches)]
        for c in certificate.comparisons
    ]
    parts: list[Any] = [table(["inputs", "batch", "images", "difference", "mismatches"], rows)]
    if certificate.metric_torch is not None:
        parts.append(
            f"{certificate.headline}: {certificate.metric_torch:.4f} in PyTorch, "
            f"{certificate.metric_exported:.4f} in the exported file"
        )
    if certificate.settings:
        parts.append(f"settings: {_settings(certificate.settings)}")
    parts += [f"warning: {warning}" for warning in certificate.warnings]
    parts.append(f"proved: {_proof(certificate)}; wrote {file}")
    return Answer({"path": str(file), **certificate.to_json()}, parts)


def _settings(settings: Mapping[str, Any]) -> str:
    """Summarize the settings of a lower precision; tables appear with ``--json`` only."""
    items = []
    for name, value in to_json(settings).items():
        if not isinstance(value, list | dict):
            items.append(f"{name} {_number(value)}")
        elif all(isinstance(one, str) for one in value):
            items.append(f"{name} {len(value)}" + (f" ({name_some(value)})" if value else ""))
    return ", ".join(items)


def _proof(certificate: Certificate) -> str:
    """Summarize what was proved about an exported file."""
    if certificate.tolerance is not None:
        count = certificate.near_ties
        near_ties = f", near-ties in PyTorch itself: {count}" if count else ""
        return (
            f"relative differences at most {certificate.difference:.1e} (tolerance "
            f"{certificate.tolerance:.0e}), no changed predictions{near_ties}"
        )
    kept = f"{certificate.precision} stays within its budget of {certificate.budget}"
    if certificate.changed_fraction is None:
        return f"{kept}; the task makes no predictions that could change"
    single = [c for c in certificate.comparisons if (c.inputs, c.batch) == ("real", 1)]
    mismatches, predictions = (
        sum(getattr(c, n) for c in single) for n in ("mismatches", "predictions")
    )
    fraction = f"{mismatches} of {predictions} ({certificate.changed_fraction:.2%})"
    return f"{kept}; changed predictions on real images: {fraction}"


def _exported(
    path: Path,
    provider: str | None,
    tile: int | None,
    time_limit: float | None,
    text_encoder: str | None = None,
) -> ExportedModel | None:
    """Open an exported file; return ``None`` for a folder."""
    if not path.is_dir():
        for option, given in (("--tile", tile), ("--text-encoder", text_encoder)):
            if given is not None:
                raise OptionError(f"{option} requires a model folder, but {path} is a file")
        return open_exported(path, provider, time_limit)
    for option, value in (("--provider", provider), ("--time-limit", time_limit)):
        if value is not None:
            raise OptionError(f"{option} requires an exported file, but {path} is a folder")
    return None


def _evaluate_exported(
    predictor: ExportedModel,
    data: str,
    by: str | None,
    batch_size: int,
    metrics: list[str] | None,
    text_encoder: str | None,
) -> dict[str, Any]:
    """Evaluate an exported file with the metrics of its task, and the user's own."""
    from visiongraft.lookup.tasks import find_exported_task
    from visiongraft.task_contract.optional import OptionalMethods
    from visiongraft.training.evaluation import measure_all
    from visiongraft.training.measuring.evaluation_data import prepare_evaluation
    from visiongraft.training.measuring.own_metrics import OwnMetrics

    metadata = predictor.metadata
    task = find_exported_task(metadata)
    if text_encoder is not None:
        task = task.with_text_encoder(text_encoder)
    channels = metadata["input"]["channels"]
    measured = prepare_evaluation(task, data, channels)
    samples = measured.samples
    batches = _same_size(samples, channels, batch_size)
    decoded = (
        (predictor.run(images), task.collate([samples.target(i) for i in positions]), positions)
        for images, positions in batches
    )
    results = measure_all(task, samples, by, decoded, OwnMetrics.of(metrics, task))
    incomplete = type(task).proof_samples is not OptionalMethods.proof_samples
    if incomplete and results.get(task.headline) is None:
        raise OptionError(
            f"{task.headline} of this model needs a part of it that exported files do not contain; evaluate the "
            "model's folder instead, or see the certificate"
        )
    return {**results, **measured.facts}


def _same_size(samples: Any, channels: int, batch_size: int) -> Iterator[tuple[Any, list[int]]]:
    """Yield batches of consecutive images of equal size, with their positions."""
    import numpy as np

    images: list[Any] = []
    positions: list[int] = []
    for index in range(len(samples)):
        image = samples.load(index, channels)
        if images and (len(images) == batch_size or image.shape != images[0].shape):
            yield np.stack(images), positions
            images, positions = [], []
        images.append(image)
        positions.append(index)
    if images:
        yield np.stack(images), positions


def _values(prediction: Any) -> Mapping[str, Any]:
    if is_dataclass(prediction) and not isinstance(prediction, type):
        return asdict(prediction)
    return prediction if isinstance(prediction, Mapping) else {"prediction": prediction}


def _summary(prediction: Any) -> str:
    """Return the prediction's own summary, or its plain values; ``--json`` prints all of them."""
    own = getattr(prediction, "summary", None)
    if callable(own):
        return str(own())
    values = to_json(_values(prediction))
    plain = {k: v for k, v in values.items() if isinstance(v, (str, int, float))}
    return ", ".join(f"{name} {_number(value)}" for name, value in plain.items())


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
