"""Less than float32: half precision by the network's own dtype, 8 bits by quantization.

A lower precision starts from a float32 file that has passed its whole proof. It must then keep
within a budget: how much worse the task's metric may get on real images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime

from visiongraft.comparison import Arrays
from visiongraft.data.samples import Samples
from visiongraft.errors import ExportError, OptionError, name_some
from visiongraft.exporters.onnx.graph import OPSET, trace
from visiongraft.exporters.onnx.half_precision import DTYPES, lowered
from visiongraft.exporters.onnx.options import ExportOptions
from visiongraft.exporters.onnx.quantize import Quantizer, Scheme
from visiongraft.exporters.onnx.session import inputs_of, open_model, session_run
from visiongraft.exporters.runtime.capture import captured_output
from visiongraft.exporters.verification.metric import HeadlineMeter, worsening
from visiongraft.exporters.verification.proof import BudgetError, Findings
from visiongraft.exporters.verification.trial_images import RealImages
from visiongraft.network import InferenceGraph

log = logging.getLogger("visiongraft")

BFLOAT_OPSET = 22  # the first whose convolutions take bfloat16
CALIBRATION = 64  # images that activations' ranges come from
SELECTION = 200  # images that schemes are compared on
SENSITIVITY = 8  # images that single layers are compared on
SCHEMES = (
    Scheme(per_channel=True, reduce_range=True, calibration="minmax"),
    Scheme(per_channel=True, reduce_range=False, calibration="minmax"),
    Scheme(per_channel=False, reduce_range=True, calibration="minmax"),
)
_HELD_BYTES = 256 * 2**20  # of float32 results that are kept to compare with


class Draft(Protocol):
    """A file being written.

    Attributes:
        graph: What it is made of, in float32.
        options: What the user chose.
        samples: Real images with targets, or ``None``.
    """

    graph: InferenceGraph
    options: ExportOptions
    samples: Samples | None

    def write(self, exported: onnx.ModelProto, opset: int = OPSET) -> None:
        """Write other content."""

    def prove(self, budget: float | None = None) -> Findings:
        """Compare the content with PyTorch."""


def refuse_unprovable(options: ExportOptions, samples: Samples | None) -> None:
    """Refuse, before any work, a lower precision whose budget could not be checked.

    Args:
        options: What the user chose.
        samples: Real images with targets, or ``None``.

    Raises:
        OptionError: There is nothing to measure it on.
        ExportError: onnxruntime cannot run it here.
    """
    precision = options.precision
    if precision == "fp32":
        return
    if samples is None or not len(samples):
        raise OptionError(
            f"precision={precision!r} is held to a budget on labeled images; pass some, data="
        )
    if precision == "bf16" and not _runs_bfloat16():
        raise ExportError(
            f"onnxruntime {onnxruntime.__version__} has no bfloat16 convolution for the CPU, so "
            "that the file could not be proved; use precision='fp16'"
        )


def lower(draft: Draft, exact: onnx.ModelProto) -> tuple[Findings, dict[str, Any]]:
    """Write and prove a file of the lower precision that was chosen.

    Args:
        draft: Holds the float32 file, already proved.
        exact: Its content.

    Returns:
        What the proof showed, and how the file was made, as JSON values.

    Raises:
        ExportError: It costs more than its budget, or could not be made.
    """
    return (_quantize if draft.options.precision == "int8" else _halve)(draft, exact)


# ---- half precision ----


def _halve(draft: Draft, exact: onnx.ModelProto) -> tuple[Findings, dict[str, Any]]:
    precision = draft.options.precision
    outputs = [output.name for output in exact.graph.output]
    opset = BFLOAT_OPSET if precision == "bf16" else OPSET
    failure: ExportError | None = None
    for head in (True, False):
        graph = lowered(draft.graph, DTYPES[precision], head)
        try:
            draft.write(trace(graph, draft.options.size, outputs=outputs, opset=opset), opset)
            return draft.prove(draft.options.budget), {"head": precision if head else "fp32"}
        except ExportError as error:
            log.info("%s with the head in %s: %s", precision, precision if head else "fp32", error)
            failure = error
    raise ExportError(f"precision={precision!r}, even with the head in fp32: {failure}")


def _runs_bfloat16() -> bool:
    kind = onnx.TensorProto.BFLOAT16
    tensors = [onnx.helper.make_tensor_value_info(name, kind, [1, 1, 1, 1]) for name in "xwy"]
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "probe", tensors[:2], tensors[2:])
    opset = onnx.helper.make_opsetid("", BFLOAT_OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    with captured_output():
        try:
            open_model(model)
        except ExportError:
            return False
    return True


# ---- 8 bits ----


def _quantize(draft: Draft, exact: onnx.ModelProto) -> tuple[Findings, dict[str, Any]]:
    trial = _Trial(draft, exact)
    quantizer = Quantizer(exact)
    costs = _try_schemes(quantizer, trial)
    scheme, cost = min(costs.items(), key=lambda item: item[1])
    budget = draft.options.budget
    layers = list(quantizer.layers)
    sensitive: list[str] = []
    failure = ""
    for count in _steps(len(layers)):
        if count and not sensitive:
            sensitive = _by_sensitivity(quantizer, scheme, trial)
        left = sensitive[:count]
        model = quantizer.quantized(scheme, [name for name in layers if name not in left])
        cost = trial.cost(model) if count else cost
        log.info("int8 with %d of %d layers left in float: %s", count, len(layers), cost)
        failure = f"{draft.graph.task.headline} gets worse by {cost.lost:.4f}"
        if cost.lost > budget:
            continue
        draft.write(model)
        try:
            findings = draft.prove(budget)
        except BudgetError as error:
            failure = str(error)
            continue
        settings = {
            **asdict(scheme),
            "calibration_images": trial.calibrated,
            "layers": len(layers),
            "float_layers": quantizer.modules(left),
            "tried": [{**asdict(one), **asdict(its)} for one, its in costs.items()],
        }
        return findings, settings
    named = name_some(quantizer.modules(sensitive[:count]))
    raise ExportError(
        f"precision='int8' costs more than budget={budget}: {failure}, even with "
        f"{count} of {len(layers)} layers left in float ({named})"
    )


def _steps(layers: int) -> Iterator[int]:
    """Yield how many layers to leave in float: none, then more and more, up to half of them."""
    count, more = 0, 1
    while count < layers // 2:
        yield count
        count, more = count + more, max(1, count)
    yield layers // 2


@dataclass(frozen=True, order=True)
class _Cost:
    """What a version loses against float32; ordered from the best to the worst.

    Attributes:
        lost: By how much the headline is worse, not below 0.
        mismatches: Changed predictions.
        difference: Mean over images of the relative difference.
    """

    lost: float
    mismatches: int
    difference: float


def _try_schemes(quantizer: Quantizer, trial: _Trial) -> dict[Scheme, _Cost]:
    """Measure the scales, and with the best of them the other source of ranges."""
    costs: dict[Scheme, _Cost] = {}

    def measure(scheme: Scheme) -> None:
        costs[scheme] = trial.cost(quantizer.quantized(scheme, quantizer.layers))
        log.info("int8 %s: %s", scheme, costs[scheme])

    quantizer.calibrate("minmax", trial.calibration())
    for scheme in SCHEMES:
        measure(scheme)
    best = min(costs, key=lambda scheme: costs[scheme])
    quantizer.calibrate("percentile", trial.calibration())
    measure(replace(best, calibration="percentile"))
    return costs


def _by_sensitivity(quantizer: Quantizer, scheme: Scheme, trial: _Trial) -> list[str]:
    """Sort the layers by the cost of quantizing each alone, the most expensive first.

    Changed predictions come before differences: where those are of matched boxes, a layer that leaves
    none to match has no difference.
    """
    costs = {
        name: trial.cost(quantizer.quantized(scheme, [name]), SENSITIVITY)
        for name in quantizer.layers
    }
    return sorted(costs, key=lambda name: costs[name], reverse=True)


class _Trial:
    """Compares versions with the float32 file on some of the real images."""

    def __init__(self, draft: Draft, exact: onnx.ModelProto) -> None:
        assert draft.samples is not None
        self.graph, self.task = draft.graph, draft.graph.task
        self.real = RealImages(
            draft.samples,
            len(self.graph.preprocess.config.mean),
            draft.options.size,
            self.graph.preprocess.inputs,
        )
        self.inputs = {entry.name for entry in exact.graph.input}
        self.exact = exact
        self.calibrated = 0
        config = self.graph.preprocess.config
        fixed = draft.options.size or config.size
        self.map_size = fixed if self.graph.takes_prepared else None
        self._metric: float | None = None

    def meter(self) -> HeadlineMeter:
        """Return an empty meter of the task's headline."""
        extras = self.graph.extra_outputs
        return HeadlineMeter(self.task, self.real.samples, self.map_size, extras)

    def calibration(self) -> Iterator[Arrays]:
        """Yield the images on which ranges of activations are measured."""
        self.calibrated = 0
        for image in self.real.load(self.real.indices(CALIBRATION)):
            self.calibrated += 1
            yield inputs_of(self.graph, image.pixels[None], self.inputs)

    def cost(self, model: onnx.ModelProto, images: int | None = None) -> _Cost:
        """Measure a version."""
        run = session_run(model, self.graph)
        meter = self.meter()
        differences, mismatches = [], 0
        for index, reference in list(self._reference.items())[:images]:
            image = next(self.real.load([index]))
            decoded = run(image.pixels[None])
            meter.add(image, decoded)
            found = self.graph.comparison(reference, decoded)
            differences.append(found.difference)
            mismatches += found.mismatches
        before, after = self._metric, meter.value()
        lost = 0.0
        if images is None and before is not None and after is not None:
            lost = worsening(self.task, before, after)
        return _Cost(max(0.0, lost), mismatches, float(np.mean(differences)))

    @cached_property
    def _reference(self) -> dict[int, Arrays]:
        """Results of the float32 file, by position of the image."""
        run, held, results = session_run(self.exact, self.graph), 0, {}
        meter = self.meter()
        for image in self.real.load(self.real.indices(SELECTION)):
            decoded = results[image.index] = run(image.pixels[None])
            meter.add(image, decoded)
            held += sum(value.nbytes for value in decoded.values())
            if held > _HELD_BYTES and len(results) > SENSITIVITY:
                break
        self._metric = meter.value()
        return results
