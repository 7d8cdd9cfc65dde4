"""Explanations mark what a network looks at, and the checks tell those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import visiongraft as vg
from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.explaining.checks import check_map
from visiongraft.explaining.maps import METHODS, Scored, grad_cam
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.classification.task import Classification
from visiongraft.task_contract.explained import Explained

SIDE = 56
SQUARE = (slice(8, 24), slice(32, 48))


class Pixels(vg.Backbone):
    """Features that are averages of bright pixels."""

    def __init__(self) -> None:
        preprocess = vg.PreprocessConfig((SIDE, SIDE), mean=(0.0,) * 3, std=(1.0,) * 3)
        super().__init__(
            vg.BackboneInfo(
                name="pixels", stage_of={"filter.weight": "stem"}, channels=(4,), strides=(4,),
                embedding_dim=4, preprocess=preprocess,
            )
        )  # fmt: skip
        self.filter = nn.Conv2d(3, 4, 1, bias=False)
        with torch.no_grad():
            self.filter.weight.copy_(
                torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(1))
            )

    def forward(self, images: Tensor) -> vg.Features:
        maps = F.avg_pool2d(self.filter(images).relu(), 4)
        return vg.Features((maps,), maps.mean((2, 3)))


def model_of(backbone: vg.Backbone) -> vg.TransferModel:
    torch.manual_seed(0)
    network = vg.Network(
        backbone, Classification(class_names=("dark", "bright"), multi_label=False)
    )
    linear: Any = network.head.output
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-8.0], [8.0]]) * torch.rand(1, linear.in_features))
        linear.bias.copy_(torch.tensor([2.0, -2.0]))
    return vg.TransferModel(network.eval())


@pytest.fixture(scope="module")
def model() -> vg.TransferModel:
    return model_of(Pixels())


def square() -> np.ndarray[Any, Any]:
    """A black image with a bright square."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[SQUARE] = 255
    return image


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"attention_rollout"}))
def test_the_map_is_highest_where_the_network_looks(model: vg.TransferModel, method: str) -> None:
    (found,) = vg.explain(model, square(), method, target="bright")
    inside = found.map[SQUARE].mean()
    outside = (found.map.sum() - found.map[SQUARE].sum()) / (found.map.size - 16 * 16)
    assert found.map.shape == (SIDE, SIDE) and found.target == "bright"
    assert inside > 3 * outside


def test_grad_cam_is_that_of_captum() -> None:
    from captum.attr import LayerGradCam

    network = model_of(load_backbone("simple_cnn", weights=None, size=SIDE)).network
    image = torch.rand(1, 3, SIDE, SIDE)
    score = Scored(network, Explained("", lambda features, outputs: outputs[:, 1]), (SIDE, SIDE))
    layer: Any = network.backbone.stage1
    expected = LayerGradCam(score, layer).attribute(image, relu_attributions=True)
    expected = F.interpolate(expected, size=(SIDE, SIDE), mode="bilinear")[0, 0]
    torch.testing.assert_close(grad_cam(score, image), expected.detach())


def test_a_frozen_backbone_is_explained_like_any(model: vg.TransferModel) -> None:
    (expected,) = vg.explain(model, square())
    frozen = model_of(Pixels())
    frozen.network.requires_grad_(False)
    assert np.array_equal(vg.explain(frozen, square())[0].map, expected.map)


def test_the_checks_tell_a_map_of_the_network_from_a_map_of_the_image(
    model: vg.TransferModel,
) -> None:
    (sound,) = vg.explain(model, square(), target="bright", checks=True)
    assert sound.check is not None and sound.check.insertion > sound.check.random_insertion
    image = model.network.preprocess_on_cpu()(torch.from_numpy(square())[None])
    score = Scored(
        model.network,
        Explained("", lambda f, outputs: outputs[:, 1], measure=lambda f, o: o.softmax(1)[:, 1]),
        (SIDE, SIDE),
    )

    def edges(score: Scored, image: Tensor) -> Tensor:
        return image.mean(1)[0]

    found = check_map(edges, score, image, edges(score, image))
    assert found.randomized == pytest.approx(1) and not found.passed
    inverted = check_map(grad_cam, score, image, -grad_cam(score, image))
    assert inverted.insertion < inverted.random_insertion and not inverted.passed


def test_similarity_to_an_image_is_explained(model: vg.TransferModel) -> None:
    both, reference = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8)
    both[SQUARE] = reference[SQUARE] = (255, 0, 0)
    other = (slice(32, 48), slice(8, 24))
    both[other] = (0, 0, 255)
    (found,) = vg.explain(model, both, "rise", similar_to=reference)
    assert found.target == "similarity"
    assert found.map[SQUARE].mean() > 3 * found.map[other].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, "method='guess'"),
        ({"target": "brigt"}, "did you mean 'bright'"),
        ({"target": "bright", "similar_to": square()}, "exclude each other"),
        ({"method": "attention_rollout"}, "vision transformer"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    model: vg.TransferModel, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        vg.explain(model, square(), **options)


def test_attention_of_a_vision_transformer_is_rolled_out() -> None:
    backbone = load_backbone("timm/vit_tiny_patch16_224", weights=None, size=32)
    model = model_of(backbone)
    fused = [m.fused_attn for m in backbone.modules() if hasattr(m, "fused_attn")]
    (found,) = vg.explain(model, square(), "attention_rollout")
    assert found.map.shape == (32, 32) and (found.map > 0).all()
    assert [m.fused_attn for m in backbone.modules() if hasattr(m, "fused_attn")] == fused


def test_the_command_draws_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(square()).save(images / "one.png")
    model_of(load_backbone("simple_cnn", weights=None, size=SIDE)).save(tmp_path / "model")
    arguments = ["explain", str(tmp_path / "model"), str(images), "--out", str(tmp_path / "maps")]
    assert main([*arguments, "--method", "layer_cam", "--checks", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["explanations"]
    assert found["image"] == str(images / "one.png") and found["check"]["deletion"] >= 0
    assert Image.open(tmp_path / "maps" / "00000-one-layer_cam.png").size == (SIDE, SIDE)
