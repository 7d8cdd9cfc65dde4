"""Faults that a valid .pt2 file can hide: the proof catches each, as it does in ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from visiongraft.data.samples import Samples
from visiongraft.errors import ExportError
from visiongraft.exporters.pt2.archive import load_program, serialized
from visiongraft.exporters.pt2.exporter import Pt2Exporter
from visiongraft.exporters.pt2.runtime import Pt2Predictor
from visiongraft.exporters.verification.proof import verify
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.segmentation.task import Segmentation
from visiongraft.task import Task

aten = torch.ops.aten


@dataclass(frozen=True)
class Subject:
    """An exported model, and the images that it was proved on, if any."""

    model: TransferModel
    path: Path
    samples: Samples | None

    def planted(self, fault: Callable[[ExportedProgram], None], folder: Path) -> Pt2Predictor:
        """Open a copy of the file with a fault in it."""
        program, metadata = load_program(self.path)
        fault(program)
        program.graph_module.recompile()
        path = folder / "planted.pt2"
        path.write_bytes(serialized(program, metadata))
        return Pt2Predictor(path)


def built(task: Task, resize: str, folder: Path) -> Subject:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=32)
    config = replace(backbone.info.preprocess, resize=resize)
    backbone.info = replace(backbone.info, preprocess=config)
    model = TransferModel(Network(backbone, task).eval())
    path = folder / f"{task.name}.pt2"
    Pt2Exporter().export(model, path, None)
    return Subject(model, path, None)


@pytest.fixture(scope="module")
def classifying(program_file: Any) -> Subject:
    return Subject(program_file.model, program_file.path, program_file.photos)


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    task = Segmentation(class_names=("a", "b", "c"), kind="multi_class")
    return built(task, "pad", tmp_path_factory.mktemp("painting"))


@pytest.fixture(scope="module")
def detecting(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    task = Detection(class_names=("a", "b", "c"), head="fcos", width=32, detections=20)
    return built(task, "stretch", tmp_path_factory.mktemp("detecting"))


# ---- tools to plant faults with ----


def nodes(program: ExportedProgram, target: Any) -> Iterator[Node]:
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            yield from (node for node in module.graph.nodes if node.target == target)


def first(program: ExportedProgram, target: Any) -> Node:
    return next(nodes(program, target))


def images_of(program: ExportedProgram) -> Node:
    (name,) = program.graph_signature.user_inputs
    return next(node for node in program.graph.nodes if node.name == name)


def behind(node: Node, target: Any, *args: Any) -> None:
    """Insert an operator between a node and everything that reads it."""
    readers = list(node.users)
    with node.graph.inserting_after(node):
        made = node.graph.call_function(target, (node, *args))
    made.meta["val"] = target(*pytree.tree_map_only(Node, lambda n: n.meta["val"], made.args))
    for reader in readers:
        reader.replace_input_with(node, made)


def argument(node: Node, index: int, value: Any) -> None:
    node.args = (*node.args[:index], value, *node.args[index + 1 :])


def result(program: ExportedProgram, name: str) -> Node:
    names = list(program.call_spec.out_spec.context)
    outputs = program.graph.output_node().args[0]
    return outputs[names.index(name)]  # type: ignore[no-any-return, index, return-value]


def result_behind(program: ExportedProgram, name: str, target: Any, *args: Any) -> None:
    """Insert an operator behind a result."""
    old = result(program, name)
    behind(old, target, *args)
    new = result(program, name)
    for spec in program.graph_signature.output_specs:
        if spec.arg.name == old.name:
            spec.arg.name = new.name


def tensors(program: ExportedProgram, ending: str) -> tuple[dict[str, Any], str]:
    """Find a parameter, buffer or constant: where it is kept, and its name."""
    for kept in (program.state_dict, program.constants):
        for name in kept:
            if name.endswith(ending):
                return kept, name
    raise AssertionError(ending)


def change(
    program: ExportedProgram, ending: str, function: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    kept, name = tensors(program, ending)
    old = kept[name]
    new = function(old.detach().clone()).contiguous()
    kept[name] = torch.nn.Parameter(new) if isinstance(old, torch.nn.Parameter) else new


RESIZE = aten._upsample_bilinear2d_aa.vec


def logits_of(program: ExportedProgram) -> Node:
    return list(nodes(program, aten.linear.default))[-1]


# ---- the faults ----


def wrong_mean(program: ExportedProgram) -> None:
    change(program, "preprocess.mean", lambda mean: mean + 255 * 0.02)


def wrong_std(program: ExportedProgram) -> None:
    change(program, "preprocess.std", lambda std: std * 1.1)


def colors_swapped(program: ExportedProgram) -> None:
    behind(images_of(program), aten.flip.default, [3])


def mirrored(program: ExportedProgram) -> None:
    behind(images_of(program), aten.flip.default, [2])


def height_and_width_exchanged(program: ExportedProgram) -> None:
    behind(images_of(program), aten.transpose.int, 1, 2)


def crop_off_by_one(program: ExportedProgram) -> None:
    behind(images_of(program), aten.slice.Tensor, 1, 1)


def size_baked_in(program: ExportedProgram) -> None:
    behind(images_of(program), aten.slice.Tensor, 1, 0, 45)
    behind(images_of(program), aten.slice.Tensor, 2, 0, 61)


def no_antialias(program: ExportedProgram) -> None:
    first(program, RESIZE).target = aten.upsample_bilinear2d.vec


def aligned_corners(program: ExportedProgram) -> None:
    argument(first(program, RESIZE), 2, True)


def nearest(program: ExportedProgram) -> None:
    resize = first(program, RESIZE)
    resize.target = aten.upsample_nearest2d.vec
    resize.args = (*resize.args[:2], None)


def rounded(program: ExportedProgram) -> None:
    behind(first(program, RESIZE), aten.round.default)


def scaled_to_one(program: ExportedProgram) -> None:
    behind(first(program, RESIZE), aten.div.Scalar, 255.0)


def nothing_on_black(program: ExportedProgram) -> None:
    """Stretch the contrast by dividing by the brightest value."""
    resize = first(program, RESIZE)
    behind(resize, aten.amax.default, [1, 2, 3], True)
    brightest = first(program, aten.amax.default)
    for target in (aten.mul.Tensor, aten.div.Tensor):  # the last one comes first
        behind(brightest, target, brightest)
    fraction = next(node for node in brightest.users if node.target == aten.div.Tensor)
    fraction.args = (resize, brightest)


def batch_baked_in(program: ExportedProgram) -> None:
    behind(logits_of(program), aten.reshape.default, [3, -1])


def batch_exchanged(program: ExportedProgram) -> None:
    behind(logits_of(program), aten.flip.default, [0])


def statistics_of_the_batch(program: ExportedProgram) -> None:
    """BatchNorm in training mode."""
    argument(first(program, aten.batch_norm.default), 5, True)


def softmax_dropped(program: ExportedProgram) -> None:
    softmax = first(program, aten.softmax.int)
    softmax.target, softmax.args = aten.alias.default, softmax.args[:1]


def softmax_over_the_batch(program: ExportedProgram) -> None:
    argument(first(program, aten.softmax.int), 1, 0)


def columns_exchanged(program: ExportedProgram) -> None:
    behind(logits_of(program), aten.roll.default, [1], [1])


def labels_swapped(program: ExportedProgram) -> None:
    for name in ("head.linear.weight", "head.linear.bias"):
        change(program, name, lambda rows: rows[[1, 0, 2]])


def label_ids_from_one(program: ExportedProgram) -> None:
    result_behind(program, "classes", aten.add.Scalar, 1)


def least_likely(program: ExportedProgram) -> None:
    first(program, aten.argmax.default).target = aten.argmin.default


def constant_output(program: ExportedProgram) -> None:
    behind(logits_of(program), aten.mul.Scalar, 0.0)


def not_a_number(program: ExportedProgram) -> None:
    result_behind(program, "probabilities", aten.mul.Scalar, float("nan"))


def half_precision_overflow(program: ExportedProgram) -> None:
    logits = logits_of(program)
    for target, value in (
        (aten.to.dtype, torch.float32),  # the last one comes first
        (aten.to.dtype, torch.float16),
        (aten.mul.Scalar, 1e5),
    ):
        behind(logits, target, value)


def one_weight(program: ExportedProgram) -> None:
    def nudge(weight: torch.Tensor) -> torch.Tensor:
        weight.view(-1)[weight.abs().argmax()] *= 1.05
        return weight

    change(program, "stem.conv.weight", nudge)


def weights_of_another_epoch(program: ExportedProgram) -> None:
    torch.manual_seed(0)
    change(program, "stem.conv.weight", lambda w: w * (1 + 0.1 * torch.randn_like(w)))


def truncated_weights(program: ExportedProgram) -> None:
    def half(weight: torch.Tensor) -> torch.Tensor:
        weight.view(-1)[weight.numel() // 2 :] = 0
        return weight

    change(program, "head.linear.weight", half)


def bias_dropped(program: ExportedProgram) -> None:
    change(program, "stem.conv.bias", torch.zeros_like)


def no_activation(program: ExportedProgram) -> None:
    first(program, aten.relu.default).target = aten.alias.default


def wrong_padding(program: ExportedProgram) -> None:
    pad = first(program, aten.pad.default)
    pad.args = (*pad.args[:2], "constant", 1.0)


def padded_at_the_top_left(program: ExportedProgram) -> None:
    pad = first(program, aten.pad.default)
    left, right, top, bottom = pad.args[1]  # type: ignore[misc]
    argument(pad, 1, [right, left, bottom, top])


def masks_moved(program: ExportedProgram) -> None:
    result_behind(program, "labels", aten.roll.default, [1], [2])


def not_suppressed(program: ExportedProgram) -> None:
    argument(first(program, torch.ops.torchvision.nms.default), 2, 1.0)


def suppressed_too_soon(program: ExportedProgram) -> None:
    argument(first(program, torch.ops.torchvision.nms.default), 2, 0.05)


def boxes_on_the_networks_scale(program: ExportedProgram) -> None:
    result_behind(program, "boxes", aten.mul.Scalar, 0.5)


def box_sides_exchanged(program: ExportedProgram) -> None:
    result_behind(program, "boxes", aten.flip.default, [2])


def one_detection_less(program: ExportedProgram) -> None:
    result_behind(program, "count", aten.sub.Scalar, 1)


CLASSIFYING = (wrong_mean, batch_baked_in, not_a_number, one_weight)
# The same comparison catches these in ONNX files; test_faults.py there tries such.
FURTHER = (
    crop_off_by_one,
    no_antialias,
    statistics_of_the_batch,
    softmax_over_the_batch,
    labels_swapped,
    nothing_on_black,
    size_baked_in,
    wrong_std,
    colors_swapped,
    mirrored,
    height_and_width_exchanged,
    aligned_corners,
    nearest,
    rounded,
    scaled_to_one,
    batch_exchanged,
    softmax_dropped,
    columns_exchanged,
    label_ids_from_one,
    least_likely,
    constant_output,
    half_precision_overflow,
    weights_of_another_epoch,
    truncated_weights,
    bias_dropped,
    no_activation,
)
PAINTING = (wrong_padding, padded_at_the_top_left, masks_moved)
DETECTING = (
    not_suppressed,
    suppressed_too_soon,
    boxes_on_the_networks_scale,
    box_sides_exchanged,
    one_detection_less,
)


def named(subject: str, fault: Callable[[ExportedProgram], None], *marks: Any) -> Any:
    return pytest.param(subject, fault, id=fault.__name__, marks=marks)


CASES = [
    *(named("classifying", fault) for fault in CLASSIFYING),
    *(named("classifying", fault, pytest.mark.exhaustive) for fault in FURTHER),
    *(named("painting", fault, pytest.mark.exhaustive) for fault in PAINTING),
    *(named("detecting", fault, pytest.mark.exhaustive) for fault in DETECTING),
]


@pytest.mark.parametrize(("subject", "fault"), CASES)
def test_the_proof_catches_it(
    subject: str,
    fault: Callable[[ExportedProgram], None],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    given: Subject = request.getfixturevalue(subject)
    planted = given.planted(fault, tmp_path)
    for samples in {id(s): s for s in (given.samples, None)}.values():
        with pytest.raises(ExportError, match="image") as caught:
            verify(planted.run, given.model.inference_graph(), samples, batches=(3,))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "subject",
    [
        "classifying",
        pytest.param("painting", marks=[pytest.mark.slow, pytest.mark.exhaustive]),
        pytest.param("detecting", marks=[pytest.mark.slow, pytest.mark.exhaustive]),
    ],
)
def test_a_program_without_a_fault_passes(
    subject: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given: Subject = request.getfixturevalue(subject)
    images = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    planted = given.planted(lambda program: None, tmp_path)
    expected = given.model.inference_graph()(torch.tensor(images))
    for name, value in planted.run(images).items():
        np.testing.assert_allclose(value, expected[name].detach().numpy(), rtol=1e-5)
