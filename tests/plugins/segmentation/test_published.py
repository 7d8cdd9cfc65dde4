"""Checkpoints of torchvision's segmentation networks load by name, and compute what torchvision computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import visiongraft
from visiongraft.errors import WeightsError
from visiongraft.network import restored
from visiongraft.plugins.segmentation.example import write_example
from visiongraft.plugins.segmentation.published import read_published
from visiongraft.seeds import seeded

SIZE = (64, 80)
NAMES = ("background", "cat", "dog")


@pytest.fixture(scope="module")
def fcn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return saved("fcn_resnet50", tmp_path_factory.mktemp("fcn"))


def saved(name: str, folder: Path, classes: int = 3) -> tuple[Any, Path]:
    with seeded(0, name):
        model = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=classes, aux_loss=True
        )
        model.train()
        with torch.no_grad():
            model(torch.randn(2, 3, *SIZE))  # statistics of norms
    torch.save(model.state_dict(), folder / "model.pth")
    return model.eval(), folder / "model.pth"


def compare(model: Any, path: Path) -> visiongraft.TransferModel:
    options = {"class_names": NAMES}
    mine = visiongraft.assemble("segmentation", weights=path, size=SIZE, task_options=options)
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = model(images)["out"]
        found = restored(mine.network, images, *SIZE)["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01
    return mine


@pytest.mark.exhaustive
def test_logits_are_those_of_torchvision(fcn: tuple[Any, Path]) -> None:
    mine = compare(*fcn)
    assert mine.backbone_info.name == "torchvision/resnet50_dilated"
    assert mine.backbone_info.strides[-1] == 8
    assert mine.facts["assembled"]["not used"] == ["aux_classifier"]
    plain = visiongraft.load_backbone("torchvision/resnet50", None)
    assert mine.network.backbone.stages == plain.stages


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet101"])
def test_logits_of_further_networks_are_those_of_torchvision(name: str, tmp_path: Path) -> None:
    compare(*saved(name, tmp_path))


@pytest.mark.exhaustive
def test_a_decoder_of_a_file_begins_a_run_for_other_classes(
    fcn: tuple[Any, Path], tmp_path: Path
) -> None:
    start = visiongraft.assemble(
        "segmentation", weights=fcn[1], size=64, task_options={"class_names": NAMES}
    )
    data = write_example(
        tmp_path / "data", 8, 0, class_names=("background", "dog", "owl"), kind="multi_class"
    )
    tuned = visiongraft.fit(
        data, start=start, epochs=1, schedule="full", batch_size=4, device="cpu", callbacks=()
    )
    assert tuned.facts["start"]["kept by class"] == ["decoder.head.4"]
    assert tuned.facts["start"]["classes begun anew"] == ["owl"]
    certificate = tuned.export(tmp_path / "model.onnx")
    assert certificate.headline == "mean_iou"


def tiny(classes: int) -> dict[str, Any]:
    """Name the tensors by which a network is recognized."""
    blocks = enumerate((3, 4, 6, 3), 1)
    return {
        "backbone.layer1.0.conv2.weight": torch.zeros(64, 64, 3, 3),
        "backbone.layer1.0.conv3.weight": torch.zeros(1),
        **{
            f"backbone.layer{stage}.{count - 1}.bn1.weight": torch.zeros(1)
            for stage, count in blocks
        },
        "classifier.4.weight": torch.zeros(classes, 1),
        "aux_classifier.4.weight": torch.zeros(classes, 1),
    }


def test_networks_are_recognized_by_the_names_of_their_tensors() -> None:
    found = read_published(tiny(21), ())
    assert found is not None
    assert found.options["class_names"][:2] == ("background", "aeroplane")
    assert (found.architecture, found.size) == ("fcn_resnet50 of torchvision", (520, 520))
    assert list(found.head_tensors) == ["decoder.head.4.weight"]
    assert found.unused == ("aux_classifier.4.weight",)
    other = read_published({**tiny(3), "classifier.0.project.0.weight": torch.zeros(1)}, NAMES)
    assert other is not None
    assert (other.options["decoder"], other.options["class_names"]) == ("deeplabv3", NAMES)


def test_what_cannot_be_loaded_is_named() -> None:
    with pytest.raises(WeightsError, match="scores 3 classes; pass class_names"):
        read_published(tiny(3), ())
    mobile = {n: t for n, t in tiny(3).items() if "backbone.layer1" not in n}
    with pytest.raises(WeightsError, match="not a ResNet"):
        read_published(mobile, NAMES)
    with pytest.raises(WeightsError, match="lraspp_mobilenet_v3_large"):
        read_published({**tiny(3), "classifier.low_classifier.weight": torch.zeros(1)}, NAMES)
    assert read_published({"fc.weight": torch.zeros(2, 3)}, ()) is None
