"""Feature caches that runs share: found for equal images and weights, and for nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from visiongraft.backbone import Backbone, Features
from visiongraft.caching import shared
from visiongraft.caching.images import CachedImages
from visiongraft.caching.store import Replay, Store
from visiongraft.data.findings import content_digest
from visiongraft.data.samples import FileSamples
from visiongraft.lookup.backbones import load_backbone
from visiongraft.training.batches import filling
from visiongraft.training.batches.filling import DistinctImages

IMAGES = 40
FEW = 30  # more than trial and comparison compute, which do not depend on the number of images

Train = Callable[..., dict[str, Tensor]]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the images that the backbone computes features of, by pass."""
    kind = type(load_backbone("toys/toy", None))
    forward, counts = kind.forward, list[int]()

    def counted(self: Backbone, images: Tensor) -> Features:
        if not isinstance(images, CachedImages) and not images.isnan().any():
            counts.append(len(images))
        features: Features = forward(self, images)
        return features

    monkeypatch.setattr(kind, "forward", counted)
    return counts


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that are recorded, by set."""
    record, counts = Replay.record, list[int]()

    def counted(self: Replay, name: str, rows: int, *further: Any) -> Store:
        counts.append(rows)
        return record(self, name, rows, *further)

    monkeypatch.setattr(Replay, "record", counted)
    return counts


@pytest.fixture
def train(fit_toy: Any, toy_data: Any, caplog: pytest.LogCaptureFixture) -> Train:
    """Train a head on cached features and return its weights."""
    caplog.set_level(logging.INFO, "visiongraft")

    def train(data: Any = None, **settings: Any) -> dict[str, Tensor]:
        data = toy_data(IMAGES) if data is None else data
        settings = {"schedule": "linear_probe", "epochs": 1, "replay": True, **settings}
        model = fit_toy(data, **settings)
        return dict(model.network.head.state_dict())

    return train


@pytest.fixture(scope="module")
def pretrained(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Save a model whose backbone has weights of its own."""
    folder = tmp_path_factory.mktemp("pretrained")
    fit_toy(toy_data(6), epochs=1, schedule="full").save(folder / "model")
    return str(folder / "model")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_second_run_computes_no_features_and_ends_with_the_same_weights(
    train: Train, computed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    first = train()
    assert sum(computed) > IMAGES
    assert "reusing" not in caplog.text
    computed.clear()
    assert equal(train(), first)
    assert sum(computed) < FEW
    assert "replay: reusing the shared cache, 1.92 kB (48 B per image" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        pytest.param({"validation": 0.5}, marks=pytest.mark.exhaustive),
        pytest.param({"epochs": 3}, marks=pytest.mark.exhaustive),
        pytest.param({"batch_size": 5}, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_a_run_with_another_split_or_schedule_computes_no_features(
    train: Train, computed: list[int], pretrained: str, settings: dict[str, Any]
) -> None:
    train(backbone=pretrained, weights="pretrained")
    computed.clear()
    train(backbone=pretrained, weights="pretrained", **settings)
    assert sum(computed) < FEW


def test_features_are_equal_whether_or_not_they_are_shared(train: Train) -> None:
    assert equal(train(replay_shared=False), train(replay_shared=True))


def test_without_sharing_nothing_is_written_and_nothing_is_read(
    train: Train, computed: list[int]
) -> None:
    train(replay_shared=False)
    assert not shared.shared_folder().exists()
    train()
    computed.clear()
    train(replay_shared=False)
    assert sum(computed) > IMAGES


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        pytest.param({"replay_dtype": "float16"}, marks=pytest.mark.exhaustive),
        pytest.param({"resize": "stretch"}, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_other_weights_types_and_sizes_are_computed_anew(
    train: Train, computed: list[int], settings: dict[str, Any]
) -> None:
    train()
    computed.clear()
    train(**settings)  # another seed draws other random weights
    assert sum(computed) > IMAGES


def test_another_image_is_computed_anew(train: Train, computed: list[int], toy_data: Any) -> None:
    data = toy_data(IMAGES)
    train(data)
    data[7][0][0, 0] += 1
    computed.clear()
    train(data)
    assert sum(computed) > IMAGES


def test_other_labels_of_the_same_images_share_their_features(
    train: Train, computed: list[int], toy_data: Any
) -> None:
    data = toy_data(IMAGES)
    first = train(data)
    computed.clear()
    others = train([(image, (target + 1) % 3) for image, target in data])
    assert sum(computed) < FEW
    assert not equal(first, others)


def test_of_augmented_data_only_validation_images_are_shared(
    train: Train, recorded: list[int], Toy: Any
) -> None:
    settings: dict[str, Any] = {"task": Toy(augment=True), "views": 2, "schedule": "last_n(n=1)"}
    first = train(**settings)
    (entry,) = shared.entries(shared.shared_folder())
    assert entry.about["images"] == 9
    recorded.clear()
    assert equal(train(**settings), first)
    assert recorded == [2 * 31]


def test_an_evaluation_set_is_shared_by_itself(
    train: Train, recorded: list[int], toy_data: Any
) -> None:
    train()
    recorded.clear()
    train(evaluate_on={"more": toy_data(6, seed=5)})
    assert recorded == [6]


def test_features_of_a_backbone_that_the_run_has_trained_are_not_left_for_others(
    train: Train, recorded: list[int], Toy: Any
) -> None:
    class Refitting(Toy):
        refits_head = True

        def start_head(self, head: Any, samples: Any, first: Any = None) -> None: ...

    train(task=Refitting(), epochs=3, schedule="lp_ft(refit=True)")
    assert len(recorded) == 2  # in the first phase, and in the last
    assert len(shared.entries(shared.shared_folder())) == 1


def test_equal_images_are_stored_once(train: Train, toy_data: Any) -> None:
    train([*toy_data(IMAGES), *toy_data(IMAGES)])
    (entry,) = shared.entries(shared.shared_folder())
    assert entry.about["images"] == IMAGES


# ---- what must not be believed ----


def entry_values() -> Path:
    (entry,) = shared.entries(shared.shared_folder())
    return entry.path / "values-0.npy"


def test_damaged_features_are_computed_anew(train: Train, computed: list[int]) -> None:
    first = train()
    content = entry_values().read_bytes()
    entry_values().write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    computed.clear()
    assert equal(train(), first)
    assert sum(computed) > IMAGES


def test_features_that_disagree_with_the_network_are_computed_anew(
    train: Train, computed: list[int], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """As if the key did not contain everything that they depend on: here it contains nothing."""
    monkeypatch.setattr(filling, "features_key", lambda *_: "same")
    train()
    computed.clear()
    other = train(seed=1)
    assert "shared features disagree with the network" in caplog.text
    assert sum(computed) > IMAGES
    assert equal(other, train(seed=1, replay_shared=False))


def test_features_of_files_that_change_meanwhile_are_not_shared(
    train: Train, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(DistinctImages, "have_changed", lambda self: True)
    train()
    assert "images have changed since the run began" in caplog.text
    assert shared.entries(shared.shared_folder()) == []


def test_changed_files_are_noticed(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(path.name.encode())
    digests = {"train": [content_digest(path.read_bytes()) for path in paths]}
    images = DistinctImages.of({"train": FileSamples(paths, [0, 1])}, digests)
    assert not images.have_changed()
    paths[1].write_bytes(b"other")
    assert images.have_changed()


def test_images_that_differ_when_they_are_loaded_again_are_not_shared(
    train: Train, toy_data: Any
) -> None:
    class Restless(list[Any]):
        """Adds noise of its own."""

        def __getitem__(self, index: Any) -> Any:
            image, target = super().__getitem__(index)
            return image + np.random.randint(0, 2, image.shape, dtype=np.uint8), target

    train(Restless((image // 2, target) for image, target in toy_data(IMAGES)))
    assert not shared.shared_folder().exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VISIONGRAFT_CACHE", str(tmp_path / "file"))
    train()
    assert "features are not shared: " in caplog.text


def test_features_larger_than_the_limit_are_not_shared(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "LIMIT", IMAGES * 48 - 1)
    train()
    assert list(shared.shared_folder().iterdir()) == []


def test_the_users_folder_is_private(train: Train) -> None:
    train()
    assert os.stat(shared.shared_folder()).st_mode & 0o777 == 0o700
