"""The kit on sound plugins: its own specimen, the built-in task, backbones, schedules, exporter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, BackboneSource, Features
from visiongraft.cli import main
from visiongraft.data.images import DatasetSamples
from visiongraft.data.readers import DataReader, DataSplits
from visiongraft.errors import BackboneError, PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.preprocess import PreprocessConfig
from visiongraft.registry.manager import PluginManager, plugins, using
from visiongraft.testing import (
    BACKBONE_CHECKS,
    SCHEDULE_CHECKS,
    TASK_CHECKS,
    BackboneTrial,
    Check,
    CheckError,
    NotTried,
    Result,
    TaskTrial,
    check_backbone,
    check_exporter,
    check_plugin,
    check_reader,
    check_schedule,
    check_task,
)
from visiongraft.testing.report import Fault
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks import FORWARD_CHECKS
from visiongraft.testing.tasks.caching import replay_changes_nothing
from visiongraft.testing.tasks.data import DATA_CHECKS
from visiongraft.testing.tasks.export import class_names_survive_saving_and_export
from visiongraft.testing.tasks.processes import (
    another_process_predicts_the_same,
    two_processes_train_alike,
)

QUICK = {check.name for check in (*DATA_CHECKS, *FORWARD_CHECKS)}
TASKS = {
    "specimen": {},
    "classification": {},
    "multi-label": {"multi_label": True},
    "options": {"hidden": 8, "dropout": 0.2, "class_weights": "balanced", "mixup": 0.2},
}
TOGETHER = (two_processes_train_alike, another_process_predicts_the_same)
TRAINED = ("specimen", "classification")  # through everything; the others through the quick part


def slow(check: Check[Any], mark: Any = pytest.mark.slow) -> Any:
    return pytest.param(check, id=check.name, marks=() if check.name in QUICK else mark)


@pytest.fixture(scope="module")
def trials() -> dict[str, TaskTrial]:
    classification = plugins().get("task", "classification")
    kinds = {name: classification(**options) for name, options in TASKS.items()}
    return {n: TaskTrial(t) for n, t in {**kinds, "specimen": Specimen()}.items()}


@pytest.mark.parametrize("check", [slow(check) for check in TASK_CHECKS if check not in TOGETHER])
def test_a_sound_task_passes(trials: dict[str, TaskTrial], check: Check[Any]) -> None:
    check(trials["classification"])


@pytest.mark.parametrize(
    "check",
    [slow(check, pytest.mark.exhaustive) for check in TASK_CHECKS if check not in TOGETHER],
)
def test_the_specimen_passes(trials: dict[str, TaskTrial], check: Check[Any]) -> None:
    check(trials["specimen"])


# Training in two processes is tried by tests/core/training/test_engine.py every time.
@pytest.mark.parametrize("check", [slow(check, pytest.mark.exhaustive) for check in TOGETHER])
def test_a_sound_task_trains_in_two_processes(
    trials: dict[str, TaskTrial], check: Check[Any]
) -> None:
    check(trials["classification"])


@pytest.mark.parametrize("name", sorted(TASKS.keys() - set(TRAINED)))
@pytest.mark.parametrize("check", [*DATA_CHECKS, *FORWARD_CHECKS], ids=lambda check: check.name)
def test_options_of_the_task_pass_what_trains_nothing(
    trials: dict[str, TaskTrial], name: str, check: Check[Any]
) -> None:
    check(trials[name])


@pytest.fixture(scope="module")
def backbone() -> BackboneTrial:
    return BackboneTrial("timm/test_resnet")


@pytest.fixture(scope="module")
def small_backbone() -> BackboneTrial:
    """One without batch norms, which trains and is exported in less time."""
    return BackboneTrial("simple_cnn")


ON_THE_SMALL_ONE = {
    "a_few_images_are_overfit",
    "a_saved_model_predicts_the_same",
    "the_exported_file_agrees",
}
OF_A_TASK = {"a_killed_run_resumes_exactly", "the_exported_file_agrees"}  # tried above every time


def of_a_backbone(position: int, check: Check[Any]) -> Any:
    mark: Any = pytest.mark.slow if position > 6 else ()
    if check.name in OF_A_TASK:
        mark = pytest.mark.exhaustive
    return pytest.param(check, id=check.name, marks=mark)


@pytest.mark.parametrize("check", [of_a_backbone(i, c) for i, c in enumerate(BACKBONE_CHECKS)])
def test_a_sound_backbone_passes(
    backbone: BackboneTrial, small_backbone: BackboneTrial, check: Check[Any]
) -> None:
    check(small_backbone if check.name in ON_THE_SMALL_ONE else backbone)


@pytest.mark.parametrize("name", ["", "bundled", "timm", "torchvision"])
def test_each_built_in_source_passes_what_trains_nothing(name: str) -> None:
    trial = BackboneTrial(plugins().get("backbone", name))
    for check in BACKBONE_CHECKS[:6]:
        check(trial)


class Blind(Backbone):
    """Returns the same for all images, though it has a batch norm that could collect statistics."""

    def __init__(self) -> None:
        norm, scale = nn.BatchNorm2d(4), nn.Conv2d(3, 4, 3, 2, 1)
        names = [f"norm.{n}" for n in norm.state_dict()] + [
            f"scale.{n}" for n in scale.state_dict()
        ]
        stages = dict.fromkeys(names, "stem")
        super().__init__(
            BackboneInfo("mine/blind", stages, (4,), (2,), 4, PreprocessConfig((32, 32)))
        )
        self.norm, self.scale = norm, scale

    def forward(self, images: Tensor) -> Features:
        found = self.norm(self.scale(images * 0))
        return Features((found,), found.mean((2, 3)))


class BlindSource(BackboneSource):
    prefix = "mine"

    def names(self) -> list[str]:
        return ["blind"]

    def build(self, name: str, **options: Any) -> Backbone:
        return Blind()


def test_statistics_of_batch_norms_are_tried_once_and_excuse_nothing() -> None:
    overfit = next(check for check in BACKBONE_CHECKS if check.name == "a_few_images_are_overfit")
    trial = BackboneTrial(BlindSource())
    with pytest.raises(CheckError, match=r"a value near 0|a decreasing loss"):
        overfit(trial)
    assert trial.specimen.batch_norm == "train"
    assert not trial.update_statistics()
    assert not BackboneTrial("simple_cnn").update_statistics()


def test_a_source_that_is_not_installed_is_found_by_the_engine_all_the_same() -> None:
    class Mine(BackboneSource):
        prefix = "mine"

        def names(self) -> list[str]:
            return ["tiny"]

        def build(self, name: str, **options: Any) -> Any:
            return plugins().get("backbone", "").build("simple_cnn", **options)

    trial = BackboneTrial(Mine())
    with trial.found():
        assert plugins().get("backbone", "mine") is trial.source
    assert not plugins().provides("backbone", "mine")


@pytest.mark.parametrize("name", ["linear_probe", "full", "lp_ft", "gradual", "milestones"])
@pytest.mark.parametrize("check", SCHEDULE_CHECKS[:3], ids=lambda check: check.name)
def test_sound_schedules_plan_well(name: str, check: Check[Any]) -> None:
    check(name)


@pytest.mark.parametrize("options", ["last_n(n=3)", "milestones(at={4: 'stage2'})"])
def test_options_may_not_fit_every_backbone_and_length(options: str) -> None:
    for check in SCHEDULE_CHECKS[:3]:
        check(options)


def test_options_that_never_fit_are_failed() -> None:
    with pytest.raises(
        CheckError, match=r"only errors with {'n': 99}; expected phases for some of them"
    ):
        check_schedule("last_n(n=99)")


@pytest.mark.slow
def test_a_sound_schedule_passes() -> None:
    check_schedule("gradual(layer_decay=0.7)")


@pytest.mark.exhaustive  # several exports; the kit passes a sound exporter in tests/faulty_plugins
@pytest.mark.slow
def test_the_exporter_passes() -> None:
    check_exporter("onnx")


def test_all_at_once_names_the_first_failure() -> None:
    class Nameless(Specimen):
        name = "two words"

    with pytest.raises(
        CheckError, match=r"declares_itself.*got 'two words'; expected an identifier"
    ):
        check_task(Nameless())
    with pytest.raises(CheckError, match="declares_itself"):
        check_task(Nameless)


def test_a_reader_is_checked_all_at_once() -> None:
    class Silent(Reads):
        example_data = DataReader.example_data  # type: ignore[assignment]

    check_reader(Reads())
    with pytest.raises(
        CheckError, match=r"reader 'reads' has no example data.*Silent.example_data"
    ):
        check_reader(Silent())


def test_missing_parts_cannot_be_checked() -> None:
    with pytest.raises(PluginError, match="did you mean 'schedules'"):
        list(check_plugin("schedule"))
    with pytest.raises(BackboneError, match="no backbone 'timm/no_such_thing'"):
        check_backbone("timm/no_such_thing")


@dataclass
class Drawn:
    """Data in memory."""

    images: list[Any]


class Reads(DataReader):
    name = "reads"
    targets = "dots"

    def claims(self, data: Any) -> bool:
        return isinstance(data, Drawn)

    def read(self, data: Any) -> DataSplits:
        return DataSplits({"train": DatasetSamples.of(data.images)})

    def example_data(self, folder: Path, count: int, seed: int) -> Drawn:
        random = np.random.default_rng(seed)
        sizes = random.integers(8, 16, (count, 2))
        return Drawn([(random.integers(0, 256, (*s, 3), np.uint8), int(s[0])) for s in sizes])


class Readers:
    @hookimpl
    def register_readers(self) -> list[DataReader]:
        return [Reads()]


@pytest.fixture
def small() -> Iterator[PluginManager]:
    with using(PluginManager(discover=False)) as manager:
        yield manager


def test_the_command_prints_a_table_and_json(
    small: PluginManager, capsys: pytest.CaptureFixture[str]
) -> None:
    small.register(Readers(), "my_readers")
    assert main(["check-plugin", "my-readers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["subject", "check", "outcome", "seconds"]
    assert lines[-3:] == [
        "not tried: reader reads: targets_have_names: targets of kind 'dots' are checked by their task",
        (
            "not tried: reader reads: damaged_data_raises_a_clear_error: the example dataset has no "
            "files that could be damaged"
        ),
        "9 passed, 0 failed, 2 not tried",
    ]
    assert main(["check-plugin", "my_readers", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["plugin"], answer["passed"], answer["not_tried"]) == ("my_readers", 9, 2)
    assert answer["checks"][0]["check"] == "it_loads"


def test_one_reason_for_many_checks_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = {"a": "no data", "b": "no data", "c": "no GPU"}
    results = [Result("task t", name, "not tried", why, 0.0) for name, why in reasons.items()]
    monkeypatch.setattr("visiongraft.testing.check_plugin", lambda name: results)
    assert main(["check-plugin", "t"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "not tried: task t: 2 checks: no data",
        "not tried: task t: c: no GPU",
        "0 passed, 0 failed, 3 not tried",
    ]


def test_the_command_exits_with_1_and_the_reason(
    small: PluginManager, capsys: pytest.CaptureFixture[str]
) -> None:
    small.register(object(), "nothing_in_it")
    assert main(["check-plugin", "nothing_in_it"]) == 1
    out = capsys.readouterr().out
    assert "failed: plugin nothing_in_it: it_loads: " in out
    assert "it has no hook" in out


@pytest.mark.exhaustive  # all of the plugins; test_losses.py tries one
@pytest.mark.slow
def test_transfer_losses_and_callbacks_are_tried_too() -> None:
    first = list(islice(check_plugin("transfer_losses"), 6))  # of the plugin, and of l2_sp
    results = [*first, *check_plugin("callbacks")]
    assert {r.outcome for r in results} == {"passed"}
    assert {"loss l2_sp", "callback progress", "callback curves"} <= {r.subject for r in results}


@pytest.mark.exhaustive
def test_all_built_in_transfer_losses_pass() -> None:
    results = list(check_plugin("transfer_losses"))
    others = {r.subject: (r.outcome, r.message) for r in results if r.outcome != "passed"}
    assert others == {"loss distillation": ("not tried", "option 'teacher' has no default")}
    assert {"loss lwf", "loss co_tuning", "loss bi_tuning"} <= {r.subject for r in results}


def test_a_callback_that_meddles_is_failed() -> None:
    class Meddles:
        name = "meddles"

        @hookimpl
        def epoch_ended(self, run: Any) -> None:
            with torch.no_grad():
                next(run.network.head.parameters()).add_(1)

    class Callbacks:
        @hookimpl
        def register_callbacks(self) -> list[type[Any]]:
            return [Meddles]

    with using(PluginManager()) as manager:
        manager.register(Callbacks(), "meddling")
        failed = [r for r in check_plugin("meddling") if r.outcome == "failed"]
    assert [r.check for r in failed] == ["a_callback_changes_nothing"]
    assert "to train with and without callback 'meddles'" in failed[0].message


class Twice(Specimen):
    """Computes outputs of each image and of its mirror image."""

    def inference_step(self, network: Any, images: torch.Tensor) -> torch.Tensor:
        looks = [network.head(network.backbone(x)) for x in (images, images.flip(3))]
        return (looks[0] + looks[1]) / 2


@pytest.mark.slow
def test_replay_is_not_tried_where_a_second_look_makes_it_impossible() -> None:
    with pytest.raises(NotTried, match=r"Twice\.inference_step: replay was requested but is impos"):
        replay_changes_nothing.run(TaskTrial(Twice()))
    replay_changes_nothing.run(TaskTrial(Specimen()))


@dataclass(frozen=True)
class Learning(Specimen):
    """Stores its error, which is part of its metadata."""

    error: float | None = None
    name: ClassVar[str] = "learning"

    def after_training(self, results: Any) -> Learning:
        return replace(self, error=results["mean_error"])

    def metadata(self) -> dict[str, Any]:
        return {"error": self.error}


@pytest.mark.exhaustive  # as the thresholds of face embedding do
def test_metadata_may_contain_results_of_training() -> None:
    class_names_survive_saving_and_export.run(TaskTrial(Learning()))


def test_a_task_whose_streams_have_no_example_data_is_told_what_to_return() -> None:
    classification: Any = plugins().get("task", "classification")

    class Streaming(classification):  # type: ignore[misc]
        name = "streaming"
        streams = ("unlabelled",)

    with pytest.raises(Fault, match=r"streams none, expected TaskExamples\(make_streams=\.\.\.\)"):
        TaskTrial(Streaming()).example  # noqa: B018
