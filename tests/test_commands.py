"""The whole way on the command line, with built-in plugins: classification and ONNX."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from visiongraft.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and export once: cut-outs of a cat and of a cup, classified by a small network."""
    folder = tmp_path_factory.mktemp("whole-way")
    generator = np.random.default_rng(0)
    for label, photo in {"cat": data.chelsea(), "cup": data.coffee()}.items():
        for part, count in (("train", 12), ("val", 4), ("test", 4)):
            target = folder / "photos" / part / label
            target.mkdir(parents=True)
            for number in range(count):
                top, left = (int(generator.integers(0, n - 64)) for n in photo.shape[:2])
                cut = photo[top : top + 64, left : left + 64]
                Image.fromarray(cut).save(target / f"{number}.png")
    words = ["fit", folder / "photos", "--task", "classification", "--out", folder / "run"]
    words += ["--backbone", "simple_cnn", "--weights", "none", "--schedule", "full"]
    words += ["--epochs", 4, "--size", 32, "--device", "cpu", "--batch-size", 8]
    words += ["--set", "augment=none", "--set", "dropout=0.1"]
    assert main([str(word) for word in words]) == 0
    words = ["export", folder / "run", folder / "model.onnx", "--triton", folder / "models"]
    assert main([str(word) for word in words]) == 0
    return folder


def test_the_built_in_plugins_are_sound(run: Run) -> None:
    code, out, err = run("plugins")
    assert (code, err) == (0, "")
    assert "problem" not in out


def test_backbones_of_all_sources_are_listed(run: Run) -> None:
    names = json.loads(run("backbones", "--json")[1])["backbones"]
    assert {"simple_cnn", "bundled/efficientnet_lite0"} <= set(names)
    assert {"timm/resnet50", "torchvision/resnet50"} <= set(names)
    assert set(run("backbones", "--all")[1].split()) == set(names)
    code, _, err = run("backbones", "resnett50")
    assert code == 2
    assert "did you mean" in err


def test_recommended_backbones_are_listed_with_published_facts(run: Run) -> None:
    code, out, _ = run("backbones")
    assert code == 0
    assert "visiongraft backbones --all" in out.splitlines()[-1]
    known = {
        each["name"]: each for each in json.loads(run("backbones", "--json")[1])["recommended"]
    }
    assert 15 <= len(known) <= 25
    lite = known["bundled/efficientnet_lite0"]
    assert (lite["parameters"], lite["accuracy"], lite["offline"]) == (4.7, 0.751, True)
    assert known["torchvision/resnet50"]["gmacs"] == 4.089
    assert known["timm/convnextv2_tiny.fcmae_ft_in1k"]["license"] == "cc-by-nc-4.0"
    assert all(0.6 < each["accuracy"] < 0.9 and each["source"] for each in known.values())


