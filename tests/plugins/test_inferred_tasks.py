"""Which task ``fit`` takes for a dataset if the user names none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visiongraft
from visiongraft.errors import OptionError
from visiongraft.lookup.tasks import infer_task
from visiongraft.registry.manager import PluginManager, plugins, using

TOY: dict[str, Any] = {
    "backbone": "simple_cnn",
    "weights": None,
    "size": 32,
    "epochs": 1,
    "schedule": "full",
    "device": "cpu",
}


@pytest.fixture(autouse=True, scope="module")
def installed() -> Iterator[None]:
    """Use the installed plugins, without the tasks that other tests register."""
    with using(PluginManager()):
        yield


def example(task: str, folder: Path) -> Any:
    return plugins().get("task", task)().examples().make_dataset(folder, 12, 0)


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_the_example_of_a_task_is_claimed_by_this_task_alone(task: str, tmp_path: Path) -> None:
    assert infer_task(example(task, tmp_path)).name == task


def test_folders_of_videos_are_claimed_by_the_task_for_videos(tmp_path: Path) -> None:
    for number in range(8):
        file = tmp_path / "ab"[number % 2] / f"{number}.mp4"
        file.parent.mkdir(exist_ok=True)
        file.touch()  # a task decodes nothing to claim data
    assert infer_task(tmp_path).name == "video"


def test_folders_of_identities_are_classes_unless_files_of_a_face_dataset_lie_beside_them(
    tmp_path: Path,
) -> None:
    data = example("face_embedding", tmp_path)
    assert infer_task(data).name == "classification"
    (tmp_path / "people.txt").write_text("0\n")
    with pytest.raises(OptionError, match="one of classification, face_embedding; each of these"):
        infer_task(tmp_path)  # although the list is damaged: it has no people
    (tmp_path / "people.txt").unlink()
    assert infer_task(tmp_path).name == "classification"


def test_two_folders_of_pairs_are_claimed_by_translation_and_images_side_by_side_are_not(
    tmp_path: Path,
) -> None:
    for side in ("A", "B"):
        for number in range(8):
            file = tmp_path / "pairs" / side / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    translation = plugins().get("task", "translation")()
    assert translation.claims(tmp_path / "pairs")
    assert not translation.claims(tmp_path / "pairs" / "A")


def test_images_and_labels_in_memory_are_claimed() -> None:
    data = [(np.zeros((8, 8, 3), np.uint8), name) for name in "ab" * 6]
    assert infer_task(data).name == "classification"


def test_what_no_task_claims_is_refused_with_all_tasks(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OptionError, match=r"one of classification, .*; none of them claims "):
        infer_task(tmp_path)


def test_fit_takes_the_task_that_claims_the_data_and_prints_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = visiongraft.fit(example("classification", tmp_path), **TOY)
    assert model.task.name == "classification"
    assert "task: classification, the only one that claims the data" in capsys.readouterr().err
