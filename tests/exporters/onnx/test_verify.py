"""The verifier must catch every fault that is planted here, and accept correct files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from visiongraft.errors import DataError, ExportError
from visiongraft.exporters.onnx.graph import check_model, trace
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.verification.proof import verify
from visiongraft.network import InferenceGraph
from visiongraft.preprocess import Preprocess, PreprocessConfig
from visiongraft.task import Disagreement, ExportSupport, Task
from visiongraft.verification.engine import TOLERANCE

Model = onnx.ModelProto


def initializer(model: Model, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def change(model: Model, name: str, function: Callable[[Any], Any]) -> None:
    """Replace the value of one initializer."""
    tensor = initializer(model, name)
    value = function(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def before_all_else(model: Model, op: str, *values: np.ndarray, **attributes: Any) -> None:
    """Insert a node between the input and everything that reads it."""
    for node in model.graph.node:
        node.input[:] = ["altered" if name == "images" else name for name in node.input]
    names = [f"planted{i}" for i in range(len(values))]
    for name, value in zip(names, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    node = helper.make_node(op, ["images", *names], ["altered"], **attributes)
    model.graph.node.insert(0, node)


def after(model: Model, output: str, op: str, value: np.ndarray) -> None:
    """Insert a node between what computes an output and the output."""
    for node in model.graph.node:
        node.output[:] = ["unaltered" if name == output else name for name in node.output]
        node.input[:] = ["unaltered" if name == output else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(value, "planted"))
    model.graph.node.append(helper.make_node(op, ["unaltered", "planted"], [output]))


def wrong_mean(model: Model) -> None:
    change(model, "preprocess.mean", lambda mean: mean + 255 * 0.02)


def wrong_color_order(model: Model) -> None:
    before_all_else(model, "Gather", np.array([2, 1, 0]), axis=3)


def no_antialias(model: Model) -> None:
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    for attribute in resize.attribute:
        if attribute.name in ("antialias", "exclude_outside"):
            attribute.i = 0


def swapped_labels(model: Model) -> None:
    change(model, "head.linear.weight", lambda weight: weight[[1, 0, 2]])
    change(model, "head.linear.bias", lambda bias: bias[[1, 0, 2]])


def batch_size_baked_in(model: Model) -> None:
    after(model, "probabilities", "Reshape", np.array([3, 3]))


def height_and_width_baked_in(model: Model) -> None:
    starts, ends, axes = np.array([0, 0]), np.array([45, 61]), np.array([1, 2])
    before_all_else(model, "Slice", starts, ends, axes)


def one_weight_off(model: Model) -> None:
    def nudge(weight: Any) -> Any:
        weight[0, int(np.abs(weight[0]).argmax())] *= 1.01
        return weight

    change(model, "head.linear.weight", nudge)


def not_a_number(model: Model) -> None:
    after(model, "probabilities", "Mul", np.array(np.nan, dtype=np.float32))


def unknown_output(model: Model) -> None:
    model.graph.output[0].name = "probability"
    for node in model.graph.node:
        node.output[:] = ["probability" if n == "probabilities" else n for n in node.output]
        node.input[:] = ["probability" if n == "probabilities" else n for n in node.input]


FAULTS = (
    wrong_mean,
    wrong_color_order,
    no_antialias,
    swapped_labels,
    batch_size_baked_in,
    height_and_width_baked_in,
    one_weight_off,
    not_a_number,
    unknown_output,
)


def saved(model: Model, folder: Path) -> Path:
    path = folder / "candidate.onnx"
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)  # the fault is none that a checker sees
    return path


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("real", [True, False], ids=["real images", "random images only"])
def test_a_planted_fault_is_caught(
    exported: Any, tmp_path: Path, fault: Callable[[Model], None], real: bool
) -> None:
    candidate = exported.load()
    fault(candidate)
    path = saved(candidate, tmp_path)
    with pytest.raises(ExportError, match=r"image") as caught:
        verify(
            session_run(path, exported.model.inference_graph()),
            exported.model.inference_graph(),
            exported.photos if real else None,
        )
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_the_file_without_a_fault_passes(exported: Any, tmp_path: Path) -> None:
    path = saved(exported.load(), tmp_path)
    findings = verify(
        session_run(path, exported.model.inference_graph()),
        exported.model.inference_graph(),
        exported.photos,
    )
    assert max(c.difference for c in findings.comparisons) < TOLERANCE / 10


def test_a_model_left_in_training_mode_is_caught(
    make_small_model: Callable[..., Any], exported: Any, tmp_path: Path
) -> None:
    graph = make_small_model().inference_graph()
    graph.head.norm.momentum = 0.0  # the statistics stay as they are
    graph.head.norm.train()
    path = saved(trace(graph), tmp_path)
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(session_run(path, graph), graph, exported.photos)


class TwoFacedPreprocess(Preprocess):
    """Branch on the image size in Python, which tracing decides once and for all."""

    def resize(self, images: Tensor) -> Tensor:
        resized = super().resize(images)
        return resized if images.shape[1] % 3 == 0 else resized * 0.9


def test_a_branch_that_tracing_froze_is_caught(
    make_small_model: Callable[..., Any], tmp_path: Path
) -> None:
    graph = make_small_model().inference_graph()
    graph.preprocess = TwoFacedPreprocess(graph.preprocess.config)
    path = saved(trace(graph), tmp_path)  # accepted without any complaint
    with pytest.raises(ExportError, match="disagrees with PyTorch"):
        verify(session_run(path, graph), graph, None)


def test_the_resize_attributes_are_asserted(exported: Any) -> None:
    candidate = exported.load()
    config = exported.model.backbone_info.preprocess
    check_model(candidate, config, size_is_fixed=False)
    no_antialias(candidate)
    with pytest.raises(ExportError, match=r"antialias.*update onnxscript"):
        check_model(candidate, config, size_is_fixed=False)


def test_the_worst_real_image_is_named_with_the_figures(exported: Any, tmp_path: Path) -> None:
    candidate = exported.load()
    swapped_labels(candidate)
    with pytest.raises(ExportError) as caught:
        verify(
            session_run(saved(candidate, tmp_path), exported.model.inference_graph()),
            exported.model.inference_graph(),
            exported.photos,
        )
    message = str(caught.value)
    assert "patient-" in message
    assert "relative difference" in message
    assert "changed predictions in 6 images" in message


def test_a_mismatch_alone_is_a_breach(exported: Any, tmp_path: Path) -> None:
    candidate = exported.load()
    after(candidate, "classes", "Max", np.array(1))
    with pytest.raises(ExportError, match=r"[1-9]\d* changed predictions"):
        verify(
            session_run(saved(candidate, tmp_path), exported.model.inference_graph()),
            exported.model.inference_graph(),
            exported.photos,
        )


def test_a_comparison_without_a_number_is_a_mismatch(exported: Any) -> None:
    class NotANumber(type(exported.model.task)):  # type: ignore[misc]
        def export_support(self) -> ExportSupport:
            return ExportSupport(compare=lambda *both: Disagreement(float("nan"), 0))

    graph = exported.model.inference_graph()
    graph.task = NotANumber()
    with pytest.raises(ExportError, match="or are not finite; 0 changed predictions"):
        verify(session_run(exported.path, graph), graph, exported.photos)


def test_the_checks_cover_batches_sizes_and_both_kinds_of_images(exported: Any) -> None:
    checks = {(check.inputs, check.batch): check for check in exported.certificate.comparisons}
    both = {(inputs, batch) for inputs in ("random", "real") for batch in (1, 3, 8)}
    assert set(checks) == both | {("plain", 1), ("plain", 3)}
    assert all(check.mismatches == 0 for check in checks.values())
    for batch in (1, 3):
        sizes = checks["random", batch].sizes
        assert {h > w for h, w in sizes} == {True, False}
        assert {h * w > 45 * 61 for h, w in sizes} == {True, False}  # about the traced size
    assert len(checks["real", 1].sizes) == 5
    assert {check.images for check in checks.values() if check.inputs == "real"} == {6}


def test_the_metric_is_that_of_the_task_on_either_side(exported: Any) -> None:
    graph, right = exported.model.inference_graph(), []
    for i in range(len(exported.photos)):
        decoded = graph(torch.tensor(exported.photos.load(i)[None]))
        right.append(int(decoded["classes"]) == exported.photos.target(i))
    certificate = exported.certificate
    assert certificate.headline == "agreement"
    assert certificate.metric_torch == certificate.metric_exported == np.mean(right)


def test_each_check_visits_each_image_once(
    exported: Any, make_samples: Callable[..., Any], images: list[Any]
) -> None:
    samples = make_samples(images)
    verify(
        session_run(exported.path, exported.model.inference_graph()),
        exported.model.inference_graph(),
        samples,
    )
    assert samples.loads == 3 * len(images)


def test_other_images_or_another_order_have_another_hash(
    exported: Any, make_samples: Callable[..., Any], images: list[Any]
) -> None:
    def sha256(images: list[Any]) -> str | None:
        graph = exported.model.inference_graph()
        run, samples = session_run(exported.path, graph), make_samples(images)
        return verify(run, graph, samples, batches=(3,)).data_sha256

    first = sha256(images[:2])
    assert first == sha256(images[:2])
    assert first != sha256(images[1::-1])


def test_without_real_images_the_certificate_warns(exported: Any) -> None:
    findings = verify(
        session_run(exported.path, exported.model.inference_graph()),
        exported.model.inference_graph(),
        None,
    )
    assert findings.data_sha256 is None
    assert findings.metric_torch is None
    assert {check.inputs for check in findings.comparisons} == {"random", "plain"}
    assert "no real image was tried" in findings.warnings[0]


def test_many_images_are_thinned_out_evenly_with_a_warning(
    exported: Any,
    make_samples: Callable[..., Any],
    images: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("visiongraft.exporters.verification.proof.MAX_SINGLE", 5)
    monkeypatch.setattr("visiongraft.exporters.verification.trial_images.MAX_SINGLE", 5)
    monkeypatch.setattr("visiongraft.exporters.verification.proof.MAX_IN_BATCHES", 4)

    class Watched(make_samples):  # type: ignore[valid-type,misc]
        def load(self, index: int, channels: int = 3) -> Any:
            loaded.append(index)
            return super().load(index, channels)

    loaded: list[int] = []
    samples = Watched([images[i % 3] for i in range(10)])
    findings = verify(
        session_run(exported.path, exported.model.inference_graph()),
        exported.model.inference_graph(),
        samples,
        batches=(3,),
    )
    assert loaded == [0, 2, 5, 7, 0, 2, 4, 6, 8]
    counts = {c.batch: c.images for c in findings.comparisons if c.inputs == "real"}
    assert counts == {1: 5, 3: 4}
    assert findings.warnings == ("5 of 10 real images were tried, evenly spaced",)


def test_an_image_that_pytorch_itself_cannot_take_is_one_line(
    exported: Any, make_samples: Callable[..., Any], images: list[Any]
) -> None:
    two_channels = make_samples([images[0][..., :2]])
    with pytest.raises(ExportError, match="PyTorch fails on 3 images of 214x320 pixels: "):
        verify(
            session_run(exported.path, exported.model.inference_graph()),
            exported.model.inference_graph(),
            two_channels,
        )


@pytest.fixture
def half_unreadable(make_samples: Callable[..., Any], images: list[Any]) -> Any:
    """Samples of which every second one cannot be read."""

    class Broken(make_samples):  # type: ignore[valid-type,misc]
        def load(self, index: int, channels: int = 3) -> Any:
            if index % 2:
                raise DataError(f"image {index} is truncated")
            return super().load(index, channels)

    return Broken(images)


def test_unreadable_images_are_counted_and_left_out(exported: Any, half_unreadable: Any) -> None:
    findings = verify(
        session_run(exported.path, exported.model.inference_graph()),
        exported.model.inference_graph(),
        half_unreadable,
    )
    assert findings.warnings == ("3 unreadable images were left out",)


def test_only_unreadable_images_are_an_error(exported: Any, half_unreadable: Any) -> None:
    with pytest.raises(DataError, match=r"none of 2 images .* image 1 is truncated"):
        verify(
            session_run(exported.path, exported.model.inference_graph()),
            exported.model.inference_graph(),
            half_unreadable.subset([1, 1]),
        )


def test_a_single_image_fills_a_batch_of_three(
    exported: Any, make_samples: Callable[..., Any], images: list[Any]
) -> None:
    findings = verify(
        session_run(exported.path, exported.model.inference_graph()),
        exported.model.inference_graph(),
        make_samples(images[:1]),
    )
    assert [c.images for c in findings.comparisons if c.inputs == "real"] == [1, 1, 1]


def test_a_file_that_onnxruntime_refuses_is_one_line(exported: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ExportError, match="onnxruntime cannot load the file"):
        verify(
            session_run(path, exported.model.inference_graph()),
            exported.model.inference_graph(),
            None,
        )


PHOTO_SIZES = ((61, 61), (50, 140), (140, 50), (20, 30), (32, 48))


@pytest.mark.parametrize(
    ("interpolation", "mode"),
    [
        ("bicubic", "stretch"),
        pytest.param("bilinear", "crop", marks=pytest.mark.exhaustive),
        pytest.param("bilinear", "stretch", marks=pytest.mark.exhaustive),
        pytest.param("bicubic", "crop", marks=pytest.mark.exhaustive),
    ],
)
def test_preprocessing_in_the_graph_equals_pytorch(
    exported: Any, tmp_path: Path, images: list[Any], mode: str, interpolation: str
) -> None:
    config = PreprocessConfig((32, 48), interpolation=interpolation, resize=mode, crop_fraction=0.9)
    resize = OnlyResize(config, exported.model.task)
    path = tmp_path / "resize.onnx"
    onnx.save(trace(resize), path)
    session = onnx_session(path)
    worst = 0.0
    for image in [*images, *(images[0][:h, :w] for h, w in PHOTO_SIZES)]:
        batch = np.ascontiguousarray(image[None])
        (got,) = session.run(None, {"images": batch})
        expected = resize(torch.tensor(batch))["resized"].numpy()
        worst = max(worst, float(np.abs(got - expected).max()))
    assert worst <= 0.02  # on the scale 0..255
    assert expected.std() > 10


class OnlyResize(InferenceGraph):
    """The first half of the preprocessing alone."""

    def __init__(self, config: PreprocessConfig, task: Task) -> None:
        torch.nn.Module.__init__(self)
        self.preprocess = Preprocess(config)
        self.task = task

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"resized": self.preprocess.resize(images)}


def onnx_session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
