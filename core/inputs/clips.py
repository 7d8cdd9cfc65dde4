"""Clips: some frames of a video, as many of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import printable, read_file
from visiongraft.data.images import each_image, image_array
from visiongraft.data.video import Times, find_clips, read_frames, read_video
from visiongraft.errors import DataError, OptionError
from visiongraft.inputs.contract import Inputs
from visiongraft.options import check_choice, check_integer

if TYPE_CHECKING:
    from torch import Tensor

SAMPLINGS = ("uniform", "dense")
_MOVES = 8  # a still image moves by this fraction of its width from frame to frame


@dataclass(frozen=True)
class Clips(Inputs):
    """Clips of videos: uint8 (N, T, C, H, W) in a file, float (N, T, C, height, width) in the network.

    A sample holds the frames of one or several clips of a video, one clip after the other.

    Attributes:
        frames: Frames of a clip.
        clips: Clips of a video.
        sampling: ``"uniform"`` spreads the frames of each clip over the whole video, as Wang et al.
            (2016), "Temporal Segment Networks"; ``"dense"`` takes clips of neighboring frames, evenly
            spaced.
        stride: Distance of neighboring frames with ``"dense"``, in frames.

    Raises:
        OptionError: A value is not valid.
    """

    name: ClassVar[str] = "clips"
    layout: ClassVar[str] = "NTCHW"

    frames: int = 8
    clips: int = 1
    sampling: Literal["uniform", "dense"] = "uniform"
    stride: int = 2

    def __post_init__(self) -> None:
        for option in ("frames", "clips", "stride"):
            check_integer(option, getattr(self, option), least=1)
        check_choice("sampling", self.sampling, SAMPLINGS)

    # ---- from files and arrays ----

    def find(self, folder: Path) -> list[Path]:
        """List the videos and the folders of frames in a folder, which may itself be one."""
        return find_clips(folder)

    def each(self, values: Any) -> Iterator[Any]:
        """Iterate over clips, neither decoded nor checked, one by one.

        Args:
            values: A video, a folder of frames, a folder of these, an array (T, H, W, C) or tensor
                (T, C, H, W), an iterable of any of these, or a map-style dataset.

        Raises:
            DataError: A folder contains no clips, or ``values`` is of another kind.
        """
        if isinstance(values, (str, Path)) and Path(values).is_dir():
            found = self.find(Path(values))
            if not found:
                raise DataError(f"{printable(values)} contains no videos and no frames")
            return iter(found)
        if isinstance(values, (str, Path)) or getattr(values, "ndim", 0) == 4:
            return iter([values])
        return each_image(values)

    def is_path(self, path: Path) -> bool:
        """Check whether there is a video or a folder of frames."""
        return path.is_file() or path.is_dir()

    def array(self, value: Any, name: str, channels: int = 3) -> NDArray[np.uint8]:
        """Read the frames of a clip.

        Args:
            value: The path of a video or of a folder of frames; an array (T, H, W, C) or (T, C, H, W),
                a tensor (T, C, H, W), or a sequence of images. Of more frames than a sample has, some
                are chosen as of a video.
            name: Its name in messages.
            channels: Number of color channels.

        Returns:
            uint8 (T, C, H, W).

        Raises:
            DataError: It is of another kind, damaged, or has too few frames.
        """
        if isinstance(value, (str, Path)):
            path = Path(value)
            if path.is_dir():
                return _channels_first(read_frames(path, self.choose, channels))
            return self.decode(read_file(path), name, channels)
        if not isinstance(value, (list, tuple)) and getattr(value, "ndim", 0) != 4:
            raise DataError(
                f"{name}: a clip must be the path of a video or of a folder of frames, an array "
                f"(T, H, W, C), a tensor (T, C, H, W) or a list of images, not {type(value).__name__}"
            )
        if isinstance(value, np.ndarray) and value.shape[1] == channels != value.shape[3]:
            value = np.moveaxis(value, 1, 3)
        chosen = list(range(len(value)))
        if len(value) != self.length:
            chosen = self.choose(np.arange(len(value), dtype=np.float64), name)
        images = [image_array(value[i], f"{name}, frame {i}", channels) for i in chosen]
        if len({image.shape for image in images}) > 1:
            raise DataError(f"{name}: the frames of a clip have several sizes")
        return self.join(images)

    def decode(
        self,
        content: bytes,
        name: str,
        channels: int,
        lock: AbstractContextManager[Any] | None = None,
    ) -> NDArray[np.uint8]:
        """Decode frames of a video file."""
        return _channels_first(read_video(content, name, self.choose, channels))

    def choose(self, times: Times, name: str) -> list[int]:
        """Choose the frames of a sample.

        Args:
            times: Ascending times of all frames.
            name: Name of the video in messages.

        Returns:
            Positions of the frames, clip by clip.

        Raises:
            DataError: There are too few frames.

        Examples:
            >>> Clips(frames=3, clips=2).choose(np.arange(12.0), "a.mp4")
            [1, 5, 9, 3, 7, 11]
            >>> Clips(frames=3, clips=2, sampling="dense").choose(np.arange(12.0), "a.mp4")
            [0, 2, 4, 7, 9, 11]
        """
        count, span = len(times), (self.frames - 1) * self.stride + 1
        needed = self.length if self.sampling == "uniform" else span
        if count < needed:
            raise DataError(f"{name}: has {count} frames, fewer than the {needed} that are needed")
        if self.sampling == "dense":
            last = count - span
            starts = np.linspace(0, last, self.clips) if self.clips > 1 else np.array([last / 2])
            places = starts.astype(int)[:, None] + np.arange(self.frames) * self.stride
            return [int(i) for i in places.ravel()]
        step = (times[-1] - times[0]) / max(count - 1, 1)
        wanted = times[0] + (np.arange(self.length) + 0.5) / self.length * step * count
        found = np.searchsorted(times, wanted, side="right") - 1
        return [int(i) for i in found.reshape(self.frames, self.clips).T.ravel()]

    # ---- shapes ----

    @property
    def length(self) -> int:
        """Number of frames of a sample."""
        return self.frames * self.clips

    def lengths(self) -> dict[str, int]:
        """Return the number of frames of a sample."""
        return {"T": self.length}

    def describe(self) -> dict[str, Any]:
        """Return how many frames are taken of a video, and which."""
        return asdict(self)

    @classmethod
    def described(cls, entry: Mapping[str, Any]) -> Self | None:
        """Create clips from ``describe``'s values, or return ``None`` if they are damaged."""
        try:
            return cls(**{key: entry[key] for key in ("frames", "clips", "sampling", "stride")})
        except (KeyError, OptionError):
            return None

    # ---- in the network ----

    def prepare(self, raw: Tensor, images: Callable[[Tensor], Tensor]) -> Tensor:
        """Preprocess the frames of clips, each like an image."""
        count, length = raw.shape[:2]
        prepared: Tensor = images(raw.flatten(0, 1).permute(0, 2, 3, 1)).unflatten(
            0, (count, length)
        )
        return prepared

    def blank(self, count: int, channels: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Return (count, frames, channels, height, width)."""
        return count, self.length, channels, *size

    # ---- trials ----

    def from_images(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Let images move sideways from frame to frame."""
        step = max(images.shape[2] // _MOVES, 1)
        moved = [np.roll(images, step * i, axis=2) for i in range(self.length)]
        return np.ascontiguousarray(np.stack(moved, axis=1).transpose(0, 1, 4, 2, 3))

    def split(self, sample: NDArray[Any]) -> list[NDArray[np.uint8]]:
        """Return the frames."""
        return [np.ascontiguousarray(frame.transpose(1, 2, 0)) for frame in sample]

    def join(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Make a clip of frames."""
        return _channels_first(np.stack(images))


def _channels_first(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
