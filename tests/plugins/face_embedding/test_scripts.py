"""The example and the benchmark run from start to end on drawn heads."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from visiongraft.plugins.face_embedding.example import write_folder

ROOT = Path(__file__).parents[3]
QUICK = ["--backbone", "simple_cnn", "--weights", "none", "--epochs", "2"]
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


def test_the_people_of_one_set_are_divided_without_common_ones(people: Path) -> None:
    source, target = script("examples/source_to_target.py").divided(str(people))
    assert len(source) == len(target) == 24
    assert not set(source.targets) & set(target.targets)
    image, name = source[5]
    assert image.ndim == 3
    assert name == source.targets[5]


@pytest.mark.slow
def test_the_story_of_source_and_target_prints_three_numbers(
    people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = script("examples/source_to_target.py")
    found = story.main([str(people), *QUICK, "--size", "32", "--tuned", FULL])
    assert set(found) == {"from nothing", "from ImageNet", "from the source"}
    assert all(0 <= value <= 1 for value in found.values())
    said = capsys.readouterr().out
    assert said.count("verification accuracy") == 3
    assert "source task: verification_accuracy" in said


@pytest.mark.slow
def test_the_benchmark_prints_before_and_after(
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
    said = capsys.readouterr().out
    assert "untrained embedding" in said
    assert "fine-tuned, last epoch" in said
    assert (tmp_path / "roc.png").is_file()
