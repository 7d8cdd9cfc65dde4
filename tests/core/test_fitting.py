"""Settings: each invalid one is refused before a run is written, and resuming keeps them all."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft
from visiongraft.config import FitConfig
from visiongraft.errors import (
    ArtifactError,
    BackboneError,
    CheckpointError,
    DataError,
    OptionError,
    PluginError,
    ReceiptError,
    ScheduleError,
    VisiongraftError,
    WeightsError,
)
from visiongraft.hookspecs import hookimpl
from visiongraft.schedules import Phase, gradual, schedule

QUICK: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1}
SETTINGS = {field.name for field in fields(FitConfig)}


# ---- invalid settings ----

WRONG: list[tuple[str, Any, type[VisiongraftError], str]] = [
    ("data", None, OptionError, "data is missing: pass a path, a dataset"),
    ("data", 3, DataError, "not int"),
    ("data", [], DataError, "is empty"),
    ("task", None, OptionError, r"task is missing: pass task=NAME, one of .*toy"),
    ("task", "toyy", PluginError, "did you mean 'toy'"),
    ("task", 3, OptionError, "task=3 is neither a name nor a task object"),
    ("task_options", {"classes": 3}, OptionError, "this task is already an object"),
    ("backbone", "toys/to", BackboneError, "did you mean 'toys/toy'"),
    ("weights", "nowhere.safetensors", WeightsError, "nowhere.safetensors does not exist"),
    ("weights_license", "MIT", OptionError, "weights_license='MIT' is for a weights file"),
    ("schedule", "lpft", PluginError, "did you mean 'lp_ft'"),
    ("schedule", print, OptionError, "neither a name nor a schedule"),
    ("schedule", "milestones(at={1: 'stage9'})", ScheduleError, "stage9"),
    ("schedule", "lp_ft(layer_decay=2)", ScheduleError, "layer_decay=2"),
    ("learning_rate", -1.0, ScheduleError, "learning_rate=-1.0"),
    ("learning_rate", "fast", ScheduleError, "learning_rate='fast'"),
    ("epochs", 0, OptionError, "epochs=0"),
    ("epochs", 1.5, OptionError, "epochs=1.5 is not an integer of at least 1"),
    ("epochs", True, OptionError, "epochs=True"),
    ("budget", "3s", OptionError, "omit epochs=2 or the budget"),
    ("validation", 1.5, OptionError, "validation=1.5"),
    ("validation", "half", OptionError, "validation='half'"),
    ("size", 0, OptionError, "size=0"),
    ("size", (16, 16, 3), OptionError, r"size=\(16, 16, 3\)"),
    ("resize", "squeeze", OptionError, "resize='squeeze'"),
    ("in_channels", 0, OptionError, "in_channels=0"),
    ("in_channels", "3", OptionError, "in_channels='3'"),
    ("batch_size", 0, OptionError, "batch_size=0"),
    ("batch_size", 8.0, OptionError, "batch_size=8.0"),
    ("optimizer", "adam", PluginError, "did you mean 'adamw'"),
    ("optimizer", None, OptionError, "optimizer=None is not the name of an optimizer"),
    ("weight_decay", -0.1, OptionError, "weight_decay=-0.1"),
    ("weight_decay", float("inf"), OptionError, "weight_decay=inf"),
    ("weight_decay", "none", OptionError, "weight_decay='none'"),
    ("transfer_loss", "l3_sp", PluginError, "'l3_sp'; did you mean 'l2_sp'"),
    ("transfer_loss", "l2_sp(alfa=1)", OptionError, "no option 'alfa'; did you mean 'alpha'"),
    ("adapters", "lorra", PluginError, "'lorra'; did you mean 'lora'"),
    ("adapters", {"lora": {"rank": 4}}, OptionError, "is not a name; write options as"),
    ("backbone", 5.0, OptionError, "backbone is of type float, not a name, the folder of a saved"),
    ("weights", {}, OptionError, "weights is of type dict, not 'pretrained', None or a file"),
    ("views", 0, OptionError, "views=0"),
    ("views", 2.5, OptionError, "views=2.5"),
    ("replay", "maybe", OptionError, "replay='maybe' is not one of auto, on, off"),
    ("replay_dtype", "float64", OptionError, "replay_dtype='float64'"),
    ("replay_budget", -1, OptionError, "replay_budget=-1"),
    ("replay_budget", "8GB", OptionError, "replay_budget='8GB'"),
    ("replay_shared", "yes", OptionError, "replay_shared='yes'"),
    ("partial", "yes", OptionError, "partial='yes'"),
    ("gradient_checkpointing", 1, OptionError, "gradient_checkpointing=1"),
    ("precision", "fp8", OptionError, "precision='fp8' is not one of no, fp16, bf16"),
    ("accumulate", 0, OptionError, "accumulate=0"),
    ("clip_norm", 0.0, OptionError, "clip_norm=0.0"),
    ("clip_norm", float("nan"), OptionError, "clip_norm=nan"),
    ("privacy", "epsilon=3", OptionError, "privacy needs delta"),
    ("leave_out", "a.png", OptionError, "leave_out='a.png' is not a list"),
    ("leave_out", ["0" * 32], OptionError, "leave_out needs images in files"),
    ("ema", 1.0, OptionError, "ema=1.0"),
    ("ema", "0.9", OptionError, "ema='0.9'"),
    ("swa", 0, OptionError, "swa=0 is not an integer of at least 1"),
    ("swa", 100, OptionError, "swa=100 averages more epochs than the run has"),
    ("patience", 0, OptionError, "patience=0"),
    ("wise_ft", 0, OptionError, "wise_ft=0 is not an integer of at least 1"),
    ("checkpoint_every", 0, OptionError, "checkpoint_every=0"),
    ("groups", 3, OptionError, "groups is of type int, not an attribute"),
    ("group_training", "reweight", OptionError, "group_training='reweight' needs groups"),
    ("data_license", 3, OptionError, "data_license=3 is not a string"),
    ("keep_epochs", 0, OptionError, "keep_epochs=0 is not an integer of at least 1"),
    ("workers", -1, OptionError, "workers=-1"),
    ("device", "tpu", OptionError, "device='tpu' is not one of cpu, cuda"),
    ("seed", -1, OptionError, "seed=-1"),
    ("seed", 0.5, OptionError, "seed=0.5"),
    ("start", "nowhere", ArtifactError, "start=nowhere is not the folder of a saved model"),
    ("evaluate_on", {"a b": []}, OptionError, "is not a dict from names to datasets"),
    ("select", "worst", OptionError, "select='worst' is not 'best', 'last' or"),
    ("metrics", 3, OptionError, "metrics is of type int, not a metric of torchmetrics"),
    ("augment", 3, OptionError, "augment=3 is neither a callable"),
    ("streams", {"more": []}, OptionError, "neither task 'toy' nor a transfer loss uses 'more'"),
    ("callbacks", ["progres"], PluginError, "did you mean 'progress'"),
    ("callbacks", [object], OptionError, "implements no run hook"),
]


def test_an_invalid_value_of_every_setting_is_tested() -> None:
    assert SETTINGS - {name for name, *_ in WRONG} == set()


@pytest.mark.parametrize(
    ("name", "value", "error", "words"), WRONG, ids=[f"{n}={v!r}"[:40] for n, v, *_ in WRONG]
)
def test_an_invalid_setting_is_refused_in_one_line_and_leaves_no_run(
    fit_toy: Any,
    toy_data: Any,
    tmp_path: Path,
    name: str,
    value: Any,
    error: type[VisiongraftError],
    words: str,
) -> None:
    settings = {"data": toy_data(20), "schedule": "lp_ft", "epochs": 2, "out": tmp_path / "run"}
    with pytest.raises(error, match=words) as caught:
        fit_toy(**{**settings, name: value})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("keyword", "own"),
    [("lr", "learning_rate"), ("model", "backbone"), ("imgsz", "size"), ("epoch", "epochs")],
)
def test_an_unknown_keyword_is_refused_with_the_right_one(keyword: str, own: str) -> None:
    with pytest.raises(OptionError) as refused:
        visiongraft.fit("images", **{keyword: 1})
    assert str(refused.value) == f"fit has no option {keyword!r}; did you mean {own!r}?"


@pytest.mark.parametrize("function", [visiongraft.fit, visiongraft.lr_find])
def test_an_option_of_a_task_among_the_settings_is_refused_with_its_place(function: Any) -> None:
    with pytest.raises(OptionError) as refused:
        function("images", classes=3)
    assert str(refused.value).startswith(
        f"{function.__name__} has no option 'classes'; tasks have it ("
    )
    assert str(refused.value).endswith("task_options={'classes': ...}")


def test_a_function_is_called_with_the_record_of_each_epoch(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    records: list[dict[str, Any]] = []
    fit_toy(toy_data(20), out=tmp_path, **{**QUICK, "epochs": 2}, callbacks=[records.append])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert records == [json.loads(line) for line in lines]


def test_a_wrong_backbone_name_is_refused_before_the_dataset_is_read(
    fit_toy: Any, tmp_path: Path
) -> None:
    with pytest.raises(BackboneError, match="did you mean 'toys/toy'"):
        fit_toy(3, backbone="toys/to", out=tmp_path / "run")  # 3 is no dataset either
    assert not (tmp_path / "run").exists()


def test_a_folder_of_a_refused_run_can_be_used(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    for wrong in ({"optimizer": "adam"}, {"callbacks": ["progres"]}, {"weights": "nowhere.pth"}):
        with pytest.raises(VisiongraftError):
            fit_toy(toy_data(20), out=tmp_path / "run", **{**QUICK, **wrong})
    fit_toy(toy_data(20), out=tmp_path / "run", **QUICK)


def test_a_missing_cuda_device_is_refused_before_anything_is_written(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="torch finds no CUDA device here"):
        fit_toy(toy_data(20), device="cuda", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@schedule
def nothing(stages: Any, epochs: int) -> Any:
    yield from ()


def test_a_schedule_without_phases_is_refused(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    with pytest.raises(ScheduleError, match="'nothing' has no phase"):
        fit_toy(toy_data(20), schedule=nothing, out=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_task_class_is_not_a_task_object(fit_toy: Any, toy_data: Any, Toy: Any) -> None:
    with pytest.raises(OptionError, match="instantiate a task class"):
        fit_toy(toy_data(20), task=Toy)


def test_a_misspelled_task_option_is_refused_with_a_suggestion(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="no option 'clases'; did you mean 'classes'"):
        fit_toy(toy_data(20), task="toy", task_options={"clases": 3})


# ---- valid settings ----


def test_settings_reach_config_network_and_facts(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    model = fit_toy(
        toy_data(20),
        task="toy",
        task_options={"augment": False, "maps": True},
        resize="stretch",
        replay=True,
        learning_rate=0.25,
        out=tmp_path / "run",
        **QUICK,
    )
    config = FitConfig.read(tmp_path / "run")
    assert config.task_options == {"classes": 3, "augment": False, "maps": True}
    assert (config.resize, config.replay) == ("stretch", "on")
    assert config.schedule == {"name": "linear_probe", "options": {"learning_rate": 0.25}}
    assert model.backbone_info.preprocess.resize == "stretch"
    assert model.task.maps
    assert model.facts["training"]["schedule"] == config.schedule
    assert model.facts["training"]["phases"] == [{"trainable": "head", "epochs": 1}]
    assert model.facts["data"]["training images"] == 17
    assert model.facts["metrics"]["epoch"] == 0
    assert model.facts["receipts"].keys() == {"phase 1"}


@pytest.mark.parametrize(
    "what",
    ["gradual(layer_decay=0.5)", gradual(layer_decay=0.5), gradual(layer_decay=0.5).to_json()],
    ids=["name", "object", "json"],
)
def test_a_schedule_may_be_a_name_an_object_or_its_json(
    fit_toy: Any, toy_data: Any, tmp_path: Path, what: Any
) -> None:
    fit_toy(toy_data(20), schedule=what, epochs=1, out=tmp_path / "run")
    assert FitConfig.read(tmp_path / "run").schedule == gradual(layer_decay=0.5).to_json()


def test_without_a_folder_nothing_is_left_on_the_disk(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    seen = []

    class Look:
        @hookimpl
        def epoch_ended(self) -> None:
            seen.extend(path.name for path in tmp_path.rglob("*.npy"))

    fit_toy(toy_data(20), replay=True, replay_shared=False, callbacks=[Look()], **QUICK)
    assert seen  # replay did store something there
    assert list(tmp_path.iterdir()) == []


def test_the_log_goes_to_the_run_folder_and_nowhere_else_afterwards(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    log = logging.getLogger("visiongraft")
    before = (list(log.handlers), log.level)
    fit_toy(toy_data(20), out=tmp_path / "good", **QUICK)
    with pytest.raises(ReceiptError):
        fit_toy(toy_data(20), out=tmp_path / "bad", callbacks=[Meddler()], **QUICK)
    assert (list(log.handlers), log.level) == before
    log.info("after")
    for name in ("good", "bad"):
        text = (tmp_path / name / "run.log").read_text()
        assert "replay" in text and "after" not in text


class Meddler:
    @hookimpl
    def epoch_ended(self, run: Any) -> None:
        run.network.backbone.blocks["stem"][0].weight.data.add_(1)


def test_warnings_of_the_reader_and_the_check_are_in_the_log(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    class Warning(Toy):
        def read(self, data: Any, **options: Any) -> Any:
            return replace(super().read(data, **options), warnings=("class 2 is rare",))

    data = toy_data(20)
    data[1:3] = [(data[0][0], 1), (data[0][0], 2)]
    fit_toy(data, task=Warning(augment=False), out=tmp_path / "run", **QUICK)
    text = (tmp_path / "run" / "run.log").read_text()
    assert "class 2 is rare" in text
    assert "identical training images have different targets" in text


# ---- callbacks ----


class Misspelled:
    @hookimpl
    def epoch_end(self, record: Any) -> None: ...


class Demanding:
    @hookimpl
    def epoch_ended(self, record: Any, color: Any) -> None: ...


class Deaf:
    """Has the method, but not marked as a hook."""

    def epoch_ended(self, record: Any) -> None: ...


class Hearing:
    @hookimpl
    def epoch_ended(self, record: Any) -> None: ...


HEARING = Hearing()


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ([Misspelled()], "unknown hook 'epoch_end'"),
        ([Demanding()], "color"),
        ([Deaf()], "implements no run hook; see RunHooks"),
        ([HEARING, HEARING], "already registered"),
        (["curves", "curves", 7], "implements no run hook"),
    ],
    ids=["unknown hook", "unknown argument", "not marked", "twice", "number"],
)
def test_a_callback_that_would_never_be_called_is_refused(
    fit_toy: Any, toy_data: Any, callbacks: list[Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        fit_toy(toy_data(20), callbacks=callbacks, **QUICK)
    assert "\n" not in str(caught.value)


def test_installed_callbacks_are_not_called_unless_requested(
    fit_toy: Any, toy_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_toy(toy_data(20), out=tmp_path / "run", callbacks=(), **QUICK)
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run" / "curves.png").exists()


# ---- the run folder ----


@pytest.fixture(scope="module")
def run(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests that change it work on a copy."""
    folder: Path = tmp_path_factory.mktemp("fitting") / "run"
    fit_toy(toy_data(20), task="toy", out=folder, **RUN)
    return folder


