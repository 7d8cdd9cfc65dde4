"""Batches: what decides for or against replay, what is logged, and equal batches either way."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from visiongraft.data.batch import Batch
from visiongraft.data.images import DatasetSamples
from visiongraft.data.loader import default_workers
from visiongraft.errors import ReplayError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.schedules import Phase
from visiongraft.seeds import random_state
from visiongraft.training.batches import loaders, sources
from visiongraft.training.batches.loaders import ImageLoaders
from visiongraft.training.batches.sources import (
    CachedBatches,
    ImageBatches,
    PhaseBatches,
    choose_batches,
)
from visiongraft.training.trainable import apply_phase

TRAINING, HELD_OUT = 10, 4
ROW = 12 * 4  # the toy backbone's embedding in float32
HEAD = Phase(2, "head")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Choice(NamedTuple):
    feed: PhaseBatches
    replayed: bool
    images: ImageLoaders
    reason: str


Choose = Callable[..., Choice]


def drawn() -> str:
    """Return all random states in a form that can be compared."""
    tensors, values = random_state()
    return repr(({name: tensor.tolist() for name, tensor in tensors.items()}, values))


@pytest.fixture
def choose(
    Toy: Any, toy_data: Any, make_config: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Choose]:
    """Choose where the batches of one phase come from, with these settings."""
    caplog.set_level(logging.INFO, "visiongraft")
    with ExitStack() as phases:

        def choose(
            phase: Phase = HEAD,
            *,
            stack: ExitStack = phases,
            backbone: Any = None,
            augment: bool = False,
            maps: bool = False,
            processes: int = 1,
            decided: bool | None = None,
            **settings: Any,
        ) -> Choice:
            caplog.clear()
            torch.manual_seed(0)
            backbone = backbone or load_backbone("toys/toy", None)
            network = Network(backbone, Toy(augment=augment, maps=maps))
            apply_phase(network, phase)
            images = ImageLoaders(
                network,
                make_config(**settings),
                torch.device("cpu"),
                DatasetSamples.of(toy_data(TRAINING)),
                DatasetSamples.of(toy_data(HELD_OUT, seed=1)),
            )
            before = drawn()
            feed, replayed = choose_batches(
                images,
                phase,
                stack,
                folder=tmp_path / "scratch",
                processes=processes,
                decided=decided,
            )
            assert drawn() == before  # deciding and storing draw no random number
            (line,) = [m for m in caplog.messages if "replay" in m]
            return Choice(feed, replayed, images, line)

        yield choose


# ---- the decision ----

BUDGET = (TRAINING + HELD_OUT) * ROW


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "storing 672 B (48 B per image, float32) for 10 training and 4 validation rows"),
        ({"phase": Phase(2, "stage2")}, "512 B per image"),
        ({"phase": Phase(2, "stage1")}, "1.02 kB per image"),
        ({"augment": True, "views": 3}, "for 30 training and 4 validation rows"),
        ({"augment": True, "phase": Phase(2, "head", augment=False)}, "for 10 training"),
        ({"replay_dtype": "float16"}, "storing 336 B (24 B per image, float16)"),
        ({"replay_budget": BUDGET}, "storing 672 B"),
        ({"replay": "on", "phase": Phase(1, "head")}, "storing 672 B"),
        ({"decided": True, "phase": Phase(2, "head")}, "storing 672 B"),
    ],
    ids=lambda v: str(v)[:50],
)
def test_a_phase_is_replayed(choose: Choose, settings: dict[str, Any], reason: str) -> None:
    choice = choose(**settings)
    assert choice.replayed and isinstance(choice.feed, CachedBatches)
    assert reason in choice.reason
    assert not choice.feed.mixes


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"replay": "off"}, "switched off"),
        ({"phase": Phase(2, "all")}, "every stage trains"),
        ({"phase": Phase(2, "stem")}, "every stage trains"),
        ({"augment": True}, "augmented at random; views=K would repeat K views of each"),
        ({"processes": 2}, "2 processes share the data"),
        ({"phase": Phase(1, "head")}, "not worthwhile for a single epoch"),
        ({"replay_budget": BUDGET - 1}, "672 B is over the budget of 671 B"),
        ({"augment": True, "views": 3, "replay_budget": BUDGET}, "1.63 kB is over the budget"),
        ({"augment": True, "views": 10**8}, "48 GB is over the budget of 8 GB"),
        ({"decided": False}, "as before the interruption"),
        ({"replay": "on", "phase": Phase(2, "all")}, "every stage trains"),
        ({"phase": Phase(2, "all"), "decided": False}, "every stage trains"),
    ],
    ids=lambda v: str(v)[:50],
)
def test_a_phase_is_not_replayed(choose: Choose, settings: dict[str, Any], reason: str) -> None:
    choice = choose(**settings)
    assert not choice.replayed and isinstance(choice.feed, ImageBatches)
    assert choice.reason.startswith("no replay: ") and reason in choice.reason


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"augment": True}, "augmented at random; views=K"),
        ({"processes": 2}, "2 processes share the data"),
        ({"replay_budget": BUDGET - 1}, "over the budget"),
    ],
    ids=str,
)
def test_replay_that_is_demanded_where_it_cannot_be_is_refused(
    choose: Choose, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ReplayError, match=f"requested but is impossible: .*{words}"):
        choose(replay="on", **settings)


def test_more_than_half_of_the_free_disk_is_never_taken(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, replayed in ((2 * BUDGET, True), (2 * BUDGET - 1, False)):
        usage = Usage(10 * BUDGET, 0, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        choice = choose()
        assert choice.replayed is replayed
    assert choice.reason == "no replay: 672 B is more than half of the free 1.34 kB"


def with_wide_stem() -> Any:
    backbone: Any = load_backbone("toys/toy", None)
    backbone.blocks["stem"] = nn.Conv2d(3, 4, 1)  # its map holds more numbers than the image
    stem = {"blocks.stem.weight": "stem", "blocks.stem.bias": "stem"}
    rest = {n: s for n, s in backbone.info.stage_of.items() if s != "stem"}
    backbone.info = replace(backbone.info, stage_of={**stem, **rest})
    return backbone


def test_a_store_larger_than_the_images_is_made_on_demand_only(choose: Choose) -> None:
    choice = choose(Phase(2, "stage1"), backbone=with_wide_stem())
    assert not choice.replayed
    assert choice.reason == "no replay: 4.1 kB per image is more than the image itself (3.07 kB)"
    assert choose(Phase(2, "stage1"), backbone=with_wide_stem(), replay="on").replayed


# ---- equal runs decide equally ----


def test_the_decision_does_not_depend_on_the_clock(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances by hours at each call, as on a very busy machine."""
    cases = [
        {},
        {"phase": Phase(1, "head")},
        {"phase": Phase(2, "stage1")},
        {"augment": True, "views": 2},
        {"replay_budget": BUDGET - 1},
    ]
    calm = [(choice.replayed, choice.reason) for choice in (choose(**case) for case in cases)]
    clock = itertools.count(0.0, 36_000.0)
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        monkeypatch.setattr(time, name, lambda: next(clock))
    assert time.time() < time.monotonic()
    busy = [(choice.replayed, choice.reason) for choice in (choose(**case) for case in cases)]
    assert busy == calm


