"""The contract of exporters: found by suffix or name, called with everything, and their certificate."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.certificate import Certificate, CertifiedImage, Comparison
from visiongraft.errors import ExportError, OptionError, PluginError
from visiongraft.exporter import Exporter
from visiongraft.hookspecs import hookimpl
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.registry.manager import PluginManager

COMPARISON = Comparison("random", 2, 4, ((8, 8), (9, 16)), 1e-7, 0, "image 3 of 4")
CERTIFICATE = Certificate(
    file="model.text",
    format="text",
    comparisons=(COMPARISON,),
    tolerance=1e-4,
    headline="share_right",
    metric_torch=0.5,
    metric_exported=0.5,
    data_sha256=None,
    versions={"text": "1"},
)

comparisons = st.builds(
    Comparison,
    inputs=st.sampled_from(["random", "real"]),
    batch=st.integers(1, 9),
    images=st.integers(1, 99),
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1).map(tuple),
    difference=st.floats(0, allow_nan=False),
    mismatches=st.integers(0, 99),
    worst_image=st.text(),
)


@given(st.lists(comparisons, min_size=1, max_size=5))
def test_a_certificate_sums_up_its_largest_difference_and_all_mismatches(
    made: list[Comparison],
) -> None:
    certificate = replace(CERTIFICATE, comparisons=tuple(made))
    assert certificate.difference == max(c.difference for c in made)
    assert certificate.mismatches == sum(c.mismatches for c in made)
    assert all(check.difference <= certificate.difference for check in made)


@given(st.lists(comparisons, min_size=1, max_size=3))
def test_a_certificate_survives_its_file(made: list[Comparison]) -> None:
    image = CertifiedImage("blocks", 1, 32, 40, 0, {"labels": "1 0.0001 0.0001 2"})
    certificate = replace(
        CERTIFICATE, comparisons=tuple(made), warnings=("no real image",), certified=(image,)
    )
    read = json.loads(json.dumps(certificate.to_json()))
    computed = ("difference", "mismatches", "near_ties", "changed_fraction")
    assert [read.pop(name) for name in computed] == [
        getattr(certificate, name) for name in computed
    ]
    read["comparisons"] = tuple(
        Comparison(**{**one, "sizes": tuple(tuple(size) for size in one["sizes"])})
        for one in read["comparisons"]
    )
    read["certified"] = tuple(CertifiedImage(**one) for one in read["certified"])
    assert Certificate(**{**read, "warnings": tuple(read["warnings"])}) == certificate


def test_the_fraction_of_changed_predictions_is_that_on_single_real_images() -> None:
    single = replace(COMPARISON, inputs="real", batch=1, mismatches=3, predictions=60)
    others = (
        replace(COMPARISON, predictions=9, mismatches=9),
        replace(single, batch=3, mismatches=60),
    )
    assert replace(CERTIFICATE, comparisons=(*others, single)).changed_fraction == 0.05
    assert replace(CERTIFICATE, comparisons=others).changed_fraction is None
    assert (
        replace(
            CERTIFICATE, comparisons=(replace(single, predictions=0, mismatches=0),)
        ).changed_fraction
        is None
    )


def test_a_certificate_cannot_be_touched_up() -> None:
    with pytest.raises(FrozenInstanceError):
        CERTIFICATE.tolerance = 1.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        COMPARISON.mismatches = 0  # type: ignore[misc]


def test_an_exporter_that_exports_nothing_cannot_be_made() -> None:
    class Lazy(Exporter):
        name, suffix = "lazy", ".lazy"

    with pytest.raises(TypeError, match="export"):
        Lazy()  # type: ignore[abstract]


# ---- an exporter of somebody else's ----


class Text(Exporter):
    """Records what it was called with."""

    name, suffix = "text", ".text"
    callbacks: tuple[Any, ...] = ()

    def export(self, model: Any, path: Path, samples: Any, **options: Any) -> Certificate:
        type(self).callbacks = (model, path, samples, options)
        if options.get("strict"):
            raise ExportError(f"{path} disagrees")
        path.write_text(repr(model.inference_graph()))
        return replace(CERTIFICATE, file=path.name)


@pytest.fixture
def model(toy_network: Network, monkeypatch: pytest.MonkeyPatch) -> TransferModel:
    """A model where the text exporter is the only one installed."""
    manager = PluginManager(discover=False)
    hook = hookimpl(lambda: [Text], specname="register_exporters")
    assert manager.register(SimpleNamespace(hook=hook), "text").problems == []
    monkeypatch.setattr("visiongraft.model.plugins", lambda: manager)
    return TransferModel(toy_network)


@pytest.mark.parametrize(
    ("file", "format"),
    [("m.text", None), ("m.text", "text"), ("m.anything", "text"), ("m", "text")],
)
def test_an_exporter_is_found_by_suffix_or_by_name(
    model: TransferModel, tmp_path: Path, file: str, format: str | None
) -> None:
    certificate = model.export(tmp_path / file, format=format)
    assert certificate.file == file
    assert "Linear" in (tmp_path / file).read_text()


def test_an_exporter_receives_model_path_images_and_its_own_options(
    model: TransferModel, toy_data: Any, tmp_path: Path
) -> None:
    model.export(str(tmp_path / "m.text"), data=toy_data(5), opset=3)
    callbacks, path, samples, options = Text.callbacks
    assert callbacks is model and path == tmp_path / "m.text"
    assert len(samples) == 5 and samples.target(1) == 1
    assert options == {"opset": 3}


def test_an_export_is_proved_on_the_validation_images_by_default(
    model: TransferModel, tmp_path: Path
) -> None:
    model.validation = SimpleNamespace()  # type: ignore[assignment]
    model.export(tmp_path / "m.text")
    assert Text.callbacks[2] is model.validation
    model.validation = None
    model.export(tmp_path / "m.text")
    assert Text.callbacks[2] is None


def test_an_exporter_that_refuses_is_heard(model: TransferModel, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="disagrees") as caught:
        model.export(tmp_path / "m.text", strict=True)
    assert caught.value.exit_code == 1


def test_an_unknown_suffix_or_name_is_refused_with_what_there_is(
    model: TransferModel, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"no exporter for '\.onnx'; available: \.text"):
        model.export(tmp_path / "m.onnx")
    with pytest.raises(PluginError, match="did you mean 'text'"):
        model.export(tmp_path / "m.text", format="texts")
    assert list(tmp_path.iterdir()) == []
