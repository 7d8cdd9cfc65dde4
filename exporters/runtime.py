"""Predict with an exported ONNX file: onnxruntime, numpy and pillow, never PyTorch.

Example::

    from visiongraft.exporters.runtime import Predictor

    predictor = Predictor("flowers.onnx")
    predictor.predict(["a.jpg", array, picture])   # one typed prediction per picture
    predictor.predict("photos", save="drawn")      # a folder; draws the predictions too
    predictor.providers                            # ("CPUExecutionProvider",)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.errors import ArtifactError, DataError, OptionError, PluginError, VisiongraftError
from visiongraft.exporters.binding import BoundRuns
from visiongraft.exporters.capture import one_line
from visiongraft.exporters.decoding import decoded_ahead
from visiongraft.exporters.description import read_description
from visiongraft.exporters.onnx_file import MAX_BYTES, refuse_unsafe
from visiongraft.exporters.pictures import Picture, as_array, described, each_picture, name_of
from visiongraft.exporters.providers import CUDA, Provider, open_session
from visiongraft.exporters.task_functions import DRAWINGS, PREDICTIONS, task_function
from visiongraft.files import numbered, write_prediction_files

Arrays = dict[str, NDArray[Any]]

_SIZE = (224, 224)  # of pictures to warm up with, where the file says nothing of sizes
log = logging.getLogger("visiongraft")


class Predictor:
    """An exported model, ready to predict.

    The file is checked before it is loaded: it must be one file of ONNX's own operators that
    visiongraft exported.

    Args:
        path: The ONNX file.
        providers: Where to run: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, or a list of onnxruntime's
            names, the preferred first, each alone or as ``(name, options)``. ``None`` is the CPU,
            which the certificate was made on; no other is ever chosen unasked, and one that was
            asked for is used or an error.
        threads: Threads of the CPU that one run uses; all cores if ``None``.
        max_bytes: Largest file that is loaded.
        io_binding: Keep the buffers on the GPU from run to run and fill them through pinned memory;
            needs CUDA.
        cuda_graph: Record the GPU's work once per input shape and replay it, which saves the time
            of launching it; needs CUDA, implies ``io_binding``, and is refused where a part of the
            graph cannot run there.
        cache: Folder for the engines that TensorRT builds; a folder of the user if ``None``.

    Attributes:
        path: The ONNX file.
        metadata: All that the file says about itself, as JSON values: ``task``, ``task_options``,
            ``task_metadata``, ``preprocess``, ``input``, ``outputs``, ``versions``, ``opset``,
            ``backbone``, ``training``, ``certificate``.
        input: What the graph takes.
        placement: By execution provider, how much of the graph it runs, in nodes and in
            convolutions and matrix products, by onnxruntime's own record.

    Raises:
        ArtifactError: The file is missing, unsafe, damaged or not visiongraft's.
        OptionError: There is no such execution provider, or an option does not fit it.
        RuntimeProviderError: The execution provider that was asked for cannot be used here; the
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
    ) -> None:
        self.path = Path(path)
        declared = refuse_unsafe(self.path, max_bytes)
        self.metadata, self.input = read_description(self.path, declared.metadata)
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
                f"{self.path} takes {', '.join(inputs)} but says that it takes "
                f"{', '.join(self.input.names)}; it is damaged"
            )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._bound = self._bind(cuda_graph) if io_binding or cuda_graph else None

    def _bind(self, cuda_graph: bool) -> BoundRuns:
        if CUDA not in self._session.get_providers():
            raise OptionError(f"io_binding=True needs providers='cuda', not {self.providers[0]}")
        options = self._session.get_provider_options()[CUDA]
        return BoundRuns(self._session, "cuda", int(options.get("device_id", 0)), cuda_graph)

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.metadata["task"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names by class id; empty for a task without labels."""
        return tuple(self.metadata["task_metadata"].get("labels", ()))

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers that really run parts of the graph."""
        return tuple(self.placement)

    @property
    def precision(self) -> str:
        """Precision of the network: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``."""
        return str(self.metadata.get("precision") or "fp32")

    def predict(
        self,
        pictures: Picture | Iterable[Picture],
        batch_size: int = 16,
        save: str | Path | None = None,
    ) -> list[Any]:
        """Predict pictures.

        Of each ``batch_size`` pictures in a row, those of one size run together. A thread decodes
        the next batch meanwhile.

        Args:
            pictures: Paths, uint8 arrays (H, W, C) or (H, W), or PIL images, also mixed; or one; or
                a folder, whose pictures are taken in the order of their paths.
            batch_size: Most pictures that run at a time; at most twice as many are held.
            save: Folder for pictures with the predictions drawn on them, as
                ``00000-name.jpg``. A task whose plugin draws nothing writes none, with a warning.

        Returns:
            One prediction per picture, in order, also if there is only one: what the task's
            plugin makes of it, or a dict of arrays if no such plugin is installed.

        Raises:
            DataError: A picture cannot be read or has the wrong type, size or channels.
            OptionError: The file takes preprocessed pictures, which only ``run`` can give it.
        """
        if batch_size < 1:
            raise OptionError(f"batch_size={batch_size} is not at least 1")
        if self.input.kind != "uint8":
            raise OptionError(
                f"{self.path} holds the bare network, which takes preprocessed {self.input}; give "
                "run() such arrays, or export with input='uint8' to predict pictures"
            )
        draw = None if save is None else self._drawing(Path(save))
        results: list[Any] = []
        decoded = decoded_ahead(enumerate(each_picture(pictures)), self._read, batch_size)
        try:
            while chunk := list(islice(decoded, batch_size)):
                found = self._predict_chunk([image for _, image in chunk])
                if draw is not None:
                    for i, ((name, image), one) in enumerate(zip(chunk, found, strict=True)):
                        draw(len(results) + i, name, image, one)
                results += found
        finally:
            decoded.close()
        return results

    def run(self, images: NDArray[Any], sizes: NDArray[np.int64] | None = None) -> Arrays:
        """Run the graph once.

        Args:
            images: uint8 (N, H, W, C) in 0..255, RGB if C is 3; for a file with preprocessed input
                (``input.kind`` is ``"float"``) float (N, C, H, W).
            sizes: Of preprocessed pictures int64 (N, 2), the original height and width of each in
                pixels, which results that are places refer to; those of ``images`` if ``None``.

        Returns:
            The task's decoded results by name, the batch as first dimension.

        Raises:
            DataError: An array has another type or shape.
        """
        if not self.input.accepts(images):
            raise DataError(f"{self.path} takes {self.input}, not {described(images)}")
        feed = {self.input.name: np.ascontiguousarray(images)}
        if self.input.sizes is not None:
            feed[self.input.sizes] = _sizes(images, sizes)
        elif sizes is not None and self.input.kind == "uint8":
            raise DataError(f"{self.path} knows sizes by its pictures; leave them out")
        try:
            if self._bound is not None:
                values = self._bound.run(feed)
            else:
                values = self._session.run(self._outputs, feed)
        except VisiongraftError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base
            raise VisiongraftError(
                f"{self.path} failed on {described(images)}: {one_line(error)}"
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def warm_up(
        self, batch_sizes: Sequence[int] = (1,), size: tuple[int, int] | None = None, runs: int = 2
    ) -> None:
        """Run black pictures, so that the first real ones need not wait for memory and kernels.

        Args:
            batch_sizes: Each that will be used.
            size: Height and width of the pictures in pixels; that of the network if ``None``. A
                GPU warms up for each size anew.
            runs: How often each.
        """
        known = self.metadata.get("preprocess")
        height, width = size or tuple((known or {}).get("size", _SIZE))
        for count in batch_sizes:
            images = np.zeros(self.input.shape(count, height, width), self.input.dtype)
            for _ in range(runs):
                self.run(images)

    def _read(self, numbered: tuple[int, Any]) -> tuple[str, NDArray[np.uint8]]:
        """Give the name of one picture, and itself as uint8 (H, W, channels)."""
        position, picture = numbered
        name = name_of(picture, position)
        image = as_array(picture, name, self.input.channels)
        if not self.input.accepts(image[None]):
            height, width = image.shape[:2]
            raise DataError(
                f"{name} has {height}x{width} pixels, but {self.path} takes "
                f"{self.input.height}x{self.input.width} only; resize it before, or export "
                "without a fixed size"
            )
        return name, image

    def _predict_chunk(self, images: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """Run pictures of equal size together and give the results in the pictures' order."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            by_shape.setdefault(image.shape, []).append(i)
        results: list[Any] = [None] * len(images)
        for positions in by_shape.values():
            decoded = self.run(np.stack([images[i] for i in positions]))
            for i, prediction in zip(positions, self._typed(decoded, len(positions)), strict=True):
                results[i] = prediction
        return results

    def _typed(self, decoded: Arrays, count: int) -> list[Any]:
        if self._to_predictions is None:
            return [{name: values[i] for name, values in decoded.items()} for i in range(count)]
        predictions: list[Any] = self._to_predictions(decoded, self.metadata["task_metadata"])
        if len(predictions) != count:
            raise PluginError(
                f"the prediction function of task {self.task!r} gave {len(predictions)} results "
                f"for {count} pictures"
            )
        return predictions

    @cached_property
    def _to_predictions(self) -> Callable[..., Any] | None:
        return task_function(PREDICTIONS, self.task)

    def _drawing(self, folder: Path) -> Callable[[int, str, NDArray[np.uint8], Any], None] | None:
        """Give a function that draws one prediction and writes it into a folder."""
        draw = task_function(DRAWINGS, self.task)
        if draw is None or self._to_predictions is None:
            log.warning("no plugin that draws predictions of task %r is installed", self.task)
            return None
        if self.input.channels not in (1, 3, 4):
            raise OptionError(f"pictures of {self.input.channels} channels cannot be drawn on")
        folder.mkdir(parents=True, exist_ok=True)

        def write(position: int, name: str, image: NDArray[np.uint8], prediction: Any) -> None:
            picture = PillowImage.fromarray(image[..., 0] if image.shape[2] == 1 else image)
            name = numbered(position, name)
            drawn = draw(picture.convert("RGB"), prediction).convert("RGB")
            drawn.save(folder / f"{name}.jpg", quality=90)
            write_prediction_files(folder, name, prediction)

        return write


def _sizes(images: NDArray[Any], sizes: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Check original sizes, or give those of preprocessed pictures (N, C, H, W)."""
    if sizes is None:
        return np.tile(np.array(images.shape[2:], np.int64), (len(images), 1))
    wanted = (len(images), 2)
    if isinstance(sizes, np.ndarray) and sizes.dtype == np.int64 and sizes.shape == wanted:
        return np.ascontiguousarray(sizes)
    raise DataError(f"sizes are int64 {wanted}, not {described(sizes)}")
