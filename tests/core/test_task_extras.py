"""Optional methods of tasks: batch sampler, two passes, values from results, model methods."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import visiongraft
from visiongraft.data.loader import checked_batches, shard_batches, shuffled_batches
from visiongraft.errors import PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.model import TransferModel
from visiongraft.network import InferenceGraph
from visiongraft.seeds import mix_seed
from visiongraft.training.resuming.checkpoint import Checkpoint

QUICK = {"schedule": "full", "epochs": 2, "batch_size": 6}


class Recorded:
    """Records which samples each step trained on."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.steps = 0
        self.stop_at = stop_at

    @hookimpl
    def step_ended(self) -> None:
        self.steps += 1
        if self.steps == self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture
def Grouped(Toy: Any) -> Any:
    @dataclass(frozen=True)
    class Grouped(Toy):
        """Each batch holds the samples of one color only, some of them twice."""

        fault: str = ""

        def batch_sampler(self, samples, batch_size, processes, *, seed, epoch):
            colors = [samples.target(i) for i in range(len(samples))]
            first = mix_seed(seed, epoch) % 3
            own = [[i for i, c in enumerate(colors) if c == (first + k) % 3] for k in range(3)]
            batches = [some[:batch_size] + some[:1] for some in own]
            if self.fault == "empty":
                return []
            return shard_batches(batches, processes + (self.fault == "divided"))

        def training_step(self, network, batch):
            SEEN.append(batch.targets.tolist())
            return super().training_step(network, batch)

    SEEN.clear()
    return Grouped


SEEN: list[list[int]] = []


def test_a_task_deals_its_own_batches(fit_toy, toy_data, Grouped):
    fit_toy(toy_data(40), task=Grouped(augment=False), replay=False, **QUICK)
    assert len(SEEN) == 6  # three batches an epoch, however many samples there are
    assert all(len(set(colors)) == 1 and len(colors) == 7 for colors in SEEN)
    assert {colors[0] for colors in SEEN[:3]} == {0, 1, 2}


def test_without_own_batches_all_samples_are_dealt_at_random(Toy, toy_data):
    samples = Toy().read_evaluation(toy_data(9))
    assert Toy().batch_sampler(samples, 4, 1, seed=0, epoch=0) is None
    batches = shard_batches(shuffled_batches(9, 4, seed=0, epoch=0), 2)
    assert sorted(i for batch in batches for part in batch for i in part) == list(range(9))


def test_a_killed_run_deals_the_same_again(tmp_path: Path, fit_toy, toy_data, Grouped):
    settings = {**QUICK, "checkpoint_every": 1, "replay": False}
    task = Grouped(augment=False)
    fit_toy(toy_data(40), task=task, out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        fit_toy(
            toy_data(40),
            task=task,
            out=tmp_path / "run",
            callbacks=[Recorded(stop_at=4)],
            **settings,
        )
    fit_toy(toy_data(40), task=task, out=tmp_path / "run", resume=True, **settings)
    ends = [
        Checkpoint.read(tmp_path / name / "checkpoints" / "last.safetensors").tensors["network"]
        for name in ("whole", "run")
    ]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "no batch"),
        ([[[0]], [[]]], "a batch without samples"),
        ([[[0], [1]]], "a batch in 2 shards for 1 processes"),
        ([[[0, 9]]], "position 9 of 9 samples"),
        ([[[-1]]], "position -1 of 9 samples"),
    ],
)
def test_faulty_batches_are_reported_as_the_tasks_own(batches: Any, words: str) -> None:
    with pytest.raises(PluginError, match=f"task 'toy' returned {words}; see Task.batch_sampler"):
        checked_batches(batches, 9, 1, "toy")
    assert checked_batches([[[0, 8], []]], 9, 2, "toy") == [[[0, 8], []]]


@pytest.mark.parametrize("fault", ["empty", "divided"])
def test_a_run_with_faulty_batches_stops_in_one_line(fit_toy, toy_data, Grouped, fault: str):
    with pytest.raises(PluginError, match=r"returned .*; see Task.batch_sampler"):
        fit_toy(toy_data(40), task=Grouped(augment=False, fault=fault), **QUICK)


def test_a_task_may_look_at_an_image_and_its_mirror_image(fit_toy, toy_data, Toy, toy_network):
    class Twice(Toy):
        def inference_step(self, network, images):
            looks = [network.head(network.backbone(x)) for x in (images, images.flip(3))]
            return torch.stack(looks).mean(0)

    network = toy_network.eval()
    images = torch.rand(4, 3, 16, 16)
    sizes = torch.full((4, 2), 16)
    once = network.decode(images, sizes)["scores"]
    network.task = Twice()
    twice, mirrored = (network.decode(x, sizes)["scores"] for x in (images, images.flip(3)))
    assert torch.allclose(twice, mirrored, atol=1e-6)
    assert not torch.allclose(once, twice, atol=1e-5)
    raw = torch.randint(0, 256, (2, 20, 24, 3), dtype=torch.uint8)
    graph = InferenceGraph(network)  # what is exported looks twice as well
    decoded = network.decode(network.preprocess(raw), sizes[:2])["scores"]
    assert torch.equal(graph(raw)["scores"], decoded)


