"""IO binding; on the CPU, where it runs without a GPU and must change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from visiongraft.errors import OptionError
from visiongraft.exporters.runtime import io_binding
from visiongraft.exporters.runtime.io_binding import BoundRuns
from visiongraft.exporters.runtime.predictor import Predictor


@pytest.fixture
def session(exported: Any) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("capture", [False, True])
def test_bound_runs_equal_plain_runs(
    session: onnxruntime.InferenceSession, images: list[Any], capture: bool
) -> None:
    bound = BoundRuns(session, "cpu", capture=capture)
    batches = [image[None] for image in images[:3]] * 2
    batches += [np.stack([images[0], images[0][::-1]]), images[1][None, :, ::-1]]
    for batch in batches:
        results = session.run(None, {"images": np.ascontiguousarray(batch)})
        for got, expected in zip(bound.run({"images": batch}), results, strict=True):
            np.testing.assert_array_equal(got, expected)
    assert bound._pinned is None


def test_buffers_are_made_once_per_shape(
    session: onnxruntime.InferenceSession, images: list[Any]
) -> None:
    bound = BoundRuns(session, "cpu")
    bound.run({"images": images[0][None]})
    (made,) = bound._bound.values()
    bound.run({"images": images[1][None]})
    bound.run({"images": images[0][None, ::-1]})
    assert bound._bound[(images[0][None].shape,)] is made
    assert len(bound._bound) == 2


def test_results_of_an_earlier_run_stay_as_they_were(
    session: onnxruntime.InferenceSession, images: list[Any]
) -> None:
    bound = BoundRuns(session, "cpu", capture=True)
    first = bound.run({"images": images[0][None]})
    kept = [value.copy() for value in first]
    bound.run({"images": np.zeros_like(images[0][None])})
    for value, expected in zip(first, kept, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_shapes_are_bounded(
    session: onnxruntime.InferenceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_binding, "MAX_SHAPES", 2)
    images = [np.zeros((1, side, 9, 3), np.uint8) for side in (8, 9, 10)]
    bound = BoundRuns(session, "cpu")
    for image in images:
        bound.run({"images": image})
    assert list(bound._bound) == [((1, 9, 9, 3),), ((1, 10, 9, 3),)]
    recorded = BoundRuns(session, "cpu", capture=True)
    recorded.run({"images": images[0]})
    recorded.run({"images": images[1]})
    recorded.run({"images": images[0]})
    with pytest.raises(OptionError, match="has recorded 2 input shapes and supports no more"):
        recorded.run({"images": images[2]})


def test_it_is_refused_without_cuda(exported: Any) -> None:
    with pytest.raises(OptionError, match="io_binding=True needs providers='cuda', not CPU"):
        Predictor(exported.path, io_binding=True)
    with pytest.raises(OptionError, match="cuda_graph=True needs providers='cuda', not CPU"):
        Predictor(exported.path, cuda_graph=True)
