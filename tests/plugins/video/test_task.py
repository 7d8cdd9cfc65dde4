"""Videos are classified by backbones for images; heads join frames and begin as their mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

import visiongraft
from visiongraft.backbone import Features
from visiongraft.errors import OptionError
from visiongraft.model import TransferModel
from visiongraft.plugins.classification.head import ClassificationHead
from visiongraft.plugins.video.example import make_dataset
from visiongraft.plugins.video.head import TEMPORAL, VideoHead
from visiongraft.plugins.video.task import Video
from visiongraft.plugins.video.transforms import ClipTransform

SETTINGS: dict[str, Any] = {
    "backbone": "simple_cnn",
    "weights": None,
    "size": 32,
    "batch_size": 8,
    "device": "cpu",
    "callbacks": (),
}


def head_of(kind: str, frames: int = 3) -> VideoHead:
    torch.manual_seed(0)
    return VideoHead(TEMPORAL[kind](8, frames), ClassificationHead(8, 2), frames).eval()


@pytest.mark.parametrize("kind", sorted(TEMPORAL))
def test_every_way_of_joining_frames_begins_as_their_mean(kind: str) -> None:
    head, pooled = head_of(kind), torch.randn(4, 3, 8)
    expected = head.classifier(Features((), pooled.mean(1)))
    assert torch.allclose(head(Features((), pooled)), expected, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(TEMPORAL))
def test_logits_of_several_clips_are_averaged(kind: str) -> None:
    head, pooled = head_of(kind), torch.randn(2, 6, 8)
    each = [head(Features((), part)) for part in pooled.chunk(2, 1)]
    assert torch.allclose(head(Features((), pooled)), (each[0] + each[1]) / 2, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(TEMPORAL))
def test_only_a_head_that_averages_frames_is_fitted_anew_at_the_end(kind: str) -> None:
    task = Video(class_names=("a", "b"), temporal=kind)
    assert task.starts_head
    assert task.refits_head == (kind == "mean")


def test_only_the_transformer_sees_the_order_of_frames() -> None:
    pooled = torch.randn(2, 3, 8)
    for kind in TEMPORAL:
        head = head_of(kind)
        for parameter in head.temporal.parameters():
            torch.nn.init.normal_(parameter)
        forward, backward = (head(Features((), x)) for x in (pooled, pooled.flip(1)))
        assert torch.allclose(forward, backward, atol=1e-5) == (kind != "transformer")


def test_augmentation_takes_one_clip_and_changes_its_frames_alike() -> None:
    values = torch.arange(6, dtype=torch.uint8)[:, None, None, None] // 3 * 100
    video = tv_tensors.Video(values.expand(6, 3, 20, 24).clone())
    clip, target = ClipTransform((8, 8), "light", flip=True, frames=3)(video, 1)
    assert clip.shape == (3, 3, 8, 8)
    assert target == 1
    assert torch.equal(clip[0], clip[2])


def test_mixing_treats_the_frames_of_a_clip_alike() -> None:
    task = Video(class_names=("a", "b"), mixup=1.0)
    images = torch.randn(4, 1, 3, 8, 8).expand(4, 5, 3, 8, 8)
    mixed, targets = task.mix(images, torch.tensor([0, 1, 0, 1]))
    assert mixed.shape == images.shape
    assert torch.equal(mixed[:, 0], mixed[:, 4])
    assert targets.shape == (4, 2)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"temporal": "sum"}, {"sampling": "all"}])
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Video(**wrong)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TransferModel:
    task = Video(frames=2, clips=2)
    data = make_dataset(Path(), 12, 0, (), task.inputs)
    return visiongraft.fit(
        data, task=task, epochs=2, schedule="linear_probe", replay=True, **SETTINGS
    )


def test_a_linear_probe_learns_from_cached_features_of_frames(trained: TransferModel) -> None:
    # Without augmentation, rows of the cache have all frames of a video.
    assert trained.facts["metrics"]["accuracy"] >= 0.5


def test_a_model_predicts_video_files(trained: TransferModel, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    frames = make_dataset(Path(), 1, 3, (), Video(frames=4, clips=2).inputs)[0][0]
    frames = np.ascontiguousarray(frames[:, :16, :16])
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    (one,) = trained.predict(tmp_path / "a.mp4", save=tmp_path / "drawn")
    assert one.label in trained.task.metadata()["class_names"]
    assert list((tmp_path / "drawn").glob("*.jpg"))
