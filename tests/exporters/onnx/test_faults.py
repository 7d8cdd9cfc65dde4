"""Faults that a valid file can hide: each is caught by the proof, and most by ``verify`` too.

The file of a small classifier, one that finds spots, and one whose images are padded are exported
once. Faults are planted into copies. For ``verify`` each copy is then given a certificate for its
own bytes, as if the exporter had passed it, so that its results alone give it away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
import skimage.data
import torch
from onnx import helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.certificate import Certificate
from visiongraft.errors import ExportError
from visiongraft.exporters.onnx.exporter import OnnxExporter
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.runtime.onnx_content import certificate_field, content_sha256
from visiongraft.exporters.verification.certified_comparison import compare_certified
from visiongraft.exporters.verification.certified_file import CertifiedFile
from visiongraft.exporters.verification.proof import verify
from visiongraft.exporters.verification.recheck import _content, _metadata, recheck
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.detection.models.nms import nms_keep, onnx_operators
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, ExportSupport, Task

Model = onnx.ModelProto
LABELS = ("cat", "cup", "woman")
SIDE = 32


@dataclass(frozen=True)
class Subject:
    """An exported model, and the images that it was proved on."""

    model: TransferModel
    path: Path
    data: Path
    certificate: Certificate

    def planted(self, fault: Callable[[Model], None], folder: Path) -> Path:
        """Return a copy of the file with a fault, and with a certificate for its own bytes."""
        model = onnx.load(self.path)
        properties = {p.key: p.value for p in model.metadata_props if p.key != "certificate"}
        fault(model)
        helper.set_model_props(model, properties)
        path = folder / "planted.onnx"
        onnx.save(model, path)
        onnx.checker.check_model(str(path), full_check=True)  # the fault is none that it sees
        text = json.dumps({**self.certificate.to_json(), "content_sha256": content_sha256(path)})
        path.write_bytes(path.read_bytes() + certificate_field(text))
        return path


def cut_outs(folder: Path) -> Path:
    """Write parts of three photographs, of several sizes, into one folder for each."""
    generator = np.random.default_rng(0)
    photos = (skimage.data.chelsea(), skimage.data.coffee(), skimage.data.astronaut())
    for label, photo in zip(LABELS, photos, strict=True):
        (folder / label).mkdir(parents=True)
        for number in range(8):
            height, width = (int(n) for n in generator.integers(70, 130, 2))
            top, left = (
                int(generator.integers(0, n - m))
                for n, m in zip(photo.shape, (height, width), strict=False)
            )
            cut = photo[top : top + height, left : left + width]
            Image.fromarray(cut).save(folder / label / f"{number}.png")
    return folder


def learned(model: TransferModel, data: Path) -> TransferModel:
    """Fit the last layer by least squares: quick, and sure of most images."""
    task, network = model.task, model.network
    samples = task.read_evaluation(data).samples
    with torch.no_grad():
        layer = [m for m in network.head.modules() if isinstance(m, nn.Linear)][-1]
        seen: list[Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for i in range(len(samples)):
            prepared = network.preprocess(torch.tensor(samples.load(i)[None]))
            network.head(network.backbone(prepared))
        hook.remove()
        features = torch.cat(seen)
        mean, std = features.mean(0), features.std(0) + 1e-3
        scaled = (features - mean) / std
        expected = (
            nn.functional.one_hot(torch.tensor([samples.target(i) for i in range(len(samples))]))
            * 8.0
            - 4.0
        )
        ridge = scaled.T @ scaled + 0.1 * torch.eye(scaled.shape[1])
        weights = torch.linalg.solve(ridge, scaled.T @ expected)
        layer.weight.copy_((weights / std[:, None]).T)
        layer.bias.copy_(expected.mean(0) - (mean / std) @ weights)
    return model


class MapHead(nn.Module):
    """One linear layer on the mean of a feature map of any size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, len(LABELS))

    def forward(self, features: Features) -> Tensor:
        return self.linear(features.maps[-1].mean((2, 3)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class OnMaps(Classification):
    def build_head(self, backbone: Backbone) -> nn.Module:
        return MapHead(backbone.info.channels[-1])


def classifier(resize: str) -> TransferModel:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=SIDE)
    preprocess = PreprocessConfig((SIDE, SIDE), resize=resize, crop_fraction=0.9)
    backbone.info = replace(backbone.info, preprocess=preprocess)
    task = (OnMaps if resize == "pad" else Classification)(class_names=LABELS, multi_label=False)
    return TransferModel(Network(backbone, task).eval())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_outs(tmp_path_factory.mktemp("faults") / "images")


@pytest.fixture(scope="module")
def cropped(data: Path) -> Subject:
    model, path = learned(classifier("crop"), data), data.parent / "cropped.onnx"
    return Subject(model, path, data, model.export(path, data=data))


@pytest.fixture(scope="module")
def padded(data: Path) -> Subject:
    model, path = learned(classifier("pad"), data), data.parent / "padded.onnx"
    return Subject(model, path, data, model.export(path, data=data))


# ---- a task that finds things ----


class SpotHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, features: Features) -> Tensor:
        return self.score(features.maps[0]).flatten(2)  # type: ignore[no-any-return]


