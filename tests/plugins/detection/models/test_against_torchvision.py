"""Losses and boxes equal those of torchvision's detectors with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FCOS,
    FasterRCNN,
    RetinaNet,
    ssd300_vgg16,
    ssdlite320_mobilenet_v3_large,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.feature_pyramid_network import (
    FeaturePyramidNetwork,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from visiongraft.backbone import Backbone, BackboneInfo, Features
from visiongraft.plugins.detection.objects import Objects
from visiongraft.plugins.detection.task import Detection
from visiongraft.preprocess import PreprocessConfig
from visiongraft.seeds import seeded

LABELS = ("ant", "bee", "cat")
WIDTH = 64
IDENTITY: dict[str, Any] = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
CLOSE: dict[str, float] = {"rtol": 1e-4, "atol": 1e-4}


class Body(Backbone):
    """The layers of a torchvision detector before its head."""

    def __init__(self, body: nn.Module, strides: tuple[float, ...], size: int) -> None:
        with torch.no_grad():
            maps = body(torch.zeros(1, 3, size, size)).values()
        info = BackboneInfo(
            name="body",
            stage_of=dict.fromkeys([f"body.{n}" for n in body.state_dict()], "stem"),
            channels=tuple(m.shape[1] for m in maps),
            strides=strides,  # type: ignore[arg-type]
            embedding_dim=1,
            preprocess=PreprocessConfig((size, size), resize="stretch"),
        )
        super().__init__(info)
        self.body = body

    def forward(self, images: Tensor) -> Features:
        maps = tuple(self.body(images).values())
        return Features(maps, maps[-1].mean((2, 3)))


@dataclass
class Pair:
    """A detector of torchvision, and ours with the same weights."""

    theirs: Any
    task: Detection
    backbone: Body
    head: Any
    size: int
    rename: dict[str, str]
    first_label: int

    def losses(self, images: Tensor, targets: list[Objects]) -> dict[str, Tensor]:
        _without_norms(self.head.train())
        tensors = self.task.collate(targets)
        features = self.backbone(images)
        inputs = (tensors,) if self.task.head == "faster_rcnn" else ()
        if inputs:
            torch.rand(1)  # torchvision draws the size of its input first
        return self.task.build_loss()(self.head(features, *inputs), tensors)

    def their_losses(self, images: Tensor, targets: list[Objects]) -> dict[str, Tensor]:
        _without_norms(self.theirs.train())
        converted = [
            {"boxes": t["boxes"], "labels": t["labels"] + self.first_label}
            for t in self.task.collate(targets)
        ]
        found = self.theirs(list(images), converted)
        return {self.rename.get(name, name): value for name, value in found.items()}


def _without_norms(module: nn.Module) -> None:
    """Keep batch norms in evaluation mode, since they would mix the images of a batch."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.eval()


def _randomize(module: nn.Module, scale: float) -> None:
    """Draw larger weights for a head; torchvision's own initial outputs are nearly constant."""
    for each in module.modules():
        if isinstance(each, nn.Conv2d | nn.Linear):
            fan = each.weight[0].numel()
            nn.init.normal_(each.weight, std=scale / fan**0.5)
            if each.bias is not None:
                nn.init.normal_(each.bias, std=0.1)


def _resnet(layers: list[int], extra: Any) -> nn.Module:
    model = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, returned_layers=layers, trainable_layers=5
    )
    channels = [64 * 2 ** (i - 1) for i in layers]
    model.fpn = FeaturePyramidNetwork(channels, WIDTH, extra_blocks=extra)
    model.out_channels = WIDTH
    for each in model.body.modules():  # with untrained norms, residual sums grow
        if isinstance(each, nn.Conv2d):
            each.weight.data *= 0.7
    return model


def ssdlite() -> Pair:
    model = ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        topk_candidates=10**6,
        score_thresh=0.05,
        detections_per_img=100,
    )
    _norms_of_data(model.backbone, 320)
    backbone = Body(model.backbone.eval(), (16, 32, 64, 107, 160, 320), 320)
    return _pair(model, "ssdlite", backbone, 320, {}, 1, lambda h: [(h.head, model.head)])


