"""Checking a file again: what passes, what fails, and what could not be checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from visiongraft.cli import main
from visiongraft.errors import ArtifactError
from visiongraft.exporters.runtime.onnx_content import certificate_field, content_sha256
from visiongraft.exporters.verification.recheck import recheck
from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import PluginManager, using

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def file(exported: Any, tmp_path: Path) -> Path:
    """A copy of the exported file and its certificate."""
    for path in exported.path.parent.iterdir():
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / exported.path.name


@pytest.fixture
def folder(images: list[Any], tmp_path: Path) -> Path:
    """The photographs as files."""
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def results(file: Path, *given: Any, **named: Any) -> dict[str, bool | None]:
    return {check.name: check.passed for check in recheck(file, *given, **named).checks}


def resealed(file: Path, change: Change) -> Path:
    """Alter the certificate, and leave everything else as it was."""
    certificate = json.loads(file.with_name(f"{file.name}.certificate.json").read_text())
    old = certificate_field(json.dumps(certificate, ensure_ascii=False))
    content = file.read_bytes()
    assert content.endswith(old)
    change(certificate)
    file.write_bytes(
        content.removesuffix(old) + certificate_field(json.dumps(certificate, ensure_ascii=False))
    )
    file.with_name(f"{file.name}.certificate.json").unlink()
    return file


def test_a_file_that_is_as_it_was_passes(file: Path, folder: Path) -> None:
    report = recheck(file, str(folder))
    assert report.passed
    named = {check.name: check for check in report.checks}
    assert {name for name, check in named.items() if check.passed} == {
        "content",
        "metadata",
        "certified results",
        "certificate",
        "names",
        "plain images",
        "real images",
        "random images",
    }
    assert named["metric"].passed is None
    assert "no installed plugin provides" in named["metric"].detail
    assert report.certified == pytest.approx(1 / 3, abs=0.34)
    assert report.metric is None


def test_one_changed_byte_anywhere_is_seen(file: Path) -> None:
    content = bytearray(file.read_bytes())
    at = content.index(b"head.linear.weight") + 2000
    content[at] ^= 1
    file.write_bytes(bytes(content))
    assert results(file)["content"] is False


def test_a_file_that_another_program_wrote_again_is_seen(file: Path) -> None:
    model = onnx.load(file)
    onnx.save(model, file)
    assert results(file)["content"] is True  # the same bytes
    model.metadata_props.add(key="note", value='"mine"')
    onnx.save(model, file)
    check = recheck(file).checks[0]
    assert (check.passed, check.detail) == (
        False,
        "another program has rewritten the file or appended to it",
    )


def test_the_certificate_of_another_file_beside_it_is_seen(file: Path) -> None:
    beside = file.with_name(f"{file.name}.certificate.json")
    beside.write_text(beside.read_text().replace('"mismatches": 0', '"mismatches": 1'))
    assert "is the certificate of another file" in recheck(file).checks[0].detail
    beside.write_text("{")
    assert "cannot be read" in recheck(file).checks[0].detail


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(mismatches=1),
        lambda c: c.update(difference=2e-4),
        lambda c: c.update(difference=2e-4, tolerance=1e-3),
        lambda c: c.update(precision="int8"),
        lambda c: c.update(comparisons=[]),
    ],
)
def test_a_certificate_that_breaks_its_own_rules_is_seen(file: Path, change: Change) -> None:
    assert results(resealed(file, change))["certificate"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("comparisons"),
        lambda c: c.update(difference="small"),
        lambda c: c.update(tolerance=None),
        lambda c: c.update(metric_torch="good"),
    ],
)
def test_a_certificate_without_what_is_checked_is_one_line(file: Path, change: Change) -> None:
    with pytest.raises(ArtifactError, match="has no certificate that can be checked; export it"):
        recheck(resealed(file, change))


def test_names_that_are_not_those_of_the_task_are_seen(exported: Any, tmp_path: Path) -> None:
    model = onnx.load(exported.path)
    for entry in model.metadata_props:
        if entry.key == "task_metadata":
            entry.value = entry.value.replace("dark", "murky")
    onnx.save(model, tmp_path / "x.onnx")
    assert results(tmp_path / "x.onnx")["names"] is False


def test_a_model_that_was_never_exported_by_visiongraft_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        recheck(tmp_path / "x.onnx")


def test_the_hash_is_of_all_but_the_certificate(file: Path) -> None:
    text = onnx.load(file).metadata_props[-1].value
    assert content_sha256(file, text) == json.loads(text)["content_sha256"]
    assert content_sha256(file, "{}") is None
    stripped = file.with_name("stripped.onnx")
    stripped.write_bytes(file.read_bytes().removesuffix(certificate_field(text)))
    assert content_sha256(stripped) == json.loads(text)["content_sha256"]


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from visiongraft.cli import main
code = main(sys.argv[1:])
assert not any(name.startswith(("torch.", "timm", "onnx.")) for name in sys.modules)
sys.exit(code)
"""


