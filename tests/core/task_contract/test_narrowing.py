"""Predictions are narrowed to what is surest, of models and exported files alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft as vg
from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.classification.task import Classification

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> vg.TransferModel:
    torch.manual_seed(0)
    task = Classification(class_names=("a", "b", "c"), multi_label=False)
    backbone = load_backbone("simple_cnn", weights=None, size=16)
    return vg.TransferModel(vg.Network(backbone, task).eval())


def test_the_most_probable_classes_are_kept(model: vg.TransferModel) -> None:
    (whole,) = model.predict([IMAGE])
    (found,) = model.predict([IMAGE], top=2)
    expected = sorted(whole.probabilities.items(), key=lambda item: -item[1])[:2]
    assert list(found.probabilities.items()) == expected
    assert (found.label, found.score) == (whole.label, whole.score)


@pytest.mark.parametrize("options", [{"score_threshold": 1.5}, {"top": 0}, {"top": True}])
def test_impossible_values_are_refused(model: vg.TransferModel, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        model.predict([IMAGE], **options)


def test_predictions_without_scores_cannot_be_narrowed(Toy: Any, toy_network: vg.Network) -> None:
    with pytest.raises(OptionError, match="have no scores"):
        vg.TransferModel(toy_network).predict([IMAGE], top=1)


def test_what_is_left_is_drawn(model: vg.TransferModel, tmp_path: Path) -> None:
    model.predict([IMAGE], score_threshold=1.0, save=tmp_path)  # no class is as probable
    assert [path.suffix for path in tmp_path.iterdir()] == [".jpg"]


def test_the_command_narrows_what_it_writes(
    model: vg.TransferModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "model")
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "model"), str(tmp_path / "a.png")]
    assert main([*arguments, "--score-threshold", "0.9", "--top", "1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert found["probabilities"] == {} and found["label"] in "abc"
