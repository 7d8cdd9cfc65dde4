"""The example and the benchmark run end to end on drawn heads."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from visiongraft.plugins.face_embedding.example import write_folder

ROOT = Path(__file__).parents[3]
QUICK = ["--backbone", "simple_cnn", "--weights", "none", "--epochs", "1"]
FULL = "full(learning_rate=1e-3)"


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("script_under_test", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "people", 48, seed=0)


def test_source_and_target_of_one_dataset_have_no_person_in_common(people: Path) -> None:
    source, target = script("examples/source_to_target.py").divide(str(people))
    assert len(source) == len(target) == 24
    assert not set(source.targets) & set(target.targets)
    image, name = source[5]
    assert image.ndim == 3
    assert name == source.targets[5]


@pytest.mark.slow
def test_source_to_target_prints_three_accuracies(
    people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = script("examples/source_to_target.py")
    found = example.main([str(people), *QUICK, "--size", "32", "--fine-tuning", FULL])
    assert set(found) == {"from scratch", "from ImageNet", "from the source"}
    assert all(0 <= value <= 1 for value in found.values())
    printed = capsys.readouterr().out
    assert printed.count("verification accuracy") == 3
    assert "source task: verification_accuracy" in printed


@pytest.mark.slow
def test_the_benchmark_prints_the_results_before_and_after_fine_tuning(
    people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [
        "face_embedding.py",
        "--data",
        str(people),
        "--backbone",
        "simple_cnn",
        "--schedule",
        FULL,
    ]
    words += ["--epochs", "1", "--plot", str(tmp_path / "roc.png")]
    bench = script("benchmarks/face_embedding.py")
    monkeypatch.setattr(sys, "argv", [*words, "--weights", "none"])
    bench.main()
    printed = capsys.readouterr().out
    assert "untrained embedding" in printed
    assert "fine-tuned, last epoch" in printed
    assert (tmp_path / "roc.png").is_file()