def test_replay_is_refused_where_recorded_features_are_not_what_the_task_looks_at(
    fit_toy, toy_data, Toy, tmp_path
):
    class Twice(Toy):
        def inference_step(self, network, images):
            return network.head(network.backbone(images)) + network.head(
                network.backbone(images.flip(3))
            )

    settings = {"schedule": "linear_probe", "epochs": 2, "out": tmp_path / "run"}
    fit_toy(toy_data(30), task=Twice(augment=False), **settings)
    assert (
        "no replay: the task reads the images themselves"
        in (tmp_path / "run" / "run.log").read_text()
    )


@pytest.fixture
def Learning(Toy: Any) -> Any:
    @dataclass(frozen=True)
    class Learning(Toy):
        """Stores the accuracy of the best epoch, and defines two model methods."""

        fraction: float | None = None
        name = "learning"

        def after_training(self, results):
            return replace(self, fraction=results["share_right"])

        def metadata(self):
            return {"fraction": self.fraction}

        def model_methods(self):
            return {"count": count, "brightest": lambda model, images, most=1: most}

    return Learning


@pytest.fixture
def Tuned(Toy: Any) -> Any:
    class Tuned(Toy):
        name = "tuned"
        schedule_options: ClassVar = {"batch_norm": "train", "layer_decay": 0.5}

    return Tuned


def test_options_of_schedules_that_suit_a_task_give_way_to_the_users(
    Tuned: Any, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    schedule = "full(layer_decay=0.9)"
    settings = {**QUICK, "task": Tuned(), "schedule": schedule, "out": tmp_path / "run"}
    fit_toy(toy_data(20), **settings)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["schedule"]["options"]
    assert stored == {"batch_norm": "train", "layer_decay": 0.9}
    fit_toy(toy_data(20), **settings, resume=True)


def test_options_that_a_schedule_does_not_have_do_not_matter(
    Tuned: Any, fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tuned, "schedule_options", {"layer_decay": 0.5, "probe_epochs": 0})
    for schedule, options in (
        ("full", {"layer_decay": 0.5}),
        ("lp_ft", {"layer_decay": 0.5, "probe_epochs": 0}),
    ):
        out = tmp_path / schedule
        fit_toy(toy_data(20), **{**QUICK, "task": Tuned(), "schedule": schedule, "out": out})
        assert json.loads((out / "config.json").read_text())["schedule"]["options"] == options


def count(model: TransferModel, images: Any) -> int:
    """Count images."""
    return len(model.predict(images))


def test_what_training_has_shown_is_saved_with_the_model(tmp_path, fit_toy, toy_data, Learning):
    task, folder = Learning(augment=False), tmp_path / "run"
    model = fit_toy(toy_data(40), task=task, out=folder)
    shown = model.facts["metrics"]["share_right"]
    assert model.task.fraction == shown
    assert task.fraction is None
    assert visiongraft.load(folder, task=Learning).task.fraction == shown
    resumed = fit_toy(toy_data(40), task=task, out=folder, resume=True)
    assert resumed.task.fraction == shown


def test_verbs_are_methods_of_the_model(fit_toy, toy_data, toy_network, Learning):
    toy_network.task = Learning()
    model = TransferModel(toy_network)
    images = [image for image, _ in toy_data(5)]
    assert model.count(images) == 5
    assert model.brightest(images, most=3) == 3
    assert {"count", "brightest", "predict"} <= set(dir(model))
    with pytest.raises(AttributeError, match="a model has no 'cuont'; did you mean 'count'"):
        model.cuont(images)
    assert copy.copy(model).count(images) == 5


def test_without_verbs_a_missing_attribute_is_missing(toy_network):
    model = TransferModel(toy_network)
    with pytest.raises(AttributeError, match="a model has no 'identify'"):
        model.identify([])
    assert not hasattr(TransferModel.__new__(TransferModel), "network")


def test_a_task_may_declare_its_input_size(fit_toy, toy_data, Toy):
    class Small(Toy):
        input_size = (24, 24)

    settings = {"backbone": "simple_cnn", "schedule": "linear_probe", "epochs": 1}
    sizes = [
        fit_toy(
            toy_data(30), task=kind(augment=False), size=size, **settings
        ).backbone_info.preprocess.size
        for kind, size in ((Small, None), (Small, 32))
    ]
    assert sizes == [(24, 24), (32, 32)]
