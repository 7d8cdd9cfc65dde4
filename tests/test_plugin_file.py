"""One Python file is a plugin: every command takes it, and an error mentions it where it is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, PluginError
from visiongraft.registry.manager import PluginManager

Run = Callable[..., tuple[int, str, str]]

CODE = '''
from dataclasses import dataclass

from visiongraft import hookimpl
from visiongraft.plugins.classification.task import Classification

visiongraft_api = "2.0"


@dataclass(frozen=True)
class Animals(Classification):
    """Classify animals."""

    name = "animals"


class Stopper:
    """Stops the run at its first checkpoint."""

    name = "stopper"

    @hookimpl
    def checkpoint_saved(self):
        raise KeyboardInterrupt


@hookimpl
def register_tasks():
    return [Animals]


@hookimpl
def register_callbacks():
    return [Stopper]
'''


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with photographs and a plugin file; what importing it leaves is removed."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "animals_file.py").write_text(CODE)
    generator = np.random.default_rng(0)
    for label, photo in {"cat": data.chelsea(), "cup": data.coffee()}.items():
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(10):
            top, left = (int(generator.integers(0, n - 40)) for n in photo.shape[:2])
            cut = Image.fromarray(photo[top : top + 40, left : left + 40])
            cut.save(folder / "photos" / label / f"{number}.png")
    path = [*sys.path]
    yield folder
    sys.path[:] = path
    sys.modules.pop("animals_file", None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def fit_words(workspace: Path, out: str, *more: object) -> list[object]:
    words: list[object] = [
        "fit",
        workspace / "photos",
        "--task",
        "animals",
        "--out",
        workspace / out,
    ]
    words += ["--plugin", workspace / "animals_file.py", "--backbone", "simple_cnn"]
    words += ["--weights", "none", "--size", 16, "--device", "cpu", "--epochs", 2]
    return [*words, "--batch-size", 8, "--workers", 1, *more]


@pytest.fixture(scope="module")
def trained(workspace: Path) -> Path:
    assert main([str(word) for word in fit_words(workspace, "run")]) == 0
    return workspace / "run"


def test_evaluating_and_predicting_take_the_file(run: Run, workspace: Path, trained: Path) -> None:
    plugin = ("--plugin", workspace / "animals_file.py")
    code, out, _ = run(*plugin, "evaluate", trained, workspace / "photos", "--json")
    assert (code, json.loads(out)["images"]) == (0, 20)
    code, out, _ = run("predict", trained, workspace / "photos" / "cat", *plugin)
    assert (code, len(out.splitlines())) == (0, 10)


@pytest.mark.parametrize(
    "command",
    ["evaluate {run} {photos}", "export {run} x.onnx", "fit {photos} --out {run} --resume"],
)
def test_without_the_file_each_command_explains_how_to_pass_it(
    run: Run, workspace: Path, trained: Path, command: str
) -> None:
    words = command.format(run=trained, photos=workspace / "photos").split()
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "no task 'animals'" in err
    assert "task=MyTask" in err
    assert "--plugin FILE.py" in err
    assert err.count("\n") == 1


def test_an_interrupted_run_prints_the_whole_command_that_continues_it(
    run: Run, workspace: Path
) -> None:
    code, _, err = run(*fit_words(workspace, "stopped", "--callback", "stopper"))
    hint = err.strip().rpartition("continue with: ")[2].split()
    assert code == 130
    assert hint[-2:] == ["--plugin", str(workspace / "animals_file.py")]
    code, _, err = run(*hint[1:], "--callback", "progress")  # in the place of the one that stops it
    assert code == 0, err
    assert (workspace / "stopped" / "model" / "model.safetensors").is_file()


def test_in_python_the_class_itself_loads_and_resumes(workspace: Path, trained: Path) -> None:
    with pytest.raises(PluginError, match=r"use load\(folder, task=MyTask\), on the command line"):
        visiongraft.load(trained)
    animals = PluginManager(discover=False)
    animals.register_file(workspace / "animals_file.py")
    kind = animals.get("task", "animals")
    model = visiongraft.load(trained, task=kind)
    assert model.task.class_names == ("cat", "cup")
    model.save(workspace / "saved")
    again = visiongraft.load(workspace / "saved", task=kind)
    image = workspace / "photos" / "cat" / "0.png"
    assert again.predict(image) == model.predict(image)
    finished = visiongraft.fit(out=trained, task=kind(), resume=True, callbacks=())
    assert finished.task == model.task


def test_a_class_of_another_task_is_refused(trained: Path) -> None:
    kind = PluginManager().get("task", "classification")
    with pytest.raises(ArtifactError, match="holds a model for task 'animals', not 'classificat"):
        visiongraft.load(trained, task=kind)


@pytest.mark.exhaustive  # tests/exporters/verification refuses a file of an unknown task every time
def test_an_exported_file_is_measured_with_the_file_and_predicts_without(
    run: Run, workspace: Path, trained: Path
) -> None:
    plugin = ("--plugin", workspace / "animals_file.py")
    target = workspace / "animals.onnx"
    code, _, err = run("export", trained, target, *plugin)
    assert code == 0, err
    code, out, _ = run("evaluate", target, workspace / "photos", *plugin, "--json")
    assert (code, json.loads(out)["images"]) == (0, 20)
    code, out, _ = run("predict", target, workspace / "photos" / "cat", "--json")
    assert (code, len(json.loads(out)["predictions"])) == (0, 10)
    code, _, err = run("evaluate", target, workspace / "photos")
    assert code == 2
    assert "the exported file is for a task that no installed plugin provides" in err
    assert "--plugin FILE.py" in err
