"""Networks of 3-D convolutions take clips as wholes, and images as clips of one frame."""

from __future__ import annotations

import pytest
import torch
import torchvision

from visiongraft.errors import BackboneError, OptionError
from visiongraft.inputs import Clips
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.backbones.video_source import VideoBackbone
from visiongraft.plugins.video.task import Video

NAME = "torchvision_video/r3d_18"


@pytest.fixture(scope="module")
def backbone() -> VideoBackbone:
    found = load_backbone(NAME, weights=None, size=32).eval()
    assert isinstance(found, VideoBackbone)
    return found


@torch.no_grad()
def test_features_of_a_clip_have_no_axis_of_frames(backbone: VideoBackbone) -> None:
    maps, pooled = backbone(torch.randn(2, 4, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [
        (2, channels, 32 // stride, 32 // stride)
        for channels, stride in zip(backbone.info.channels, backbone.info.strides, strict=True)
    ]
    assert pooled.shape == (2, backbone.info.embedding_dim)


@torch.no_grad()
def test_an_image_is_a_clip_of_one_frame(backbone: VideoBackbone) -> None:
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone(images).pooled, backbone(images.unsqueeze(1)).pooled)


@torch.no_grad()
def test_published_weights_give_the_embedding_of_torchvision(backbone: VideoBackbone) -> None:
    torch.manual_seed(0)
    original = torchvision.models.get_model("r3d_18", weights=None).eval()
    backbone.load_state_dict(backbone.convert_weights(original.state_dict()))
    clips = torch.randn(1, 4, 3, 32, 32)
    original.fc = torch.nn.Identity()
    assert torch.allclose(backbone(clips).pooled, original(clips.transpose(1, 2)), atol=1e-5)


def test_every_tensor_has_a_stage(backbone: VideoBackbone) -> None:
    assert set(backbone.info.stage_of) == set(backbone.state_dict())
    assert backbone.stages == ("stem", "stage1", "stage2", "stage3", "stage4")


@torch.no_grad()
def test_videos_are_classified_on_it(backbone: VideoBackbone) -> None:
    task = Video(class_names=("a", "b"), frames=4)
    network = Network(backbone, task).eval()
    decoded = network.decode(torch.randn(Clips(4).blank(2, 3, (32, 32))), torch.ones(2, 2).long())
    assert decoded["probabilities"].shape == (2, 2)
    with pytest.raises(OptionError, match="clips=2 needs a backbone for images"):
        Network(backbone, Video(class_names=("a", "b"), clips=2))


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(BackboneError, match="takes 3 channels, not 1"):
        load_backbone(NAME, weights=None, in_channels=1)
