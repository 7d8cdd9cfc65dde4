"""Models for every task embed images in one way, and say so where they cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.backbone import Backbone
from visiongraft.errors import DataError, OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.tasks import requested_task
from visiongraft.model import TransferModel
from visiongraft.multi_task.task import MultiTask
from visiongraft.network import Network

CLASSES: dict[str, Any] = {"class_names": ["cat", "dog"]}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    loaded = load_backbone("simple_cnn", None, in_channels=3, size=32)
    whole = replace(loaded.info.preprocess, resize="stretch")  # which every task takes
    loaded.info = replace(loaded.info, preprocess=whole)
    return loaded


@pytest.fixture(scope="module")
def images() -> list[Any]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (3, 40, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("task", "options"),
    [("classification", {}), ("detection", {}), ("segmentation", {"kind": "multi_class"})],
)
def test_pooled_features_are_the_embeddings_of_most_tasks(
    backbone: Backbone, images: list[Any], task: str, options: dict[str, Any]
) -> None:
    model = TransferModel(Network(backbone, requested_task(task, CLASSES | options)).eval())
    vectors = model.embed(images, batch_size=2)
    assert vectors.shape == (3, backbone.info.embedding_dim) and vectors.dtype == np.float32
    classifier = TransferModel(Network(backbone, requested_task("classification", CLASSES)).eval())
    np.testing.assert_allclose(vectors, classifier.embed(images), atol=1e-5)


def test_several_heads_share_the_embedding_of_their_backbone(
    backbone: Backbone, images: list[Any]
) -> None:
    heads = {name: requested_task("classification", CLASSES) for name in ("one", "two")}
    model = TransferModel(Network(backbone, MultiTask(heads)).eval())
    assert model.embed(images).shape == (3, backbone.info.embedding_dim)


def test_clips_have_the_mean_of_their_frames(backbone: Backbone, images: list[Any]) -> None:
    task = requested_task("video", {**CLASSES, "frames": 2})
    model = TransferModel(Network(backbone, task).eval())
    clips = [np.stack([images[0], images[0]]), np.stack([images[0], images[1]])]
    same, mixed = model.embed(clips)
    frames = [model.embed([np.stack([each, each])])[0] for each in images[:2]]
    np.testing.assert_allclose(same, frames[0], atol=1e-5)
    np.testing.assert_allclose(mixed, np.mean(frames, axis=0), atol=1e-5)


def test_a_task_that_trains_an_embedding_returns_that(
    backbone: Backbone, images: list[Any]
) -> None:
    task = requested_task("face_embedding", {"dimension": 16})
    model = TransferModel(Network(backbone, task).eval())
    vectors = model.embed(images)
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, np.stack([each.embedding for each in model.predict(images)]))


def test_a_folder_is_embedded_in_the_order_of_its_files(
    backbone: Backbone, images: list[Any], tmp_path: Path
) -> None:
    model = TransferModel(Network(backbone, requested_task("classification", CLASSES)).eval())
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    np.testing.assert_allclose(model.embed(tmp_path), model.embed(images), atol=1e-6)


def test_what_cannot_be_embedded_is_refused(backbone: Backbone) -> None:
    model = TransferModel(Network(backbone, requested_task("classification", CLASSES)).eval())
    with pytest.raises(OptionError, match="embeds no texts"):
        model.embed(text="a cat")
    with pytest.raises(OptionError, match=r"takes images, or text"):
        model.embed()
    with pytest.raises(DataError, match="no images to embed"):
        model.embed([])