def test_what_was_decided_holds_after_an_interruption(choose: Choose) -> None:
    """Even if the disk has filled up, or has been freed, in the meantime."""
    assert choose(replay_budget=0, decided=True).replayed
    assert not choose(decided=False).replayed
    with pytest.raises(ReplayError, match="augmented at random"):
        choose(augment=True, decided=True)


def test_the_store_is_deleted_after_the_phase(choose: Choose, tmp_path: Path) -> None:
    with ExitStack() as phase:
        network = choose(stack=phase).images.network
        assert list((tmp_path / "scratch").rglob("*.npy"))
        assert "forward" in vars(network.backbone)  # it plays back
    assert list((tmp_path / "scratch").iterdir()) == []
    assert "forward" not in vars(network.backbone)


# ---- the batches ----

PLAN = [[7, 2, 9], [0, 5]]


@pytest.mark.parametrize("views", [None, 3], ids=["plain", "views"])
@pytest.mark.parametrize("maps", [False, True], ids=["pooled", "maps"])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_both_kinds_of_batches_have_the_same_samples_and_the_network_the_same_results(
    choose: Choose, views: int | None, maps: bool, epoch: int
) -> None:
    settings: dict[str, Any] = {"augment": views is not None, "views": views, "maps": maps}
    played, computed = choose(**settings), choose(replay="off", **settings)
    for part in ("train", "validation"):
        plan = PLAN if part == "train" else [[3, 0], [1]]
        rounds = [
            c.feed.train(plan, epoch) if part == "train" else c.feed.evaluation("validation", plan)
            for c in (played, computed)
        ]
        for one, other in zip(*rounds, strict=True):
            for name in ("targets", "sizes", "indices"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
            assert one.images.shape == other.images.shape
            torch.testing.assert_close(
                scores(played, one), scores(computed, other), rtol=1e-4, atol=1e-5
            )


def test_large_images_to_decode_are_split_alike_in_both_kinds_of_batches(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Network, "one_size", True)
    for module in (sources, loaders):
        monkeypatch.setattr(module, "pixels_at_once", lambda device: 1)
    for choice in (choose(), choose(replay="off")):
        batches = choice.feed.evaluation("validation", [[3, 0], [1]])
        assert [batch.indices.tolist() for batch in batches] == [[3], [0], [1]]
        assert [len(b.indices) for b in choice.feed.train(PLAN, 0)] == [len(p) for p in PLAN]


def scores(choice: Choice, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return choice.images.network.eval().decode(batch.images, batch.sizes)["scores"]


def test_views_take_turns_and_come_back(choose: Choose) -> None:
    choice = choose(augment=True, views=2, replay="off")
    images = [next(choice.feed.train([[0, 1]], epoch)).images for epoch in range(4)]
    assert torch.equal(images[0], images[2]) and torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[1])


def test_without_views_every_epoch_sees_new_images_and_only_then_are_they_mixed(
    choose: Choose,
) -> None:
    choice = choose(augment=True)
    images = [next(choice.feed.train([[0, 1]], epoch)).images for epoch in range(3)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(images, 2))
    assert choice.feed.mixes
    assert not choose(augment=True, views=2, replay="off").feed.mixes
    assert not choose(Phase(2, "head", augment=False), augment=True).feed.mixes
    assert not choose(replay="off").feed.mixes


def test_validation_images_are_never_augmented(choose: Choose) -> None:
    plain, augmented = choose(replay="off"), choose(augment=True)
    for one, other in zip(
        plain.feed.evaluation("validation", [[0, 1]]),
        augmented.feed.evaluation("validation", [[0, 1]]),
        strict=True,
    ):
        assert torch.equal(one.images, other.images)


def test_a_corrupted_store_is_detected_by_the_comparison(choose: Choose) -> None:
    played, computed = choose(), choose(replay="off")
    assert isinstance(played.feed, CachedBatches)
    played.feed.stores["train"].arrays[0][7] += 1.0
    one, other = next(played.feed.train(PLAN, 0)), next(computed.feed.train(PLAN, 0))
    assert not torch.allclose(scores(played, one), scores(computed, other), rtol=1e-4, atol=1e-5)


def test_loaders_are_made_once_and_only_if_needed(choose: Choose) -> None:
    choice = choose(replay="off")
    assert choice.images._loaders == {}
    for epoch in range(3):
        list(choice.feed.train(PLAN, epoch))
    assert len(choice.images._loaders) == 1
    loader = choice.images.loader("train")
    assert choice.images.loader("train") is loader
    assert loader._loader.num_workers == default_workers(torch.device("cpu")) == 0


def test_targets_of_any_structure_are_played_back(
    Toy: Any, toy_data: Any, make_config: Any, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Ragged(Toy):
        """Targets of differing lengths, which only the task can collate."""

        def collate(self, targets: list[Any]) -> Any:
            return [torch.tensor(target) for target in targets]

        def training_step(self, network: Network, batch: Batch) -> Any:
            outputs = network.head(network.backbone(batch.images))
            return {"sum": outputs.sum() * sum(len(target) for target in batch.targets)}

    network = Network(load_backbone("toys/toy", None), Ragged(augment=False))
    apply_phase(network, HEAD)
    data = [(image, list(range(i))) for i, (image, _) in enumerate(toy_data(6))]
    samples = DatasetSamples.of(data)
    images = ImageLoaders(network, make_config(), torch.device("cpu"), samples, samples)
    with ExitStack() as stack:
        feed, replayed = choose_batches(images, HEAD, stack, folder=tmp_path)
        (batch,) = feed.train([[4, 0, 2]], 0)
    assert replayed
    assert [target.tolist() for target in batch.targets] == [[0, 1, 2, 3], [], [0, 1]]


def test_sizes_are_printed_in_readable_units(choose: Choose) -> None:
    found = re.findall(r"[\d.]+ k?B", choose(Phase(2, "stage1")).reason)
    assert found == ["14.3 kB", "1.02 kB"]  # 14 images of 1024 bytes
