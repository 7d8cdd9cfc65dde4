"""Predict with an exported ONNX file: onnxruntime, numpy and pillow, never PyTorch.

Example::

    from visiongraft.exporters.runtime import Predictor

    predictor = Predictor("flowers.onnx")
    predictor.predict(["a.jpg", array, picture])   # one typed prediction per picture
    predictor.providers                            # ("CPUExecutionProvider",)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import decode_file, to_array
from visiongraft.errors import ArtifactError, DataError, OptionError, PluginError, VisiongraftError
from visiongraft.exporters.capture import one_line
from visiongraft.exporters.onnx_file import refuse_unsafe
from visiongraft.exporters.providers import Provider, open_session

Arrays = dict[str, NDArray[Any]]
Picture = str | Path | NDArray[np.uint8] | PillowImage.Image

_GROUP = "visiongraft.predictions"  # entry points: task name -> function(arrays, task metadata)


class Predictor:
    """An exported model, ready to predict.

    The file is checked before it is loaded: it must be one file of ONNX's own operators that
    visiongraft exported.

    Args:
        path: The ONNX file.
        providers: Where to run: ``"cpu"``, ``"cuda"``, ``"tensorrt"``, or a list of onnxruntime's
            names, the preferred first. ``None`` is the CPU, which the certificate was made on; no
            other is ever chosen unasked, and one that was asked for is used or an error.

    Attributes:
        path: The ONNX file.
        metadata: All that the file says about itself, as JSON values: ``task``, ``task_options``,
            ``task_metadata``, ``preprocess``, ``input``, ``outputs``, ``versions``, ``opset``,
            ``backbone``, ``training``, ``certificate``.
        placement: How many operators of the graph each execution provider runs.

    Raises:
        ArtifactError: The file is missing, unsafe, damaged or not visiongraft's.
        OptionError: There is no such execution provider.
        RuntimeProviderError: The execution provider that was asked for cannot be used here; the
            message says why.
    """

    def __init__(self, path: str | Path, providers: str | Sequence[Provider] | None = None) -> None:
        self.path = Path(path)
        self.metadata = _metadata(self.path, refuse_unsafe(self.path).metadata)
        entry = self.metadata["input"]
        self._input: str = entry["name"]
        self._channels: int = entry["channels"]
        self._size: tuple[int | None, int | None] = entry["height"], entry["width"]
        self._session, self.placement = open_session(self.path, providers)

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

    def predict(self, pictures: Picture | Iterable[Picture], batch_size: int = 16) -> list[Any]:
        """Predict pictures.

        Of each ``batch_size`` pictures in a row, those of one size run together.

        Args:
            pictures: Paths, uint8 arrays (H, W, C) or (H, W), or PIL images, also mixed; or one.
            batch_size: Most pictures that are held and run at a time.

        Returns:
            One prediction per picture, in order, also if there is only one: what the task's
            plugin makes of it, or a dict of arrays if no such plugin is installed.

        Raises:
            DataError: A picture cannot be read or has the wrong type or channels.
        """
        if batch_size < 1:
            raise OptionError(f"batch_size={batch_size} is not at least 1")
        items = _items(pictures)
        results: list[Any] = []
        while chunk := list(islice(items, batch_size)):
            first = len(results)
            images = [self._read(item, first + i) for i, item in enumerate(chunk)]
            results += self._predict_chunk(images)
        return results

    def run(self, images: NDArray[np.uint8]) -> Arrays:
        """Run the graph once.

        Args:
            images: uint8 (N, H, W, C) in 0..255, RGB if C is 3.

        Returns:
            The task's decoded results by name, the batch as first dimension.

        Raises:
            DataError: The array has another type or shape.
        """
        if not self._accepts(images):
            height, width = self._size
            wanted = f"uint8 (pictures, {height or 'any'}, {width or 'any'}, {self._channels})"
            raise DataError(f"{self.path} takes {wanted}, not {_described(images)}")
        names = [output.name for output in self._session.get_outputs()]
        try:
            values = self._session.run(names, {self._input: np.ascontiguousarray(images)})
        except Exception as error:  # onnxruntime's exceptions share no base
            raise VisiongraftError(
                f"{self.path} failed on {_described(images)}: {one_line(error)}"
            ) from error
        return dict(zip(names, values, strict=True))

    def _accepts(self, images: Any) -> bool:
        if not (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4):
            return False
        _, height, width, channels = images.shape
        fixed_height, fixed_width = self._size
        return (
            0 not in images.shape
            and channels == self._channels
            and height == (fixed_height or height)
            and width == (fixed_width or width)
        )

    def _read(self, picture: Any, position: int) -> NDArray[np.uint8]:
        """Give one picture as uint8 (H, W, channels)."""
        if isinstance(picture, str | Path):
            return decode_file(Path(picture), self._channels)
        if isinstance(picture, PillowImage.Image):
            try:
                return to_array(picture, self._channels)
            except Exception as error:  # pillow decodes only now, and raises anything
                raise DataError(f"picture {position}: {one_line(error)}") from error
        if isinstance(picture, np.ndarray) and picture.ndim == 2:
            picture = np.repeat(picture[..., None], self._channels, axis=2)
        if isinstance(picture, np.ndarray) and self._accepts(picture[None]):
            return picture
        raise DataError(
            f"picture {position} is {_described(picture)}; give a path, a PIL image or an array "
            f"uint8 (height, width, {self._channels})"
        )

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
        predictions = self._to_predictions(decoded, self.metadata["task_metadata"])
        if len(predictions) != count:
            raise PluginError(
                f"the prediction function of task {self.task!r} gave {len(predictions)} results "
                f"for {count} pictures"
            )
        return predictions

    @cached_property
    def _to_predictions(self) -> Callable[[Arrays, Mapping[str, Any]], list[Any]] | None:
        """Find the installed function that makes typed predictions for this task."""
        found = tuple(entry_points(group=_GROUP, name=self.task))
        if not found:
            return None
        try:
            function: Callable[[Arrays, Mapping[str, Any]], list[Any]] = found[0].load()
        except Exception as error:  # a stranger's module may raise anything
            raise PluginError(
                f"typed predictions of task {self.task!r} ({found[0].value}) cannot be loaded: "
                f"{type(error).__name__}: {one_line(error)}"
            ) from error
        return function


def _metadata(path: Path, properties: Mapping[str, str]) -> dict[str, Any]:
    """Parse and check the part of the metadata that prediction relies on."""
    metadata: dict[str, Any] = {}
    with suppress(ValueError):  # another program's metadata need not be JSON
        metadata = {key: json.loads(text) for key, text in properties.items()}
    entry = metadata.get("input")
    known = isinstance(entry, dict) and {"name", "channels", "height", "width"} <= entry.keys()
    if not known or not isinstance(metadata.get("task_metadata"), dict) or "task" not in metadata:
        raise ArtifactError(f"{path} does not say what it takes; was it exported by visiongraft?")
    return metadata


def _items(pictures: Any) -> Iterator[Any]:
    """Give the pictures one by one, also if there is only one."""
    if isinstance(pictures, np.ndarray):
        return iter(pictures if pictures.ndim > 3 else [pictures])
    one = isinstance(pictures, str | PillowImage.Image) or not isinstance(pictures, Iterable)
    return iter([pictures] if one else pictures)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"