def ssd() -> Pair:
    model = ssd300_vgg16(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        topk_candidates=10**6,
        score_thresh=0.05,
        detections_per_img=100,
    )
    backbone = Body(model.backbone.eval(), (8, 16, 32, 64, 100, 300), 300)
    return _pair(model, "ssd", backbone, 300, {}, 1, lambda h: [(h.head, model.head)])


def retinanet() -> Pair:
    fpn = _resnet([2, 3, 4], LastLevelP6P7(512, WIDTH))
    sizes = tuple(
        (x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512)
    )
    generator = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    head = RetinaNetHead(WIDTH, 9, 3, norm_layer=partial(nn.GroupNorm, 32))
    head.regression_head._loss_type = "giou"  # as in retinanet_resnet50_fpn_v2
    model = RetinaNet(
        fpn, 3, 128, 128, anchor_generator=generator, head=head, detections_per_img=100, **IDENTITY
    )
    return _fpn_pair(model, "retinanet", fpn, (8, 16, 32), {})


def fcos() -> Pair:
    fpn = _resnet([2, 3, 4], LastLevelP6P7(WIDTH, WIDTH))
    model = FCOS(fpn, 3, 128, 128, score_thresh=0.05, **IDENTITY)
    return _fpn_pair(model, "fcos", fpn, (8, 16, 32), {})


def faster_rcnn() -> Pair:
    fpn = _resnet([1, 2, 3, 4], LastLevelMaxPool())
    sizes = ((32,), (64,), (128,), (256,), (512,))
    model = FasterRCNN(
        fpn,
        None,
        128,
        128,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=300,
        rpn_post_nms_top_n_test=300,
        box_batch_size_per_image=64,
        box_head=TwoMLPHead(WIDTH * 49, 1024),
        box_predictor=FastRCNNPredictor(1024, 4),
        **IDENTITY,
    )
    rename = {
        "loss_objectness": "objectness",
        "loss_rpn_box_reg": "rpn_box_reg",
        "loss_classifier": "classifier",
        "loss_box_reg": "box_reg",
    }
    backbone = Body(fpn.body, (4, 8, 16, 32), 128)

    def layers(head: Any) -> list[tuple[nn.Module, nn.Module]]:
        return [
            (head.pyramid.pyramid, fpn.fpn),
            (head.rpn, model.rpn.head),
            (head.box_head, model.roi_heads.box_head),
            (head.box_predictor, model.roi_heads.box_predictor),
        ]

    return _pair(model, "faster_rcnn", backbone, 128, rename, 1, layers)


def _fpn_pair(model: Any, name: str, fpn: Any, strides: tuple[int, ...], rename: Any) -> Pair:
    backbone = Body(fpn.body, strides, 128)
    return _pair(
        model,
        name,
        backbone,
        128,
        rename,
        0,
        lambda head: [(head.pyramid.pyramid, fpn.fpn), (head.head, model.head)],
    )


def _pair(
    model: Any,
    name: str,
    backbone: Body,
    size: int,
    rename: Any,
    first: int,
    layers: Callable[[Any], list[tuple[nn.Module, nn.Module]]],
) -> Pair:
    model.transform.image_mean, model.transform.image_std = [0.0] * 3, [1.0] * 3
    task = Detection(class_names=LABELS, head=name, width=WIDTH)  # type: ignore[arg-type]
    head = task.build_head(backbone)
    for mine, theirs in layers(head):
        _randomize(theirs, 1.5 if name in ("faster_rcnn", "ssdlite") else 1.0)
        mine.load_state_dict(theirs.state_dict())
    return Pair(model, task, backbone, head, size, rename, first)


def _norms_of_data(module: nn.Module, size: int) -> None:
    """Fit the statistics of batch norms, so that outputs keep a sensible scale."""
    module.train()
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.momentum = 1.0
    with torch.no_grad():
        module(_images(4, size))


