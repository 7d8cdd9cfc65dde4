"""`lr-find`, `--batch-size auto` and `--budget` on the command line, with every task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visiongraft.cli import main
from visiongraft.registry.manager import plugins
from visiongraft.tuning import time_budget

MULTI = "several heads"
SETTINGS = {  # small networks, and metrics without a large one
    "detection": ["--set", "head=fcos", "--set", "width=32"],
    "generation": ["--set", "features=bundled/efficientnet_lite0", "--set", "features_size=32"],
    "unpaired_translation": ["--set", "features_size=32"],
    "video": ["--set", "frames=2"],
}
TASKS = (
    "classification",
    "detection",
    "face_embedding",
    "generation",
    "retrieval",
    "segmentation",
    "translation",
    "unpaired_translation",
    "video",
    MULTI,
)


def write_data(task: str, folder: Path) -> list[str]:
    """Write the example dataset of a task as files; return DATA and --task."""
    if task == MULTI:
        kind = plugins().get("task", "classification")().examples()
        mask = plugins().get("task", "segmentation")().examples()
        paths = {
            "kind": kind.make_dataset(folder / "kinds", 24, 0),
            "mask": mask.make_dataset(folder / "masks", 24, 0),
        }
        lines = [f"{head} = {json.dumps(str(path))}" for head, path in paths.items()]
        (folder / "data.toml").write_text("\n".join(lines))
        (folder / "heads.toml").write_text(
            '[heads]\nkind = "classification"\nmask = "segmentation(channels=8)"\n'
        )
        return [str(folder / "data.toml"), "--task", str(folder / "heads.toml")]
    data = plugins().get("task", task)().examples().make_dataset(folder, 24, 0)
    if isinstance(data, list):  # in memory
        write_samples(data, folder)
        data = folder
    return [str(data), "--task", task, *SETTINGS.get(task, [])]


def write_samples(samples: list[Any], folder: Path) -> None:
    """Write images (H, W, C), or labeled clips (T, H, W, C) as folders of frames in folders of classes."""
    for number, sample in enumerate(samples):
        files = {folder / f"{number}.png": sample}
        if isinstance(sample, tuple):
            clip, name = sample
            files = {folder / name / str(number) / f"{i:02}.png": f for i, f in enumerate(clip)}
        for path, pixels in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.fixture(
    scope="module",
    params=["classification", *(pytest.param(t, marks=pytest.mark.exhaustive) for t in TASKS[1:])],
)
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """DATA and settings of short runs of a small network on the examples of a task."""
    folder: Path = tmp_path_factory.mktemp("data")
    made = write_data(request.param, folder)
    network = ["--backbone", "simple_cnn", "--weights", "none", "--size", "32", "--device", "cpu"]
    return [*made, *network, "--schedule", "full"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command; return its exit code and all that it printed."""

    def run(*words: str) -> tuple[int, str]:
        code = main(list(words))
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def test_lr_find_sweeps_the_rate(given: list[str], run: Any, tmp_path: Path) -> None:
    plot = tmp_path / "sweep.png"
    words = ["--batch-size", "8", "--steps", "20", "--plot", str(plot)]
    code, printed = run("lr-find", *given, *words)
    assert code == 0, printed
    assert "phase  trained  valley" in printed or "so that no rate is suggested" in printed
    assert f"plot saved to {plot}" in printed
    assert plot.is_file()


def test_the_batch_size_is_measured(given: list[str], run: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--batch-size", "auto", "--epochs", "1", "--no-report", "--out", str(out)]
    code, printed = run("fit", *given, *words)
    assert code == 0, printed
    assert f"batch size {config_of(out)['batch_size']}: " in printed


def test_a_budget_chooses_the_epochs(
    given: list[str], run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_budget, "MOST_EPOCHS", 2)
    out = tmp_path / "run"
    words = ["--batch-size", "8", "--budget", "1h", "--no-report", "--out", str(out)]
    code, printed = run("fit", *given, *words)
    assert code == 0, printed
    assert config_of(out)["epochs"] == 2
    assert "budget 1 h: 2 epochs on this machine, the most that a budget plans" in printed


def test_a_budget_that_is_too_short_is_refused_in_one_line(
    given: list[str], run: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, printed = run("fit", *given, "--batch-size", "8", "--budget", "0.01s", "--out", str(out))
    assert code == 2
    assert not out.exists()
    refusals = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(refusals) == 1
    assert refusals[0].startswith("error: budget=0.01 s is too short: one epoch takes ")
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "--budget", "3parsecs"], "budget='3parsecs'"),
        (["fit", "--budget", "-5s"], "budget='-5s'"),
        (["fit", "--budget", "0s"], "budget="),
        (["fit", "--budget", "nan"], "budget='nan'"),
        (["fit", "--budget", "1min", "--epochs", "3"], "epochs"),
        (["fit", "--batch-size", "many"], "many"),
        (["fit", "--batch-size", "0"], "batch_size"),
        (["fit", "--batch-size", "2.5"], "2.5"),
        (["lr-find", "--steps", "2"], "steps=2"),
        (["lr-find", "--lowest", "3", "--highest", "1"], "lowest=3.0 and highest=1.0"),
        (["lr-find", "--lowest", "nan"], "lowest=nan"),
        (["lr-find", "--phase", "7"], "phase"),
        (["lr-find", "--schedule", "auto"], "schedule='auto'"),
    ],
    ids=" ".join,
)
def test_nonsense_is_refused_in_one_line(
    words: list[str], says: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_data("classification", tmp_path / "data")
    network = ["--backbone", "simple_cnn", "--weights", "none", "--size", "32"]
    code, printed = run(words[0], *data, *network, *words[1:])
    assert code == 2, printed
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert says in line
    assert "Traceback" not in printed
    assert not list((tmp_path / "runs").glob("*/config.json"))
