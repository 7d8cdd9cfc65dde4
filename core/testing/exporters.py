"""Checks that an exporter proves its files, and leaves none that it could not prove."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from visiongraft.certificate import Certificate
from visiongraft.data.samples import Samples
from visiongraft.errors import ExportError, OptionError
from visiongraft.exporter import Exporter
from visiongraft.lookup.exported import open_exported, openers
from visiongraft.model import TransferModel
from visiongraft.registry.manager import plugins
from visiongraft.task import Decoded
from visiongraft.testing.report import (
    Attempt,
    Check,
    Checks,
    NotTried,
    expect,
    refusing,
    require,
    trying,
)
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks.export import expect_same_results
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.testing.trials import Trial, is_text


@dataclass(frozen=True)
class Unsteady(Specimen):
    """A specimen with random results: no file can agree with it."""

    name: ClassVar[str] = "unsteady"

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"brightness": outputs.float() + torch.rand_like(outputs)}


@dataclass(frozen=True)
class Drifting(Specimen):
    """A specimen whose results change with each call: it can be traced, but a file has one result."""

    name: ClassVar[str] = "drifting"
    calls: ClassVar[Iterator[int]] = itertools.count()

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"brightness": outputs.float() + 2.0 ** (next(self.calls) % 64)}


class ExporterTrial(Trial):
    """An exporter under trial.

    Args:
        what: An exporter's class, or the name of an installed one.
    """

    def __init__(self, what: str | type[Exporter]) -> None:
        super().__init__(what)
        self.kind: type[Exporter] = (
            plugins().get("exporter", what) if isinstance(what, str) else what
        )
        self.specimen = TaskTrial(Specimen())

    @property
    def model(self) -> TransferModel:
        """A small trained model."""
        return self.specimen.trained().model

    @property
    def validation(self) -> Samples:
        """The images that it was validated with."""
        return self.specimen.trained().run.validation

    def exported(self) -> tuple[Path, Certificate]:
        """Export the model once."""
        return self.specimen.once("by exporter", self._export)

    def _export(self) -> tuple[Path, Certificate]:
        path = self.path("exported")
        with trying("to export a small trained model"):
            return path, self.kind().export(self.model, path, self.validation)

    def path(self, name: str) -> Path:
        """Return where to export a model to, in a new folder."""
        return self.folder(name) / f"model{self.kind.suffix}"


check = Checks(ExporterTrial.of)


@check("exporter.Exporter")
def declares_itself(trial: ExporterTrial) -> None:
    """The exporter declares its name and file suffix, and can be created without arguments."""
    name, suffix = getattr(trial.kind, "name", None), getattr(trial.kind, "suffix", None)
    expect(is_text(name), "to read the name", repr(name), "a word")
    plain = isinstance(suffix, str) and suffix.startswith(".") and suffix == suffix.lower()
    expect(plain, "to read the suffix", repr(suffix), "small letters after a dot")
    with trying("to make the exporter without arguments"):
        trial.kind()


@check("certificate.Certificate")
def the_certificate_lists_the_comparisons(trial: ExporterTrial) -> None:
    """The certificate of an exported file lists the comparisons that it passed."""
    path, certificate = trial.exported()
    export = Attempt("to export a small trained model with its validation images")
    export.expect(path.is_file(), "no file", f"{path.name}")
    kind = type(certificate).__name__
    export.expect(isinstance(certificate, Certificate), kind, "a Certificate")
    tolerance = -1.0 if certificate.tolerance is None else certificate.tolerance
    tried = {comparison.inputs for comparison in certificate.comparisons}
    got = f"comparisons on {' and '.join(sorted(tried)) or 'nothing'}"
    export.expect("real" in tried, got, "some on the real images that were passed")
    export.expect(
        0 <= tolerance < 1,
        f"a tolerance of {certificate.tolerance}",
        "one below 1: a relative difference of 1 is as large as the result",
    )
    export.expect(
        certificate.difference <= tolerance and not certificate.mismatches,
        f"a difference of {certificate.difference} and {certificate.mismatches} changed predictions",
        f"at most {tolerance} and none, else an ExportError",
    )
    named = (certificate.file, certificate.format)
    expected = f"{path.name}, {trial.kind.name}"
    export.expect(named == (path.name, trial.kind.name), named, expected)
    measured = trial.specimen.measure(trial.model.network, trial.validation)
    metrics = (certificate.metric_torch, certificate.metric_exported)
    near = all(m is not None and isclose(m, measured, rel_tol=0.1, abs_tol=1e-3) for m in metrics)
    got = f"{certificate.headline} {metrics[0]} in PyTorch and {metrics[1]} in the file"
    export.expect(near, got, f"the task's headline of both sides, {measured:.4g}")
    with trying("to write the certificate as JSON"):
        json.dumps(certificate.to_json())


@check("exporter.Exporter.export")
def a_file_that_disagrees_is_refused(trial: ExporterTrial) -> None:
    """A model that no file can agree with is refused, and an existing file stays unchanged."""
    for task, what in (
        (Unsteady(), "are drawn at random"),
        (Drifting(), "are others at each call"),
    ):
        _expect_refusal(trial, task, f"to export a model whose results {what}")


def _expect_refusal(trial: ExporterTrial, task: Specimen, words: str) -> None:
    network = trial.specimen.network()
    network.load_state_dict(trial.model.network.state_dict())
    network.task = task
    path = trial.path("refused")
    path.write_bytes(b"an older file")
    expected = "an ExportError: what was written is compared with PyTorch"
    with refusing(ExportError, words, expected):
        trial.kind().export(TransferModel(network), path, trial.validation)
    left = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    expect(left == {path.name: b"an older file"}, words, sorted(left), "the older file alone")


@check("exporter.Exporter.export")
def unknown_options_are_refused(trial: ExporterTrial) -> None:
    """An unknown option raises an OptionError."""
    path, words = trial.path("options"), "to export with an option 'no_such_option'"
    with refusing(OptionError, words, "an OptionError"):
        trial.kind().export(trial.model, path, trial.validation, no_such_option=1)
    expect(not list(path.parent.iterdir()), words, "a file", "none")


@check("lookup.exported.ExportedModel")
def the_file_runs_without_pytorch(trial: ExporterTrial) -> None:
    """The file can be opened by the predictor of its suffix, with the results of PyTorch."""
    path, _ = trial.exported()
    if path.suffix.lower() not in openers():
        raise NotTried(f"no installed plugin opens {path.suffix} files")
    with trying("to open the exported file"):
        opened = open_exported(path)
    words, image = "to run the exported file on an image", trial.validation.load(0)[None]
    expect_same_results(trial.model, opened, image, words, "the results of PyTorch")


EXPORTER_CHECKS: tuple[Check[Any], ...] = tuple(check)


def check_exporter(what: str | type[Exporter]) -> None:
    """Check everything that visiongraft requires of an exporter.

    Args:
        what: The exporter's class, or the name of an installed one.

    Raises:
        CheckError: A check failed.
    """
    require(ExporterTrial.of(what), EXPORTER_CHECKS)
