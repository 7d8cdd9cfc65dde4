"""Images in memory: arrays, tensors, PIL images, and map-style datasets of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.data.decode import decode_file, printable, to_array
from visiongraft.data.listing import list_images
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError, one_line, type_and_message


def image_array(image: Any, name: str, channels: int = 3) -> NDArray[np.uint8]:
    """Convert an image of any common kind to a uint8 array.

    Args:
        image: A path; a PIL image; an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W),
            each uint8 in 0..255, float in 0..1, or bool.
        name: Name of the image in messages.
        channels: Number of channels to return. 1, 3 and 4 are converted into each other: gray is
            repeated, transparency composited over white. Any other number must match the image.

    Returns:
        uint8 (H, W, channels).

    Raises:
        DataError: The image is of another kind, or cannot be decoded or converted.

    Examples:
        >>> image_array(np.full((2, 3), 0.5), "gray").shape
        (2, 3, 3)
    """
    if isinstance(image, (str, Path)):
        return decode_file(Path(image), channels)
    if isinstance(image, PillowImage.Image):
        return _from_pillow(image, name, channels)
    if isinstance(image, np.ndarray):
        return _as_channels(_as_uint8(image, name), name, channels, "(H, W, C)")
    if hasattr(image, "detach"):
        array = _as_uint8(_from_tensor(image), name)
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
        return _as_channels(array, name, channels, "(C, H, W)")
    raise DataError(
        f"{name}: an image must be a path, PIL image, array or tensor, not {_kind(image)}"
    )


def each_image(images: Any) -> Iterator[Any]:
    """Iterate over images, neither decoded nor checked, one by one.

    Args:
        images: One image, a folder, an array (N, H, W, C) or tensor (N, C, H, W), an iterable of
            images, or a map-style dataset of images or of (image, target) pairs.

    Returns:
        The images.

    Raises:
        DataError: A folder contains no images, or ``images`` is of another kind.
    """
    if isinstance(images, (str, Path)) and Path(images).is_dir():
        found = list_images(Path(images))
        if not found:
            raise DataError(f"{printable(images)} contains no images")
        return iter(found)
    if isinstance(images, (str, Path, PillowImage.Image)) or getattr(images, "ndim", 0) in (2, 3):
        return iter([images])
    if isinstance(images, Samples):
        return (images.load(index) for index in range(len(images)))
    if hasattr(images, "__iter__"):
        return iter(images)
    if hasattr(images, "__getitem__") and hasattr(images, "__len__"):  # torch's datasets
        items = (images[index] for index in range(len(images)))
        return (item[0] if isinstance(item, tuple) else item for item in items)
    raise DataError(f"images must be paths, PIL images, arrays or tensors, not {_kind(images)}")


def image_name(image: Any, position: int) -> str:
    """Return an image's path, or its position if it is in memory."""
    return printable(image) if isinstance(image, (str, Path)) else f"image {position}"


@dataclass(frozen=True)
class DatasetSamples(Samples):
    """A map-style dataset of (image, target) pairs.

    Attributes:
        dataset: Dataset with ``__len__`` and ``__getitem__``.
        targets: One target per item.
        array: Converts the first part of an item to the array of a sample.
    """

    dataset: Any
    targets: Sequence[Any] = field(default=())
    array: Callable[[Any, str, int], NDArray[Any]] = image_array

    @classmethod
    def of(
        cls,
        dataset: Any,
        convert: Callable[[Any], Any] = lambda target: target,
        array: Callable[[Any, str, int], NDArray[Any]] = image_array,
    ) -> DatasetSamples:
        """Wrap a dataset.

        Targets are read without decoding if the dataset lists them (as ``targets``, ``labels``, or
        (path, target) pairs in ``samples``) and a few items agree with the list; otherwise every
        item is loaded once.

        Args:
            dataset: A map-style dataset of (image, target) pairs.
            convert: Converts each target to the form that the task expects.
            array: Converts the first part of an item to the array of a sample, such as
                ``Task.inputs.array`` of a task of clips.

        Returns:
            The samples.

        Raises:
            DataError: The object is not such a dataset, or is empty.
        """
        check_dataset(dataset)
        targets = _listed_targets(dataset)
        if targets is None or not _agree(dataset, targets):
            targets = [load_item(dataset, i)[1] for i in range(len(dataset))]
        return cls(dataset, [convert(_plain(t)) for t in targets], array)

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        """Return the position as a name."""
        return f"item {index}"

    def target(self, index: int) -> Any:
        """Return the target."""
        return self.targets[index]

    def load(self, index: int, channels: int = 3) -> NDArray[Any]:
        """Load the item and convert its image."""
        return self.array(load_item(self.dataset, index)[0], self.name(index), channels)