class MeanScore:
    """The mean best score: a stand-in that any change of scores moves."""

    def __init__(self) -> None:
        self.scores: list[float] = []

    def update(self, decoded: Arrays, targets: Any) -> None:
        self.scores += list(decoded["scores"][:, 0])

    def compute(self) -> dict[str, Any]:
        return {"mean": float(np.mean(self.scores))}


@dataclass(frozen=True)
class Spots(Classification):
    """Returns the three best of overlapping boxes around the cells of a map, in pixels."""

    name: ClassVar[str] = "spots"
    headline: ClassVar[str] = "mean"

    def build_head(self, backbone: Backbone) -> nn.Module:
        return SpotHead(backbone.info.channels[0])

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        side = int(outputs.shape[2] ** 0.5)
        centers = (torch.arange(side) + 0.5) / side
        y, x = (grid.flatten() for grid in torch.meshgrid(centers, centers, indexing="ij"))
        unit = torch.stack((x - 0.1, y - 0.1, x + 0.1, y + 0.1), dim=1)
        boxes = unit.expand(outputs.shape[0], -1, -1)
        scores, index = nms_keep(boxes, outputs.sigmoid(), 0.3, 0.05).topk(3, dim=2)
        chosen = boxes.gather(1, index[:, 0, :, None].expand(-1, -1, 4))
        height, width = sizes[:, :1, None], sizes[:, 1:, None]
        scale = torch.cat((width, height, width, height), dim=2)
        scores = scores[:, 0]
        boxes = chosen * scale * (scores > 0)[:, :, None]
        return {"boxes": boxes, "scores": scores, "count": (scores > 0).sum(1)}

    def build_metrics(self) -> Any:
        return MeanScore()

    def predictions(self, decoded: Arrays) -> list[Any]:
        raise NotImplementedError

    def export_support(self) -> ExportSupport:
        return ExportSupport(operators={"onnx": onnx_operators})


@pytest.fixture(scope="module")
def spotting(data: Path) -> Subject:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=SIDE)
    stretch = PreprocessConfig((SIDE, SIDE), resize="stretch", interpolation="bicubic")
    backbone.info = replace(backbone.info, preprocess=stretch)
    model = TransferModel(Network(backbone, Spots(class_names=LABELS, multi_label=False)).eval())
    with torch.no_grad():
        model.network.head.score.weight.mul_(3)
    path = data.parent / "spots.onnx"
    samples = model.task.read_evaluation(data).samples
    return Subject(model, path, data, OnnxExporter().export(model, path, samples))


# ---- tools to plant faults with ----


