"""The configuration for Triton is compared with Triton's own schema and with the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.utils import triton_to_np_dtype

from visiongraft.errors import ArtifactError
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.onnx.triton.config import describe_for_triton
from visiongraft.exporters.runtime.onnx_content import certificate_field
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.registry.manager import plugins
from visiongraft.task import create_task

CLASS_NAMES = ["cat", "cup", "woman"]
TASKS = {
    "classification": {"class_names": CLASS_NAMES},
    "detection": {"class_names": CLASS_NAMES, "detections": 5},
    "segmentation": {"class_names": CLASS_NAMES, "kind": "multi_class"},
    "face_embedding": {"identities": 3, "dimension": 8},
    "video": {"class_names": CLASS_NAMES, "frames": 2, "temporal": "mean"},
    "generation": {"latents": 4, "width": 4},
    "translation": {},
    "unpaired_translation": {},
    "retrieval": {"dimension": 8, "head_start": "random"},
}


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def mismatches(text: str, path: Path) -> list[str]:
    """List all differences between a configuration and onnxruntime's description of the file.

    The rules are those of Triton's onnxruntime backend: with batches the first axis of the file is
    free and left out, and there ``reshape`` stands for the file's own shape, if it is given.
    """
    config, session = text_format.Parse(text, ModelConfig()), session_of(path)
    found = []
    for kind, declared, real in (
        ("input", config.input, session.get_inputs()),
        ("output", config.output, session.get_outputs()),
    ):
        entries = {entry.name: entry for entry in real}
        if [entry.name for entry in declared] != list(entries):
            found.append(f"{kind}s {[entry.name for entry in declared]}, not {list(entries)}")
        for entry in declared:
            if entry.name in entries:
                found += _tensor_mismatches(entry, entries[entry.name], config.max_batch_size)
    if config.HasField("dynamic_batching") != (config.max_batch_size > 0):
        found.append(f"max_batch_size {config.max_batch_size}")
    return found


def _tensor_mismatches(entry: Any, real: Any, max_batch: int) -> list[str]:
    name = DataType.Name(entry.data_type).removeprefix("TYPE_")
    numpy_type = triton_to_np_dtype("BYTES" if name == "STRING" else name)
    expected = real.type.removeprefix("tensor(").removesuffix(")")
    known = {"float": "float32", "double": "float64", "string": "object"}
    found = []
    if numpy_type is None or np.dtype(numpy_type) != known.get(expected, expected):
        found.append(f"{entry.name}: {name}, not {expected}")
    shape = [size if isinstance(size, int) else -1 for size in real.shape]
    dims = list(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
    if entry.HasField("reshape") and (list(entry.dims) != [1] or not max_batch):
        found.append(f"{entry.name}: dims {list(entry.dims)}")
    if ([-1, *dims] if max_batch else dims) != shape:
        found.append(f"{entry.name}: {dims}, not {shape}")
    return found


def network_for(name: str) -> TransferModel:
    """Build an untrained model of a task."""
    torch.manual_seed(0)
    task = create_task(plugins().tasks()[name], TASKS[name])
    backbone = load_backbone("simple_cnn", weights=None, size=32).eval()
    config = backbone.info.preprocess
    resized = replace(config, resize=task.resize or config.resize)
    backbone.info = replace(backbone.info, preprocess=resized)
    return TransferModel(Network(backbone, task).eval())


def test_there_is_a_case_for_each_built_in_task() -> None:
    found = plugins().tasks().items()
    assert set(TASKS) == {n for n, k in found if k.__module__.startswith("visiongraft.plugins.")}


@pytest.mark.exhaustive  # several exports; test_commands.py writes a configuration with one
@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize("task", TASKS)
def test_the_configuration_fits_the_file_of_each_task(task: str, kind: str, tmp_path: Path) -> None:
    if task in ("video", "generation") and kind == "float":
        pytest.skip("clips and latents are taken raw only")
    path, repository = tmp_path / f"{task}.onnx", tmp_path / "models"
    OnnxExporter().export(network_for(task), path, None, input=kind, triton=repository, max_batch=1)
    text = (repository / task / "config.pbtxt").read_text()
    assert mismatches(text, repository / task / "1" / "model.onnx") == []
    config = text_format.Parse(text, ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == (task, "onnxruntime", 3)
    assert len(config.input) == 1 + ((task, kind) == ("detection", "float"))
    named = {output.name: output.label_filename for output in config.output}
    assert set(named.values()) == (
        {"labels.txt", ""} if task in ("classification", "video") else {""}
    )


def test_raw_images_of_any_size_are_batched_by_triton(exported: Any) -> None:
    described = describe_for_triton(exported.path, "shades")
    assert mismatches(described.text, exported.path) == []
    config = text_format.Parse(described.text, ModelConfig())
    assert [list(entry.dims) for entry in config.input] == [[-1, -1, 3]]
    assert config.max_batch_size == 8  # the largest that the certificate proves
    assert config.HasField("dynamic_batching")
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, 0)]
    assert described.labels == "dark\nmiddle\n/m/01bright\n"
    named = {output.name: output.label_filename for output in config.output}
    assert named == {"probabilities": "labels.txt", "classes": "", "area": ""}


def test_every_type_of_tritons_onnxruntime_backend_is_named(tmp_path: Path, handmade: Any) -> None:
    names = "BOOL DOUBLE FLOAT FLOAT16 INT8 INT16 INT32 INT64 STRING UINT8 UINT16 UINT32 UINT64"
    tensors = {n: (TensorProto.DataType.Value(n), ["batch", "some", 2]) for n in names.split()}
    path = handmade(tmp_path / "types.onnx", tensors)
    config = describe_for_triton(path, "types").text
    assert mismatches(config, path) == []
    assert len(set(re.findall("TYPE_.*", config))) == len(tensors)


def test_a_fixed_batch_is_left_in_the_shapes_and_not_batched(tmp_path: Path, handmade: Any) -> None:
    tensors = {"maps": (TensorProto.UINT8, [4, "h", "w"]), "one": (TensorProto.FLOAT, [1])}
    path = handmade(tmp_path / "fixed.onnx", tensors)
    text = describe_for_triton(path, "fixed").text
    assert mismatches(text, path) == []
    config = text_format.Parse(text, ModelConfig())
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [4, -1, -1]


@pytest.mark.parametrize("other", [["crops"], [4], [None]], ids=str)
def test_without_one_batch_axis_common_to_all_triton_does_not_batch(
    other: list[Any], tmp_path: Path, handmade: Any
) -> None:
    tensors = {"a": (TensorProto.FLOAT, ["batch", 2]), "b": (TensorProto.FLOAT, other)}
    path = handmade(tmp_path / "two.onnx", tensors)
    text = describe_for_triton(path, "two").text
    assert mismatches(text, path) == []
    assert "max_batch_size: 0\n" in text


def test_names_are_quoted_and_labels_take_one_line_each(tmp_path: Path, handmade: Any) -> None:
    strange = 'im"ag\\es ü'
    about = {"class_names": ["two\nlines", "ü"]}
    tensors = {
        strange: (TensorProto.UINT8, ["n", 1]),
        "probabilities": (TensorProto.FLOAT, ["n", 2]),
    }
    path = handmade(tmp_path / "strange.onnx", tensors, about=about)
    described = describe_for_triton(path, "strange")
    assert mismatches(described.text, path) == []
    assert described.labels == "two lines\nü\n"


FAULTS = {
    "a wrong type": ("TYPE_UINT8", "TYPE_INT8"),
    "a type that does not exist": ("TYPE_UINT8", "TYPE_BYTE"),
    "another name": ('"classes"', '"class"'),
    "a forgotten output": (r",\n  {\n    name: \"area\"[^}]*}\n  }", ""),
    "a forgotten input": (r"input \[(.|\n)*?\n\]\n", ""),
    "the batch axis left in dims": (r"\[ -1, -1, 3 \]", "[ -1, -1, -1, 3 ]"),
    "a size that is not fixed": (r"\[ -1, -1, 3 \]", "[ 32, 32, 3 ]"),
    "channels first": (r"\[ -1, -1, 3 \]", "[ 3, -1, -1 ]"),
    "no reshape where there is one value": (r"    reshape .*\n", ""),
    "a misspelled field": ("data_type", "datatype"),
    "a bracket too few": (r"\]\n$", ""),
    "no batch size": ("max_batch_size: 8", "max_batch_size: 0"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_caught(fault: str, exported: Any) -> None:
    sound = describe_for_triton(exported.path, "shades").text
    faulty = re.sub(*FAULTS[fault], sound, count=1)
    assert faulty != sound
    try:
        caught: Any = mismatches(faulty, exported.path)
    except text_format.ParseError as error:
        caught = error
    assert caught


# ---- files that cannot be served ----


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _altered(path: Path) -> None:
    content = path.read_bytes()
    middle = content.index(b"head.linear.weight")
    path.write_bytes(content[:middle] + b"HEAD" + content[middle + 4 :])


def _rewritten(path: Path) -> None:
    model = onnx.load(path)
    model.producer_name = "another"
    onnx.save(model, path)


def _stripped(path: Path) -> None:
    model = onnx.load(path)
    kept = {p.key: p.value for p in model.metadata_props if p.key != "certificate"}
    helper.set_model_props(model, kept)
    onnx.save(model, path)


def _strange(path: Path) -> None:
    _stripped(path)
    path.write_bytes(
        path.read_bytes() + certificate_field('{"comparisons": [3], "content_sha256": 0}')
    )


def _foreign(path: Path) -> None:
    model = onnx.load(path)
    model.ClearField("metadata_props")
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "does not exist"),
        (lambda path: path.write_bytes(b"hello"), "is not an ONNX file, or it is damaged"),
        (_cut, "is not an ONNX file, or it is damaged"),
        (_altered, "is not as it was certified; export it again"),
        (_rewritten, "is not as it was certified; export it again"),
        (_stripped, "has no certificate; export it again"),
        (_strange, "has no certificate; export it again"),
        (_foreign, "was it exported by visiongraft"),
    ],
    ids=["missing", "text", "cut", "altered", "rewritten", "stripped", "strange", "foreign"],
)
def test_what_is_not_a_sound_file_of_visiongraft_is_refused_in_one_line(
    damage: Callable[[Path], Any], words: str, shades: Path
) -> None:
    damage(shades)
    with pytest.raises(ArtifactError, match=words) as caught:
        describe_for_triton(shades, "shades")
    assert "\n" not in str(caught.value)


def test_a_type_that_triton_cannot_serve_is_refused(tmp_path: Path, handmade: Any) -> None:
    path = handmade(tmp_path / "b.onnx", {"half": (TensorProto.BFLOAT16, ["n", 2])})
    with pytest.raises(ArtifactError, match="Triton cannot serve half_in: its type is BFLOAT16"):
        describe_for_triton(path, path.stem)
    path = handmade(tmp_path / "s.onnx", {"scalar": (TensorProto.FLOAT, [])})
    with pytest.raises(ArtifactError, match="Triton cannot serve scalar_in: it has no axis"):
        describe_for_triton(path, path.stem)
    path = handmade(tmp_path / "r.onnx", {"rankless": (TensorProto.FLOAT, None)})  # type: ignore[dict-item]
    with pytest.raises(ArtifactError, match="cannot serve rankless_in: no tensor of known rank"):
        describe_for_triton(path, path.stem)
