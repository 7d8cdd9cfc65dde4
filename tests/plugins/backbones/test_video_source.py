"""Networks over space and time take clips as wholes, and images as clips of one frame."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

import visiongraft
from visiongraft.errors import BackboneError, OptionError
from visiongraft.inputs import Clips
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.backbones.video_source import ClipBackbone
from visiongraft.plugins.video.example import make_dataset
from visiongraft.plugins.video.task import Video

NAMES = [
    "r3d_18",
    *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("mvit_v2_s", "swin3d_t")),
]


@pytest.fixture(scope="module", params=NAMES)
def backbone(request: pytest.FixtureRequest) -> ClipBackbone:
    found = load_backbone(f"torchvision_video/{request.param}", weights=None, size=32).eval()
    assert isinstance(found, ClipBackbone)
    return found


@torch.no_grad()
def test_features_of_a_clip_have_no_axis_of_frames(backbone: ClipBackbone) -> None:
    maps, pooled = backbone(torch.randn(2, 4, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [
        (2, channels, 32 // stride, 32 // stride)
        for channels, stride in zip(backbone.info.channels, backbone.info.strides, strict=True)
    ]
    assert pooled.shape == (2, backbone.info.embedding_dim)


@torch.no_grad()
def test_an_image_is_a_clip_of_one_frame(backbone: ClipBackbone) -> None:
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone(images).pooled, backbone(images.unsqueeze(1)).pooled)


@torch.no_grad()
def test_the_order_of_frames_matters(backbone: ClipBackbone) -> None:
    clips = torch.randn(1, 8, 3, 32, 32)
    assert not torch.allclose(backbone(clips).pooled, backbone(clips.flip(1)).pooled, atol=1e-3)


@torch.no_grad()
def test_published_weights_give_the_embedding_of_torchvision(backbone: ClipBackbone) -> None:
    torch.manual_seed(0)
    name = backbone.info.name.partition("/")[2]
    original = torchvision.models.get_model(name, weights=None).eval()
    backbone.load_state_dict(backbone.convert_weights(original.state_dict()))
    # torchvision's MViT takes clips of one size only.
    size = (16, 3, 224, 224) if name == "mvit_v2_s" else (4, 3, 32, 32)
    clips = torch.randn(1, *size)
    setattr(original, backbone.classifier, torch.nn.Identity())
    assert torch.allclose(backbone(clips).pooled, original(clips.transpose(1, 2)), atol=1e-4)


def test_every_tensor_has_a_stage(backbone: ClipBackbone) -> None:
    assert set(backbone.info.stage_of) == set(backbone.state_dict())
    assert backbone.stages == ("stem", "stage1", "stage2", "stage3", "stage4")
    assert all(block in set(backbone.modules()) for block in backbone.checkpointed_modules())


@torch.no_grad()
def test_videos_are_classified_on_it(backbone: ClipBackbone) -> None:
    task = Video(class_names=("a", "b"), frames=4)
    network = Network(backbone, task).eval()
    decoded = network.decode(torch.randn(Clips(4).blank(2, 3, (32, 32))), torch.ones(2, 2).long())
    assert decoded["probabilities"].shape == (2, 2)
    with pytest.raises(OptionError, match="clips=2 needs a backbone for images"):
        Network(backbone, Video(class_names=("a", "b"), clips=2))


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(BackboneError, match="takes 3 channels, not 1"):
        load_backbone("torchvision_video/swin3d_t", weights=None, in_channels=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["r3d_18", "mvit_v2_s", "swin3d_t"])
def test_it_trains_and_a_saved_model_predicts_the_same(name: str, tmp_path: Path) -> None:
    task = Video(frames=4)
    clips = make_dataset(Path(), 6, 0, (), task.inputs)
    model = visiongraft.fit(
        clips,
        task=task,
        backbone=f"torchvision_video/{name}",
        weights=None,
        size=32,
        epochs=1,
        schedule="full",
        batch_size=4,
        workers=0,
        device="cpu",
        callbacks=(),
    )
    model.save(tmp_path / "model")
    clip = clips[0][0]
    (one,), (other,) = (m.predict([clip]) for m in (model, visiongraft.load(tmp_path / "model")))
    assert one == other
    if name != "mvit_v2_s":  # that takes minutes
        assert model.export(tmp_path / "model.onnx").mismatches == 0