def nodes(model: Model, kind: str) -> list[onnx.NodeProto]:
    found = [node for node in model.graph.node if node.op_type == kind]
    assert found, f"no {kind} to plant a fault in"
    return found


def constant(model: Model, value: Any) -> str:
    name = f"planted{len(model.graph.initializer)}"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def change(model: Model, name: str, function: Callable[[Any], Any]) -> None:
    """Replace the value of an initializer."""
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    old = numpy_helper.to_array(tensor)
    new = np.ascontiguousarray(function(old.copy())).astype(old.dtype)
    tensor.CopyFrom(numpy_helper.from_array(new, name))


def before(model: Model, kind: str, *values: Any, tensor: str = "images", **settings: Any) -> None:
    """Insert an operator between a tensor and everything that reads it."""
    for node in model.graph.node:
        node.input[:] = [f"{tensor}_altered" if n == tensor else n for n in node.input]
    inputs = [tensor, *(constant(model, value) for value in values)]
    made = helper.make_node(kind, inputs, [f"{tensor}_altered"], **settings)
    position = [i for i, node in enumerate(model.graph.node) if tensor in node.output]
    model.graph.node.insert(position[0] + 1 if position else 0, made)


def setting(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute of a node."""
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def logits(model: Model) -> str:
    return str(nodes(model, "Softmax")[0].input[0])


def weights(model: Model) -> list[str]:
    """Name the weights of convolutions, in order."""
    return [node.input[1] for node in nodes(model, "Conv")]


# ---- the faults ----


def wrong_mean(model: Model) -> None:
    change(model, "preprocess.mean", lambda mean: mean[:, ::-1])


def wrong_std(model: Model) -> None:
    change(model, "preprocess.std", lambda std: std * 1.1)


def colors_swapped(model: Model) -> None:
    before(model, "Gather", [2, 1, 0], axis=3)


def no_antialias(model: Model) -> None:
    setting(nodes(model, "Resize")[0], "antialias", 0)
    setting(nodes(model, "Resize")[0], "exclude_outside", 0)


def edges_counted_twice(model: Model) -> None:
    setting(nodes(model, "Resize")[0], "exclude_outside", 0)


def aligned_corners(model: Model) -> None:
    setting(nodes(model, "Resize")[0], "coordinate_transformation_mode", "align_corners")


def other_cubic(model: Model) -> None:
    setting(nodes(model, "Resize")[0], "cubic_coeff_a", -0.75)


def nearest(model: Model) -> None:
    no_antialias(model)
    setting(nodes(model, "Resize")[0], "mode", "nearest")


def rounded(model: Model) -> None:
    before(model, "Round", tensor=nodes(model, "Resize")[0].output[0])


def not_clamped(model: Model) -> None:
    clip = nodes(model, "Clip")[0]
    clip.input[1] = constant(model, np.float32(-1e4))
    clip.input[2] = constant(model, np.float32(1e4))


def crop_off_by_one(model: Model) -> None:
    before(model, "Slice", [1], [2**31], [1])


def height_and_width_exchanged(model: Model) -> None:
    before(model, "Transpose", perm=[0, 2, 1, 3])


def mirrored(model: Model) -> None:
    before(model, "Slice", [-1], [-(2**31)], [2], [-1])


def scaled_to_one(model: Model) -> None:
    before(model, "Div", np.float32(255), tensor=nodes(model, "Resize")[0].output[0])


def gray(model: Model) -> None:
    before(model, "Gather", [1, 1, 1], axis=3)


def size_baked_in(model: Model) -> None:
    before(model, "Slice", [0, 0], [45, 61], [1, 2])


def batch_baked_in(model: Model) -> None:
    before(model, "Reshape", [3, -1], tensor=logits(model))


def batch_exchanged(model: Model) -> None:
    before(model, "Slice", [-1], [-(2**31)], [0], [-1], tensor=logits(model))


def statistics_of_the_batch(model: Model) -> None:
    """BatchNorm in training mode, put behind the first convolution."""
    output = nodes(model, "Conv")[0].output[0]
    position = next(i for i, node in enumerate(model.graph.node) if output in node.output) + 1
    for node in model.graph.node:
        node.input[:] = ["normal" if n == output else n for n in node.input]
    mean = helper.make_node("ReduceMean", [output, constant(model, [0, 2, 3])], ["center"])
    apart = helper.make_node("Sub", [output, "center"], ["apart"])
    square = helper.make_node("Mul", ["apart", "apart"], ["square"])
    spread = helper.make_node("ReduceMean", ["square", constant(model, [0, 2, 3])], ["spread"])
    root = helper.make_node("Sqrt", ["spread"], ["root"])
    safe = helper.make_node("Add", ["root", constant(model, np.float32(1e-5))], ["safe"])
    normal = helper.make_node("Div", ["apart", "safe"], ["normal"])
    for i, node in enumerate((mean, apart, square, spread, root, safe, normal)):
        model.graph.node.insert(position + i, node)


def softmax_dropped(model: Model) -> None:
    nodes(model, "Softmax")[0].op_type = "Identity"
    del nodes(model, "Identity")[0].attribute[:]


def softmax_over_the_batch(model: Model) -> None:
    setting(nodes(model, "Softmax")[0], "axis", 0)


def labels_swapped(model: Model) -> None:
    before(model, "Gather", [1, 0, 2], tensor=logits(model), axis=1)


def label_ids_from_one(model: Model) -> None:
    (output,) = nodes(model, "ArgMax")[0].output
    nodes(model, "ArgMax")[0].output[0] = "from_zero"
    one = constant(model, np.int64(1))
    model.graph.node.append(helper.make_node("Add", ["from_zero", one], [output]))


def least_likely(model: Model) -> None:
    nodes(model, "ArgMax")[0].op_type = "ArgMin"


def constant_output(model: Model) -> None:
    before(model, "Mul", np.float32(0), tensor=logits(model))


def truncated_weights(model: Model) -> None:
    def half(weight: Any) -> Any:
        weight.reshape(-1)[weight.size // 2 :] = 0
        return weight

    change(model, weights(model)[-1], half)


def weights_of_another_epoch(model: Model) -> None:
    random = np.random.default_rng(0)
    for name in weights(model):
        change(model, name, lambda w: w * random.normal(1, 0.1, w.shape))


def one_weight(model: Model) -> None:
    def nudge(weight: Any) -> Any:
        weight[np.unravel_index(np.abs(weight).argmax(), weight.shape)] *= 1.05
        return weight

    change(model, weights(model)[0], nudge)


def bias_dropped(model: Model) -> None:
    change(model, nodes(model, "Conv")[0].input[2], np.zeros_like)


def no_activation(model: Model) -> None:
    nodes(model, "Relu")[0].op_type = "Identity"


def half_precision_overflow(model: Model) -> None:
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    tensor = logits(model)
    before(model, "Mul", np.float32(1e5), tensor=tensor)
    before(model, "Cast", tensor=f"{tensor}_altered", to=half)
    before(model, "Cast", tensor=f"{tensor}_altered_altered", to=full)


def nothing_on_black(model: Model) -> None:
    """Stretch the contrast by dividing by the brightest value."""
    tensor = nodes(model, "Resize")[0].output[0]
    position = next(i for i, node in enumerate(model.graph.node) if tensor in node.output) + 1
    for node in model.graph.node:
        node.input[:] = ["even" if n == tensor else n for n in node.input]
    axes = constant(model, [1, 2, 3])
    made = [
        helper.make_node("ReduceMax", [tensor, axes], ["brightest"], keepdims=1),
        helper.make_node("Div", [tensor, "brightest"], ["fraction"]),
        helper.make_node("Mul", ["fraction", "brightest"], ["even"]),
    ]
    for i, node in enumerate(made):
        model.graph.node.insert(position + i, node)


def wrong_padding(model: Model) -> None:
    pad = nodes(model, "Pad")[0]
    value = constant(model, np.float32(1))
    pad.input[:] = [*pad.input[:2], value, *pad.input[3:]]


def padded_at_the_top_left(model: Model) -> None:
    pad = nodes(model, "Pad")[0]
    order = constant(model, [4, 5, 6, 7, 0, 1, 2, 3])
    turned = helper.make_node("Gather", [pad.input[1], order], ["turned"])
    position = list(model.graph.node).index(pad)
    pad.input[1] = "turned"
    model.graph.node.insert(position, turned)


def not_suppressed(model: Model) -> None:
    nodes(model, "NonMaxSuppression")[0].input[3] = constant(model, np.array([1.0], np.float32))


def suppressed_twice_as_soon(model: Model) -> None:
    nodes(model, "NonMaxSuppression")[0].input[3] = constant(model, np.array([0.1], np.float32))


def one_box_a_class(model: Model) -> None:
    nodes(model, "NonMaxSuppression")[0].input[2] = constant(model, np.array([1]))


def after_all(model: Model, output: str, kind: str, value: Any) -> None:
    for node in model.graph.node:
        node.output[:] = ["unaltered" if n == output else n for n in node.output]
        node.input[:] = ["unaltered" if n == output else n for n in node.input]
    made = helper.make_node(kind, ["unaltered", constant(model, value)], [output])
    model.graph.node.append(made)


def boxes_on_the_networks_scale(model: Model) -> None:
    after_all(model, "boxes", "Mul", np.float32(0.5))


def box_sides_exchanged(model: Model) -> None:
    for node in model.graph.node:
        node.output[:] = ["unaltered" if n == "boxes" else n for n in node.output]
    order = constant(model, [1, 0, 3, 2])
    made = helper.make_node("Gather", ["unaltered", order], ["boxes"], axis=2)
    model.graph.node.append(made)


def one_detection_less(model: Model) -> None:
    after_all(model, "count", "Sub", np.int64(1))


def boxes_one_pixel_off(model: Model) -> None:
    after_all(model, "boxes", "Add", np.float32(1))


def boxes_one_percent_larger(model: Model) -> None:
    after_all(model, "boxes", "Mul", np.float32(1.01))


def mean_two_percent_off(model: Model) -> None:
    change(model, "preprocess.mean", lambda mean: mean * 1.02)


def asymmetric_resize(model: Model) -> None:
    setting(nodes(model, "Resize")[0], "coordinate_transformation_mode", "asymmetric")


def clipped_weights(model: Model) -> None:
    for name in weights(model):
        change(model, name, lambda w: w.clip(*np.quantile(w, [0.01, 0.99])))


def temperature(model: Model) -> None:
    before(model, "Div", np.float32(1.3), tensor=logits(model))


def order_of_features_changed(model: Model) -> None:
    tensor = nodes(model, "Gemm")[-1].input[0]
    channels = next(t.dims[1] for t in model.graph.initializer if t.name.endswith("output.weight"))
    order = np.random.default_rng(0).permutation(channels)
    before(model, "Gather", order, tensor=tensor, axis=1)


# What 'verify' sees without the certified results: results that depend on the batch, are not finite, or change
# the metric.
SEEN_WITHOUT_MODEL = {
    "colors_swapped",
    "height_and_width_exchanged",
    "scaled_to_one",
    "gray",
    "batch_baked_in",
    "batch_exchanged",
    "statistics_of_the_batch",
    "softmax_over_the_batch",
    "labels_swapped",
    "label_ids_from_one",
    "least_likely",
    "constant_output",
    "truncated_weights",
    "no_activation",
    "half_precision_overflow",
}
CROPPED = (
    wrong_mean,
    wrong_std,
    colors_swapped,
    no_antialias,
    edges_counted_twice,
    aligned_corners,
    nearest,
    rounded,
    crop_off_by_one,
    height_and_width_exchanged,
    mirrored,
    scaled_to_one,
    gray,
    size_baked_in,
    batch_baked_in,
    batch_exchanged,
    statistics_of_the_batch,
    softmax_dropped,
    softmax_over_the_batch,
    labels_swapped,
    label_ids_from_one,
    least_likely,
    constant_output,
    truncated_weights,
    weights_of_another_epoch,
    one_weight,
    bias_dropped,
    no_activation,
    half_precision_overflow,
    nothing_on_black,
    mean_two_percent_off,
    asymmetric_resize,
    clipped_weights,
    temperature,
    order_of_features_changed,
)
PADDED = (wrong_padding, padded_at_the_top_left)
SPOTTING = (
    not_suppressed,
    suppressed_twice_as_soon,
    one_box_a_class,
    boxes_on_the_networks_scale,
    box_sides_exchanged,
    one_detection_less,
    other_cubic,
    not_clamped,
    boxes_one_pixel_off,
    boxes_one_percent_larger,
)
CASES = [
    *(("cropped", fault) for fault in CROPPED),
    *(("padded", fault) for fault in PADDED),
    *(("spotting", fault) for fault in SPOTTING),
]


def named(cases: list[Any], ordinary: int = 3) -> list[Any]:
    """Name the cases; the ordinary run tries each so many, and exports no padded network."""
    return [
        pytest.param(
            subject,
            fault,
            id=fault.__name__,
            marks=[pytest.mark.exhaustive] if i % ordinary or subject == "padded" else [],
        )
        for i, (subject, fault) in enumerate(cases)
    ]


@pytest.mark.parametrize(("subject", "fault"), named(CASES))
@pytest.mark.parametrize("real", [True, False], ids=["real images", "random ones alone"])
def test_the_proof_catches_it(
    subject: str,
    fault: Callable[[Model], None],
    real: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    given = request.getfixturevalue(subject)
    samples = given.model.task.read_evaluation(given.data).samples if real else None
    with pytest.raises(ExportError) as caught:
        verify(
            session_run(given.planted(fault, tmp_path), given.model.inference_graph()),
            given.model.inference_graph(),
            samples,
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("subject", "fault"), named(CASES))
def test_the_certified_results_give_it_away_without_the_model(
    subject: str, fault: Callable[[Model], None], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given = request.getfixturevalue(subject)
    file = CertifiedFile(given.planted(fault, tmp_path))
    try:
        problem = compare_certified(file.run, file.certified, 3).problem
    except ExportError as error:
        problem = str(error)
    assert problem and "\n" not in problem


@pytest.mark.parametrize("fault", [mean_two_percent_off, temperature])
def test_verify_fails_without_the_model(
    fault: Callable[[Model], None], cropped: Subject, tmp_path: Path
) -> None:
    failed = [c for c in recheck(cropped.planted(fault, tmp_path)).checks if c.passed is False]
    assert [check.name for check in failed] == ["certified results"]


def detail_of(path: Path, name: str) -> str:
    return next(check.detail for check in recheck(path).checks if check.name == name)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (boxes_one_pixel_off, r"boxes: value 0 is \S+ instead of .* \(each value is larger by 1\)"),
        (boxes_one_percent_larger, r"each value is 1\.01 times as large"),
    ],
)
def test_the_message_names_what_differs(
    fault: Callable[[Model], None], words: str, spotting: Subject, tmp_path: Path
) -> None:
    path = spotting.planted(fault, tmp_path)
    detail = detail_of(path, "certified results")
    assert re.search(words, detail) and detail.endswith("of 36 images differ")
    with pytest.raises(ExportError, match=words.replace("value 0 is ", "")):
        graph = spotting.model.inference_graph()
        verify(session_run(path, graph), graph, None)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
@pytest.mark.parametrize("subject", ["cropped", "spotting"])
def test_other_threads_and_optimizations_are_no_fault(
    level: str, subject: str, request: pytest.FixtureRequest
) -> None:
    given = request.getfixturevalue(subject)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = 3
    session = onnxruntime.InferenceSession(str(given.path), options)
    names = [output.name for output in session.get_outputs()]

    def run(images: Any) -> Arrays:
        return dict(zip(names, session.run(None, {"images": images}), strict=True))

    found = compare_certified(run, given.certificate.certified, 3)
    assert (found.problem, found.near_ties, found.images) == ("", 0, 36)


def test_the_certified_results_add_little_to_a_file(cropped: Subject, spotting: Subject) -> None:
    for subject in (cropped, spotting):
        text = json.dumps(subject.certificate.to_json()["certified"])
        assert len(text) < 15_000


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("preprocess", lambda value: value.update(mean=[0.485, 0.456, 0.407])),
        ("backbone", lambda value: value["provenance"].update(license="CC-BY-4.0")),
        ("training", lambda value: value.update(epochs=100)),
        ("outputs", lambda value: value.reverse()),
        ("task_options", lambda value: value.update(flip=False)),
        ("input", lambda value: value.update(color="BGR")),
        ("versions", lambda value: value.update(torch="2.0.0")),
    ],
)
def test_verify_catches_changed_metadata(
    key: str, change: Callable[[Any], None], cropped: Subject, tmp_path: Path
) -> None:
    model = onnx.load(cropped.path)
    properties = {p.key: p.value for p in model.metadata_props if p.key != "certificate"}
    value = json.loads(properties[key])
    change(value)
    helper.set_model_props(model, {**properties, key: json.dumps(value)})
    path = tmp_path / "planted.onnx"
    onnx.save(model, path)
    text = json.dumps({**cropped.certificate.to_json(), "content_sha256": content_sha256(path)})
    path.write_bytes(path.read_bytes() + certificate_field(text))
    assert _metadata(CertifiedFile(path)).passed is False
    if key == "preprocess":
        failed = [c.name for c in recheck(path).checks if c.passed is False]
        assert failed == ["metadata"]


@pytest.mark.parametrize(
    ("subject", "fault"),
    named([(s, f) for s, f in CASES if f.__name__ in SEEN_WITHOUT_MODEL], ordinary=4),
)
def test_verify_catches_it_by_its_results_alone(
    subject: str, fault: Callable[[Model], None], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given = request.getfixturevalue(subject)
    report = recheck(given.planted(fault, tmp_path), str(given.data))
    failed = {check.name for check in report.checks if check.passed is False}
    assert failed and "content" not in failed


@pytest.mark.parametrize(
    "subject",
    ["cropped", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ("padded", "spotting"))],
)
def test_the_file_without_a_fault_passes(
    subject: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given = request.getfixturevalue(subject)
    samples = given.model.task.read_evaluation(given.data).samples

    def untouched(model: Model) -> None:
        """Plant nothing."""

    path = given.planted(untouched, tmp_path)
    for images in (samples, None):
        findings = verify(
            session_run(path, given.model.inference_graph()), given.model.inference_graph(), images
        )
        assert max(c.difference for c in findings.comparisons) < 2e-5
    for file in (path, given.path):
        report = recheck(file, str(given.data))
        assert report.passed, report.checks


def test_every_fault_changes_the_bytes_that_were_certified(
    cropped: Subject, tmp_path: Path
) -> None:
    for fault in CROPPED:
        path = cropped.planted(fault, tmp_path)
        model = onnx.load(path)
        (entry,) = (p for p in model.metadata_props if p.key == "certificate")
        entry.value = json.dumps(cropped.certificate.to_json())
        onnx.save(model, path)
        assert _content(CertifiedFile(path)).passed is False, fault.__name__


def test_the_classifier_is_good_enough_to_show_a_loss(cropped: Subject) -> None:
    assert cropped.certificate.metric_torch is not None
    assert cropped.certificate.metric_torch >= 0.9
    assert isinstance(cropped.model.task, Task)
