"""Frames exchange channels with their neighbors, in front of residual blocks, within their clip."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import visiongraft
from visiongraft.adaptation.backbones import apply_adapter
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.exported import open_exported
from visiongraft.lookup.methods import find_adapter
from visiongraft.plugins.video.example import make_dataset
from visiongraft.plugins.video.shift import shifted
from visiongraft.plugins.video.task import Video

NAME = "timm/test_resnet"


def plain() -> Backbone:
    """Return a network whose residual branches count from the start, which timm's begin by not doing."""
    torch.manual_seed(0)
    backbone = load_backbone(NAME, weights=None, size=32)
    for parameter in backbone.parameters():
        if parameter.ndim == 1:
            torch.nn.init.ones_(parameter)
    return backbone.eval()


def adapted(tsm: str = "tsm") -> Backbone:
    backbone = plain()
    apply_adapter(backbone, find_adapter(tsm))
    return backbone.eval()


def pooled(backbone: Backbone, clips: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = backbone(clips).pooled
    return found


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("part", [3, 8, 100])
def test_channels_come_from_the_frame_before_and_after(length: int, part: int) -> None:
    frames = torch.randn(2 * length, 24, 3, 4)
    expected = frames.clone()
    count = 24 // part if length > 1 else 0
    for clip in range(2):
        for i in range(length):
            at = clip * length + i
            before = frames[at - 1, :count] if i else 0.0
            after = frames[at + 1, count : 2 * count] if i < length - 1 else 0.0
            expected[at, :count] = before
            expected[at, count : 2 * count] = after
    assert torch.equal(shifted(frames, length, part), expected)


def test_the_order_of_frames_matters_by_the_shift_alone() -> None:
    clips = torch.randn(1, 4, 3, 32, 32)
    for backbone, matters in ((plain(), False), (adapted(), True)):
        one, other = (pooled(backbone, x).mean(1) for x in (clips, clips.flip(1)))
        assert torch.allclose(one, other, atol=1e-5) is not matters


def test_single_images_are_seen_as_before() -> None:
    images, backbone = torch.randn(3, 3, 32, 32), adapted()
    pooled(backbone, images[None])
    assert torch.equal(pooled(backbone, images), pooled(plain(), images))


def test_nothing_passes_from_one_clip_to_the_next() -> None:
    backbone, clips = adapted("tsm(frames=3)"), torch.randn(2, 6, 3, 32, 32)
    parts = [pooled(backbone, part) for part in clips.chunk(2, 1)]
    assert torch.allclose(pooled(backbone, clips), torch.cat(parts, 1), atol=1e-5)
    with pytest.raises(OptionError, match="samples have 4 frames, which is no multiple of it"):
        pooled(backbone, clips[:, :4])


def test_a_copy_counts_its_own_frames() -> None:
    backbone, clips = adapted(), torch.randn(2, 4, 3, 32, 32)
    copy = deepcopy(backbone)
    expected = pooled(backbone, clips)
    pooled(backbone, clips[:, :2])
    assert torch.equal(pooled(copy, clips), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simple_cnn", "finds no residual blocks of convolutions in simple_cnn"),
        ("torchvision_video/r3d_18", "is for backbones for images; torchvision_video/r3d_18 takes"),
    ],
)
def test_backbones_that_cannot_be_shifted_are_refused(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        apply_adapter(load_backbone(name, weights=None, size=32), find_adapter("tsm"))


@pytest.mark.parametrize("wrong", ["tsm(part=1)", "tsm(frames=1)", "tsm(frames='all')"])
def test_invalid_options_are_refused(wrong: str) -> None:
    with pytest.raises(OptionError, match=r"part|frames"):
        find_adapter(wrong)


SETTINGS: dict[str, Any] = {
    "backbone": NAME,
    "weights": None,
    "size": 32,
    "batch_size": 8,
    "device": "cpu",
    "callbacks": (),
    "workers": 0,
    "epochs": 1,
    "schedule": "full",
}


def clips_for(task: Video) -> list[Any]:
    return make_dataset(Path(), 12, 0, (), task.inputs)


def test_a_shift_from_one_clip_into_the_next_is_refused() -> None:
    task = Video(frames=2, clips=2)
    with pytest.raises(OptionError, match=r"but clips have 2; pass tsm\(frames=2\)"):
        visiongraft.fit(clips_for(task), task=task, adapters="tsm", **SETTINGS)


def test_a_saved_model_keeps_the_shift(tmp_path: Path) -> None:
    task = Video(frames=4, temporal="mean")
    data = clips_for(task)
    model = visiongraft.fit(data, task=task, adapters="tsm", **SETTINGS)
    model.save(tmp_path / "model")
    loaded = visiongraft.load(tmp_path / "model")
    assert [choice.name for choice in loaded.network.backbone.adapters] == ["tsm"]
    clips = torch.randn(2, 4, 3, 32, 32)
    expected = pooled(model.network.backbone.eval(), clips)
    assert torch.equal(pooled(loaded.network.backbone, clips), expected)


def test_recomputed_activations_are_shifted_alike(tmp_path: Path) -> None:
    task = Video(frames=4, temporal="mean")
    settings = {**SETTINGS, "adapters": "tsm", "task": task}
    models = [
        visiongraft.fit(clips_for(task), gradient_checkpointing=on, **settings)
        for on in (False, True)
    ]
    one, other = (model.network.state_dict() for model in models)
    assert all(torch.allclose(tensor, other[name], atol=1e-6) for name, tensor in one.items())


@pytest.mark.exhaustive
def test_an_exported_file_shifts_without_pytorch(tmp_path: Path) -> None:
    task = Video(frames=2, clips=2, temporal="mean")
    data = clips_for(task)
    model = visiongraft.fit(data, task=task, adapters="tsm(frames=2)", **SETTINGS)
    certificate = model.export(tmp_path / "model.onnx")
    assert certificate.mismatches == 0
    opened = open_exported(tmp_path / "model.onnx")
    clips = [clip for clip, _ in data[:3]]
    expected, found = model.predict(clips), opened.predict(clips)
    assert [one.label for one in found] == [one.label for one in expected]
    assert np.allclose([x.score for x in found], [x.score for x in expected], atol=1e-4)
