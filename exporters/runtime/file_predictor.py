"""Predict with an exported file of any format: decode, batch, draw; without PyTorch."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.class_file import read_classes
from visiongraft.comparison import without_extras
from visiongraft.data.images import image_name
from visiongraft.errors import ArtifactError, DataError, OptionError, PluginError
from visiongraft.exporters.runtime.description import InputSpec, extra_outputs_of
from visiongraft.exporters.runtime.grouping import grouped
from visiongraft.exporters.runtime.prefetch import decoded_ahead
from visiongraft.exporters.runtime.task_record import recorded_function
from visiongraft.saving.files import numbered, write_crops, write_prediction_files
from visiongraft.task_contract.functions import DRAWINGS, PREDICTIONS
from visiongraft.task_contract.group_rules import GroupDecisions, Groups
from visiongraft.task_contract.narrowing import ScoreThreshold, check_narrowing, narrowed

Arrays = dict[str, NDArray[Any]]

_SIZE = (224, 224)  # of images to warm up with, if the metadata names no size
log = logging.getLogger("visiongraft")


class FilePredictor(ABC):
    """An exported model, ready to predict.

    Attributes:
        path: The file.
        metadata: Its metadata, as JSON values.
        input: Its input.
        time_limit: Seconds after which a run is stopped, as for a graph that may loop for ever;
            ``None`` for no limit.
        classes: Inputs that describe classes in place of the file's own; see ``use_classes``.
    """

    path: Path
    metadata: dict[str, Any]
    input: InputSpec
    time_limit: float | None = None
    classes: Mapping[str, NDArray[np.float32]] = MappingProxyType({})

    def use_classes(self, path: str | Path) -> None:
        """Predict other classes from now on.

        Args:
            path: A file of classes, which ``visiongraft.save_classes`` writes.

        Raises:
            ArtifactError: It is missing or damaged, or belongs to another model.
            OptionError: The classes of this file are fixed, or the run is on bound buffers.
        """
        found = read_classes(Path(path), self.metadata)
        facts = {**self.metadata["task_metadata"], "class_names": list(found.names)}
        self.metadata = {**self.metadata, "task_metadata": facts}
        self.classes = found.values

    @abstractmethod
    def run(self, images: NDArray[Any]) -> Arrays:
        """Run the file once.

        Args:
            images: An array that ``input`` accepts.

        Returns:
            The task's decoded results by name, the batch as first dimension; then the extra
            outputs.
        """

    @abstractmethod
    def content_sha256(self) -> str | None:
        """Hash the file without its certificate; ``None`` if it was changed after certification."""

    @property
    def kernels(self) -> str | None:
        """What the rounding of its results depends on, besides the file; ``None`` if that is not known."""
        return None

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.metadata["task"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by class id; empty for a task without classes."""
        return tuple(self.metadata["task_metadata"].get("class_names", ()))

    @property
    def precision(self) -> str:
        """Precision of the network: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``."""
        return str(self.metadata.get("precision") or "fp32")

    @cached_property
    def extra_outputs(self) -> tuple[str, ...]:
        """Names of the outputs besides the task's results."""
        return extra_outputs_of(self.metadata)

    def predict(
        self,
        images: Any,
        batch_size: int = 16,
        save: str | Path | None = None,
        score_threshold: ScoreThreshold | None = None,
        top: int | None = None,
        save_crops: bool = False,
        groups: Groups | None = None,
    ) -> list[Any]:
        """Predict images.

        Images of one size run together, also if others come between them, as far as they are among
        the next few batches. A thread decodes the next batch meanwhile.

        Args:
            images: As for a model's ``predict``: paths, PIL images, arrays (H, W, C), tensors
                (C, H, W), also mixed; or a single one; or a folder, whose images are sorted by
                path; or a dataset. A file of clips takes videos, folders of frames and clips in
                memory.
            batch_size: Number of images that run at a time. Twice as many are in memory at most; of
                images of several sizes nine times as many, if all but two batches are within 500 MB.
            save: Folder for images with the predictions drawn on them, as
                ``00000-name.jpg``. If no plugin draws the task's predictions, a warning says so.
            score_threshold: Least score or probability of objects and classes in predictions, from 0 to 1;
                ``None`` for what the task has decided. Or scores by class name, with ``"*"`` for all others.
            top: The most objects or classes in a prediction; ``None`` for all.
            save_crops: Whether to write the objects in the images into ``crops/CLASS`` of that folder, too, for
                tasks whose predictions have boxes.
            groups: The group of each image, by which a file with thresholds by group decides: their names, a file with
                the columns ``path`` and ``group``, or a function from the name of an image to its group.

        Returns:
            One prediction per image, in order, also if there is only one: of the type of the
            task's plugin, or a dict of arrays if no such plugin is installed. Extra outputs are in
            such a dict, and in the results of ``run``.

        Raises:
            ArtifactError: The task's predictions differ from those of the plugin that is installed for
                its name, as those of a subclass may.
            DataError: An image cannot be read or has the wrong type, size or channels.
            OptionError: The file takes preprocessed images, which only ``run`` accepts, or predictions have
                no scores; or there are groups, and the file has no thresholds for them.
        """
        decisions = GroupDecisions.of(groups, self.metadata.get("training") or {}, str(self.path))
        check_narrowing(score_threshold, top, self.class_names)
        if save_crops and save is None:
            raise OptionError("save_crops=True needs a folder: pass save=FOLDER")
        if batch_size < 1:
            raise OptionError(f"batch_size={batch_size} is not at least 1")
        if self.input.kind == "float":
            raise OptionError(
                f"{self.path} is a network without preprocessing, which takes {self.input}; pass "
                "such arrays to run(), or export with input='uint8' to predict images"
            )
        to_predictions = (
            self._to_predictions
        )  # one that does not belong to the file is refused first
        draw = None if save is None else self._drawing(Path(save), save_crops)
        results: dict[int, Any] = {}
        given = enumerate(self.input.inputs.each(images))
        decoded = decoded_ahead(given, self._read, batch_size)
        try:
            for group in grouped(decoded, batch_size):
                found = self.run(np.stack([image.pixels for image in group]))
                for image, one in zip(
                    group, self._typed(found, len(group), to_predictions), strict=True
                ):
                    if decisions is not None:
                        one = decisions.decided(one, image.position, image.name)
                    one = narrowed(one, score_threshold, top)
                    results[image.position] = one
                    if draw is not None:
                        draw(image.position, image.name, image.pixels, one)
        finally:
            decoded.close()
        if decisions is not None:
            decisions.finish(len(results))
        return [results[position] for position in range(len(results))]

    def warm_up(
        self, batch_sizes: Sequence[int] = (1,), size: tuple[int, int] | None = None, runs: int = 2
    ) -> None:
        """Run black images, so that memory and kernels are ready for the first real ones.

        Args:
            batch_sizes: Every batch size that will be used.
            size: Height and width of the images in pixels; that of the network if ``None``. A
                GPU warms up for each size anew.
            runs: Number of runs of each.
        """
        known = self.metadata.get("preprocess")
        height, width = size or tuple((known or {}).get("size", _SIZE))
        for count in batch_sizes:
            images = np.zeros(self.input.shape(count, height, width), self.input.dtype)
            for _ in range(runs):
                self.run(images)

    def _read(self, numbered: tuple[int, Any]) -> tuple[str, NDArray[Any]]:
        """Return the name of one image, or sample of another kind, and its raw array."""
        position, image = numbered
        name, inputs = image_name(image, position), self.input.inputs
        image = inputs.array(image, name, self.input.channels)
        if not self.input.accepts(image[None]):
            height, width = inputs.size((1, *image.shape))
            raise DataError(
                f"{name} has {height}x{width} pixels, but {self.path} takes "
                f"{self.input.height}x{self.input.width} only; resize it first, or export "
                "without a fixed size"
            )
        return name, image

    def _typed(
        self, decoded: Arrays, count: int, to_predictions: Callable[..., Any] | None
    ) -> list[Any]:
        if to_predictions is None:
            return [{name: values[i] for name, values in decoded.items()} for i in range(count)]
        own = without_extras(decoded, self.extra_outputs)
        predictions: list[Any] = to_predictions(own, self.metadata["task_metadata"])
        if len(predictions) != count:
            raise PluginError(
                f"the prediction function of task {self.task!r} returned {len(predictions)} results "
                f"for {count} images"
            )
        return predictions

    @cached_property
    def _to_predictions(self) -> Callable[..., Any] | None:
        return recorded_function(self.path, self.metadata, PREDICTIONS)

    def _drawing(
        self, folder: Path, crops: bool
    ) -> Callable[[int, str, NDArray[Any], Any], None] | None:
        """Return a function that draws one prediction and writes it into a folder."""
        drawn = self.input.inputs.drawn  # there is no image to draw on; predictions may have files
        try:
            draw = None if drawn else recorded_function(self.path, self.metadata, DRAWINGS)
        except ArtifactError as error:
            log.warning("predictions are not drawn: %s", error)
            return None
        if (draw is None and not drawn) or self._to_predictions is None:
            log.warning("no plugin that draws predictions of task %r is installed", self.task)
            return None
        if self.input.channels not in (1, 3, 4):
            raise OptionError(f"images of {self.input.channels} channels cannot be drawn on")
        folder.mkdir(parents=True, exist_ok=True)

        def write(position: int, name: str, sample: NDArray[Any], prediction: Any) -> None:
            image = self.input.inputs.shown(sample)
            name = numbered(position, name)
            if draw is not None and image is not None:
                canvas = PillowImage.fromarray(image[..., 0] if image.shape[2] == 1 else image)
                drawn = draw(canvas.convert("RGB"), prediction).convert("RGB")
                drawn.save(folder / f"{name}.jpg", quality=90)
                if crops:
                    write_crops(folder, name, canvas, prediction)
            write_prediction_files(folder, name, prediction)

        return write
