"""Versions of a model in a Triton repository: what is written, what is kept, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from visiongraft.errors import ArtifactError, OptionError, VisiongraftError
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.onnx.triton import repository
from visiongraft.exporters.onnx.triton.repository import write_repository
from visiongraft.exporters.runtime.onnx_content import certificate_field, content_sha256
from visiongraft.exporters.verification.recheck import recheck


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files under a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def later(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the same interface and other weights."""
    model = onnx.load(exported.path)
    properties = {p.key: p.value for p in model.metadata_props if p.key != "certificate"}
    for tensor in model.graph.initializer:
        if tensor.name == "head.linear.bias":
            bias = onnx.numpy_helper.to_array(tensor) + np.float32(0.5)
            tensor.CopyFrom(onnx.numpy_helper.from_array(bias, tensor.name))
    helper.set_model_props(model, properties)
    path = tmp_path_factory.mktemp("later") / "shades.onnx"
    path.write_bytes(model.SerializeToString())
    certificate = exported.certificate.to_json() | {"content_sha256": content_sha256(path)}
    path.write_bytes(path.read_bytes() + certificate_field(json.dumps(certificate)))
    return path


def test_the_repository_holds_the_file_byte_for_byte(shades: Path, tmp_path: Path) -> None:
    found = write_repository(shades, tmp_path / "models")
    assert (found.model, found.version, found.added) == ("shades", 1, True)
    files = tree(tmp_path / "models")
    assert list(files) == ["shades/1/model.onnx", "shades/config.pbtxt", "shades/labels.txt"]
    assert files["shades/1/model.onnx"] == shades.read_bytes()
    checks = {check.name: check.passed for check in recheck(found.path).checks}
    assert checks["content"] is True


def test_a_file_that_is_the_latest_version_is_not_added_again(shades: Path, tmp_path: Path) -> None:
    write_repository(shades, tmp_path / "models")
    before = tree(tmp_path / "models")
    found = write_repository(shades, tmp_path / "models")
    assert (found.version, found.added) == (1, False)
    assert tree(tmp_path / "models") == before


def test_another_content_gets_a_version_of_its_own_and_edits_are_kept(
    shades: Path, later: Path, tmp_path: Path
) -> None:
    folder = write_repository(shades, tmp_path / "models").path.parent.parent
    config = folder / "config.pbtxt"
    edited = config.read_text().replace("count: 1", "count: 4")
    config.write_text(edited)
    (folder / "notes").mkdir()
    assert write_repository(later, tmp_path / "models").version == 2
    assert config.read_text() == edited
    assert (folder / "1" / "model.onnx").read_bytes() == shades.read_bytes()
    assert (folder / "2" / "model.onnx").read_bytes() == later.read_bytes()
    back = write_repository(shades, tmp_path / "models")  # so that Triton serves it again
    assert (back.version, back.added) == (3, True)


def test_what_was_lost_beside_the_versions_is_written_again(shades: Path, tmp_path: Path) -> None:
    write_repository(shades, tmp_path / "models")
    before = tree(tmp_path / "models")
    for name in ("config.pbtxt", "labels.txt"):
        (tmp_path / "models" / "shades" / name).unlink()
    write_repository(shades, tmp_path / "models")
    assert tree(tmp_path / "models") == before


FLOATS, INTEGERS = TensorProto.FLOAT, TensorProto.INT64
SERVED = {"probabilities": (FLOATS, ["n", 2]), "position": (FLOATS, ["n", 4])}


@pytest.mark.parametrize(
    ("tensors", "batch", "labels", "words"),
    [
        (
            {**SERVED, "position": (FLOATS, ["n", 5])},
            8,
            ["a", "b"],
            r"dims: \[ 4 \] there, dims: \[ 5 ",
        ),
        (
            {**SERVED, "position": (INTEGERS, ["n", 4])},
            8,
            ["a", "b"],
            "TYPE_FP32 there, .*TYPE_INT64 here",
        ),
        ({"probabilities": SERVED["probabilities"]}, 8, ["a", "b"], r" there, .* here"),
        (SERVED, 4, ["a", "b"], "max_batch_size: 8 there, max_batch_size: 4 here"),
        (SERVED, 8, ["a", "c"], "b there, c here"),
    ],
    ids=["shape", "type", "one fewer", "batch", "labels"],
)
def test_a_model_that_clients_would_have_to_change_for_is_refused(
    tensors: Any, batch: int, labels: list[str], words: str, tmp_path: Path, handmade: Any
) -> None:
    (tmp_path / "new").mkdir()
    old = handmade(tmp_path / "m.onnx", SERVED, about={"class_names": ["a", "b"]})
    new = handmade(tmp_path / "new" / "m.onnx", tensors, batch, about={"class_names": labels})
    write_repository(old, tmp_path / "models")
    before = tree(tmp_path / "models")
    with pytest.raises(ArtifactError, match=f"{words}.*; rename the file, or remove"):
        write_repository(new, tmp_path / "models")
    assert tree(tmp_path / "models") == before


@pytest.mark.parametrize("what", ["2/model.plan", "2/model.onnx", "config.pbtxt"])
def test_what_others_put_there_is_left_alone(what: str, shades: Path, tmp_path: Path) -> None:
    other = tmp_path / "models" / "shades" / what
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another's")
    with pytest.raises(ArtifactError, match=r"shades.*; rename the file, or remove"):
        write_repository(shades, tmp_path / "models")
    assert tree(tmp_path / "models") == {f"shades/{what}": b"another's"}


def test_a_copy_that_fails_leaves_no_version_and_can_be_repeated(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(repository.shutil, "copyfile", fill_the_disk)
        with pytest.raises(VisiongraftError, match="cannot be written: No space left on device"):
            write_repository(shades, tmp_path / "models")
    assert sorted(tree(tmp_path / "models")) == ["shades/config.pbtxt", "shades/labels.txt"]
    (tmp_path / "models" / "shades" / ".1.77.tmp").mkdir()  # of a copy that was killed
    assert write_repository(shades, tmp_path / "models").version == 1
    assert len(list((tmp_path / "models" / "shades").iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("flowers.onnx", "flowers"),
        ("my flowers (2).v1.onnx", "my_flowers_2_.v1"),
        (".b-1.x", "b-1"),
    ],
)
def test_the_files_name_becomes_a_name_that_triton_takes(name: str, model: str) -> None:
    assert repository.model_folder(name, "models") == Path("models", model)


def test_an_invalid_folder_or_name_is_refused(shades: Path, exported: Any) -> None:
    with pytest.raises(OptionError, match="Triton names models by letters and digits; rename"):
        write_repository(shades.rename(shades.with_name("花.onnx")), "models")
    with pytest.raises(OptionError, match="is a file; a Triton repository is a folder"):
        OnnxExporter().export(None, shades.with_name("x.onnx"), None, triton=exported.path)  # type: ignore[arg-type]


def test_it_is_done_without_pytorch(shades: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from visiongraft.exporters.onnx.triton.repository import write_repository\n"
        "print(write_repository(*sys.argv[1:]).version)"
    )
    words = [sys.executable, "-c", code, str(shades), str(tmp_path / "models")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "1\n"
