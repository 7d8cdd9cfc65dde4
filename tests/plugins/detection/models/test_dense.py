"""Dense heads are initialized so that every output can learn."""

from __future__ import annotations

from dataclasses import replace

import torch

from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.detection.models.fcos import INITIAL_DISTANCE
from visiongraft.plugins.detection.task import Detection
from visiongraft.seeds import seeded


def test_all_box_sides_of_fcos_can_learn_from_the_start() -> None:
    """Nothing is learned behind a dead ReLU, and a bias of 0 kills half of them."""
    with seeded(0):
        backbone = load_backbone("simple_cnn", weights=None, size=64)
        preprocess = replace(backbone.info.preprocess, resize="stretch")
        backbone.info = replace(backbone.info, preprocess=preprocess)
        head = Detection(class_names=("a", "b"), head="fcos", width=32).build_head(backbone)
        with torch.no_grad():
            codes = head(backbone(torch.randn(4, 3, 64, 64)))["bbox_regression"]
            assert (codes > 0).float().mean() > 0.99
            head.get_submodule("head.regression_head.bbox_reg").bias.sub_(INITIAL_DISTANCE)
            dead = head(backbone(torch.randn(4, 3, 64, 64)))["bbox_regression"]
    assert (dead > 0).float().mean() < 0.9
