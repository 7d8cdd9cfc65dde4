"""Run a session on buffers of a device that are made once per input shape and used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from visiongraft.errors import OptionError

MAX_SHAPES = 16  # each keeps its buffers, and with CUDA graphs a recording that cannot be dropped
_GRAPH = "gpu_graph_id"
_UNRECORDED = "-1"


@dataclass(frozen=True)
class _Buffer:
    value: onnxruntime.OrtValue
    staged: onnxruntime.OrtValue | None

    def fill(self, array: NDArray[Any]) -> None:
        """Copy an input to the device, through pinned memory if there is any."""
        if self.staged is None:
            self.value.update_inplace(np.ascontiguousarray(array))
            return
        self.staged.numpy()[...] = array  # a view
        self.value.update_inplace(self.staged)


@dataclass(frozen=True)
class _Bound:
    binding: onnxruntime.IOBinding
    buffers: dict[str, _Buffer]
    options: onnxruntime.RunOptions

    def fill(self, feed: Mapping[str, NDArray[Any]]) -> None:
        for name, array in feed.items():
            self.buffers[name].fill(array)


class BoundRuns:
    """A session, run by IO binding.

    Args:
        session: The session.
        device: ``"cuda"`` or ``"cpu"``, where inputs and outputs are.
        device_id: Which of them.
        capture: Fix the outputs' addresses too and number the shapes, as CUDA graphs need it. What
            a graph computes must then have the same shape for all inputs of one shape.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        device: str = "cuda",
        device_id: int = 0,
        capture: bool = False,
    ) -> None:
        self._session = session
        self._device = device, device_id
        self._capture = capture
        self._outputs = [output.name for output in session.get_outputs()]
        self._pinned = _pinned_memory(device)
        self._bound: dict[tuple[tuple[int, ...], ...], _Bound] = {}
        self._running: _Bound | None = None

    def run(self, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once.

        Args:
            feed: All inputs by name, always in the same order.

        Returns:
            All outputs, in the order of the graph.

        Raises:
            OptionError: CUDA graphs of too many input shapes were requested.
        """
        key = tuple(array.shape for array in feed.values())
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = self._bind(feed)
        bound.fill(feed)
        bound.options.terminate = False
        self._running = bound
        self._session.run_with_iobinding(bound.binding, bound.options)
        values: list[NDArray[Any]] = bound.binding.copy_outputs_to_cpu()
        return values

    def terminate(self) -> None:
        """Stop the run that is going on, from another thread."""
        if self._running is not None:
            self._running.options.terminate = True

    def _bind(self, feed: Mapping[str, NDArray[Any]]) -> _Bound:
        if len(self._bound) == MAX_SHAPES:
            if self._capture:
                raise OptionError(
                    f"cuda_graph=True has recorded {MAX_SHAPES} input shapes and supports no more; "
                    "resize images to one size, or leave it out"
                )
            del self._bound[next(iter(self._bound))]
        buffers = {name: self._buffer(array) for name, array in feed.items()}
        bound = _Bound(self._session.io_binding(), buffers, onnxruntime.RunOptions())
        for name, buffer in buffers.items():
            bound.binding.bind_ortvalue_input(name, buffer.value)
        for name in self._outputs:
            bound.binding.bind_output(name, *self._device)
        if self._capture:
            self._fix_outputs(bound, feed)
            bound.options.add_run_config_entry(_GRAPH, str(len(self._bound) + 1))
        return bound

    def _buffer(self, array: NDArray[Any]) -> _Buffer:
        value = self._allocate(array.shape, array.dtype)
        if self._pinned is None:
            return _Buffer(value, None)
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        return _Buffer(value, make(array.shape, array.dtype, memory_info=self._pinned))

    def _fix_outputs(self, bound: _Bound, feed: Mapping[str, NDArray[Any]]) -> None:
        """Learn the outputs' shapes from one run, and bind buffers of those shapes."""
        unrecorded = onnxruntime.RunOptions()
        unrecorded.add_run_config_entry(_GRAPH, _UNRECORDED)
        bound.fill(feed)
        self._session.run_with_iobinding(bound.binding, unrecorded)
        for name, output in zip(self._outputs, bound.binding.get_outputs(), strict=True):
            fixed = self._allocate(output.shape(), output.element_type())
            bound.binding.bind_ortvalue_output(name, fixed)

    def _allocate(self, shape: Any, kind: Any) -> onnxruntime.OrtValue:
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, *self._device)


def _pinned_memory(device: str) -> Any | None:
    """Find the memory of the host that a device reads without a further copy."""
    if device == "cpu":
        return None
    for found in onnxruntime.get_ep_devices():
        if found.ep_name.lower().startswith(device):
            return found.memory_info(onnxruntime.OrtDeviceMemoryType.HOST_ACCESSIBLE)
    return None
