"""The heads of the built-in tasks know which rows belong to which class.

A head that takes over the rows of a class must score it as the head before did.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from visiongraft.lookup.backbones import load_backbone
from visiongraft.network import Network
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.detection.models.heads import HEADS
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.segmentation.task import DECODER_NAMES, Segmentation
from visiongraft.plugins.video.task import Video
from visiongraft.preparation.kept_head import NEW as NEW_TENSOR
from visiongraft.preparation.kept_head import WHOLE, KeptHead, keep_head
from visiongraft.saving.saved_model import save_model
from visiongraft.task import Task

OLD, NEW = ("cat", "dog", "owl"), ("dog", "ant", "owl", "bee")
SHARED = ("dog", "owl")


def network_of(task: Task) -> Network:
    backbone = load_backbone("simple_cnn", None, size=64)
    object.__setattr__(backbone.info.preprocess, "resize", "stretch")
    network = Network(backbone, task)
    for tensor in network.head.parameters():  # nothing may be equal by chance, such as biases of 0
        torch.nn.init.normal_(tensor, std=0.1)
    return network.eval()


def moved(before: Task, after: Task, folder: Path) -> tuple[Network, Network, KeptHead]:
    old = network_of(before)
    save_model(folder, old, {}, before.name)
    new = network_of(after)
    new.backbone.load_state_dict(old.backbone.state_dict())
    return old, new, keep_head(new, folder, "MODEL")


def outputs(network: Network) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        return network.head(network.backbone(torch.randn(2, 3, 64, 64)))


@pytest.mark.parametrize("head", HEADS)
def test_detectors_score_known_classes_as_before(head: str, tmp_path: Path) -> None:
    old, new, kept = moved(Detection(OLD, head=head), Detection(NEW, head=head), tmp_path)
    assert kept.classes == SHARED
    assert kept.new_classes == ("ant", "bee")
    assert not kept.warnings()
    before, after = outputs(old), outputs(new)
    logits = "class_logits" if head.startswith("faster_rcnn") else "cls_logits"
    pairs = [(before[logits], after[logits])]
    if head.startswith("faster_rcnn"):
        codes = [
            each["box_regression"].unflatten(2, (-1, 4)).transpose(2, 3) for each in (before, after)
        ]
        pairs.append((codes[0], codes[1]))
    else:
        assert torch.equal(before["bbox_regression"], after["bbox_regression"])
    for one, other in pairs:
        for name in SHARED:
            mine = one[..., OLD.index(name) - len(OLD)]  # behind a background, if there is one
            torch.testing.assert_close(other[..., NEW.index(name) - len(NEW)], mine)
        if one.shape[-1] > len(OLD):
            torch.testing.assert_close(other[..., 0], one[..., 0])


@pytest.mark.parametrize("decoder", DECODER_NAMES)
def test_decoders_score_known_classes_as_before(decoder: str, tmp_path: Path) -> None:
    kind = "multi_label" if decoder == "fpn" else "multi_class"
    weights = (1.0, 2.0, 3.0)
    before = Segmentation(OLD, kind=kind, decoder=decoder, class_weights=weights, auxiliary=0.4)
    old, new, kept = moved(
        before, Segmentation(NEW, kind=kind, decoder=decoder, auxiliary=0.4), tmp_path
    )
    assert (kept.classes, kept.warnings()) == (SHARED, ())
    one, other = outputs(old)["logits"], outputs(new)["logits"]
    for name in SHARED:
        torch.testing.assert_close(other[:, NEW.index(name)], one[:, OLD.index(name)])


@pytest.mark.parametrize("kept_name", [True, False])
def test_the_logit_of_a_foreground_is_kept_if_its_name_is(kept_name: bool, tmp_path: Path) -> None:
    names = ("no", "cat" if kept_name else "dog")
    options: dict[str, Any] = {"kind": "binary", "decoder": "fcn"}
    _, _, kept = moved(
        Segmentation(("rest", "cat"), **options), Segmentation(names, **options), tmp_path
    )
    assert kept.classes == (("cat",) if kept_name else ())
    assert bool(kept.warnings()) is not kept_name


@pytest.mark.parametrize("kind", [Classification, Video])
def test_classifiers_score_known_classes_as_before(kind: Any, tmp_path: Path) -> None:
    old, new, kept = moved(
        kind(OLD, hidden=5, class_weights=(1.0, 2.0, 3.0)), kind(NEW, hidden=5), tmp_path
    )
    assert kept.classes == SHARED
    for name in SHARED:
        for part in ("weight", "bias"):
            one, other = (
                dict(each.head.named_parameters())[
                    next(n for n, _ in each.head.named_parameters() if n.endswith(f"output.{part}"))
                ]
                for each in (old, new)
            )
            assert torch.equal(one[OLD.index(name)], other[NEW.index(name)])


def test_another_detector_keeps_no_layer_of_another_meaning(tmp_path: Path) -> None:
    _, _, kept = moved(Detection(OLD, head="retinanet"), Detection(OLD, head="fcos"), tmp_path)
    (line,) = kept.warnings()
    assert "of the head begins anew" in line or "is not used" in line
    for layer in ("classification_head.cls_logits", "regression_head.bbox_reg"):
        assert kept.tensors[f"head.{layer}.weight"] == NEW_TENSOR
    assert kept.tensors["pyramid.pyramid.layer_blocks.0.0.weight"] == WHOLE