def check_dataset(dataset: Any) -> None:
    """Check that an object is a map-style dataset with at least one item.

    Raises:
        DataError: It is not.
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(
            f"data must be a path or a dataset with __len__ and __getitem__, not {_kind(dataset)}"
        )
    if len(dataset) == 0:
        raise DataError(f"the dataset ({_kind(dataset)}) is empty")


def class_names_of(dataset: Any) -> tuple[str, ...] | None:
    """Return the ``classes`` of a dataset, also of one wrapped in ``torch.utils.data.Subset``.

    Args:
        dataset: A map-style dataset.

    Returns:
        The class names; ``None`` if ``classes`` is missing or not a list of distinct names.
    """
    while hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)) or len(set(names)) != len(names):
        return None
    return tuple(names) if names and all(isinstance(n, str) for n in names) else None


def load_item(dataset: Any, index: int, form: str = "(image, target)") -> tuple[Any, Any]:
    """Load one item of a map-style dataset.

    Args:
        dataset: The dataset.
        index: Position of the item.
        form: What an item must be, for messages.

    Returns:
        Image and target.

    Raises:
        DataError: The dataset raised an error, or the item is not a pair.
    """
    try:
        item = dataset[index]
    except Exception as error:  # a third-party dataset may raise any error
        raise DataError(f"item {index}: the dataset raised {type_and_message(error)}") from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"item {index}: a dataset must return {form}, not {_kind(item)}")
    return item[0], item[1]


def _listed_targets(dataset: Any) -> list[Any] | None:
    """Find the list of targets of a torchvision dataset, or of a ``Subset`` of one."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        inner = _listed_targets(dataset.dataset)
        return None if inner is None else [inner[i] for i in dataset.indices]
    for name in ("targets", "labels"):
        targets: Any = getattr(dataset, name, None)
        if _is_list(targets) and len(targets) == len(dataset):
            return list(targets)
    samples: Any = getattr(dataset, "samples", None)
    if not _is_list(samples) or len(samples) != len(dataset):
        return None
    pairs = all(isinstance(s, tuple) and len(s) == 2 for s in samples)
    return [target for _, target in samples] if pairs else None


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0


def _agree(dataset: Any, targets: list[Any]) -> bool:
    """Check whether listed targets equal those of the items; names or raw values would not."""
    probes = {0, len(targets) // 2, len(targets) - 1}
    return all(repr(_plain(load_item(dataset, i)[1])) == repr(_plain(targets[i])) for i in probes)


def _plain(target: Any) -> Any:
    """Convert zero-dimensional tensors and numpy scalars to Python numbers, as in JSON."""
    if hasattr(target, "tolist") and getattr(target, "ndim", 1) == 0:
        return target.tolist()
    return target


def _from_pillow(image: PillowImage.Image, name: str, channels: int) -> NDArray[np.uint8]:
    try:
        return to_array(image, channels)
    except Exception as error:  # Pillow may decode only now, and raise any error
        raise DataError(f"{name}: {one_line(error)}") from error


def _from_tensor(tensor: Any) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array: NDArray[Any] = tensor.numpy()
    return array


def _as_uint8(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        return (array * 255 + 0.5).astype(np.uint8)
    span = f" from {array.min():.4g} to {array.max():.4g}" if array.size else ""
    raise DataError(
        f"{name}: pixels must be uint8 in 0..255 or float in 0..1, not {array.dtype}{span}; pass "
        "images before normalization"
    )


def _as_channels(
    array: NDArray[np.uint8], name: str, channels: int, order: str
) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(
            f"{name}: an image must have height, width and channels, not the shape {array.shape}"
        )
    found = array.shape[2]
    if found == channels:
        return array
    if found in (1, 3, 4) and channels in (1, 3, 4):
        plain = np.ascontiguousarray(array[:, :, 0] if found == 1 else array)
        return to_array(PillowImage.fromarray(plain), channels)
    raise DataError(
        f"{name}: has {found} channels, but {channels} are required; its layout is read as {order}"
    )


def _kind(value: Any) -> str:
    return type(value).__name__
