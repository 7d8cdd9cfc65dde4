"""Detections are explained box by box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import visiongraft as vg
from visiongraft.errors import OptionError
from visiongraft.explaining.maps import Scored
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.detection.task import Detection

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["ssdlite", "retinanet"])
def model(request: pytest.FixtureRequest) -> vg.TransferModel:
    torch.manual_seed(0)
    task = Detection(class_names=("a", "b"), head=request.param, width=32, score_threshold=0.0)
    backbone = load_backbone("timm/resnet18", weights=None, size=160)
    stretched = replace(backbone.info.preprocess, resize="stretch")
    backbone.info = replace(backbone.info, preprocess=stretched)
    return vg.TransferModel(vg.Network(backbone, task).eval())


def test_each_of_the_surest_boxes_has_a_map(model: vg.TransferModel) -> None:
    found = vg.explain(model, IMAGE, "layer_cam")
    (detected,) = model.predict([IMAGE])
    assert len(found) == 3
    best = detected.objects[0]
    x1, y1, x2, y2 = found[0].box or (0, 0, 0, 0)
    assert (x1 * 80, y1 * 64, x2 * 80, y2 * 64) == pytest.approx(tuple(best.box), abs=1e-2)
    assert all(each.map.max() > 0 for each in found)


def test_the_score_of_a_box_is_that_of_the_detection_and_falls_with_the_image(
    model: vg.TransferModel,
) -> None:
    network = model.network
    image = network.preprocess(torch.from_numpy(IMAGE)[None])
    sizes = torch.tensor([[64, 80]])
    with torch.no_grad():
        outputs = network.outputs(image, sizes)
        score = network.task.decode(outputs, sizes)["scores"][0, 0]
    explained = network.task.explained(outputs, sizes)[0]
    scores = Scored(network, explained, (64, 80)).many(torch.cat([image, image * 0]))
    assert scores[0] == pytest.approx(float(score), abs=1e-5)
    assert scores[1] != pytest.approx(float(score), abs=1e-5)


def test_a_class_without_detections_has_no_map_and_an_unknown_one_is_refused(
    model: vg.TransferModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(each.target.startswith("b ") for each in vg.explain(model, IMAGE, target="b"))
    monkeypatch.setattr(type(model.task), "explained", lambda *_: [])
    assert vg.explain(model, IMAGE, target="b") == []
    assert "no b to explain in 1 of 1 images: " in caplog.text
    monkeypatch.undo()
    with pytest.raises(OptionError, match="target='c' is not a class"):
        vg.explain(model, IMAGE, target="c")
