"""Files whose classes are optional inputs: the proof, other classes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

import visiongraft as vg
from tests.exporters.open_classes import OTHERS, OWN, Pets, images, probabilities
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, ExportError, OptionError
from visiongraft.exporters.onnx.open_classes import prove_other_classes
from visiongraft.exporters.open_graph import OpenGraph, open_graph
from visiongraft.exporters.runtime import Predictor
from visiongraft.plugins.classification.task import Classification


@pytest.fixture(scope="module")
def file(pets: Pets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "pets.onnx"
    pets.model.export(path, open_classes=True, max_batch=3)
    return path


def test_without_classes_the_file_predicts_its_own(file: Path, pets: Pets) -> None:
    predictor = Predictor(file)
    assert predictor.class_names == tuple(OWN)
    np.testing.assert_allclose(probabilities(predictor), probabilities(pets.model), atol=1e-5)


def test_the_file_has_no_text_tower_and_names_its_source(file: Path) -> None:
    assert file.stat().st_size < 300_000  # the embeddings of tokens alone are 1.6 MB
    backbone = Predictor(file).metadata["certificate"]["backbone"]
    assert backbone["text: source"].startswith("open_clip")
    assert backbone["text: weights"] == "local-dir:tiny"


def test_other_classes_are_predicted_as_a_model_of_these_would(file: Path, pets: Pets) -> None:
    predictor = Predictor(file)
    predictor.use_classes(pets.others)
    assert predictor.class_names == tuple(OTHERS)
    np.testing.assert_allclose(
        probabilities(predictor), probabilities(vg.zero_shot(OTHERS, pets.text)), atol=1e-5
    )


def test_the_file_can_be_checked_again(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(file)]) == 0
    assert "FAILED" not in capsys.readouterr().out


def test_the_certificate_has_the_comparison_with_other_classes(file: Path) -> None:
    metadata = Predictor(file).metadata
    assert metadata["open_inputs"] == {
        "class_vectors": ["classes", 12],
        "class_biases": ["classes"],
    }
    kinds = [each["inputs"] for each in metadata["certificate"]["comparisons"]]
    assert kinds.count("other classes") == 2
    session = onnxruntime.InferenceSession(file)
    assert [entry.name for entry in session.get_inputs()] == ["images"]


def test_a_file_that_ignores_its_classes_is_not_proved(
    file: Path, pets: Pets, tmp_path: Path
) -> None:
    """The planted fault: the inputs exist, but the graph computes with constants."""
    graph = open_graph(pets.model.inference_graph())
    broken = onnx.load(file)
    for tensor, input_name in zip(
        list(broken.graph.initializer)[-2:], ("class_vectors", "class_biases"), strict=True
    ):
        assert tensor.name == input_name
        copy = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), f"own_{input_name}")
        broken.graph.initializer.append(copy)
        for node in broken.graph.node:
            for i, taken in enumerate(node.input):
                if taken == input_name:
                    node.input[i] = copy.name
    onnx.save(broken, tmp_path / "broken.onnx")
    with pytest.raises(ExportError):
        prove_other_classes(tmp_path / "broken.onnx", graph, None, (3,))
    assert isinstance(graph, OpenGraph)
    assert len(prove_other_classes(file, graph, None, (3,))) == 2


def test_the_command_line_writes_and_takes_classes(
    pets: Pets, file: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pets.model.save(tmp_path / "model")
    out = tmp_path / "birds.safetensors"
    words = [
        "write-classes",
        tmp_path / "model",
        "robin",
        "magpie=magpie;black bird",
        "--text",
        pets.text,
    ]
    assert main([*map(str, words), "--out", str(out)]) == 0
    Image.fromarray(images()[0]).save(tmp_path / "a.png")
    capsys.readouterr()
    words = ["predict", file, tmp_path / "a.png", "--classes", out, "--json"]
    assert main([*map(str, words)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert set(found["probabilities"]) == {"robin", "magpie"}
    words = ["predict", tmp_path / "model", tmp_path / "a.png", "--classes", out]
    assert main([*map(str, words)]) == 2
    assert (
        "--classes requires a file that was exported with open_classes" in capsys.readouterr().err
    )


def test_files_of_classes_that_do_not_belong_are_refused(
    file: Path, pets: Pets, tmp_path: Path
) -> None:
    predictor = Predictor(file)
    (tmp_path / "noise").write_bytes(b"noise" * 9)
    with pytest.raises(ArtifactError, match="cannot be read as a file of classes"):
        predictor.use_classes(tmp_path / "noise")
    save_file({"x": np.zeros(2)}, tmp_path / "unnamed")
    with pytest.raises(ArtifactError, match="does not name its classes"):
        predictor.use_classes(tmp_path / "unnamed")
    values = {
        "class_vectors": np.zeros((2, 5), np.float32),
        "class_biases": np.zeros(2, np.float32),
    }
    save_file(values, tmp_path / "other", {"class_names": '["a", "b"]'})
    with pytest.raises(ArtifactError, match="does not belong to this model: class_vectors"):
        predictor.use_classes(tmp_path / "other")
    assert predictor.class_names == tuple(OWN)


def test_models_whose_classes_cannot_be_exchanged_are_refused(pets: Pets, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs input='uint8' and precision='fp32'"):
        pets.model.export(tmp_path / "m.onnx", open_classes=True, precision="fp16")
    with pytest.raises(OptionError, match="not 'wordllama/l2_supercat_256'"):
        vg.save_classes(tmp_path / "c", pets.model, OTHERS, text="wordllama")
    backbone = vg.zero_shot(OWN, pets.text, weights=None)
    with pytest.raises(OptionError, match="or the encoder has other weights"):
        vg.save_classes(tmp_path / "c", backbone, OTHERS, text=pets.text)


def test_classes_of_a_map_are_centered_as_the_own_ones_are(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    data = [
        ((generator.integers(0, 90, (32, 32, 3)) + 150 * np.eye(3)[i % 3]).astype(np.uint8), i % 3)
        for i in range(24)
    ]
    names = ("red", "green", "blue")
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU())
    task = Classification(class_names=names)
    model = vg.zero_shot(names, network, text="wordllama", data=data, size=32, task=task)
    vg.save_classes(tmp_path / "own", model, names)
    with safe_open(tmp_path / "own", "numpy") as found:
        rows = found.get_tensor("class_vectors")
    np.testing.assert_allclose(rows, model.network.head.output.weight.detach(), rtol=1e-4)
    vg.save_classes(tmp_path / "others", model, ["pink", "gray"])
