"""Suppression and selection: fixed shapes, the same as torchvision's, in PyTorch and in ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import batched_nms

from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.detection.models.nms import nms_keep, onnx_operators, torch_operators
from visiongraft.plugins.detection.models.selection import Limits, results, select
from visiongraft.plugins.detection.objects import shown_sizes
from visiongraft.plugins.detection.task import Detection
from visiongraft.preprocess import Preprocess, PreprocessConfig
from visiongraft.seeds import seeded


def candidates(
    seed: int, images: int = 2, count: int = 40, labels: int = 3
) -> tuple[Tensor, Tensor]:
    """Return boxes that overlap a lot, and scores, some of them 0."""
    with seeded(seed):
        corner, side = torch.rand(images, count, 2) * 60, 20 + 30 * torch.rand(images, count, 2)
        scores = torch.rand(images, labels, count)
        return torch.cat([corner, corner + side], 2), scores * (scores > 0.3)


@given(st.integers(0, 10**6), st.sampled_from([0.2, 0.5, 0.8]))
def test_selection_is_torchvisions_suppression_padded(seed: int, iou: float) -> None:
    boxes, scores = candidates(seed)
    limits = Limits(0.35, iou, 12)
    found, best, labels = select(boxes, scores, limits)
    for i in range(len(boxes)):
        label, position = (scores[i] > limits.score).nonzero(as_tuple=True)
        kept = batched_nms(boxes[i, position], scores[i, label, position], label, iou)[:12]
        count = len(kept)
        assert torch.equal(best[i, :count], scores[i, label, position][kept])
        assert torch.equal(labels[i, :count], label[kept])
        assert torch.equal(found[i, :count], boxes[i, position][kept])
        assert (best[i, count:] == 0).all() and (labels[i, count:] == -1).all()
        assert (found[i, count:] == 0).all()


def test_fewer_candidates_than_slots_are_padded() -> None:
    boxes, scores = candidates(0, count=2, labels=1)
    found, best, labels = select(boxes, scores, Limits(0.0, 0.5, 10))
    assert found.shape == (2, 10, 4) and best.shape == labels.shape == (2, 10)


def test_boxes_are_in_the_pixels_of_each_image() -> None:
    boxes = torch.tensor([[[10.0, 20, 30, 40]], [[10.0, 20, 30, 40]]])
    labels, outputs = torch.zeros(2, 1, dtype=torch.int64), {"size": torch.tensor([100, 200])}
    found = results(boxes, torch.ones(2, 1), labels, outputs, torch.tensor([[300, 200], [50, 800]]))
    assert found["boxes"].tolist() == [[[10, 60, 30, 120]], [[40, 10, 120, 20]]]
    assert found["count"].tolist() == [1, 1]


def test_boxes_of_letterboxed_images_keep_their_aspect_ratio_and_end_with_the_image() -> None:
    boxes = torch.tensor([[[10.0, 20, 30, 40]], [[50.0, 20, 90, 40]]])
    labels = torch.zeros(2, 1, dtype=torch.int64)
    outputs = {"size": torch.tensor([100, 100]), "letterbox": torch.tensor(True)}
    found = results(
        boxes, torch.ones(2, 1), labels, outputs, torch.tensor([[200, 400], [300, 201]])
    )
    assert found["boxes"].tolist() == [[[40, 80, 120, 160]], [[150, 60, 201, 120]]]


@given(st.tuples(st.integers(1, 700), st.integers(1, 700)), st.tuples(*[st.integers(1, 64)] * 2))
def test_decoding_knows_how_far_preprocessing_fills_images_up(
    image: tuple[int, int], network: tuple[int, int]
) -> None:
    below, right = Preprocess(PreprocessConfig(network, resize="letterbox")).filled(*image)
    shown = shown_sizes(torch.tensor(image), torch.tensor(network), letterbox=True)
    assert shown.tolist() == [image[0] + below, image[1] + right]


class Suppress(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return nms_keep(boxes, scores, 0.5, 0.35)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    file = tmp_path_factory.mktemp("onnx") / "nms.onnx"
    torch.onnx.export(
        Suppress().eval(),
        candidates(0),
        str(file),
        dynamo=True,
        dynamic_shapes=({0: "batch"}, {0: "batch"}),
        input_names=["boxes", "scores"],
        custom_translation_table=onnx_operators(),
        opset_version=18,
        external_data=False,
        verbose=False,
    )
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("images", [0, 1, 2, 5])
def test_the_native_operator_keeps_the_same_scores(exported: Any, images: int) -> None:
    assert exported.get_inputs()[0].shape[0] == "batch"
    boxes, scores = candidates(7, images)
    expected = nms_keep(boxes, scores, 0.5, 0.35)
    (found,) = exported.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy()})
    np.testing.assert_array_equal(found, expected.numpy())
    assert images == 0 or 0 < (found > 0).sum() < (scores > 0.35).sum()


def test_equal_scores_are_suppressed_in_the_same_order(exported: Any) -> None:
    boxes, scores = candidates(3)
    level = (scores > 0) * 0.5
    (found,) = exported.run(None, {"boxes": boxes.numpy(), "scores": level.numpy()})
    np.testing.assert_array_equal(found, nms_keep(boxes, level, 0.5, 0.35).numpy())


def test_nothing_above_the_threshold_leaves_nothing(exported: Any) -> None:
    boxes, scores = candidates(3)
    (found,) = exported.run(None, {"boxes": boxes.numpy(), "scores": 0.1 * scores.numpy()})
    assert not found.any() and not nms_keep(boxes, 0.1 * scores, 0.5, 0.35).any()


@pytest.fixture(scope="module")
def traced() -> Any:
    """Return the suppression as an exported program, in operators of PyTorch and torchvision."""
    free = {0: torch.export.Dim.DYNAMIC}
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):
        program = torch.export.export(Suppress(), candidates(0), dynamic_shapes=(free, free))
        program = program.run_decompositions(torch_operators())
    assert "visiongraft" not in str(program.graph)
    return program.module(check_guards=False)


@pytest.mark.parametrize("images", [0, 1, 2, 5])
def test_an_exported_program_keeps_the_same_scores(traced: Any, images: int) -> None:
    boxes, scores = candidates(7, images)
    alone = scores * (scores == scores.amax()) if images else scores  # a single candidate
    for values in (scores, (scores > 0) * 0.5, 0.1 * scores, alone):
        assert torch.equal(traced(boxes, values), nms_keep(boxes, values, 0.5, 0.35))


def test_each_exporter_gets_its_own_implementation_of_the_operators() -> None:
    task = Detection()
    for exporter in ("onnx", "pt2"):
        operators = task.export_support().operators_for(exporter)
        assert list(operators) == [torch.ops.visiongraft_detection.nms_keep.default]
    assert task.export_support().operators_for("other") == {}


SECOND = pytest.param("faster_rcnn_v2", marks=pytest.mark.exhaustive)
HEADS = ["ssdlite", "ssd", "retinanet", "fcos", "faster_rcnn"]


@pytest.mark.parametrize("head", [*HEADS, SECOND])
def test_every_head_decodes_to_fixed_shapes(head: Any) -> None:
    task = Detection(class_names=("a", "b"), head=head, width=32, detections=7, score_threshold=0.0)
    backbone = stretched("simple_cnn", 32)
    with seeded(0):
        module = task.build_head(backbone).eval()
    with torch.no_grad():
        for images in (0, 1, 3):
            features = backbone(torch.randn(images, 3, 32, 32))
            sizes = torch.tensor([[48, 96]]).expand(images, 2)
            found = task.decode(module(features), sizes)
            assert {n: tuple(v.shape) for n, v in found.items()} == {
                "boxes": (images, 7, 4),
                "scores": (images, 7),
                "labels": (images, 7),
                "count": (images,),
            }
            assert found["labels"].dtype == found["count"].dtype == torch.int64
            assert (found["boxes"][..., [1, 3]] <= 48).all() and (found["boxes"] <= 96).all()


def stretched(name: str, size: int) -> Any:
    from dataclasses import replace

    backbone = load_backbone(name, weights=None, size=size)
    preprocess = replace(backbone.info.preprocess, resize="stretch")
    backbone.info = replace(backbone.info, preprocess=preprocess)
    return backbone.eval()


@pytest.mark.parametrize("head", [*HEADS, SECOND])
def test_a_plain_vision_transformer_gets_a_pyramid(head: Any) -> None:
    task = Detection(class_names=("a", "b"), head=head, width=32)
    backbone = stretched("timm/test_vit", 160)
    assert len(set(backbone.info.strides)) == 1
    module = task.build_head(backbone)
    maps = module.maps if hasattr(module, "maps") else module.pyramid.maps
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 160, 160))
        given = maps(features)
        assert [tuple(m.shape[1:]) for m in given] == [(g.channels, *g.grid) for g in maps.levels]
        heights = [m.shape[2] for m in given]
        assert heights == sorted(heights, reverse=True) and len(set(heights)) == len(heights) >= 3
        found = task.decode(module.eval()(features), torch.tensor([[160, 160]] * 2))
    assert found["boxes"].shape == (2, 100, 4)


def test_probing_map_sizes_does_not_change_the_backbone() -> None:
    backbone = stretched("timm/test_resnet", 64)
    backbone.train()
    backbone.stages  # noqa: B018
    modes = {n: m.training for n, m in backbone.named_modules()}
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    Detection(class_names=("a",)).build_head(backbone)
    assert {n: m.training for n, m in backbone.named_modules()} == modes
    assert all(torch.equal(t, before[n]) for n, t in backbone.state_dict().items())


def test_anchors_cover_the_whole_input() -> None:
    backbone = stretched("timm/test_resnet", 100)  # not a multiple of the strides
    for head in HEADS:
        module = Detection(class_names=("a",), head=head, width=32).build_head(backbone)  # type: ignore[arg-type]
        outputs = module.anchors.outputs()
        for name, anchors in outputs.items():
            if name == "size":
                assert anchors.tolist() == [100, 100]
                continue
            centers = (anchors[:, :2] + anchors[:, 2:]) / 2
            assert centers.min() >= -1 and centers.max() <= 128
    assert [len(a) for n, a in outputs.items() if n != "size"] == [
        25 * 25 * 3,
        13 * 13 * 3,
        7 * 7 * 3,
        4 * 4 * 3,
        2 * 2 * 3,
    ]


def test_crops_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="detection requires resize='stretch' or 'letterbox', not 'crop'"
    ):
        Detection(class_names=("a",)).build_head(load_backbone("simple_cnn", weights=None))
