"""Extra outputs in exported files: proved like the results of the task, and kept apart from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from visiongraft.certificate import Certificate
from visiongraft.comparison import compare_arrays
from visiongraft.errors import ExportError, OptionError
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.pt2.exporter import Pt2Exporter
from visiongraft.exporters.pt2.runtime import Pt2Predictor
from visiongraft.exporters.runtime import Predictor
from visiongraft.exporters.verification.proof import verify
from visiongraft.exporters.verification.recheck import recheck
from visiongraft.verification.engine import TOLERANCE, Pair

NAMES = ("embedding", "feature_map")


@pytest.fixture(scope="module")
def extended(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Certificate]:
    path = tmp_path_factory.mktemp("extended") / "shades.onnx"
    return path, OnnxExporter().export(exported.model, path, exported.photos, extra_outputs=NAMES)


def disagreeing(model: onnx.ModelProto, output: str, factor: float) -> onnx.ModelProto:
    """Multiply one output of a file."""
    graph = model.graph
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = "before"
        for i, name in enumerate(node.input):
            if name == output:
                node.input[i] = "before"
    graph.initializer.append(onnx.helper.make_tensor("factor", 1, [], [factor]))
    graph.node.append(onnx.helper.make_node("Mul", ["before", "factor"], [output]))
    return model


def test_the_file_has_them_after_the_results(exported: Any, extended: Any, images: Any) -> None:
    path, certificate = extended
    predictor = Predictor(path)
    found = predictor.run(images[0][None])
    assert list(found) == ["probabilities", "classes", "area", *NAMES]
    assert predictor.extra_outputs == NAMES
    graph = exported.model.inference_graph(NAMES)
    with torch.no_grad():
        expected = graph(torch.tensor(images[0][None]))
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name].numpy(), atol=1e-5)
    assert certificate.difference < 1e-4 and not certificate.mismatches
    assert {name for image in certificate.certified for name in image.results} == set(found)


def test_the_file_computes_the_network_once(exported: Any, extended: Any) -> None:
    def convolutions(path: Path) -> int:
        return sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)

    assert convolutions(extended[0]) == convolutions(exported.path) > 0


def test_predictions_do_not_see_them(extended: Any, images: Any) -> None:
    predictor = Predictor(extended[0])
    seen: list[set[str]] = []

    def to_predictions(decoded: Any, metadata: Any) -> list[Any]:
        seen.append(set(decoded))
        return list(decoded["classes"])

    predictor.__dict__["_to_predictions"] = to_predictions
    predictor.predict([images[0]])
    assert seen == [{"probabilities", "classes", "area"}]


@pytest.mark.parametrize(("name", "factor"), [("embedding", 1.001), ("feature_map", -1.0)])
def test_one_that_differs_from_pytorch_is_found(
    exported: Any, extended: Any, tmp_path: Path, name: str, factor: float
) -> None:
    path = tmp_path / "wrong.onnx"
    onnx.save(disagreeing(onnx.load(extended[0]), name, factor), path)
    graph = exported.model.inference_graph(NAMES)
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(session_run(path, graph), graph, exported.photos)


def test_one_that_was_changed_later_is_found_without_the_model(
    extended: Any, tmp_path: Path
) -> None:
    path = tmp_path / "shades.onnx"
    onnx.save(disagreeing(onnx.load(extended[0]), "embedding", 1.01), path)
    failed = [check.name for check in recheck(path).checks if check.passed is False]
    assert "certified results" in failed


def test_a_file_with_them_passes_every_check(extended: Any) -> None:
    report = recheck(extended[0])
    assert report.passed, report


def test_pt2_files_have_them_too(exported: Any, images: Any, tmp_path: Path) -> None:
    path = tmp_path / "shades.pt2"
    certificate = Pt2Exporter().export(
        exported.model, path, None, extra_outputs=["embedding"], size=(40, 56)
    )
    predictor = Pt2Predictor(path)
    assert predictor.extra_outputs == ("embedding",) and certificate.difference < 1e-4
    assert predictor.run(images[0][None, :40, :56])["embedding"].shape == (1, 128)


@pytest.mark.exhaustive  # a second export
def test_a_budget_is_said_not_to_cover_them(exported: Any, tmp_path: Path) -> None:
    certificate = OnnxExporter().export(
        exported.model, tmp_path / "h.onnx", exported.photos, precision="fp16", budget=1.0,
        extra_outputs="embedding",
    )  # fmt: skip
    assert any("not how far extra outputs are off: embedding" in w for w in certificate.warnings)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3, "is not a list of names"),
        ([3], "are not names"),
        ("embeding", "did you mean 'embedding'"),
        ("embedding, embedding", "names an output twice"),
    ],
)
def test_what_is_no_list_of_known_names_is_refused(
    exported: Any, tmp_path: Path, given: Any, words: str
) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        OnnxExporter().export(exported.model, tmp_path / "m.onnx", None, extra_outputs=given)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_ties_on_plain_images_do_not_excuse_them(exported: Any) -> None:
    reference = {"scores": np.array([[0.5, 0.5]]), "index": np.array([0]), "more": np.ones((1, 3))}
    candidate = {**reference, "index": np.array([1])}
    pair = Pair(None, None, None, extras=("more",))  # type: ignore[arg-type]
    assert pair.equal_but_for_ties(reference, candidate)
    without = {"index": reference["index"], "more": reference["more"]}
    assert not pair.equal_but_for_ties(without, {**without, "index": np.array([1])})


def disagreements(*maps: tuple[float, float]) -> list[float]:
    """Compare one map of an extra output after the other, each given by its value and the error in the file."""
    pair = Pair(None, None, compare_arrays, extras=("cam",))  # type: ignore[arg-type]
    sides = [(np.full((1, 2, 2), value), np.full((1, 2, 2), value + e)) for value, e in maps]
    return [pair.disagreement({"cam": a}, {"cam": b}).difference for a, b in sides]


def test_the_nearly_empty_map_of_a_plain_image_is_compared_relative_to_those_before_it() -> None:
    rounding = 3e-7  # of the sums that a map of this size is made of
    alone, after_others = (
        disagreements((0.002, rounding))[0],
        disagreements((1, 0), (0.002, rounding))[1],
    )
    assert alone > TOLERANCE
    assert after_others == pytest.approx(rounding / (10 * 0.002))  # the bound: ten times its own
    assert after_others < TOLERANCE


def test_a_fault_in_a_nearly_empty_map_is_found() -> None:
    assert disagreements((1.0, 0), (0.002, 0.001))[1] > TOLERANCE  # as large as half the map
    assert disagreements((2000.0, 0), (0.19, -0.19))[1] > TOLERANCE  # all of it is lost
    assert disagreements((1.0, 0), (0.0, math.nan))[1] == math.inf
    assert disagreements((1.0, 0), (0.5, 0.5e-3), (1.0, 0))[1] > TOLERANCE
