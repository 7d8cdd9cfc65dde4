"""A task that cannot do what its author meant is refused at once, with location and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import visiongraft
from visiongraft.errors import PluginError
from visiongraft.inputs import Clips
from visiongraft.task import Task
from visiongraft.task_contract.checks import check_task_class


@pytest.fixture
def make(Toy: type[Task]) -> Any:
    """Make a task class with some things changed."""

    def make(**changes: Any) -> type[Task]:
        made = type("Changed", (Toy,), changes)
        return dataclass(frozen=True)(made)

    return make


def test_sound_classes_pass(Toy: type[Task], make: Any) -> None:
    check_task_class(Toy)
    check_task_class(make())
    check_task_class(make(_decoded=1, labels_of=lambda self: 1, better="lower"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"beter": "lower"},
            "has 'beter', which is never used; rename it to 'better', or to '_bet",
        ),
        ({"better": "smaller"}, "better='smaller', which is neither 'higher' nor 'lower'"),
        ({"inputs": "clips"}, r"inputs='clips', which is not Images\(\), Clips\(\) or Latents\(\)"),
        (
            {"inputs": Clips(), "full_resolution_outputs": ("masks",)},
            "full_resolution_outputs, which are maps over images, but takes clips",
        ),
        (
            {"export_suport": lambda self: None},
            "which is never used; rename it to 'export_support'",
        ),
        ({"exampless": 1}, "rename it to 'examples'"),
        ({"full_resolution_outputss": ()}, "rename it to 'full_resolution_outputs'"),
        ({"headlines": "x"}, None),
        (
            {"read": lambda self, data: None},
            r"method read\(\) that does not take \(data, validation=..., seed=...\)",
        ),
        ({"decode": lambda self, outputs: {}}, r"decode\(\) that does not take \(outputs, sizes\)"),
        ({"__annotations__": {"name": "str"}, "name": "toy"}, "annotates 'name'"),
    ],
)
def test_what_would_be_overlooked_is_refused(
    make: Any, changes: dict[str, Any], words: str | None
) -> None:
    if words is None:  # the class has that one itself
        check_task_class(make(**changes))
        return
    with pytest.raises(PluginError, match=words) as caught:
        check_task_class(make(**changes))
    assert "task class Changed (" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_method_is_named_with_the_location_and_a_similar_name() -> None:
    @dataclass(frozen=True)
    class Half(Task):
        name = "half"
        headline = "x"

        def decoded(self, outputs: Any, sizes: Any) -> Any: ...
        def build_head(self, backbone: Any) -> Any: ...
        def build_loss(self) -> Any: ...
        def build_metrics(self) -> Any: ...
        def predictions(self, decoded: Any) -> Any: ...
        def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Any: ...
        def read_evaluation(self, data: Any) -> Any: ...

    words = r"Half \(test_checks.py:\d+\) lacks decode\(\); rename 'decoded'; see visiongraft.task"
    with pytest.raises(PluginError, match=words):
        check_task_class(Half)


def test_an_annotation_that_makes_no_option_is_refused(Toy: type[Task]) -> None:
    class Bare(Toy):  # type: ignore[valid-type, misc]
        radius: float = 0.5

    class Fine(Toy):  # type: ignore[valid-type, misc]
        radius: ClassVar[float] = 0.5

    check_task_class(Fine)
    with pytest.raises(
        PluginError, match=r"no option of 'radius'; write @dataclass\(frozen=True\)"
    ):
        check_task_class(Bare)


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("read", ([], []), r"read\(\) \(test_checks.py:\d+\) returned tuple, not .*Splits"),
        ("read", None, "returned NoneType"),
        ("bind", None, r"bind\(\) .* returned NoneType, not Given, as dataclasses.replace"),
        ("decode", torch.zeros(3), r"decode\(\) .* returned Tensor, not a dict of tensors by name"),
        ("decode", {"label": [1, 2]}, "returned list, not a dict of tensors"),
    ],
)
def test_what_a_method_returns_is_looked_at_where_it_is_called(
    Toy: type[Task], fit_toy: Any, toy_data: Any, method: str, value: Any, words: str
) -> None:
    def wrong(self: Any, *args: Any, **options: Any) -> Any:
        return value

    Given = type("Given", (Toy,), {method: wrong})
    with pytest.raises(PluginError, match=words):
        fit_toy(toy_data(24), task=Given(augment=False), epochs=1)


def test_samples_to_evaluate_on_are_looked_at_too(fit_toy: Any, toy_data: Any, Toy: Any) -> None:
    class Listing(Toy):  # type: ignore[misc]
        def read_evaluation(self, data: Any) -> Any:
            return list(data)

    model = fit_toy(toy_data(24), task=Listing(augment=False), epochs=1)
    with pytest.raises(
        PluginError, match=r"read_evaluation\(\) .* returned list, not visiongraft.Sam"
    ):
        model.evaluate(toy_data(6))


def test_fit_refuses_a_task_class_before_it_leaves_a_trace(
    make: Any, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    with pytest.raises(PluginError, match="'beter'"):
        fit_toy(toy_data(24), task=make(beter="lower")(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plugin_file_with_such_a_class_is_refused_by_name(tmp_path: Path) -> None:
    from visiongraft.registry.manager import PluginManager

    file = tmp_path / "misspelled_task.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from visiongraft import Task, hookimpl\n"
        "@dataclass(frozen=True)\n"
        "class Empty(Task):\n"
        "    name = 'empty'\n"
        "    headline = 'x'\n"
        "@hookimpl\n"
        "def register_tasks():\n"
        "    return [Empty]\n"
    )
    with pytest.raises(PluginError, match=r"Empty \(misspelled_task.py:3\) lacks build_head\(\)"):
        PluginManager(discover=False).register_file(file)


OLD = {
    "compare": "ExportSupport(compare=...), returned by export_support()",
    "rescaled": "ExportSupport(rescale=...), returned by export_support()",
    "operators": "ExportSupport(operators=...), returned by export_support()",
    "example_data": "TaskExamples(make_dataset=...), returned by examples()",
    "ideal": "TaskExamples(ideal=...), returned by examples()",
    "transform_for": "train_transform(preprocess)",
    "read_labelled": "read_evaluation()",
    "deal_batches": "batch_sampler()",
    "verbs": "model_methods()",
}
OLD_PLUGIN = """\
from dataclasses import dataclass
from visiongraft import Task, hookimpl

