"""Replay: what is stored is sufficient, as little as possible, and leads to the same training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import Features
from visiongraft.caching.plan import ReplayPlan, plan_replay
from visiongraft.caching.store import Replay
from visiongraft.data.batch import Batch
from visiongraft.errors import ReplayError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.trainable import apply_phase


def random_batch(network: Network, count: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(0)
    config = network.preprocess.config
    images = torch.randn(count, len(config.mean), *config.size, generator=generator)
    sizes = torch.full((count, 2), 50)
    return Batch(images, torch.arange(count) % 3, sizes, torch.arange(count))


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors").tensors["network"]


def replayed_phases(folder: Path) -> list[bool]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["replayed"] for line in lines]


SCHEDULE = "gradual(probe_learning_rate=0.05, learning_rate=0.02)"


@pytest.mark.parametrize(
    ("views", "maps"),
    [
        (None, False),
        (3, True),
        pytest.param(None, True, marks=pytest.mark.exhaustive),
        pytest.param(3, False, marks=pytest.mark.exhaustive),
    ],
)
def test_training_with_replay_equals_training_without(
    tmp_path, fit_toy, toy_data, Toy, maps, views
):
    task = Toy(augment=views is not None, maps=maps)
    # SGD: Adam divides by tiny second moments, which blows rounding differences up.
    settings: dict[str, Any] = {"task": task, "schedule": SCHEDULE, "epochs": 8, "views": views}
    settings["optimizer"] = "sgd"
    for name, replay in (("with", True), ("without", False)):
        fit_toy(toy_data(40), out=tmp_path / name, replay=replay, **settings)
    # All phases but the last, which trains everything, have something to replay.
    assert replayed_phases(tmp_path / "with") == [True] * 6 + [False] * 2
    assert not any(replayed_phases(tmp_path / "without"))
    one, other = last_weights(tmp_path / "with"), last_weights(tmp_path / "without")
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4)


def test_a_wrong_stored_value_changes_training(tmp_path, fit_toy, toy_data, monkeypatch):
    """The comparison above can fail: here one stored image is corrupted."""
    settings: dict[str, Any] = {"epochs": 2, "schedule": "linear_probe", "replay_shared": False}
    fit_toy(toy_data(40), out=tmp_path / "good", **settings)
    record = Replay.record

    def spoilt(self, name, rows, batches, folder=None):
        store = record(self, name, rows, batches, folder)
        store.arrays[0][0] += 1.0
        return store

    monkeypatch.setattr(Replay, "record", spoilt)
    fit_toy(toy_data(40), out=tmp_path / "bad", **settings)
    one, other = last_weights(tmp_path / "good"), last_weights(tmp_path / "bad")
    assert (one["head.linear.weight"] - other["head.linear.weight"]).abs().max() > 1e-4


def test_half_precision_stores_half_as_much_and_trains_nearly_alike(tmp_path, fit_toy, toy_data):
    for dtype in ("float32", "float16"):
        fit_toy(toy_data(40), out=tmp_path / dtype, schedule="linear_probe", replay_dtype=dtype)
    one, other = last_weights(tmp_path / "float32"), last_weights(tmp_path / "float16")
    difference = (one["head.linear.weight"] - other["head.linear.weight"]).abs().max()
    assert 0 < difference < 0.02
    logs = [(tmp_path / dtype / "run.log").read_text() for dtype in ("float32", "float16")]
    assert "48 B per image" in logs[0]
    assert "24 B per image" in logs[1]


FAMILIES = [
    ("timm/resnet18", 64),
    ("timm/efficientnet_lite0", 64),
    ("timm/mobilenetv3_small_050", 64),
    ("timm/densenet121", 64),
    ("timm/convnext_atto", 64),
    ("timm/vit_tiny_patch16_224", 64),
    ("timm/swin_tiny_patch4_window7_224", 64),
    ("torchvision/mobilenet_v2", 64),
]


QUICK_FAMILIES = ("timm/efficientnet_lite0", "timm/vit_tiny_patch16_224")


def family_at(name: str, size: int, depth: str) -> Any:
    ordinary = depth == "last" and name in QUICK_FAMILIES
    marks = pytest.mark.slow if ordinary else pytest.mark.exhaustive
    return pytest.param(name, size, depth, id=f"{depth}-{name}", marks=marks)


@pytest.mark.parametrize(
    ("name", "size", "depth"),
    [family_at(*family, depth) for family in FAMILIES for depth in ("head", "last", "middle")],
)
def test_every_family_replays_at_any_stage_boundary(tmp_path, Toy, name, size, depth):
    torch.manual_seed(0)
    backbone = load_backbone(name, weights=None, size=size)
    network = Network(backbone, Toy())
    stages = backbone.stages
    trainable = {"head": "head", "last": stages[-1], "middle": stages[len(stages) // 2]}[depth]
    apply_phase(network, Phase(2, trainable))
    batch = random_batch(network, 4)
    plan = plan_replay(network, batch)
    assert not plan.reason
    # Running statistics as after some training, so that the features differ between images.
    with Replay(network, plan, tmp_path) as replay:
        store = replay.record("x", 4, iter([_with_list(batch)]))
        network.eval()
        with torch.no_grad():
            expected = network.decode(batch.images, batch.sizes)["scores"]
            with replay.playing():
                rows = [2, 0, 3]
                stand_in = replay.load(store, rows, torch.device("cpu"))
                got = network.decode(stand_in, batch.sizes[rows])["scores"]
        torch.testing.assert_close(got, expected[rows], rtol=1e-3, atol=1e-4)
    assert list(tmp_path.iterdir()) == []  # the store was deleted


def _with_list(batch: Batch) -> Batch:
    return Batch(batch.images, batch.targets.tolist(), batch.sizes, batch.indices)


def test_only_what_the_rest_of_the_network_reads_is_stored(toy_network, Toy):
    apply_phase(toy_network, Phase(2, "head"))
    pooled = plan_replay(toy_network, random_batch(toy_network))
    assert pooled.bytes_per_image == 12 * 4  # the embedding, not the maps
    on_maps = Network(toy_network.backbone, Toy(maps=True))
    apply_phase(on_maps, Phase(2, "head"))
    plan = plan_replay(on_maps, random_batch(on_maps))
    assert plan.bytes_per_image == 8 * 4 * 4 * 4  # the one map, (8, 4, 4), that the head reads


def test_planning_leaves_the_network_as_it_was(toy_network):
    apply_phase(toy_network, Phase(2, "stage2", batch_norm="train"))
    before = {n: t.clone() for n, t in toy_network.state_dict().items()}
    state = torch.get_rng_state()
    plan_replay(toy_network, random_batch(toy_network))
    assert all(torch.equal(t, before[n]) for n, t in toy_network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all("forward" not in vars(m) for m in toy_network.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in toy_network.modules())


def test_nothing_is_replayed_when_the_first_stage_trains(toy_network):
    apply_phase(toy_network, Phase(2, "all"))
    assert "no stage is frozen" in plan_replay(toy_network, random_batch(toy_network)).reason


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"replay": False}, "switched off"),
        ({"augmented": True}, "augmented at random; views=K"),
        ({"epochs": 1}, "not worthwhile for a single epoch"),
        ({"replay_budget": 100}, "over the budget of 100 B"),
    ],
)
def test_replay_is_off_with_its_reason_in_the_log(
    tmp_path, fit_toy, toy_data, Toy, settings, words
):
    options = {"epochs": 2, "schedule": "last_n(n=1)", **settings}
    options["task"] = Toy(augment=options.pop("augmented", False))
    fit_toy(toy_data(30), out=tmp_path / "run", **options)
    assert words in (tmp_path / "run" / "run.log").read_text()
    assert not any(replayed_phases(tmp_path / "run"))


def test_replay_that_is_demanded_and_impossible_is_refused(fit_toy, toy_data, Toy):
    with pytest.raises(ReplayError, match="augmented at random"):
        fit_toy(toy_data(30), task=Toy(), schedule="last_n(n=1)", replay=True)


def test_replay_that_is_demanded_stays_within_its_budget_too(fit_toy, toy_data):
    settings = {"schedule": "last_n(n=1)", "epochs": 2, "replay_budget": 100}
    with pytest.raises(ReplayError, match="over the budget of 100 B"):
        fit_toy(toy_data(30), replay=True, **settings)


# ---- backbones that are out of the ordinary ----


class Position(nn.Module):
    """Returns a learned map that does not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self) -> Tensor:
        return self.map


