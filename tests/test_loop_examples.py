"""The examples that train with the loops of other libraries run, freeze, and export what they trained."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from visiongraft.plugins.classification.example import write_folder

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("example", "library"),
    [("lightning_classifier.py", "lightning"), ("transformers_trainer.py", "transformers")],
)
def test_the_loop_of_another_library_trains_proves_and_exports(
    example: str, library: str, tmp_path: Path
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    for split, seed in (("train", 0), ("val", 1)):
        write_folder(tmp_path / "data" / split, 12, seed, ())
    command = [sys.executable, str(EXAMPLES / example), "data", "--out", "model.onnx"]
    command += ["--backbone", "simple_cnn", "--weights", "none", "--size", "32", "--epochs", "2"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "phase 1: " in done.stdout
    assert "phase 2: " in done.stdout
    assert "frozen tensors unchanged" in done.stdout
    assert "model.onnx: relative differences at most" in done.stdout
    assert (tmp_path / "model.onnx").is_file()