def test_recommended_backbones_are_measured_on_request(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visiongraft.plugins.backbones.torchvision_source import TorchvisionSource

    monkeypatch.setattr(TorchvisionSource, "recommended", lambda self: [])
    monkeypatch.setattr("visiongraft.plugins.backbones.timm_source.RECOMMENDED", {})
    code, out, _ = run("backbones", "--measure", "--json")
    (lite,) = json.loads(out)["recommended"]
    assert code == 0 and lite["cpu_ms"] > 0
    code, _, err = run("backbones", "--measure", "--all")
    assert code == 2 and "omit --all and PATTERN" in err


def test_the_certificate_is_written_beside_the_file(exported: Path) -> None:
    certificate = json.loads((exported / "model.onnx.certificate.json").read_text())
    assert certificate["mismatches"] == 0
    assert certificate["difference"] <= certificate["tolerance"]
    assert {one["inputs"] for one in certificate["comparisons"]} == {"random", "real", "plain"}


def test_model_folder_and_onnx_file_measure_alike(run: Run, exported: Path) -> None:
    photos = exported / "photos"
    code, out, _ = run("evaluate", exported / "run", photos, "--json")
    from_torch = json.loads(out)
    assert code == 0
    assert from_torch["images"] == 8
    code, out, _ = run("evaluate", exported / "model.onnx", photos, "--json")
    from_file = json.loads(out)
    assert code == 0
    assert from_file["accuracy"] == from_torch["accuracy"]
    assert from_file["images"] == 8


def test_model_folder_and_onnx_file_predict_alike(run: Run, exported: Path, tmp_path: Path) -> None:
    photos = exported / "photos" / "test"
    from_torch = json.loads(run("predict", exported / "run", photos, "--json")[1])["predictions"]
    code, out, _ = run("predict", exported / "model.onnx", photos, "--json", "--out", tmp_path)
    from_file = json.loads(out)["predictions"]
    assert code == 0
    assert json.loads((tmp_path / "predictions.json").read_text()) == from_file
    assert [p["image"] for p in from_file] == [p["image"] for p in from_torch]
    assert [p["label"] for p in from_file] == [p["label"] for p in from_torch]
    for ours, theirs in zip(from_file, from_torch, strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)


def test_a_file_is_put_into_a_triton_repository_when_exported_and_later(
    run: Run, exported: Path, tmp_path: Path
) -> None:
    models, file = exported / "models", exported / "model.onnx"
    served = models / "model" / "1" / "model.onnx"
    assert served.read_bytes() == file.read_bytes()
    assert 'name: "model"' in (models / "model" / "config.pbtxt").read_text()
    message = f"{served} was already the latest version of model model\n"
    assert run("triton", file, models) == (0, message, "")
    other = tmp_path / "photos.onnx"
    other.write_bytes(file.read_bytes())
    code, out, _ = run("triton", other, models, "--json")
    assert code == 0
    path = str(models / "photos" / "1" / "model.onnx")
    assert json.loads(out) == {"model": "photos", "version": 1, "path": path, "added": True}
    code, out, err = run("triton", exported / "photos", models)
    assert (code, out, err) == (2, "", f"error: {exported / 'photos'} is a folder\n")
    code, _, err = run("export", exported / "run", file, "--tritn", models)
    assert code == 2
    assert "the onnx exporter has no option 'tritn'; did you mean 'triton'?" in err


def test_predicting_with_the_file_loads_no_torch(exported: Path) -> None:
    code = (
        "import sys; from visiongraft.cli import main\n"
        "assert main(['predict', *sys.argv[1:]]) == 0\n"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    photos = exported / "photos" / "test"
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported / "model.onnx"), str(photos)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert all(": label c" in line and ", score 0." in line for line in lines)


def test_a_gpu_that_is_not_there_is_refused_and_never_replaced_by_the_cpu(
    run: Run, exported: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    photos = exported / "photos" / "test"
    code, out, err = run("predict", exported / "model.onnx", photos, "--provider", "cuda")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "cuda" in err.lower()


def test_a_damaged_file_is_one_line(run: Run, exported: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((exported / "model.onnx").read_bytes()[:1000])
    code, out, err = run("predict", broken, exported / "photos" / "test")
    assert (code, out) == (2, "")
    assert "broken.onnx" in err
    assert err.count("\n") == 1


def test_another_suffix_names_those_that_can_be_exported(run: Run, exported: Path) -> None:
    code, _, err = run("export", exported / "run", exported / "model.onx")
    assert code in (1, 2)
    assert ".onnx" in err


def test_predictions_of_model_and_file_are_drawn_alike(
    run: Run, exported: Path, tmp_path: Path
) -> None:
    images = sorted((exported / "photos" / "test" / "cat").iterdir())[:2]
    for model, folder in (("run", "from-model"), ("model.onnx", "from-file")):
        code, _, err = run("predict", exported / model, *images, "--out", tmp_path / folder)
        assert (code, err) == (0, "")
    names = [file.name for file in sorted((tmp_path / "from-file").iterdir())]
    assert names == ["00000-0.jpg", "00001-1.jpg", "predictions.json"]
    assert names == [file.name for file in sorted((tmp_path / "from-model").iterdir())]
    for name in names[:2]:
        drawn = [
            np.asarray(Image.open(tmp_path / f / name), float) for f in ("from-model", "from-file")
        ]
        assert np.abs(drawn[0] - drawn[1]).max() < 5  # the same but for rounding and JPEG
        assert drawn[1].shape[0] > 64


def test_a_file_is_measured_against_the_model_it_came_from(run: Run, exported: Path) -> None:
    words = ["--data", exported / "photos", "--batch", 2, "--threads", 1, "--seconds", 0]
    code, out, err = run("bench", exported / "model.onnx", *words)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("model.onnx  cpu")