def _images(count: int, size: int) -> Tensor:
    """Return images of random blocks of color with noise."""
    blocks = torch.rand(count, 3, 7, 7).repeat_interleave(size // 7 + 1, 2)
    blocks = blocks.repeat_interleave(size // 7 + 1, 3)[:, :, :size, :size]
    return blocks + 0.1 * torch.rand(count, 3, size, size)


def _targets(size: int) -> list[Objects]:
    fraction = size / 128
    boxes = [
        ((10.0, 12.0, 50.0, 60.0), (70.0, 30.0, 120.0, 110.0), (60.0, 64.0, 90.0, 80.0)),
        ((0.0, 0.0, 128.0, 128.0),),
        (),
    ]
    labels = [(0, 2, 1), (1,), ()]
    return [
        Objects(
            tuple(tuple(v * fraction for v in box) for box in some),  # type: ignore[misc]
            ids,
            (size, size),
            (False,) * len(ids),
            (1.0,) * len(ids),
        )
        for some, ids in zip(boxes, labels, strict=True)
    ]


# SSD's loss and decoding are those of SSDLite, on another network.
MAKERS = [ssdlite, pytest.param(ssd, marks=pytest.mark.exhaustive), retinanet, fcos, faster_rcnn]


@pytest.fixture(scope="module", params=MAKERS, ids=lambda make: getattr(make, "__name__", "ssd"))
def pair(request: pytest.FixtureRequest) -> Pair:
    with seeded(0, "pair"):
        return request.param()


@pytest.fixture(scope="module")
def images(pair: Pair) -> Tensor:
    with seeded(1, "images"):
        return _images(3, pair.size)


def test_losses_of_an_image_equal_torchvisions(pair: Pair, images: Tensor) -> None:
    for i, target in enumerate(_targets(pair.size)):
        with seeded(2), torch.no_grad():
            theirs = pair.their_losses(images[i : i + 1], [target])
        with seeded(2), torch.no_grad():
            mine = pair.losses(images[i : i + 1], [target])
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, msg=f"{name} of image {i}", **CLOSE)
        assert target.boxes == () or all(value > 0 for value in theirs.values())


def test_the_loss_of_a_batch_is_the_mean_over_its_images(pair: Pair, images: Tensor) -> None:
    targets = _targets(pair.size)
    if pair.task.head == "faster_rcnn":
        return  # samples at random; the kit compares it in evaluation
    with torch.no_grad():
        single = [pair.losses(images[i : i + 1], [t]) for i, t in enumerate(targets)]
        whole = pair.losses(images, targets)
    for name, value in whole.items():
        mean = torch.stack([part[name] for part in single]).mean()
        torch.testing.assert_close(value, mean, **CLOSE)


def test_detections_equal_torchvisions(pair: Pair, images: Tensor) -> None:
    pair.theirs.eval()
    pair.head.eval()
    sizes = torch.tensor([[pair.size, pair.size]] * 3)
    with torch.no_grad():
        expected = pair.theirs(list(images))
        found = pair.task.decode(pair.head(pair.backbone(images)), sizes)
    assert sum(len(e["scores"]) for e in expected) > 20
    for i, one in enumerate(expected):
        count = int(found["count"][i])
        assert count == len(one["scores"])
        torch.testing.assert_close(found["scores"][i, :count], one["scores"], **CLOSE)
        torch.testing.assert_close(found["boxes"][i, :count], one["boxes"], rtol=1e-4, atol=1e-3)
        labels = found["labels"][i, :count] + pair.first_label
        assert torch.equal(labels, one["labels"])


def test_other_weights_are_detected(pair: Pair, images: Tensor) -> None:
    target = _targets(pair.size)[:1]
    kept = {name: tensor.clone() for name, tensor in pair.head.state_dict().items()}
    with seeded(2), torch.no_grad():
        expected = pair.their_losses(images[:1], target)
        for parameter in pair.head.parameters():
            parameter.mul_(1.01)
    with seeded(2), torch.no_grad():
        found = pair.losses(images[:1], target)
    pair.head.load_state_dict(kept)
    assert any(not torch.isclose(found[n], expected[n], **CLOSE) for n in expected)
