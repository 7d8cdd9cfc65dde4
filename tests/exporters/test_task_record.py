"""What a file records about the functions of its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from visiongraft.errors import ArtifactError
from visiongraft.exporters.task_record import functions_of
from visiongraft.lookup.tasks import find_exported_task
from visiongraft.plugins.classification.task import Classification
from visiongraft.saving.classes import class_path
from visiongraft.task import Arrays, Task

NAMES: dict[str, Any] = {"class_names": ("cat", "cup"), "multi_label": False}


@dataclass(frozen=True)
class Reversed(Classification):
    """Predicts other classes than the task that it extends, under the same name."""

    def predictions(self, decoded: Arrays) -> list[Any]:
        return super().predictions({**decoded, "labels": 1 - decoded["labels"]})


@dataclass(frozen=True)
class Wider(Classification):
    """Differs from the task that it extends in nothing that decodes."""

    extra: int = 0


@pytest.mark.parametrize("kind", [Classification, Wider])
def test_methods_that_are_inherited_are_those_of_the_distribution(kind: type[Any]) -> None:
    found = functions_of(kind(**NAMES))
    path = class_path(Classification.predictions)
    assert found["predictions"] == {"method": path, "distribution": "visiongraft", "others": []}
    assert found["draw"]["distribution"] == "visiongraft"
    assert found["draw"]["method"] == class_path(Task.draw)


def test_a_method_of_its_own_is_no_installed_function() -> None:
    found = functions_of(Reversed(**NAMES))
    method = f"{__name__}:Reversed.predictions"
    assert found["predictions"] == {
        "method": method,
        "distribution": None,
        "others": ["visiongraft"],
    }
    assert found["draw"]["distribution"] == "visiongraft"


def test_a_task_of_a_name_that_nobody_has_records_its_methods_alone(exported: Any) -> None:
    found = functions_of(exported.model.task)["predictions"]
    assert found["method"].endswith(":Shades.predictions")
    assert (found["distribution"], found["others"]) == (None, [])


def described(kind: type[Any]) -> dict[str, Any]:
    options = {**NAMES, "class_names": list(NAMES["class_names"])}
    return {"task": kind.name, "task_class": class_path(kind), "task_options": options}


def test_a_file_of_a_subclass_is_not_measured_as_the_task_that_it_extends() -> None:
    assert find_exported_task(described(Classification)) == Classification(**NAMES)
    with pytest.raises(
        ArtifactError, match=r":Reversed, but task 'classification' is visiongraft\."
    ) as e:
        find_exported_task(described(Reversed))
    assert "use --plugin FILE.py with that class and --no-plugin for the other" in str(e.value)


def test_a_file_that_records_no_class_is_measured_by_the_name_of_its_task() -> None:
    old = described(Classification)
    del old["task_class"]
    assert find_exported_task(old) == Classification(**NAMES)
