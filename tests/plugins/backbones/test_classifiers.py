"""The classifier of published weights continues the backbone to the published model's logits."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor

from visiongraft.lookup.backbones import find_source
from visiongraft.lookup.models import load_source_head
from visiongraft.plugins.backbones.classifiers import linear_classifier
from visiongraft.saving.weights import fit_weights

EXHAUSTIVE = pytest.mark.exhaustive


def logits_of(full: str, model: torch.nn.Module, size: int) -> tuple[Tensor, Tensor]:
    """Return a model's own logits, and those of its backbone and classifier."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, size, size)
    source, short = find_source(full)
    weights = dict(model.eval().state_dict())
    backbone = source.build(short, pretrained=False, size=(size, size))
    fit_weights(backbone, weights, "test")
    classifier = source.build_classifier(short, weights)
    assert classifier is not None
    with torch.no_grad():
        return model(images), classifier(backbone.eval()(images).pooled)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        *(
            pytest.param(name, marks=EXHAUSTIVE)
            for name in (
                "mobilenet_v2",
                "mobilenet_v3_small",
                "densenet121",
                "convnext_tiny",
                "swin_t",
            )
        ),
        pytest.param("vit_b_16", marks=EXHAUSTIVE),
    ],
)
def test_torchvisions_classifier_completes_the_model(name: str) -> None:
    size = 224 if name.startswith("vit") else 64
    model = torchvision.models.get_model(name, weights=None)
    theirs, ours = logits_of(f"torchvision/{name}", model, size)
    assert torch.allclose(theirs, ours, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["test_resnet", *(pytest.param(n, marks=EXHAUSTIVE) for n in ("mobilenetv3_small_050",))],
)
def test_timms_classifier_completes_the_model(name: str) -> None:
    theirs, ours = logits_of(f"timm/{name}", timm.create_model(name), 64)
    assert torch.allclose(theirs, ours, atol=1e-4)


def test_the_bundled_weights_contain_their_classifier() -> None:
    head: Any = load_source_head("bundled/efficientnet_lite0", "pretrained")
    assert (head.classifier.in_features, head.classifier.out_features) == (1280, 1000)
    assert load_source_head("bundled/efficientnet_lite0", None) is None


def test_what_is_followed_by_more_than_an_average_is_no_classifier() -> None:
    source, short = find_source("torchvision/squeezenet1_1")
    assert source.build_classifier(short, {"classifier.1.weight": torch.zeros(9, 4, 1, 1)}) is None


def test_a_backbone_without_published_weights_has_no_classifier() -> None:
    assert load_source_head("simple_cnn", "pretrained") is None


def test_a_convolution_of_one_pixel_is_a_linear_layer() -> None:
    weights = {"head.weight": torch.arange(6.0).view(3, 2, 1, 1), "head.bias": torch.ones(3)}
    layer = linear_classifier(weights, ["fc", "head"])
    assert layer is not None
    assert layer(torch.tensor([[1.0, 10.0]])).tolist() == [[11.0, 33.0, 55.0]]


def test_other_tensors_are_no_classifier() -> None:
    assert linear_classifier({"fc.weight": torch.ones(4)}, ["fc"]) is None
    assert linear_classifier({"fc.weight": torch.ones(4, 4, 3, 3)}, ["fc"]) is None
    assert linear_classifier({}, ["fc"]) is None
