"""The backbones of generation are backbones like any other."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.errors import BackboneError, WeightsError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.testing import BACKBONE_CHECKS, BackboneTrial, Check

NAMES = ("generation/conv", "generation/mlp", "generation/mlp_relu")


@pytest.fixture(scope="module", params=NAMES)
def trial(request: pytest.FixtureRequest) -> BackboneTrial:
    return BackboneTrial(request.param)


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=each.name, marks=pytest.mark.exhaustive if i > 5 else ())
        for i, each in enumerate(BACKBONE_CHECKS)
    ],
)
def test_it_passes(trial: BackboneTrial, check: Check[Any]) -> None:
    check.run(trial)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(BackboneError, match="7x9 pixels: its sides are at least 8"):
        load_backbone("generation/conv", weights=None, size=(7, 9))


def test_there_are_no_pretrained_weights() -> None:
    with pytest.raises(WeightsError, match="start=MODEL"):
        load_backbone("generation/mlp")
