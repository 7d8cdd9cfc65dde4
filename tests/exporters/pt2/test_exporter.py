"""Exporting .pt2 files as a user does: what is written, what is left behind, and the metadata."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visiongraft.exporters.pt2 as package
from visiongraft.backbone import Backbone, Features
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, ExportError, OptionError, VisiongraftError
from visiongraft.exporters.pt2.exporter import Pt2Exporter
from visiongraft.exporters.pt2.program import _drop_unused
from visiongraft.exporters.pt2.runtime import Pt2Predictor
from visiongraft.exporters.verification.recheck import recheck
from visiongraft.lookup.exported import open_exported
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.registry.manager import plugins
from visiongraft.saving.classes import class_path
from visiongraft.task import Decoded, ExportSupport, create_task
from visiongraft.testing import check_exporter


def test_the_exporter_is_found_as_a_plugin() -> None:
    assert package.register_exporters() == [Pt2Exporter]
    assert plugins().exporters()["pt2"] is Pt2Exporter


@pytest.mark.exhaustive  # as of the ONNX exporter, in tests/core/testing
def test_the_exporter_passes_the_kit() -> None:
    check_exporter("pt2")


def test_the_file_and_its_certificate_are_all_that_is_written(program_file: Any) -> None:
    names = sorted(path.name for path in program_file.path.parent.iterdir())
    assert names == ["shades.pt2", "shades.pt2.certificate.json"]
    beside = json.loads((program_file.path.parent / names[1]).read_text())
    inside = Pt2Predictor(program_file.path).metadata["certificate"]
    assert beside == inside == json.loads(json.dumps(program_file.certificate.to_json()))


def test_the_proof_is_that_of_the_onnx_exporter(program_file: Any, exported: Any) -> None:
    tried, other = (
        [(c.inputs, c.batch, c.images, c.sizes, c.predictions) for c in certificate.comparisons]
        for certificate in (program_file.certificate, exported.certificate)
    )
    assert tried == other
    one, two = program_file.certificate, exported.certificate
    assert (one.data_sha256, one.metric_torch) == (two.data_sha256, two.metric_torch)
    assert one.metric_exported == one.metric_torch and one.mismatches == 0
    assert one.difference < 1e-6 and one.backbone == two.backbone
    assert set(one.versions) == {"visiongraft", "python", "torch", "torchvision"}


def test_plain_torch_loads_the_file(program_file: Any) -> None:
    extra = {"metadata.json": "", "certificate.json": ""}
    program = torch.export.load(program_file.path, extra_files=extra)
    images = np.stack([program_file.photos.load(1)] * 2)
    with torch.inference_mode():
        found = program.module()(torch.tensor(images))
        expected = program_file.model.inference_graph()(torch.tensor(images))
    assert list(found) == ["probabilities", "classes", "area"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert json.loads(extra["metadata.json"])["task"] == "shades"
    assert json.loads(extra["certificate.json"])["mismatches"] == 0


def test_the_metadata_contains_what_deployment_needs(program_file: Any) -> None:
    metadata = Pt2Predictor(program_file.path).metadata
    task = program_file.model.task
    assert metadata["task_metadata"] == {"class_names": ["dark", "middle", "/m/01bright"]}
    assert create_task(type(task), metadata["task_options"]) == task
    assert metadata["training"] == {"data": "flowers", "epochs": 3, "schedule": "lp_ft"}
    assert metadata["outputs"][1] == {"name": "classes", "dtype": "int64", "shape": ["batch"]}
    entry = metadata["input"]
    assert (entry["dtype"], entry["layout"], entry["color"]) == ("uint8", "NHWC", "RGB")
    assert (entry["height"], entry["width"]) == (None, None)


def test_no_path_of_this_machine_and_no_code_is_in_the_file(program_file: Any) -> None:
    content = program_file.path.read_bytes()
    own = class_path(type(program_file.model.task)).encode()
    assert content.count(own) == 2  # the class and a method of it, which the metadata name
    content = content.replace(own, b"")
    forbidden = [str(Path.cwd()), str(Path.home()), str(program_file.path.parent), "site-packages"]
    forbidden += ["/home/someone", "patient-", ".py", "conftest", "NormalizedHead", "stack_trace"]
    for text in forbidden:
        assert text.encode() not in content, text
    assert b"head.linear.weight" in content  # the search would see a name


@pytest.mark.exhaustive  # as ONNX files, in tests/exporters/onnx
def test_exporting_twice_writes_the_same_bytes(program_file: Any, tmp_path: Path) -> None:
    path = tmp_path / "shades.pt2"
    Pt2Exporter().export(program_file.model, path, program_file.photos)
    assert path.read_bytes() == program_file.path.read_bytes()


@pytest.fixture
def faulty(make_small_model: Callable[..., Any], exported: Any) -> Any:
    """A model that returns other results while it is traced."""

    @dataclass(frozen=True)
    class Deceiver(type(exported.model.task)):  # type: ignore[misc]
        def decode(self, outputs: Any, sizes: Any) -> Any:
            turned = outputs.flip(1) if torch.compiler.is_exporting() else outputs
            return super().decode(turned, sizes)

    return make_small_model(Deceiver())


def test_a_breach_leaves_an_older_file_as_it_was(
    faulty: Any, exported: Any, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt2"
    path.write_bytes(b"older and good")
    (tmp_path / ".x.pt2.123.tmp").write_bytes(b"left by an export that was killed")
    with pytest.raises(ExportError, match=r"disagrees with PyTorch.*patient-"):
        Pt2Exporter().export(faulty, path, exported.photos)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt2"]
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
    with pytest.raises(ExportError, match=r"cannot export this model: .*data-dep.*'if'") as caught:
        Pt2Exporter().export(model, tmp_path / "x.pt2", None)
    assert not re.search(r"\n|\x1b", str(caught.value))
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_a_task_that_uses_the_length_of_a_batch_is_exported(
    make_small_model: Callable[..., Any], exported: Any, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Lengthy(type(exported.model.task)):  # type: ignore[misc]
        def decode(self, outputs: Any, sizes: Any) -> Any:
            return {**super().decode(outputs, sizes), "zeros": outputs.new_zeros(len(outputs), 2)}

    certificate = Pt2Exporter().export(make_small_model(Lengthy()), tmp_path / "x.pt2", None)
    assert {check.batch for check in certificate.comparisons} == {1, 3, 8}


@pytest.fixture(scope="module")
def fixed(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A file for images of one size, and its certificate."""
    path, options = tmp_path_factory.mktemp("fixed") / "fixed.pt2", {"size": (40, 56)}
    return path, Pt2Exporter().export(exported.model, path, exported.photos, **options, max_batch=5)


