"""Exporting as a user does: what is written, what is left after a failure, and the metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import visiongraft.exporters.onnx as package
from visiongraft.errors import ExportError, OptionError, VisiongraftError
from visiongraft.exporters.metadata import without_folders
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.runtime.predictor import Predictor
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.registry.manager import plugins
from visiongraft.saving.classes import class_path
from visiongraft.task import create_task


def test_the_exporter_is_found_as_a_plugin() -> None:
    assert package.register_exporters() == [OnnxExporter]
    assert plugins().exporters()["onnx"] is OnnxExporter


def test_the_file_and_its_certificate_are_all_that_is_written(exported: Any) -> None:
    names = sorted(path.name for path in exported.path.parent.iterdir())
    assert names == ["shades.onnx", "shades.onnx.certificate.json"]
    beside = json.loads((exported.path.parent / names[1]).read_text())
    inside = Predictor(exported.path).metadata["certificate"]
    assert beside == inside == json.loads(json.dumps(exported.certificate.to_json()))


def test_the_file_is_opset_18_with_free_axes_and_no_weights_outside(exported: Any) -> None:
    model = exported.load()
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version <= 13
    tensor = model.graph.input[0].type.tensor_type
    assert tensor.elem_type == onnx.TensorProto.UINT8
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    assert shape == ["batch", "height", "width", 3]
    assert [output.name for output in model.graph.output] == ["probabilities", "classes", "area"]
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_the_metadata_contains_what_deployment_needs(exported: Any) -> None:
    metadata = Predictor(exported.path).metadata
    assert metadata["task"] == "shades"
    assert metadata["task_metadata"] == {"class_names": ["dark", "middle", "/m/01bright"]}
    assert create_task(type(exported.model.task), metadata["task_options"]) == exported.model.task
    assert metadata["opset"] == 18
    assert metadata["backbone"]["name"] == exported.model.backbone_info.name
    assert metadata["training"] == {"data": "flowers", "epochs": 3, "schedule": "lp_ft"}
    assert metadata["preprocess"]["size"] == [32, 32]
    assert metadata["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert metadata["outputs"][1] == {"name": "classes", "dtype": "int64", "shape": ["batch"]}
    entry = metadata["input"]
    assert (entry["dtype"], entry["layout"], entry["color"]) == ("uint8", "NHWC", "RGB")
    assert (entry["height"], entry["width"]) == (None, None)


def test_no_path_of_this_machine_is_in_the_file(exported: Any, tmp_path: Path) -> None:
    content = exported.path.read_bytes()
    own = class_path(type(exported.model.task)).encode()
    assert content.count(own) == 2  # the class and a method of it, which the metadata name
    content = content.replace(own, b"")
    beside = exported.path.with_name("shades.onnx.certificate.json").read_bytes()
    forbidden = [str(Path.cwd()), str(Path.home()), str(exported.path.parent), "site-packages"]
    forbidden += ["/home/someone", "patient-", ".py", "conftest", "NormalizedHead", "Traceback"]
    for text in forbidden:
        assert text.encode() not in content + beside, text
    assert b"head.linear.weight" in content  # the search would see a name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/resnet.safetensors", "resnet.safetensors"),
        (r"C:\data\flowers", "flowers"),
        ("weights from /home/me/x.pth", "weights from x.pth"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("timm/resnet50", "timm/resnet50"),
        ("3/4 of the data", "3/4 of the data"),
    ],
)
def test_facts_lose_their_folders_and_nothing_else(text: str, expected: str) -> None:
    assert without_folders({"a": [text, 1, None]}) == {"a": [expected, 1, None]}


def test_adding_the_certificate_leaves_the_verified_bytes_alone(exported: Any) -> None:
    content = exported.path.read_bytes()
    addition = onnx.ModelProto()
    text = Predictor(exported.path).metadata["certificate"]
    certificate = json.dumps(text, ensure_ascii=False)
    onnx.helper.set_model_props(addition, {"certificate": certificate})
    assert content.endswith(addition.SerializeToString())
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["certificate"] == certificate


def test_exporting_twice_writes_the_same_bytes(exported: Any, tmp_path: Path) -> None:
    path = tmp_path / "shades.onnx"
    OnnxExporter().export(exported.model, path, exported.photos)
    assert path.read_bytes() == exported.path.read_bytes()


@pytest.fixture
def faulty(make_small_model: Callable[..., Any], exported: Any) -> Any:
    """A model that returns other results while it is traced."""

    @dataclass(frozen=True)
    class Deceiver(type(exported.model.task)):  # type: ignore[misc]
        def decode(self, outputs: Any, sizes: Any) -> Any:
            return super().decode(
                outputs.flip(1) if torch.compiler.is_exporting() else outputs, sizes
            )

    return make_small_model(Deceiver())


@pytest.mark.exhaustive
def test_a_breach_leaves_no_file(faulty: Any, exported: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        OnnxExporter().export(faulty, tmp_path / "new" / "x.onnx", exported.photos)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_breach_leaves_an_older_file_as_it_was(
    faulty: Any, exported: Any, tmp_path: Path
) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"older and good")
    (tmp_path / ".x.onnx.123.tmp").write_bytes(b"left by an export that was killed")
    with pytest.raises(ExportError, match="patient-"):
        OnnxExporter().export(faulty, path, exported.photos)
    assert [p.name for p in tmp_path.iterdir()] == ["x.onnx"]
    assert path.read_bytes() == b"older and good"


def test_what_cannot_be_traced_is_one_line_with_the_cause_and_no_output(
    make_small_model: Callable[..., Any],
    exported: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    @dataclass(frozen=True)
    class Untraceable(type(exported.model.task)):  # type: ignore[misc]
        def decode(self, outputs: Any, sizes: Any) -> Any:
            if outputs.sum() > 0:  # depends on values
                outputs = outputs + 1
            return super().decode(outputs, sizes)

    model = make_small_model(Untraceable())
    capfd.readouterr()
    with pytest.raises(
        ExportError, match=r"PyTorch cannot export this model: .*data-dep"
    ) as caught:
        OnnxExporter().export(model, tmp_path / "x.onnx", None)
    assert not re.search(r"\n|\x1b", str(caught.value))
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def fixed(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    return path, OnnxExporter().export(exported.model, path, exported.photos, size=(40, 56))


def test_a_fixed_size_is_explicit_in_file_metadata_and_certificate(fixed: Any) -> None:
    path, certificate = fixed
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 40, 56, 3]
    entry = Predictor(path).metadata["input"]
    assert (entry["height"], entry["width"]) == (40, 56)
    assert {size for check in certificate.comparisons for size in check.sizes} == {(40, 56)}
    assert "all images were resized to 40x56 first" in certificate.warnings


def test_a_size_that_cannot_vary_is_refused_with_the_remedy(
    make_small_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_small_model()
    graph = model.inference_graph()
    plain, mask = graph.preprocess.forward, torch.ones(45, 61, 1, dtype=torch.uint8)
    graph.preprocess.forward = lambda images: plain(images * mask)
    model.inference_graph = lambda *_: graph
    with pytest.raises(ExportError, match=r"export with size=\(height, width\)"):
        OnnxExporter().export(model, tmp_path / "x.onnx", None)


def test_user_mistakes_are_one_line(exported: Any, tmp_path: Path) -> None:
    def export(path: Path, **options: Any) -> None:
        OnnxExporter().export(exported.model, path, None, **options)

    with pytest.raises(OptionError, match="has no option 'sise'; did you mean 'size'"):
        export(tmp_path / "x.onnx", sise=32)
    with pytest.raises(OptionError, match="is neither a number of pixels"):
        export(tmp_path / "x.onnx", size=-1)
    with pytest.raises(OptionError, match="is a folder; name a file in it"):
        export(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(VisiongraftError, match=r"cannot be written: .*choose another folder"):
        export(blocked / "x.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_channel_is_exported_too(
    exported: Any, small_backbone: Any, tmp_path: Path, images: list[Any]
) -> None:
    backbone = small_backbone(in_channels=1)
    model = TransferModel(Network(backbone, exported.model.task).eval())
    OnnxExporter().export(model, tmp_path / "gray.onnx", None)
    predictor = Predictor(tmp_path / "gray.onnx")
    assert predictor.metadata["input"]["color"] == "gray"
    assert predictor.predict(images[0][..., 0])[0]["area"] == np.prod(images[0].shape[:2])


@pytest.mark.exhaustive  # of 150 layers; the demo and a page of the documentation export others
def test_a_real_backbone_is_exported_and_agrees(
    make_model: Callable[..., Any], exported: Any, tmp_path: Path
) -> None:
    model = make_model(backbone=load_backbone("bundled/efficientnet_lite0", size=96))
    certificate = OnnxExporter().export(model, tmp_path / "lite0.onnx", exported.photos)
    assert certificate.mismatches == 0
    assert 0 < certificate.difference < certificate.tolerance
    metadata = Predictor(tmp_path / "lite0.onnx").metadata
    assert metadata["backbone"]["provenance"] == model.backbone_info.provenance
