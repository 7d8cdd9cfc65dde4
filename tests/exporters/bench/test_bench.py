"""Benchmarks of files side by side, and the command for them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visiongraft.cli import main
from visiongraft.errors import DataError, OptionError, RuntimeProviderError
from visiongraft.exporters.bench import measure as measuring
from visiongraft.exporters.bench.images import BenchImages
from visiongraft.exporters.bench.measure import Report, measure
from visiongraft.exporters.runtime.description import InputSpec

ANY = InputSpec("images", "uint8", "uint8", 3, None, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: list[Any]) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "photos"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def report(exported: Any, folder: Path) -> Report:
    second = folder.parent / "other.onnx"
    shutil.copy(exported.path, second)
    return measure([exported.path, second], data=folder, batches=(1, 3), threads=1, seconds=0.05)


def test_each_file_is_measured_at_each_batch_size(report: Report) -> None:
    rows = [(row.name, row.batch) for row in report.measured]
    assert rows == [("shades.onnx", 1), ("other.onnx", 1), ("shades.onnx", 3), ("other.onnx", 3)]
    for row in report.measured:
        assert (row.provider, row.precision) == ("cpu", "fp32")
        assert 0 < row.p50 <= row.p90 <= row.p99
        assert row.images_per_second == pytest.approx(1000 * row.batch / row.p50)
        assert row.runs >= 5
        assert row.megabytes == pytest.approx(0.09, abs=0.05)
    for first, other in (report.measured[:2], report.measured[2:]):
        assert first.speed == 1.0
        assert other.speed == pytest.approx(first.p50 / other.p50)


def test_the_report_contains_machine_versions_and_images(report: Report, images: list[Any]) -> None:
    assert report.machine["threads"] == 1
    assert report.machine["cpu"]
    assert {"visiongraft", "numpy"} <= report.versions.keys()
    assert "torch" not in report.versions
    assert report.images["source"] == "3 of photos"
    text = "\n".join(report.lines())
    assert f"{report.images['height']}x{report.images['width']} pixels" in text
    assert "threads per run: 1" in text
    assert [len(row) for row in report.rows()] == [len(report.COLUMNS)] * 4
    json.dumps(asdict(report))


def test_a_slower_file_is_slower(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowed(self: Any, images: Any) -> Any:
        if self.path.name == "slow.onnx":
            run(self, images)
            run(self, images)
        return run(self, images)

    run = measuring.Predictor.run
    slow = tmp_path / "slow.onnx"
    shutil.copy(exported.path, slow)
    monkeypatch.setattr(measuring.Predictor, "run", slowed)
    found = measure([exported.path, slow], batches=(2,), threads=1, seconds=0.3)
    assert found.measured[1].speed < 0.7


def test_files_of_the_same_name_are_distinguished(exported: Any, tmp_path: Path) -> None:
    second = tmp_path / exported.path.name
    shutil.copy(exported.path, second)
    found = measure([exported.path, second], batches=(1,), seconds=0.0)
    assert [row.name for row in found.measured] == [str(exported.path), str(second)]


def test_what_cannot_run_here_is_an_error(exported: Any) -> None:
    from visiongraft.exporters.doctor.chain import examine

    _, (diagnosis,) = examine(["cuda"])
    if diagnosis.works:
        assert measure([exported.path], providers=("cuda",), seconds=0.0).measured
        return
    with pytest.raises(RuntimeProviderError, match="CUDAExecutionProvider was requested"):
        measure([exported.path], providers=("cpu", "cuda"), seconds=0.0)


def test_what_fails_is_left_out_and_reported(
    exported: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(self: Any, images: Any) -> Any:
        if self.path.name == "broken.onnx":
            raise RuntimeError("no\nmemory")
        return run(self, images)

    run = measuring.Predictor.run
    shutil.copy(exported.path, tmp_path / "broken.onnx")
    monkeypatch.setattr(measuring.Predictor, "run", broken)
    found = measure([tmp_path / "broken.onnx", exported.path], seconds=0.0)
    assert [row.name for row in found.measured] == ["shades.onnx"] * 2
    assert found.left_out == ("broken.onnx: RuntimeError: no memory",)
    assert "left out: broken.onnx: RuntimeError: no memory" in found.lines()
    with pytest.raises(OptionError, match=r"nothing could be measured: broken\.onnx"):
        measure([tmp_path / "broken.onnx"], seconds=0.0)


# ---- PyTorch ----


def test_eager_and_compiled_pytorch_are_measured_too(
    exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(graph: Any, **options: Any) -> Any:  # the real compiler takes half a minute
        assert options == {"dynamic": False}
        seen.append(graph)
        return graph

    seen: list[Any] = []
    monkeypatch.setattr("visiongraft.model.load", lambda folder: exported.model)
    monkeypatch.setattr(torch, "compile", compiled)
    before = torch.get_num_threads()
    found = measure([exported.path], batches=(2,), threads=1, model=Path("run"), seconds=0.0)
    names = [row.name for row in found.measured]
    assert names == ["shades.onnx", "PyTorch eager", "torch.compile"]
    assert found.measured[1].megabytes is None
    assert "torch" in found.versions
    assert len(seen) == 1
    assert torch.get_num_threads() == before


# ---- images ----


def test_images_of_several_sizes_are_cut_to_their_middle(folder: Path, images: list[Any]) -> None:
    found = BenchImages.of(folder, 100)
    height, width = (min(p.shape[axis] for p in images) for axis in (0, 1))
    assert found.images.shape == (len(images), height, width, 3)
    top = (images[2].shape[0] - height) // 2
    left = (images[2].shape[1] - width) // 2
    middle = images[2][top : top + height, left : left + width]
    np.testing.assert_array_equal(found.images[2], middle)
    assert BenchImages.of(folder, 2).images.shape[0] == 2


def test_a_batch_has_the_type_and_shape_that_the_file_takes() -> None:
    found = BenchImages.of(None, 3)
    assert (found.height, found.width) == (480, 640)
    batch = found.batch(5, ANY, None)
    np.testing.assert_array_equal(batch[3:], found.images[:2])
    fixed = InputSpec("images", "uint8", "uint8", 1, 40, 56)
    assert fixed.accepts(found.batch(2, fixed, None))
    bare = InputSpec("images", "float", "float32", 3, None, None)
    preprocess = {"size": [32, 48], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    images = found.batch(2, bare, preprocess)
    assert images.shape == (2, 3, 32, 48)
    assert bare.accepts(images)
    gray = BenchImages("gray", np.full((1, 32, 48, 3), 51, np.uint8))
    expected = np.array([(0.2 - 0.5) / 0.2, (0.2 - 0.4) / 0.2, (0.2 - 0.3) / 0.1])
    np.testing.assert_allclose(gray.batch(1, bare, preprocess)[0, :, 5, 7], expected, rtol=1e-5)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="is not a folder of images"):
            BenchImages.of(folder, 1)


# ---- the command ----


def test_the_command_prints_a_table_and_draws(
    exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plots" / "bench.png"
    words = ["bench", exported.path, "--batch", 1, "--batch", 2, "--threads", 1]
    words += ["--seconds", 0, "--plot", plot]
    assert main([str(word) for word in words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "threads per run: 1" in lines[0]
    assert [line.split()[:3] for line in lines[-2:]] == [["shades.onnx", "cpu", "fp32"]] * 2
    assert lines[-3].split()[:3] == ["what", "provider", "precision"]
    assert Image.open(plot).size[0] > 800


def test_the_command_answers_in_json(exported: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(exported.path), "--seconds", "0", "--json"]) == 0
    values = json.loads(capfd.readouterr().out)
    assert [row["batch"] for row in values["measured"]] == [1, 8]
    assert values["machine"]["threads"] == values["machine"]["cores"]


def test_a_plot_that_cannot_be_written_is_refused(
    exported: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(exported.path), "--seconds", "0", "--batch", "1", "--plot"]
    assert main(["bench", "absent.onnx", "--plot", "x.docx"]) == 2  # before anything is opened
    assert "x.docx cannot be drawn; known types are " in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*words, str(tmp_path / "file" / "x.png")]) == 2
    assert "x.png cannot be written: " in capsys.readouterr().err