RUN = {"schedule": "milestones(at={1: 'stage2'})", "epochs": 2, "task_options": {"augment": False}}


def test_a_folder_with_a_run_is_not_changed(fit_toy: Any, toy_data: Any, run: Path) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(OptionError, match="already contains a run; pass resume=True"):
        fit_toy(toy_data(20), out=run, **QUICK)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_two_averages_of_the_weights_are_refused(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(
        OptionError, match=r"swa=1 and ema=0\.9 average the same weights; choose one"
    ):
        fit_toy(toy_data(20), swa=1, ema=0.9, **QUICK)


def test_a_folder_that_cannot_be_created_is_named(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="run cannot be created"):
        fit_toy(toy_data(20), out=tmp_path / "file" / "run", **QUICK)


OTHER: dict[str, Any] = {
    "data": "elsewhere",
    "task": "classification",
    "task_options": {"maps": True},
    "backbone": "simple_cnn",
    "weights": "file.safetensors",
    "partial": True,
    "weights_license": "MIT",
    "schedule": "milestones(at={1: 'stage1'})",
    "epochs": 3,
    "validation": 0.3,
    "size": 32,
    "resize": "stretch",
    "in_channels": 1,
    "batch_size": 8,
    "optimizer": "sgd",
    "weight_decay": 0.1,
    "transfer_loss": "l2_sp",
    "views": 2,
    "replay": True,
    "replay_dtype": "float16",
    "replay_budget": 5,
    "replay_shared": False,
    "gradient_checkpointing": True,
    "precision": "bf16",
    "accumulate": 2,
    "clip_norm": None,
    "privacy": "epsilon=3, delta=1e-5",
    "leave_out": ["0" * 32],
    "ema": 0.9,
    "swa": 1,
    "patience": 4,
    "checkpoint_every": 1,
    "keep_epochs": 2,
    "groups": "site",
    "group_training": "reweight",
    "data_license": "MIT",
    "workers": 1,
    "device": "cuda",
    "seed": 1,
    "budget": "10min",
    "evaluate_on": {"old": "elsewhere"},
    "streams": {"unlabelled": "elsewhere"},
    "select": "last",
    "start": "elsewhere",
    "adapters": ["gains"],
    "wise_ft": 4,
    "metrics": "MulticlassAUROC",
    "augment": "my_augmentation.py:augment",
}


def test_another_value_of_every_setting_is_tested() -> None:
    assert set(OTHER) == SETTINGS


def resume(run: Path, data: Any, **settings: Any) -> Any:
    """Resume with these settings only; ``fit_toy`` has settings of its own."""
    return visiongraft.fit(data, out=run, resume=True, callbacks=(), **settings)


@pytest.mark.parametrize("name", [n for n in OTHER if n != "data"])
def test_resuming_with_another_setting_is_refused_by_name(
    toy_data: Any, run: Path, name: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"{name}=.* \(the run has .*\)") as caught:
        resume(run, toy_data(20), **{name: OTHER[name]})
    assert "\n" not in str(caught.value)


def test_resuming_with_other_settings_names_all_of_them(toy_data: Any, run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"epochs=3 .*; batch_size=8 .*; seed=1 "):
        resume(run, toy_data(20), epochs=3, batch_size=8, seed=1)
    with pytest.raises(CheckpointError, match=r"schedule=.*'learning_rate': 0.5"):
        resume(run, toy_data(20), learning_rate=0.5)


def test_resuming_with_a_misspelled_task_option_is_refused(toy_data: Any, run: Path) -> None:
    with pytest.raises(OptionError, match="no option 'mapps'; did you mean 'maps'"):
        resume(run, toy_data(20), task_options={"mapps": True})


def test_resuming_with_the_same_settings_repeated_continues(toy_data: Any, run: Path) -> None:
    stored = asdict(FitConfig.read(run))
    resume(run, **{**stored, "data": toy_data(20)})
    # As a user writes them: some of the options, epochs of milestones as integers.
    resume(run, toy_data(20), task="toy", **RUN)


def test_resuming_without_settings_takes_all_from_the_run(toy_data: Any, run: Path) -> None:
    before = (run / "config.json").read_bytes()
    model = resume(run, toy_data(20))
    assert not model.task.augment
    assert (run / "config.json").read_bytes() == before


@dataclass(frozen=True)
class Named:
    """Fields that JSON has no type for: tuples, also within others."""

    names: tuple[str, ...] = ("red", "green")
    table: tuple[tuple[int, ...], ...] = ((1, 2), (3,))


def test_resuming_with_a_task_object_whose_options_are_tuples_continues(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    @dataclass(frozen=True)
    class WithNames(Toy, Named):
        pass

    for _ in range(2):
        fit_toy(
            toy_data(20),
            task=WithNames(augment=False),
            out=tmp_path / "run",
            resume=(tmp_path / "run").exists(),
            **QUICK,
        )
    with pytest.raises(CheckpointError, match=r"task_options=.*'blue'"):
        fit_toy(
            toy_data(20),
            task=WithNames(names=("blue",)),
            out=tmp_path / "run",
            resume=True,
            **QUICK,
        )


def test_a_run_on_data_in_memory_requires_it_again(run: Path) -> None:
    with pytest.raises(CheckpointError, match="data in memory: pass the same data again"):
        resume(run, None)


def test_a_run_on_a_path_finds_its_data_again(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    class FromFile(Toy):
        def read(self, data: Any, **options: Any) -> Any:
            images, targets = (np.load(data)[key] for key in ("images", "targets"))
            return super().read(list(zip(images, targets.tolist(), strict=True)), **options)

    images, targets = zip(*toy_data(20), strict=True)
    np.savez(tmp_path / "data.npz", images=np.stack(images), targets=np.array(targets))
    task = FromFile(augment=False)
    first = fit_toy(tmp_path / "data.npz", task=task, out=tmp_path / "run", **QUICK)
    assert FitConfig.read(tmp_path / "run").data == str(tmp_path / "data.npz")
    again = fit_toy(None, task=task, out=tmp_path / "run", resume=True, **QUICK)
    assert again.facts == first.facts
    (tmp_path / "data.npz").rename(tmp_path / "moved.npz")
    moved = fit_toy(tmp_path / "moved.npz", task=task, out=tmp_path / "run", resume=True, **QUICK)
    assert moved.facts == first.facts
    assert FitConfig.read(tmp_path / "run").data == str(tmp_path / "moved.npz")


def test_a_run_on_cuda_is_not_silently_resumed_on_a_cpu(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_toy(toy_data(20), out=tmp_path / "run", **QUICK)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "device": "cuda"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="torch finds no CUDA device here"):
        resume(tmp_path / "run", toy_data(20), task="toy")


def test_resuming_with_data_of_more_classes_is_refused_in_one_line(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    class Counting(Toy):
        def bind(self, train: Any) -> Any:
            return replace(self, classes=1 + max(train.target(i) for i in range(len(train))))

    task = Counting(augment=False)
    fit_toy(toy_data(20), task=task, out=tmp_path / "run", **QUICK)
    more = [*toy_data(20), *((image, 3) for image, _ in toy_data(5, seed=9))]
    for allowed, words in ((False, "classes=4 instead of 3"), (True, "does not fit the network")):
        with pytest.raises(CheckpointError, match=words) as caught:
            again = {"resume": True, "allow_changed_data": allowed, **QUICK}
            fit_toy(more, task=task, out=tmp_path / "run", **again)
        assert "\n" not in str(caught.value)


def test_a_custom_schedule_must_be_passed_again_to_resume(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    @schedule
    def mine(stages: Any, epochs: int, *, rate: float = 0.1) -> Any:
        yield Phase(epochs, "head", rate)

    fit_toy(toy_data(20), schedule=mine, epochs=1, out=tmp_path / "run")
    fit_toy(toy_data(20), schedule=mine, epochs=1, out=tmp_path / "run", resume=True)
    with pytest.raises(PluginError, match="no schedule 'mine'"):
        resume(tmp_path / "run", toy_data(20))
    with pytest.raises(CheckpointError, match=r"schedule=.*'rate': 0\.2"):
        fit_toy(toy_data(20), schedule=mine(rate=0.2), epochs=1, out=tmp_path / "run", resume=True)
