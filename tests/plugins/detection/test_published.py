"""Checkpoints of torchvision's detectors load by name, and detect what torchvision detects."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

import visiongraft
from visiongraft.errors import OptionError, WeightsError
from visiongraft.plugins.detection.example import write_coco
from visiongraft.plugins.detection.published import read_published
from visiongraft.seeds import seeded

NAMES = ("ant", "bee", "cat")
SIDE = 128
PROPOSALS = 300
WIDTH = 64  # of the pyramid; published ones have 256


def small(name: str) -> Any:
    """Build a published architecture on ResNet-18 and with a narrow pyramid, for three classes."""
    settings: dict[str, Any] = {"min_size": SIDE, "max_size": SIDE}
    if name == "faster_rcnn_v2":
        sizes = ((32,), (64,), (128,), (256,), (512,))
        return FasterRCNN(
            pyramid([1, 2, 3, 4], LastLevelMaxPool(), nn.BatchNorm2d),
            4,
            rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
            rpn_head=RPNHead(WIDTH, 3, conv_depth=2),
            box_head=FastRCNNConvFCHead(
                (WIDTH, 7, 7), [WIDTH] * 4, [1024], norm_layer=nn.BatchNorm2d
            ),
            rpn_post_nms_top_n_test=PROPOSALS,
            **settings,
        )
    if name == "fcos":
        fpn = pyramid([2, 3, 4], LastLevelP6P7(WIDTH, WIDTH))
        return FCOS(fpn, 4, score_thresh=0.05, **settings)
    scales = tuple(
        (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
    )
    return RetinaNet(
        pyramid([2, 3, 4], LastLevelP6P7(512, WIDTH)),
        4,
        anchor_generator=AnchorGenerator(scales, ((0.5, 1.0, 2.0),) * 5),
        head=RetinaNetHead(WIDTH, 9, 4, norm_layer=partial(nn.GroupNorm, 32)),
        detections_per_img=100,
        **settings,
    )


def pyramid(layers: list[int], extra: Any, norm: Any = None) -> nn.Module:
    network = torchvision.models.resnet18(weights=None)
    channels = [32 * 2**i for i in layers]
    names = {f"layer{i}": str(n) for n, i in enumerate(layers)}
    return BackboneWithFPN(network, names, channels, WIDTH, extra, norm)


def ssd_like(name: str) -> Any:
    return torchvision.models.get_model(
        name,
        weights=None,
        weights_backbone=None,
        num_classes=4,
        topk_candidates=10**6,
        score_thresh=0.05,
        detections_per_img=100,
    )


def randomized(model: Any, side: int) -> Any:
    """Draw weights that detect much, and fit the statistics of norms to noise."""
    for name, each in model.named_modules():
        if isinstance(each, nn.Conv2d | nn.Linear):
            inside = name.startswith(("backbone.body", "backbone.features", "backbone.extra"))
            nn.init.normal_(
                each.weight, std=(0.9 if inside else 1.3) / each.weight[0].numel() ** 0.5
            )
            if each.bias is not None:
                nn.init.normal_(each.bias, std=0.1)
    scores = getattr(getattr(model, "head", None), "classification_head", None)
    if hasattr(scores, "cls_logits"):  # as after training: class 0 is no object's, and never found
        scores.cls_logits.bias.data.unflatten(0, (-1, 4))[:, 0] = -30
        scores.cls_logits.weight.data.unflatten(0, (-1, 4))[:, 0] = 0
    model.train()
    norms = [each for each in model.backbone.modules() if isinstance(each, nn.BatchNorm2d)]
    for each in norms:
        each.momentum = 1.0
    with torch.no_grad():
        model.backbone(torch.randn(2, 3, side, side))
    return model.eval()


def compare(model: Any, path: Path, side: int, **options: Any) -> visiongraft.TransferModel:
    torch.save(model.state_dict(), path)
    mine = visiongraft.assemble("detection", weights=path, size=side, task_options=options)
    blocks = np.random.default_rng(0).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    image = np.kron(blocks, np.ones((side // 7 + 1,) * 2 + (1,), np.uint8))[:side, :side].copy()
    with torch.no_grad():
        (theirs,) = model([torch.from_numpy(image).permute(2, 0, 1) / 255])
    (found,) = mine.predict([image])
    assert len(theirs["labels"]) == len(found.objects) > 10
    for box, score, label, one in zip(
        theirs["boxes"].tolist(),
        theirs["scores"].tolist(),
        theirs["labels"].tolist(),
        found.objects,
        strict=True,
    ):
        assert score == pytest.approx(one.score, abs=1e-4)
        assert box == pytest.approx(list(one.box), abs=1e-2)
        assert NAMES[label - 1] == one.label
    return mine


@pytest.mark.parametrize("name", ["fcos", "retinanet", "faster_rcnn_v2"])
def test_detections_are_those_of_torchvision(name: str, tmp_path: Path) -> None:
    with seeded(3, name):
        model = randomized(small(name), SIDE)
    mine = compare(model, tmp_path / "model.pth", SIDE, class_names=NAMES)
    assert mine.task.head == name
    assert mine.backbone_info.name == "torchvision/resnet18"


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "ssd300_vgg16"])
def test_detections_are_those_of_torchvisions_ssd(name: str, tmp_path: Path) -> None:
    side = int(name.split("_")[0][-3:])
    with seeded(3, name):
        model = randomized(ssd_like(name), side)
    mine = compare(model, tmp_path / "model.pth", side, class_names=NAMES)
    assert mine.backbone_info.name == f"torchvision_detection/{name}"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", ["fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2"]
)
def test_the_published_architectures_load_with_the_classes_of_coco(
    name: str, tmp_path: Path
) -> None:
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    mine = visiongraft.assemble("detection", weights=tmp_path / "model.pth", size=64)
    assert mine.backbone_info.name == "torchvision/resnet50"
    names = mine.task.class_names
    assert (len(names), names[0], names[-1]) == (80, "person", "toothbrush")
    assert mine.facts["assembled"]["of"] == f"{name} of torchvision (model.pth)"


def test_rows_of_the_classes_of_coco_are_selected_by_their_labels() -> None:
    with seeded(4):
        model = small("fcos")
    state = model.state_dict()
    layer = "head.classification_head.cls_logits"
    state[f"{layer}.weight"] = torch.arange(91.0)[:, None, None, None].expand(91, WIDTH, 3, 3)
    state[f"{layer}.bias"] = torch.arange(91.0)
    found = read_published(state, ())
    assert found is not None
    labels = found.head_tensors[f"{layer}.bias"].tolist()
    named = dict(zip(found.options["class_names"], labels, strict=True))
    assert (named["person"], named["stop sign"], named["toothbrush"]) == (1, 13, 90)  # of COCO
    assert found.size == (800, 800)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    state = {n: t for n, t in small("retinanet").state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"scores 4 classes, .*; pass class_names with the 3 others"
    ):
        read_published(state, ())
    first = {n: t for n, t in state.items() if ".conv.0.1." not in n}
    with pytest.raises(WeightsError, match="only its second version, retinanet_resnet50_fpn_v2"):
        read_published(first, NAMES)
    second = small("faster_rcnn_v2").state_dict()
    with pytest.raises(WeightsError, match="masks or keypoints"):
        read_published({**second, "roi_heads.mask_head.0.0.weight": torch.zeros(1)}, NAMES)
    older = {n: t for n, t in second.items() if "box_head.5" not in n}
    with pytest.raises(WeightsError, match="only the second, fasterrcnn_resnet50_fpn_v2"):
        read_published(older, NAMES)
    mobile = {n: t for n, t in second.items() if not n.startswith("backbone.body")}
    with pytest.raises(WeightsError, match="not a ResNet"):
        read_published(mobile, NAMES)
    assert read_published({"fc.weight": torch.zeros(2, 3)}, ()) is None
    lacking = {n: t for n, t in second.items() if not n.endswith("layer_blocks.0.0.weight")}
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(WeightsError, match=r"not complete \(KeyError: 'backbone.fpn.layer_blocks"):
        visiongraft.assemble(
            "detection", weights=tmp_path / "lacking.pth", task_options={"class_names": NAMES}
        )


def test_a_detector_of_a_file_begins_a_run_for_other_classes(tmp_path: Path) -> None:
    with seeded(5):
        model = small("fcos")
    torch.save(model.state_dict(), tmp_path / "model.pth")
    start = visiongraft.assemble(
        "detection", weights=tmp_path / "model.pth", size=64, task_options={"class_names": NAMES}
    )
    data = write_coco(tmp_path / "data", 8, 0, class_names=("bee", "dog"))
    tuned = visiongraft.fit(
        data, start=start, epochs=1, schedule="full", batch_size=4, device="cpu", callbacks=()
    )
    assert tuned.task.class_names == ("bee", "dog")
    assert (tuned.task.head, tuned.task.width) == ("fcos", WIDTH)
    assert tuned.facts["start"]["classes kept"] == ["bee"]
    assert "begun anew" not in tuned.facts["start"]
    assert tuned.evaluate(data)["mAP"] >= 0


def test_a_file_needs_a_task_and_no_weights(tmp_path: Path) -> None:
    torch.save(small("fcos").state_dict(), tmp_path / "model.pth")
    with pytest.raises(OptionError, match=r"model.pth is a weights file; name the task"):
        visiongraft.fit("x", start=tmp_path / "model.pth")
    with pytest.raises(OptionError, match="omit weights=None"):
        settings: dict[str, Any] = {"task": "detection", "task_options": {"class_names": NAMES}}
        visiongraft.fit("x", start=tmp_path / "model.pth", weights=None, size=64, **settings)
