"""Near-ties in PyTorch itself are distinguished from predictions that the file gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from visiongraft.errors import ExportError
from visiongraft.exporters.onnx.session import session_run
from visiongraft.exporters.verification.proof import verify
from visiongraft.network import InferenceGraph
from visiongraft.verification.engine import TOLERANCE
from visiongraft.verification.near_ties import DRAWS, LEVELS, decode_nearby, settle


@pytest.fixture(scope="module")
def image(images: list[Any]) -> Any:
    return images[0]


def decoder(graph: InferenceGraph) -> Callable[[torch.Tensor], Any]:
    def decode(images: torch.Tensor) -> Any:
        with torch.inference_mode():
            return {name: value.numpy() for name, value in graph(images).items()}

    return decode


def margins(graph: InferenceGraph, image: Any) -> list[float]:
    """Return by how much the first class is ahead of the second, on the image and near it."""
    decode, images = decoder(graph), torch.tensor(image[None])
    outcomes = [decode(images), *decode_nearby(graph, decode, images)]
    fractions = [np.log(outcome["probabilities"][0].astype(np.float64)) for outcome in outcomes]
    return [float(fraction[0] - fraction[1]) for fraction in fractions]


def tuned(make_model: Callable[..., Any], image: Any, ahead: float) -> InferenceGraph:
    """Build a network whose first two classes are about equally likely on one image, above the third."""
    graph = make_model().inference_graph()
    with torch.no_grad():
        graph.head.linear.weight /= 200  # what is near moves the scores less than is accepted
        graph.head.linear.bias[2] -= 50
        for _ in range(3):  # until rounding is all that is left
            graph.head.linear.bias[0] += ahead - margins(graph, image)[0]
    return graph


@pytest.fixture
def file_that_is_off(exported: Any, tmp_path: Path) -> Callable[[InferenceGraph, float], Path]:
    """Return a function that writes a network's file with the second class put forward."""

    def file_that_is_off(graph: InferenceGraph, by: float) -> Path:
        model = exported.load()  # the same network but for its last layer
        layer = graph.head.linear
        own = {f"head.linear.{n}": p.detach().numpy().copy() for n, p in layer.named_parameters()}
        own["head.linear.bias"][1] += np.float32(by)
        for tensor in model.graph.initializer:
            if tensor.name in own:
                tensor.CopyFrom(numpy_helper.from_array(own.pop(tensor.name), tensor.name))
        assert not own
        onnx.save(model, tmp_path / "off.onnx")
        return tmp_path / "off.onnx"

    return file_that_is_off


def reach(graph: InferenceGraph, image: Any) -> float:
    """Return by how much a very slight change moves the margin."""
    found = margins(graph, image)
    return max(abs(margin - found[0]) for margin in found)


def test_a_prediction_that_is_unstable_in_pytorch_is_a_near_tie_and_counted(
    make_model: Any, make_samples: Any, image: Any, images: list[Any], file_that_is_off: Any
) -> None:
    graph = tuned(make_model, image, 0.0)
    gap = reach(graph, image) / 4
    graph = tuned(make_model, image, gap)
    path = file_that_is_off(graph, 2 * gap)
    findings = verify(session_run(path, graph), graph, make_samples(images))
    single = findings.comparisons[-1]
    assert (single.mismatches, single.near_ties) == (0, 1)
    assert single.difference <= TOLERANCE


def test_a_prediction_that_is_stable_in_pytorch_is_a_mismatch_however_close_it_is(
    make_model: Any, make_samples: Any, image: Any, images: list[Any], file_that_is_off: Any
) -> None:
    graph = tuned(make_model, image, 0.0)
    gap = 3 * reach(graph, image)
    graph = tuned(make_model, image, gap)
    path = file_that_is_off(graph, 2 * gap)
    with pytest.raises(ExportError, match=r"relative difference .*; 1 changed predictions in 6"):
        verify(session_run(path, graph), graph, make_samples(images))


def test_more_than_a_few_near_ties_are_refused(
    make_model: Any, make_samples: Any, image: Any, file_that_is_off: Any
) -> None:
    graph = tuned(make_model, image, 0.0)
    gap = reach(graph, image) / 4
    graph = tuned(make_model, image, gap)
    path = file_that_is_off(graph, 2 * gap)
    assert (
        verify(session_run(path, graph), graph, make_samples([image] * 3), batches=())
        .comparisons[-1]
        .near_ties
        == 3
    )
    with pytest.raises(ExportError, match="1 changed predictions in 4 images"):
        verify(session_run(path, graph), graph, make_samples([image] * 4), batches=())


def test_results_that_belong_to_no_single_image_are_left_as_they_are(exported: Any) -> None:
    graph, images = exported.model.inference_graph(), torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    results = {"count": np.array(3)}, {"count": np.array(4)}
    settled, count = settle(graph, decoder(graph), images, results, TOLERANCE)
    assert (settled, count) == ({"count": 3}, 0)


def test_nearby_images_differ_slightly_and_are_the_same_each_time(
    exported: Any, image: Any
) -> None:
    graph = exported.model.inference_graph()
    seen: list[torch.Tensor] = []
    watching = graph.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        images = torch.tensor(image[None])
        first = list(decode_nearby(graph, decoder(graph), images))
        again = list(decode_nearby(graph, decoder(graph), images))
    finally:
        watching.remove()
    assert len(first) == len(again) == DRAWS * len(LEVELS)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["probabilities"], other["probabilities"])
    with torch.inference_mode():
        plain = graph.preprocess(images)
    std = 255 * torch.tensor(graph.preprocess.config.std)[:, None, None]
    for i, prepared in enumerate(seen[: len(first)]):
        off = float(((prepared - plain) * std).abs().max())
        level = LEVELS[i // DRAWS]
        assert level / 2 < off < level * 1.5


def test_the_reference_is_left_as_it_was(exported: Any, image: Any) -> None:
    graph = exported.model.inference_graph()
    decode, images = decoder(graph), torch.tensor(image[None])
    before = decode(images)["probabilities"]
    for _ in decode_nearby(graph, decode, images):
        np.testing.assert_array_equal(decode(images)["probabilities"], before)
