"""Replay: what is stored is enough, as little as possible, and gives the same training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from visiongraft.backbone import load_backbone
from visiongraft.errors import ReplayError
from visiongraft.folding import folded_copy
from visiongraft.freezing import apply_phase
from visiongraft.network import Batch, Network
from visiongraft.progress import Checkpoint
from visiongraft.replay import Replay, plan_replay
from visiongraft.schedules import Phase


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


@pytest.mark.parametrize("maps", [False, True], ids=["pooled", "maps"])
@pytest.mark.parametrize("views", [None, 3], ids=["plain", "views"])
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
    """The comparison above would notice: here one stored picture is spoilt."""
    fit_toy(toy_data(40), out=tmp_path / "good", epochs=2, schedule="linear_probe")
    record = Replay.record

    def spoilt(self, name, rows, batches):
        store = record(self, name, rows, batches)
        store.arrays[0][0] += 1.0
        return store

    monkeypatch.setattr(Replay, "record", spoilt)
    fit_toy(toy_data(40), out=tmp_path / "bad", epochs=2, schedule="linear_probe")
    one, other = last_weights(tmp_path / "good"), last_weights(tmp_path / "bad")
    assert (one["head.linear.weight"] - other["head.linear.weight"]).abs().max() > 1e-4


def test_half_precision_stores_half_as_much_and_trains_nearly_alike(tmp_path, fit_toy, toy_data):
    for dtype in ("float32", "float16"):
        fit_toy(toy_data(40), out=tmp_path / dtype, schedule="linear_probe", replay_dtype=dtype)
    one, other = last_weights(tmp_path / "float32"), last_weights(tmp_path / "float16")
    difference = (one["head.linear.weight"] - other["head.linear.weight"]).abs().max()
    assert 0 < difference < 0.02
    logs = [(tmp_path / dtype / "run.log").read_text() for dtype in ("float32", "float16")]
    assert "48 B a picture" in logs[0]
    assert "24 B a picture" in logs[1]


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), FAMILIES, ids=[n for n, _ in FAMILIES])
@pytest.mark.parametrize("depth", ["head", "last", "middle"])
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
    # Running statistics as after some training, so that the features differ between pictures.
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
    assert list(tmp_path.iterdir()) == []  # the store is gone


def _with_list(batch: Batch) -> Batch:
    return Batch(batch.images, batch.targets.tolist(), batch.sizes, batch.indices)


def test_only_what_the_rest_of_the_network_reads_is_stored(toy_network, Toy):
    apply_phase(toy_network, Phase(2, "head"))
    pooled = plan_replay(toy_network, random_batch(toy_network))
    assert pooled.bytes_per_picture == 12 * 4  # the embedding, not the maps
    on_maps = Network(toy_network.backbone, Toy(maps=True))
    apply_phase(on_maps, Phase(2, "head"))
    plan = plan_replay(on_maps, random_batch(on_maps))
    assert plan.bytes_per_picture == 8 * 4 * 4 * 4  # the one map, (8, 4, 4), that the head reads


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
        ({"epochs": 1}, "a single epoch does not pay"),
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


def test_folded_batch_norms_give_the_same_features(toy_network):
    backbone = toy_network.backbone
    images = random_batch(toy_network).images
    backbone.train()
    for _ in range(3):
        backbone(images)  # statistics that differ from the start
    backbone.eval()
    folded = folded_copy(backbone, images)
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(folded(images).pooled, backbone(images).pooled)