{declared}
@dataclass(frozen=True)
class Old(Task):
    name = "old"
    headline = "x"

    {definition}


@hookimpl
def register_tasks():
    return [Old]
"""


def problem_of(tmp_path: Path, name: str, definition: str, declared: str = "") -> str:
    """Register a plugin file with a task that defines one thing; return what is wrong with it."""
    from visiongraft.registry.manager import PluginManager

    file = tmp_path / f"{name}.py"
    file.write_text(OLD_PLUGIN.format(declared=declared, definition=definition))
    with pytest.raises(PluginError) as caught:
        PluginManager(discover=False).register_file(file)
    return str(caught.value)


@pytest.mark.parametrize("old", OLD)
def test_a_method_of_the_old_contract_is_refused_with_its_line_and_its_successor(
    tmp_path: Path, old: str
) -> None:
    found = problem_of(tmp_path, f"old_{old}", f"def {old}(self, *args):\n        return {{}}")
    words = (
        f"Old (old_{old}.py:5) defines {old!r} (old_{old}.py:10), which is never used; it is now "
    )
    assert words + OLD[old] in found and "\n" not in found


def test_an_attribute_of_the_old_contract_is_refused_too(tmp_path: Path) -> None:
    found = problem_of(tmp_path, "old_attribute", 'at_picture_size = ("logits",)')
    assert "'at_picture_size' (old_attribute.py:10), which is never used" in found
    assert found.endswith("it is now full_resolution_outputs")


def test_an_old_train_transform_is_refused_as_it_would_take_the_preprocessing_for_a_size(
    tmp_path: Path,
) -> None:
    definition = "def train_transform(self, size):\n        return None"
    found = problem_of(tmp_path, "old_transform", definition)
    assert "train_transform(size) (old_transform.py:10), which now receives the preproc" in found


def test_a_plugin_for_the_old_interface_is_advised_what_to_change_first(tmp_path: Path) -> None:
    definition = "def verbs(self):\n        return {}"
    found = problem_of(tmp_path, "old_version", definition, 'visiongraft_api = "1.0"')
    assert "written for plugin API 1.0; this visiongraft has 2." in found
    assert "; or update it: task class Old (old_version.py:5) defines 'verbs' (old_v" in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "changes",
    [
        {"compare": lambda self: 0, "export_support": Task.export_support},
        {"ideal": lambda self: 0, "examples": Task.examples},
        {"verbs": {}, "model_methods": Task.model_methods},
        {"__annotations__": {"operators": "int"}, "operators": 3},
    ],
)
def test_old_names_are_free_for_helpers_and_options_of_new_tasks(
    make: Any, changes: dict[str, Any]
) -> None:
    check_task_class(make(**changes))


def test_floats_become_single_precision_as_networks_compute(Toy: Any) -> None:
    batch = visiongraft.Task.collate(Toy(), [{"value": 0.5, "id": 3}, {"value": 1.5, "id": 4}])
    assert batch["value"].dtype is torch.float32 and batch["id"].dtype is torch.int64
    assert isinstance(batch["value"], Tensor)