def test_a_fixed_size_is_explicit_in_metadata_and_certificate(fixed: Any) -> None:
    path, certificate = fixed
    predictor = Pt2Predictor(path)
    assert (predictor.input.height, predictor.input.width) == (40, 56)
    assert {size for check in certificate.comparisons for size in check.sizes} == {(40, 56)}
    assert "all images were resized to 40x56 first" in certificate.warnings


def test_user_mistakes_are_one_line(exported: Any, tmp_path: Path) -> None:
    def export(path: Path, **options: Any) -> None:
        Pt2Exporter().export(exported.model, path, None, **options)

    with pytest.raises(OptionError, match="has no option 'sise'; did you mean 'size'"):
        export(tmp_path / "x.pt2", sise=32)
    with pytest.raises(OptionError, match="the pt2 exporter has no option 'precision'"):
        export(tmp_path / "x.pt2", precision="fp16")
    with pytest.raises(OptionError, match="max_batch=0 is not an integer"):
        export(tmp_path / "x.pt2", max_batch=0)
    with pytest.raises(OptionError, match="is a folder; name a file in it"):
        export(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_batch_to_prove_can_be_chosen(fixed: Any) -> None:
    _, certificate = fixed
    assert {check.batch for check in certificate.comparisons} == {1, 3, 5}


# ---- images at their own size, and a task's own operators ----


@torch.library.custom_op("visiongraft_pt2_tests::mirrored", mutates_args=())
def mirrored(maps: Tensor) -> Tensor:
    """Flip maps horizontally with numpy, which no exporter can trace."""
    return torch.from_numpy(maps.numpy()[..., ::-1].copy())


@mirrored.register_fake
def _(maps: Tensor) -> Tensor:
    return torch.empty_like(maps)


class WideHead(nn.Module):
    """Decides by the size of a feature map, which tracing turns into a constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 3)

    def forward(self, features: Features) -> Tensor:
        maps = features.maps[1]
        logits: Tensor = self.linear(maps.mean((2, 3)) * (2.0 if maps.shape[-1] > 11 else 1.0))
        return logits


def test_a_network_that_cannot_vary_is_fixed_to_its_size_with_a_warning(
    exported: Any, small_backbone: Any, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Wide(type(exported.model.task)):  # type: ignore[misc]
        def build_head(self, backbone: Backbone) -> nn.Module:
            return WideHead(backbone.info.channels[1])

    torch.manual_seed(0)
    model = TransferModel(Network(small_backbone("pad"), Wide()).eval())
    certificate = Pt2Exporter().export(model, tmp_path / "x.pt2", None)
    assert certificate.warnings[0].startswith("the input is fixed to 32x32 pixels (size= chooses)")
    assert Pt2Predictor(tmp_path / "x.pt2").input.height == 32


@pytest.fixture
def make_mirroring(
    exported: Any, make_small_model: Callable[..., Any]
) -> Callable[..., TransferModel]:
    """Return a function that builds a model with an operator of its own, of a given form."""

    def make(operators: Mapping[Any, Callable[..., Any]]) -> TransferModel:
        @dataclass(frozen=True)
        class Mirroring(type(exported.model.task)):  # type: ignore[misc]
            name: ClassVar[str] = "mirroring"

            def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
                decoded: Decoded = super().decode(outputs, sizes)
                return {**decoded, "turned": mirrored(decoded["probabilities"])}

            def export_support(self) -> ExportSupport:
                return ExportSupport(operators={"pt2": lambda: operators})

        return make_small_model(Mirroring())  # type: ignore[no-any-return]

    return make


def test_an_operator_of_the_tasks_own_needs_a_form_in_torchs(
    make_mirroring: Any, tmp_path: Path
) -> None:
    with pytest.raises(
        ExportError, match=r"visiongraft_pt2_tests::mirrored.*ExportSupport.operators\['pt2'"
    ):
        Pt2Exporter().export(make_mirroring({}), tmp_path / "x.pt2", None)
    operator = torch.ops.visiongraft_pt2_tests.mirrored.default
    sound = make_mirroring({operator: lambda maps: maps.flip(-1)})
    Pt2Exporter().export(sound, tmp_path / "x.pt2", None)


@pytest.mark.exhaustive  # another fault that the comparison finds
def test_a_wrong_form_of_an_operator_is_caught(make_mirroring: Any, tmp_path: Path) -> None:
    operator = torch.ops.visiongraft_pt2_tests.mirrored.default
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        wrong = make_mirroring({operator: lambda maps: maps.clone()})
        Pt2Exporter().export(wrong, tmp_path / "x.pt2", None)


# ---- opening, and checking again ----


def test_the_suffix_opens_the_file(program_file: Any, images: list[Any]) -> None:
    opened = open_exported(program_file.path)
    assert isinstance(opened, Pt2Predictor)
    assert (opened.task, opened.class_names[0], opened.precision) == ("shades", "dark", "fp32")
    found = opened.predict([images[0], images[1]])
    expected = program_file.model.inference_graph()(torch.tensor(images[0][None]))
    np.testing.assert_allclose(
        found[0]["probabilities"], expected["probabilities"][0].detach().numpy(), rtol=1e-5
    )


LOADED = """
import sys
from visiongraft.exporters.pt2.runtime import Pt2Predictor
predictor = Pt2Predictor(sys.argv[1])
import numpy as np
predictor.run(np.zeros((1, 20, 20, 3), np.uint8))
assert "torch" in sys.modules
print([name for name in sys.modules if name.startswith(("timm", "visiongraft.plugins", "onnx"))])
print([name for name in ("visiongraft.network", "visiongraft.preprocess") if name in sys.modules])
"""


def test_the_file_needs_none_of_the_models_code(program_file: Any) -> None:
    command = [sys.executable, "-c", LOADED, str(program_file.path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")


def test_without_torch_the_file_is_refused_in_one_line(program_file: Any) -> None:
    code = "import sys; sys.modules['torch'] = None; from visiongraft.cli import main; "
    words = [sys.executable, "-c", f"{code}sys.exit(main(sys.argv[1:]))", "predict"]
    words += [str(program_file.path), "a.png"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs PyTorch" in done.stderr and "Traceback" not in done.stderr


def test_arrays_that_do_not_fit_and_unknown_devices_are_one_line(program_file: Any) -> None:
    with pytest.raises(Exception, match=r"takes uint8 \(images, any, any, 3\), not float64"):
        Pt2Predictor(program_file.path).run(np.zeros((1, 20, 20, 3)))
    with pytest.raises(OptionError, match="runs on cpu or cuda, not 'cude'; did you mean 'cuda'"):
        Pt2Predictor(program_file.path, "cude")


@pytest.fixture
def copied(program_file: Any, tmp_path: Path) -> Path:
    """A copy of the file and its certificate."""
    for path in program_file.path.parent.iterdir():
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / "shades.pt2"


def test_the_file_is_checked_again_by_the_command(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(copied), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check["passed"] for check in answer["checks"]}
    assert checks["content"] and checks["certificate"] and checks["random images"]
    beside = copied.with_name("shades.pt2.certificate.json")
    beside.write_text(beside.read_text().replace('"mismatches": 0', '"mismatches": 1', 1))
    assert main(["verify", str(copied)]) == 1
    assert "is the certificate of another file" in capsys.readouterr().out


def test_a_flipped_or_missing_byte_is_one_line(copied: Path) -> None:
    content = copied.read_bytes()
    with zipfile.ZipFile(copied) as archive:
        held = [(entry.header_offset, entry.file_size) for entry in archive.infolist()]
        starts = [
            content.index(archive.read(entry), entry.header_offset) for entry in archive.infolist()
        ]
    random = np.random.default_rng(0)
    inside = [
        s + int(random.integers(size)) for s, (_, size) in zip(starts, held, strict=True) if size
    ]
    anywhere = random.integers(len(content) * 9 // 10, len(content), 30).tolist()
    for position in (*inside, *anywhere):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(random.integers(8))
        copied.write_bytes(damaged)
        try:
            opened = Pt2Predictor(copied)
        except ArtifactError as error:
            assert "\n" not in str(error)
        else:  # what fills the gaps between records, and their dates
            assert position not in inside
            assert opened.content_sha256() == opened.metadata["certificate"]["content_sha256"]
    for length in (0, 10, len(content) // 2, len(content) - 1):
        copied.write_bytes(content[:length])
        with pytest.raises(ArtifactError, match="cannot be loaded"):
            Pt2Predictor(copied)


def test_a_file_that_was_written_again_is_seen_by_verify(copied: Path) -> None:
    with zipfile.ZipFile(copied) as archive:
        records = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    (name,) = (name for name in records if name.endswith("extra/metadata.json"))
    for altered in (False, True):
        with zipfile.ZipFile(copied, "w") as archive:
            for record, held in records.items():
                fit = held.replace(b"dark", b"murk") if altered and record == name else held
                archive.writestr(record, fit)
        content = next(c for c in recheck(copied).checks if c.name == "content")
        assert content.passed is not altered


def test_an_endless_loop_is_stopped(program_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_and_on(images: torch.Tensor) -> Any:
        count = torch.zeros(())
        return torch.ops.higher_order.while_loop(
            lambda c: c >= 0, lambda c: (c * 1.0,), (count,), ()
        )

    opened = Pt2Predictor(program_file.path, time_limit=0.3)
    images = np.zeros((1, 40, 40, 3), np.uint8)
    assert opened.run(images).keys() == Pt2Predictor(program_file.path).run(images).keys()
    monkeypatch.setattr(opened, "_module", on_and_on)
    with pytest.raises(VisiongraftError, match=r"was stopped on .* after 0\.3 seconds") as caught:
        opened.run(images)
    assert "\n" not in str(caught.value)


def test_tensors_that_no_result_depends_on_are_left_out(tmp_path: Path) -> None:
    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.unused = nn.Parameter(torch.ones(2)), nn.Linear(2, 2)
            self.register_buffer("steps", torch.zeros(3))

        def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scaled": values * self.scale}

    program = torch.export.export(Watching(), (torch.ones(4, 2),))
    _drop_unused(program, kept=("steps",))
    assert set(program.state_dict) == {"scale", "steps"}
    torch.testing.assert_close(program.module()(torch.ones(4, 2))["scaled"], torch.ones(4, 2))
    torch.export.save(program, tmp_path / "p.pt2")
    again = torch.export.load(tmp_path / "p.pt2")
    assert set(again.state_dict) == {"scale", "steps"}
