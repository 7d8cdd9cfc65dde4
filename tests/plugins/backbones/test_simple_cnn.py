from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from visiongraft.backbone import Backbone
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.registry.manager import plugins

Check = Callable[[Backbone], None]


@pytest.mark.parametrize("in_channels", [1, 3, 4])
@pytest.mark.parametrize("size", [None, 4, (30, 45)])
def test_it_returns_two_maps_and_an_embedding_at_every_size(
    check_features: Check, in_channels: int, size: int | tuple[int, int] | None
) -> None:
    backbone = load_backbone("simple_cnn", None, in_channels=in_channels, size=size)
    check_features(backbone)
    assert backbone.info.channels == (32, 64)
    assert backbone.info.embedding_dim == 128


def test_its_three_stages_follow_the_data(check_stages: Check) -> None:
    backbone = load_backbone("simple_cnn", None)
    assert backbone.stages == ("stem", "stage1", "stage2")
    check_stages(backbone)


def test_stages_in_the_wrong_order_are_detected(check_stages: Check) -> None:
    backbone = load_backbone("simple_cnn", None)
    names = {"stem": "stage1", "stage1": "stem", "stage2": "stage2"}
    swapped = {n: names[s] for n, s in backbone.info.stage_of.items()}
    ordered = dict(sorted(swapped.items(), key=lambda item: list(names).index(item[1])))
    backbone.info = replace(backbone.info, stage_of=ordered)
    with pytest.raises(AssertionError, match=r"stage1\.conv depends on a stage"):
        check_stages(backbone)


def test_an_image_too_small_for_pooling_raises() -> None:
    with pytest.raises(BackboneError, match="does not support images of 3x9"):
        load_backbone("simple_cnn", None, size=(3, 9))


def test_pretrained_weights_raise() -> None:
    with pytest.raises(WeightsError, match="weights=None"):
        load_backbone("simple_cnn")


def test_it_learns_to_distinguish_two_images() -> None:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", None)
    head = torch.nn.Linear(128, 2)
    images, labels = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], 1e-3)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(head(backbone(images).pooled), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_all_built_in_sources_are_found_as_plugins() -> None:
    assert {"", "bundled", "timm", "torchvision"} <= plugins().backbone_sources().keys()