def test_a_file_is_checked_without_torch(file: Path, folder: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_TORCH, "verify", file, "--data", folder, "--json"]
    done = subprocess.run(list(map(str, words)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["passed"] is True
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["real images"]["passed"] is True
    assert checks["metric"]["detail"].startswith(
        "not computed: the task's plugin needs a package that is not installed"
    )


# ---- with the task's plugin, and with the model ----


@pytest.fixture
def known(exported: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the task as a plugin; its dataset is the photographs."""
    kind = type(exported.model.task)

    def read_evaluation(task: Any, data: Any) -> Any:
        return exported.photos.subset(range(6 if data == "all" else 5))

    class Plugin:
        @hookimpl
        def register_tasks(self) -> list[type[Any]]:
            return [kind]

    monkeypatch.setattr(kind, "read_evaluation", read_evaluation)
    manager = PluginManager()
    manager.register(Plugin(), "shades")
    with using(manager):
        yield


def test_the_metric_is_that_of_the_certificate_on_the_same_images(
    known: Any, file: Path, exported: Any
) -> None:
    report = recheck(file, "all")
    assert report.passed
    assert report.metric == report.certified == exported.certificate.metric_exported
    assert {check.passed for check in report.checks} == {True}


def test_other_images_have_a_metric_that_is_reported_not_judged(known: Any, file: Path) -> None:
    report = recheck(file, "some")
    (check,) = (c for c in report.checks if c.name == "metric")
    assert report.metric is not None
    assert check.passed is None and "are not those of the certificate" in check.detail


def test_another_metric_on_the_same_images_is_a_breach(known: Any, file: Path) -> None:
    resealed(file, lambda c: c.update(metric_exported=c["metric_exported"] + 0.01))
    assert results(file, "all")["metric"] is False


def test_a_lower_precision_is_held_to_its_budget_again(known: Any, file: Path) -> None:
    def lower(c: dict[str, Any]) -> None:
        c.update(tolerance=None, budget=0.1, metric_torch=c["metric_exported"] + 0.2)

    assert results(resealed(file, lower), "all")["metric"] is False


def test_the_model_adds_the_comparison_with_pytorch(
    known: Any, file: Path, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported.model.validation = exported.photos
    monkeypatch.setattr("visiongraft.model.load", lambda folder: exported.model)
    found = results(file, model=Path("run"))
    exported.model.validation = None
    assert found["model"] is found["PyTorch"] is found["metric"] is True


def test_another_models_weights_are_seen(
    known: Any, file: Path, make_model: Any, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    model.network.head.linear.weight.data *= 1.01
    model.validation = exported.photos
    monkeypatch.setattr("visiongraft.model.load", lambda folder: model)
    report = recheck(file, model=Path("run"))
    failed = [check for check in report.checks if check.passed is False]
    assert [check.name for check in failed] == ["model", "PyTorch"]
    assert failed[0].detail == "the model has other weights than the one that was exported"
    assert "disagrees with PyTorch" in failed[1].detail


def test_the_metric_of_another_class_of_the_tasks_name_is_not_computed(
    exported: Any, file: Path, folder: Path
) -> None:
    class Other(type(exported.model.task)):  # type: ignore[misc]
        """Another task of the same name."""

    class Plugin:
        @hookimpl
        def register_tasks(self) -> list[type[Any]]:
            return [Other]

    manager = PluginManager()
    manager.register(Plugin(), "shades")
    with using(manager):
        report = recheck(file, str(folder))
    (check,) = (c for c in report.checks if c.name == "metric")
    assert report.passed and check.passed is None
    assert "the exported file is of the task class" in check.detail and "Other here" in check.detail


# ---- the command ----


def test_the_command_prints_what_failed_and_exits_with_1(
    file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(file), "--data", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"{file}: no check failed"
    resave = onnx.load(file)
    resave.producer_name = "other"
    onnx.save(resave, file)
    assert main(["verify", str(file)]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[1].split()[:2] == ["content", "FAILED"]
    assert out.splitlines()[-1] == f"{file}: content failed"
    capsys.readouterr()
    assert main(["verify", str(file), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    assert [c["name"] for c in answer["checks"] if c["passed"] is False] == ["content"]


# ---- the bare network ----


def test_a_bare_network_is_checked_again_with_pytorchs_preprocessing(known: Any, bare: Any) -> None:
    report = recheck(bare.path, "all")
    assert {check.passed for check in report.checks} == {True}
    assert report.metric == bare.certificate.metric_exported


def test_the_bare_networks_input_is_the_output_of_preprocess(bare: Any, exported: Any) -> None:
    import onnxruntime
    import torch

    path, certificate = bare.path, bare.certificate
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shapes = {entry.name: (entry.type, entry.shape) for entry in session.get_inputs()}
    assert shapes == {
        "images": ("tensor(float)", ["batch", 3, 32, 32]),
        "sizes": ("tensor(int64)", ["batch", 2]),
    }
    entry = json.loads(session.get_modelmeta().custom_metadata_map["input"])
    assert (entry["kind"], entry["layout"], entry["sizes"]) == ("float", "NCHW", "sizes")
    assert certificate.mismatches == 0 and certificate.difference < 1e-4
    assert certificate.metric_torch == exported.certificate.metric_torch
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "Resize" not in kinds
    images = torch.tensor(exported.photos.load(1)[None])
    graph = exported.model.inference_graph()
    prepared = graph.preprocess(images).numpy()
    sizes = np.array([images.shape[1:3]])
    found = dict(
        zip(
            ["probabilities", "classes", "area"],
            session.run(None, {"images": prepared, "sizes": sizes}),
            strict=True,
        )
    )
    assert found["area"] == sizes.prod()
    np.testing.assert_allclose(
        found["probabilities"], graph(images)["probabilities"].detach().numpy(), atol=1e-4
    )
