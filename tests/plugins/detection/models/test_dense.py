"""Dense heads begin in a state from which every part can learn."""

from __future__ import annotations

from dataclasses import replace

import torch

from visiongraft.lookup import load_backbone
from visiongraft.plugins.detection.models.fcos import INITIAL_DISTANCE
from visiongraft.plugins.detection.task import Detection
from visiongraft.seeds import seeded


def test_all_sides_of_the_boxes_of_fcos_can_learn_from_the_start() -> None:
    """Behind a ReLU that is shut nothing learns, and a bias of 0 shuts half of all."""
    with seeded(0):
        backbone = load_backbone("simple_cnn", weights=None, size=64)
        preprocess = replace(backbone.info.preprocess, resize="stretch")
        backbone.info = replace(backbone.info, preprocess=preprocess)
        head = Detection(class_names=("a", "b"), head="fcos", width=32).build_head(backbone)
        with torch.no_grad():
            codes = head(backbone(torch.randn(4, 3, 64, 64)))["bbox_regression"]
            assert (codes > 0).float().mean() > 0.99
            head.get_submodule("head.regression_head.bbox_reg").bias.sub_(INITIAL_DISTANCE)
            shut = head(backbone(torch.randn(4, 3, 64, 64)))["bbox_regression"]
    assert (shut > 0).float().mean() < 0.9