class WithPosition(nn.Sequential):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__(*parts, Position())

    def forward(self, images: Tensor) -> Tensor:
        for part in list(self)[:-1]:
            images = part(images)
        return images + self[-1]()


class Strongest(nn.Module):
    """Returns values and their indices, as integers."""

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        pooled, where = nn.functional.max_pool2d(maps, 2, return_indices=True)
        return pooled, where


class WithIndices(nn.Sequential):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__(*parts, Strongest())

    def forward(self, images: Tensor) -> Tensor:
        for part in list(self)[:-1]:
            images = part(images)
        pooled, where = self[-1](images)
        return nn.functional.max_unpool2d(pooled, where, 2)


class CalledTwice(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + super().forward(images.flip(-1))


class GivesWindows(nn.Module):
    """Returns four windows per image, so that rows do not correspond to images."""

    def forward(self, maps: Tensor) -> Tensor:
        n, c, h, w = maps.shape
        windows = maps.view(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3, 5)
        return windows.reshape(n * 4, c, h // 2, w // 2)


class OfWindows(nn.Sequential):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__(*parts, GivesWindows())

    def forward(self, images: Tensor) -> Tensor:
        windows = super().forward(images)
        return windows.reshape(len(images), -1, 8, 8)[:, :4]


class WithName(nn.Module):
    """Returns more than tensors."""

    def forward(self, maps: Tensor) -> tuple[Tensor, str]:
        return maps * 2, "twice"


class Named(nn.Sequential):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__(*parts, WithName())

    def forward(self, images: Tensor) -> Tensor:
        for part in list(self)[:-1]:
            images = part(images)
        return self[-1](images)[0]


class Restless(nn.Sequential):
    """Returns something else at each call."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) * self.calls


class MixesBatch(nn.Sequential):
    """Its result for an image depends on the other images of the batch."""

    def forward(self, images: Tensor) -> Tensor:
        maps = super().forward(images)
        return maps - maps.mean(0, keepdim=True)


def with_stem(network: Network, kind: Any) -> Network:
    """Replace the stem of a network by a frozen one of another kind; the rest is trained."""
    blocks: Any = network.backbone.blocks
    blocks["stem"] = kind(*blocks["stem"])
    extra = {
        n for n, _ in network.backbone.named_parameters()
    } - network.backbone.info.stage_of.keys()
    stage_of = {**dict.fromkeys(sorted(extra), "stem"), **network.backbone.info.stage_of}
    network.backbone.info = replace(network.backbone.info, stage_of=stage_of)
    apply_phase(network, Phase(2, "stage1"))
    return network


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (WithPosition, 4 * 8 * 8 * 4),  # one map of floats, and not the position
        (WithIndices, 4 * 8 * 8 * 4),
        (CalledTwice, 4 * 8 * 8 * 4),
        (OfWindows, 4 * 8 * 8 * 4),
        (Named, 4 * 8 * 8 * 4),
    ],
)
def test_an_unusual_stem_is_replayed_exactly(
    toy_network: Network, tmp_path: Path, kind: Any, stored: int
) -> None:
    network = with_stem(toy_network, kind)
    batch = random_batch(network, 4)
    plan = plan_replay(network, batch)
    assert (plan.reason, plan.bytes_per_image) == ("", stored)
    assert_replays(network, plan, batch, tmp_path)


def test_integers_are_stored_as_such(toy_network: Network, tmp_path: Path) -> None:
    """Here the module that reads the indices is trained, so that the indices must be stored."""
    network = with_stem(toy_network, WithIndices)
    last: Any = network.backbone.blocks["stem"][-1]
    gain = nn.Parameter(torch.ones(1))

    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.gain = last, gain

        def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
            pooled, where = self.frozen(maps)
            return pooled * self.gain, where

    network.backbone.blocks["stem"][-1] = Trained()
    batch = random_batch(network, 4)
    plan = plan_replay(network, batch)
    assert plan.bytes_per_image == 4 * 4 * 4 * (4 + 8)  # floats and whole numbers
    assert_replays(network, plan, batch, tmp_path)


def assert_replays(network: Network, plan: ReplayPlan, batch: Batch, folder: Path) -> None:
    with Replay(network, plan, folder) as replay, torch.no_grad():
        store = replay.record("x", 4, iter([_with_list(batch)]))
        network.eval()
        expected = network.decode(batch.images, batch.sizes)["scores"]
        with replay.playing():
            stand_in = replay.load(store, [3, 1], torch.device("cpu"))
            got = network.decode(stand_in, batch.sizes[:2])["scores"]
    torch.testing.assert_close(got, expected[[3, 1]], rtol=1e-4, atol=1e-5)


def test_a_frozen_stage_that_mixes_the_images_of_a_batch_is_never_replayed(
    toy_network: Network,
) -> None:
    """Its outputs for an image differ between batches."""
    network = with_stem(toy_network, MixesBatch)
    plan = plan_replay(network, random_batch(network, 3))
    assert plan.reason == "what is frozen mixes the images of a batch"


def test_a_frozen_stage_that_is_not_deterministic_is_never_replayed(
    toy_network: Network,
) -> None:
    plan = plan_replay(with_stem(toy_network, Restless), random_batch(toy_network))
    assert plan.reason


class Joins(nn.Sequential):
    """Takes windows, or more than tensors, and makes maps of them again."""

    def forward(self, given: Any) -> Tensor:
        maps = given[0] if isinstance(given, tuple) else given.reshape(-1, 4, 8, 8)
        joined: Tensor = super().forward(maps)
        return joined


@pytest.mark.parametrize("last", [GivesWindows, WithName])
def test_a_stage_without_one_row_of_tensors_per_image_is_replayed_by_its_parts(
    toy_network: Network, tmp_path: Path, last: type[nn.Module]
) -> None:
    toys: Any = toy_network.backbone
    toys.blocks["stage1"] = Joins(*toys.blocks["stage1"])
    network = with_stem(toy_network, lambda *parts: nn.Sequential(*parts, last()))
    toys.__class__ = type("LastMap", (type(toys),), {"forward": of_last_map})
    batch = random_batch(network, 4)
    plan = plan_replay(network, batch)
    assert [unit.name for unit in plan.units] == [f"blocks.stem.{i}" for i in range(4)]
    assert plan.bytes_per_image == 4 * 8 * 8 * 4
    assert_replays(network, plan, batch, tmp_path)


def of_last_map(toys: Any, images: Tensor) -> Features:
    """Run a toy backbone whose windows are not a feature map that a head could read."""
    for block in toys.blocks.values():
        images = block(images)
    return Features((images,), images.mean((2, 3)))


class Picky(nn.Module):
    """A head that raises an error on NaN."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Features) -> Tensor:
        if not features.pooled.isfinite().all():
            raise ValueError("not a number")
        scores: Tensor = self.head(features)
        return scores


def test_a_head_that_refuses_nan_is_replayed_too(toy_network: Network) -> None:
    toy_network.head = Picky(toy_network.head)
    apply_phase(toy_network, Phase(2, "head"))
    plan = plan_replay(toy_network, random_batch(toy_network))
    assert (plan.reason, plan.bytes_per_image) == ("", 12 * 4)


def test_a_full_disk_is_reported_with_the_remedy(
    fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "open_memmap", full)
    with pytest.raises(ReplayError, match="No space left on device; pass replay=False") as caught:
        fit_toy(toy_data(20), schedule="linear_probe", epochs=2, out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "run").glob("replay-*"))
