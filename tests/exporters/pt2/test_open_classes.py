"""Programs whose classes are inputs: the proof, other classes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft as vg
from tests.exporters.open_classes import OTHERS, OWN, Pets, images, probabilities
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, ExportError, OptionError
from visiongraft.exporters.open_graph import open_graph
from visiongraft.exporters.pt2.exporter import prove_other_classes
from visiongraft.exporters.pt2.runtime import Pt2Predictor


@pytest.fixture(scope="module")
def file(pets: Pets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "pets.pt2"
    pets.model.export(path, open_classes=True, max_batch=3)
    return path


def test_without_classes_the_file_predicts_its_own(file: Path, pets: Pets) -> None:
    predictor = Pt2Predictor(file)
    assert predictor.class_names == tuple(OWN)
    np.testing.assert_allclose(probabilities(predictor), probabilities(pets.model), atol=1e-5)


def test_other_classes_are_predicted_as_a_model_of_these_would(file: Path, pets: Pets) -> None:
    predictor = Pt2Predictor(file)
    predictor.use_classes(pets.others)
    assert predictor.class_names == tuple(OTHERS)
    expected = probabilities(vg.zero_shot(OTHERS, pets.text))
    np.testing.assert_allclose(probabilities(predictor), expected, atol=1e-5)


def test_the_file_describes_its_inputs_and_holds_its_classes_once(file: Path) -> None:
    metadata = Pt2Predictor(file).metadata
    shapes = {"class_vectors": ["classes", 12], "class_biases": ["classes"]}
    assert metadata["open_inputs"] == shapes
    assert metadata["outputs"][0]["shape"] == ["batch", "classes"]
    kinds = [each["inputs"] for each in metadata["certificate"]["comparisons"]]
    assert kinds.count("other classes") == 2


def test_a_program_that_ignores_its_classes_is_not_proved(
    pets: Pets, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: the inputs exist, but the program computes with the classes of the model."""
    graph, predictor = open_graph(pets.model.inference_graph()), Pt2Predictor(file)
    assert len(prove_other_classes(predictor, graph, None, (3,))) == 2
    own = {name: value.numpy() for name, value in graph.values.items()}
    run = predictor.run

    def ignoring(images: np.ndarray) -> Any:
        predictor.classes = own
        return run(images)

    monkeypatch.setattr(predictor, "run", ignoring)
    with pytest.raises(ExportError):
        prove_other_classes(predictor, graph, None, (3,))


def test_the_file_is_checked_again_and_takes_classes_on_the_command_line(
    file: Path, pets: Pets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(file)]) == 0
    Image.fromarray(images()[0]).save(tmp_path / "a.png")
    capsys.readouterr()
    words = ["predict", file, tmp_path / "a.png", "--classes", pets.others, "--json"]
    assert main([*map(str, words)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert set(found["probabilities"]) == set(OTHERS)


def test_what_does_not_belong_is_refused(pets: Pets, file: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="open_classes"):
        pets.model.export(tmp_path / "m.pt2", open_classes="yes")
    predictor = Pt2Predictor(file)
    predictor.metadata["open_inputs"] = {"class_vectors": ["classes", 7]}
    with pytest.raises(ArtifactError, match="does not belong to this model"):
        predictor.use_classes(pets.others)
    del predictor.metadata["open_inputs"]
    with pytest.raises(OptionError, match="the classes of this file are fixed"):
        predictor.use_classes(pets.others)
