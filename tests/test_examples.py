"""Installs each example distribution into a fresh environment and runs it there."""

from __future__ import annotations

import ast
import json
import os
import runpy
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from visiongraft.saving.weights import load_weights
from visiongraft.testing import check_backbone

ROOT = Path(__file__).parents[1]
KEYPOINTS = ROOT / "examples" / "plugins" / "visiongraft-keypoints"

FASTESTDET = ROOT / "examples" / "plugins" / "fastestdet.py"
DETECTOR = ("obj_layers", "reg_layers", "cls_layers")

Run = Callable[..., str]


def lines_of_code(path: Path) -> int:
    """Count the lines that are neither blank, nor a comment, nor part of a docstring."""
    text = path.read_text(encoding="utf-8")
    documented = ast.Module, ast.ClassDef, ast.FunctionDef
    callbacks: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            callbacks |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        bool(line.strip()) and line.strip()[0] != "#" and n not in callbacks for n, line in lines
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment that sees what is installed here, and install the example into it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", symlinks=True)
    [packages] = (folder / "venv").glob("lib/python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "shared.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copytree(KEYPOINTS, folder / "example")
    python = folder / "venv" / "bin" / "python"
    install = ["pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    install += ["--no-build-isolation", str(folder / "example")]
    subprocess.run([sys.executable, "-m", *install], check=True)
    return folder


@pytest.fixture
def run(environment: Path) -> Run:
    """Run Python there, outside the checkout."""

    def call(*words: object) -> str:
        python = environment / "venv" / "bin" / "python"
        done = subprocess.run(
            [str(python), *map(str, words)],
            cwd=environment,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # small networks; other tests run beside
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_the_keypoints_example_has_less_than_200_lines_of_code() -> None:
    assert sum(lines_of_code(path) for path in (KEYPOINTS / "src").rglob("*.py")) < 200


@pytest.mark.exhaustive
def test_the_keypoints_example_passes_its_own_tests(run: Run) -> None:
    assert " passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "example")


@pytest.mark.slow
def test_the_keypoints_example_is_listed(run: Run) -> None:
    records = json.loads(run("-m", "visiongraft", "plugins", "--json"))["plugins"]
    [record] = [each for each in records if each["distribution"] == "visiongraft-keypoints"]
    assert record["provides"] == {"task": ["keypoints"]}
    assert record["problems"] == []


@pytest.mark.exhaustive
def test_the_keypoints_example_works_on_the_command_line(run: Run, environment: Path) -> None:
    draw = "from pathlib import Path; from visiongraft_keypoints.data import draw_kites\n"
    run("-c", f"{draw}draw_kites(Path('kites'), 48, 0)")
    words = ["fit", "kites", "--task", "keypoints", "--set", "radius=0.2", "--out", "run"]
    words += ["--backbone", "timm/test_resnet", "--weights", "none", "--size", "64"]
    words += ["--schedule", "full", "--epochs", "1", "--batch-size", "16"]
    run("-m", "visiongraft", *words)
    run("-m", "visiongraft", "export", "run", "kites.onnx")

    def answer(*command: str) -> Any:
        return json.loads(run("-m", "visiongraft", *command, "--json"))

    from_torch = answer("evaluate", "run", "kites")
    from_file = answer("evaluate", "kites.onnx", "kites")
    assert from_file["right"] == from_torch["right"]
    predictions = answer("predict", "run", "kites", "--out", "drawn")["predictions"]
    assert list(predictions[0]["points"]) == ["tip", "right", "tail", "left"]
    assert len(list((environment / "drawn").glob("*.jpg"))) == 48


def test_the_fastestdet_example_takes_the_tensors_of_its_checkpoint(tmp_path: Path) -> None:
    """A random checkpoint with the names of the published one fits completely, detector aside."""
    example = runpy.run_path(str(FASTESTDET))
    assert lines_of_code(FASTESTDET) < 130
    [source] = example["register_backbones"]()
    torch.manual_seed(0)
    published = dict(source.build("fastestdet", pretrained=False).state_dict())
    assert len(published) == 378  # as in the published file, its last layers aside
    published |= {f"detect_head.{name}.0.weight": torch.zeros(1) for name in DETECTOR}
    torch.save(published, tmp_path / "fastestdet.pth")
    backbone = source.build("fastestdet", pretrained=False, size=(64, 96)).eval()
    load_weights(backbone, tmp_path / "fastestdet.pth")
    assert torch.equal(backbone.state_dict()["SPP.S3.6.weight"], published["SPP.S3.6.weight"])
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 64, 96)).maps
    shapes = [(48, 8, 12), (96, 4, 6), (192, 2, 3)]
    assert [tuple(each.shape[1:]) for each in maps] == shapes
    assert backbone.stages == ("stem", "stage1", "stage2", "stage3", "stage4")


@pytest.mark.exhaustive
def test_the_fastestdet_example_passes_the_kit() -> None:
    check_backbone(runpy.run_path(str(FASTESTDET))["register_backbones"]()[0])
