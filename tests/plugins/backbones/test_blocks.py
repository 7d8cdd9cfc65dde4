"""Blocks that gradient checkpointing recomputes: the residual blocks and layers of each architecture."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visiongraft.backbone import Backbone
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.backbones.blocks import repeated_blocks
from visiongraft.training.execution.recomputing import recomputing

FAMILIES = [
    ("timm/resnet18", 8, "BasicBlock"),
    ("timm/efficientnet_lite0", 15, "InvertedResidual"),
    ("timm/convnext_atto", 12, "ConvNeXtBlock"),
    ("timm/vit_tiny_patch16_224", 12, "Block"),
    ("timm/swin_tiny_patch4_window7_224", 12, "SwinTransformerBlock"),
    ("timm/densenet121", 58, "DenseLayer"),
    ("torchvision/mobilenet_v2", 17, "InvertedResidual"),
    ("torchvision/efficientnet_b0", 16, "MBConv"),
    ("torchvision/vit_b_32", 12, "EncoderBlock"),
    ("torchvision/densenet121", 58, "_DenseLayer"),
    ("simple_cnn", 2, "Sequential"),
]


def test_blocks_are_elements_of_containers_that_stack_nothing_themselves() -> None:
    block = nn.TransformerEncoderLayer(4, 1, 8)
    stage = nn.TransformerEncoder(block, 3, enable_nested_tensor=False)
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(stage))
    assert repeated_blocks(model) == list(stage.layers)
    assert repeated_blocks(nn.Sequential(nn.Linear(4, 4), nn.ReLU())) == []


@pytest.mark.parametrize(
    ("name", "count", "kind"),
    [
        pytest.param(*family, marks=() if family[0] == "timm/resnet18" else pytest.mark.exhaustive)
        for family in FAMILIES
    ],
    ids=[name for name, *_ in FAMILIES],
)
def test_every_family_has_the_same_gradients_with_recomputed_blocks(
    name: str, count: int, kind: str
) -> None:
    torch.manual_seed(0)
    size = None if "vit_b" in name else 64
    backbone = load_backbone(name, weights=None, size=size)
    modules = list(backbone.checkpointed_modules())
    assert [type(m).__name__ for m in modules].count(kind) == count
    images = torch.randn(2, 3, *backbone.info.preprocess.size)
    state = {n: t.clone() for n, t in backbone.state_dict().items()}
    expected, statistics = _gradients(backbone, images, [])
    backbone.load_state_dict(state)
    found, again = _gradients(backbone, images, modules)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[n], found[n]) for n in expected)
    assert all(torch.equal(statistics[n], again[n]) for n in statistics)


def _gradients(
    backbone: Backbone, images: torch.Tensor, modules: list[nn.Module]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    backbone.train().zero_grad()
    with recomputing(modules):
        features = backbone(images)
    (features.pooled.square().sum() + features.maps[0].square().sum()).backward()
    gradients = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}
    return gradients, {n: b.clone() for n, b in backbone.named_buffers()}
