"""The layers of SSD detectors before their heads, as backbones."""

from __future__ import annotations

import pytest

import visiongraft
from visiongraft.errors import BackboneError, WeightsError
from visiongraft.testing import check_backbone

LITE = "torchvision_detection/ssdlite320_mobilenet_v3_large"


def test_stages_follow_the_order_of_the_layers() -> None:
    stage_of = visiongraft.load_backbone(LITE, None).info.stage_of
    assert list(dict.fromkeys(stage_of.values())) == ["stem", *(f"stage{i}" for i in range(1, 6))]
    assert stage_of["body.features.0.0.0.weight"] == "stem"
    assert stage_of["body.features.0.13.0.weight"] == "stage3"
    assert stage_of["body.features.1.0.1.0.weight"] == "stage4"
    assert stage_of["body.extra.0.0.0.weight"] == "stage5"


def test_what_a_body_cannot_do_is_refused() -> None:
    with pytest.raises(WeightsError, match="published with its head only; pass the file"):
        visiongraft.load_backbone(LITE)
    with pytest.raises(BackboneError, match=r"takes images of \(320, 320\), not \(64, 64\)"):
        visiongraft.load_backbone(LITE, None, size=64)
    with pytest.raises(BackboneError, match="takes 3 channels, not 1"):
        visiongraft.load_backbone(LITE, None, in_channels=1)


@pytest.mark.exhaustive
def test_the_source_passes_the_kit() -> None:
    check_backbone(LITE)
