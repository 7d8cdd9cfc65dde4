"""Predict with an exported ONNX file: onnxruntime, numpy and pillow, never PyTorch.

Example::

    from visiongraft.exporters.runtime.predictor import Predictor

    predictor = Predictor("flowers.onnx")
    predictor.predict(["a.jpg", array, image])   # one typed prediction per image
    predictor.predict("photos", save="drawn")      # a folder; draws the predictions too
    predictor.providers                            # ("CPUExecutionProvider",)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from visiongraft.errors import ArtifactError, DataError, OptionError, VisiongraftError, one_line
from visiongraft.exporters.runtime.description import CERTIFICATE, described, read_description
from visiongraft.exporters.runtime.file_predictor import Arrays, FilePredictor
from visiongraft.exporters.runtime.io_binding import BoundRuns
from visiongraft.exporters.runtime.kernels import kernels
from visiongraft.exporters.runtime.onnx_content import content_sha256
from visiongraft.exporters.runtime.onnx_file import MAX_BYTES, refuse_unsafe
from visiongraft.exporters.runtime.providers import CPU, CUDA, FATAL, Provider, open_session
from visiongraft.exporters.runtime.time_limit import check_time_limit, stopped_after, too_slow


class Predictor(FilePredictor):
    """An exported model, ready to predict.

    The file is checked before it is loaded: it must be one file of ONNX's own operators that
    visiongraft exported.

    Args:
        path: The ONNX file.
        providers: Where to run: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, or a list of onnxruntime's
            names, the preferred first, each alone or as ``(name, options)``. ``None`` is the CPU,
            which the certificate was made on; no other is ever chosen unasked, and one that was
            requested is used, or an error is raised.
        threads: Threads of the CPU that one run uses; all cores if ``None``.
        max_bytes: Largest file that is loaded.
        io_binding: Keep the buffers on the GPU from run to run and fill them through pinned memory;
            needs CUDA.
        cuda_graph: Record the GPU's work once per input shape and replay it, which saves the time
            of launching it; needs CUDA, implies ``io_binding``, and is refused where a part of the
            graph cannot run there.
        cache: Folder for the engines that TensorRT builds; a folder of the user if ``None``.
        time_limit: Seconds after which a run is stopped; ``None`` for no limit.

    Attributes:
        path: The ONNX file.
        metadata: The file's metadata as JSON values: ``task``, ``task_options``,
            ``task_metadata``, ``preprocess``, ``input``, ``outputs``, ``versions``, ``opset``,
            ``backbone``, ``training``, ``certificate``.
        input: What the graph takes.
        placement: By execution provider, how much of the graph it runs, in nodes and in
            convolutions and matrix products, by onnxruntime's own record.

    Raises:
        ArtifactError: The file is missing, unsafe, damaged or not visiongraft's.
        OptionError: There is no such execution provider, or an option does not fit it.
        RuntimeProviderError: The execution provider that was requested cannot be used here; the
            message says why.
    """

    def __init__(
        self,
        path: str | Path,
        providers: str | Sequence[Provider] | None = None,
        *,
        threads: int | None = None,
        max_bytes: int = MAX_BYTES,
        io_binding: bool = False,
        cuda_graph: bool = False,
        cache: str | Path | None = None,
        time_limit: float | None = None,
    ) -> None:
        check_time_limit(time_limit)
        self.time_limit = time_limit
        self.path = Path(path)
        declared = refuse_unsafe(self.path, max_bytes)
        self.metadata, self.input = read_description(self.path, declared.metadata)
        self._certificate = declared.metadata.get(CERTIFICATE)
        self._session, self.placement = open_session(
            self.path,
            providers,
            threads=threads,
            cuda_graph=cuda_graph,
            cache=None if cache is None else Path(cache),
        )
        inputs = [entry.name for entry in self._session.get_inputs()]
        if inputs != self.input.names:
            raise ArtifactError(
                f"{self.path} takes {', '.join(inputs)}, but its metadata declares "
                f"{', '.join(self.input.names)}; it is damaged"
            )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._bound = self._bind(cuda_graph) if io_binding or cuda_graph else None

    def use_classes(self, path: str | Path) -> None:
        """Predict other classes from now on; see ``FilePredictor.use_classes``."""
        if self._bound is not None:
            raise OptionError(
                "io_binding and cuda_graph keep the classes of the file; leave them out"
            )
        super().use_classes(path)

    def _bind(self, cuda_graph: bool) -> BoundRuns:
        if CUDA not in self._session.get_providers():
            raise OptionError(f"io_binding=True needs providers='cuda', not {self.providers[0]}")
        options = self._session.get_provider_options()[CUDA]
        return BoundRuns(self._session, "cuda", int(options.get("device_id", 0)), cuda_graph)

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers that really run parts of the graph."""
        return tuple(self.placement)

    def run(self, images: NDArray[Any], sizes: NDArray[np.int64] | None = None) -> Arrays:
        """Run the graph once.

        Args:
            images: uint8 (N, H, W, C) in 0..255, RGB if C is 3; for a file with preprocessed input
                (``input.kind`` is ``"float"``) float (N, C, H, W).
            sizes: Of preprocessed images int64 (N, 2), the original height and width of each in
                pixels, which results that are places refer to; those of ``images`` if ``None``.

        Returns:
            The task's decoded results by name, the batch as first dimension.

        Raises:
            DataError: An array has another type or shape.
            VisiongraftError: The run fails, or takes longer than ``time_limit``.
        """
        if not self.input.accepts(images):
            raise DataError(f"{self.path} takes {self.input}, not {described(images)}")
        feed = {self.input.name: np.ascontiguousarray(images), **self.classes}
        if self.input.sizes is not None:
            feed[self.input.sizes] = _sizes(images, sizes)
        elif sizes is not None and self.input.kind != "float":
            raise DataError(f"{self.path} derives sizes from its images; omit them")
        bound, options = self._bound, onnxruntime.RunOptions()
        options.log_severity_level = FATAL  # what it would print, its exceptions say as well
        stop = partial(setattr, options, "terminate", True)
        with stopped_after(self.time_limit, stop if bound is None else bound.terminate) as over:
            try:
                if bound is not None:
                    values = bound.run(feed)
                else:
                    values = self._session.run(self._outputs, feed, options)
            except VisiongraftError:
                raise
            except Exception as error:  # onnxruntime's exceptions share no base
                if over.is_set():
                    raise too_slow(self.path, self.time_limit, described(images)) from error
                raise VisiongraftError(
                    f"{self.path} failed on {described(images)}: {one_line(error)}"
                ) from error
        return dict(zip(self._outputs, values, strict=True))

    @property
    def kernels(self) -> str | None:
        """The runtime's version and the processor's instructions; ``None`` for another processor."""
        return kernels() if self.providers == (CPU,) else None

    def content_sha256(self) -> str | None:
        """Hash the file without its certificate; ``None`` if something was added behind that."""
        return content_sha256(self.path, self._certificate)


def _sizes(images: NDArray[Any], sizes: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Check original sizes, or return those of preprocessed images (N, C, H, W)."""
    if sizes is None:
        return np.tile(np.array(images.shape[2:], np.int64), (len(images), 1))
    shape = (len(images), 2)
    if isinstance(sizes, np.ndarray) and sizes.dtype == np.int64 and sizes.shape == shape:
        return np.ascontiguousarray(sizes)
    raise DataError(f"sizes must be int64 {shape}, not {described(sizes)}")
