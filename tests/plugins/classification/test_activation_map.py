"""The class activation map is what it says, in PyTorch and in an exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import visiongraft as vg
from visiongraft.errors import OptionError
from visiongraft.exporters.runtime import Predictor
from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import InferenceGraph
from visiongraft.plugins.classification.task import Classification

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)


def network_of(backbone: str, **options: int) -> vg.Network:
    torch.manual_seed(0)
    task = Classification(class_names=("a", "b", "c"), multi_label=False, **options)
    return vg.Network(load_backbone(backbone, weights=None, size=64), task).eval()


@pytest.mark.parametrize("backbone", ["timm/resnet18", "bundled/efficientnet_lite0"])
def test_the_mean_of_the_maps_is_the_logit(backbone: str) -> None:
    network = network_of(backbone)
    with torch.no_grad():
        found = InferenceGraph(network, ["cam"])(torch.from_numpy(IMAGES))
        logits = network.head(network.backbone(network.preprocess(torch.from_numpy(IMAGES))))
    bias = network.head.output.bias
    torch.testing.assert_close(found["cam"].mean((2, 3)) + bias, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("simple_cnn", {}, "mean of a feature map"),
        ("timm/mobilenetv3_small_050", {}, "mean of a feature map"),
        ("timm/resnet18", {"hidden": 8}, "linear head"),
        ("timm/resnet18", {"hidden": 512}, "linear head"),  # as wide as the embedding
    ],
)
def test_networks_without_such_a_map_are_refused(
    backbone: str, options: dict[str, int], message: str
) -> None:
    graph = InferenceGraph(network_of(backbone, **options), ["cam"])
    with pytest.raises(OptionError, match=message), torch.no_grad():
        graph(torch.from_numpy(IMAGES))


@pytest.mark.exhaustive
@pytest.mark.parametrize("backbone", ["timm/resnet18", "bundled/efficientnet_lite0"])
def test_the_exported_map_is_proved_and_equal(tmp_path: Path, backbone: str) -> None:
    model = vg.TransferModel(network_of(backbone))
    certificate = model.export(tmp_path / "cam.onnx", extra_outputs=["cam"])
    with torch.no_grad():
        expected = model.inference_graph(["cam"])(torch.from_numpy(IMAGES))["cam"].numpy()
    found = Predictor(tmp_path / "cam.onnx").run(IMAGES)["cam"]
    assert certificate.mismatches == 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
