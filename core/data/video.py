"""Read frames of videos by PyAV, and of folders of images by Pillow; without PyTorch.

How unusual videos are handled:

- Rotation that the file asks for is applied. Frames are taken by their times, so that a variable frame
  rate is not distorted.
- A file without a video stream, one that ends early, and one whose chosen frames are damaged are refused
  with one line that names it.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.decode import decode_file, printable
from visiongraft.data.listing import files_below, is_image
from visiongraft.errors import DataError, OptionError, one_line

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"}
)
TRAILING = 3  # packets at the end of a stream that need not hold a frame

Times = NDArray[np.float64]
Choose = Callable[[Times, str], Sequence[int]]

_FORMATS = {1: "gray", 3: "rgb24"}


def is_video(path: Path) -> bool:
    """Check whether a file has the suffix of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_clips(folder: Path) -> list[Path]:
    """Find the videos and the folders of frames in a folder and its subfolders, sorted.

    Images beside videos are no frames.

    Raises:
        DataError: A folder cannot be read.
    """
    files = list(files_below(folder))
    videos = [path for path in files if is_video(path)]
    beside = {path.parent for path in videos}
    frames = {path.parent for path in files if is_image(path)} - beside
    return sorted([*videos, *frames])


def read_video(content: bytes, name: str, choose: Choose, channels: int = 3) -> NDArray[np.uint8]:
    """Decode some frames of a video.

    Args:
        content: The bytes of the file.
        name: Name of the video in messages.
        choose: Chooses frames: ``choose(times, name)`` takes the ascending times of all frames in
            seconds, and returns positions among them, in any order and also repeated.
        channels: 1 for grayscale, 3 for RGB.

    Returns:
        uint8 (T, H, W, channels), upright, in the order that was chosen.

    Raises:
        DataError: The content is not a video, is damaged, or has too few frames.
        OptionError: PyAV is not installed.
    """
    if not content:
        raise DataError(f"{name}: the file is empty (0 bytes)")
    if channels not in _FORMATS:
        raise DataError(f"{name}: frames are decoded to 1 or 3 channels, not {channels}")
    with _opened(content, name) as container:
        stream = container.streams.video[0]
        stamps, keys = _packets(container, stream)
        if not stamps:
            raise DataError(f"{name}: the video has no frames")
        times = np.array(stamps, np.float64) * float(stream.time_base or 1)
        chosen = choose(times, name)
        frames = dict(_decoded(container, stamps, keys, sorted(set(chosen)), name))
        first = frames[chosen[0]]
        arrays = {i: _array(frame, first, channels) for i, frame in frames.items()}
    return np.stack([arrays[i] for i in chosen])


def read_frames(folder: Path, choose: Choose, channels: int = 3) -> NDArray[np.uint8]:
    """Decode some images of a folder as the frames of a clip.

    Args:
        folder: Holds one image per frame, in the order of their names; numbers count as such.
        choose: As for ``read_video``, of times in frames.
        channels: 1, 3 or 4.

    Returns:
        uint8 (T, H, W, channels).

    Raises:
        DataError: There are too few images, one cannot be decoded, or their sizes differ.
    """
    paths = frame_files(folder)
    chosen = choose(np.arange(len(paths), dtype=np.float64), printable(folder))
    frames = {i: decode_file(paths[i], channels) for i in set(chosen)}
    first = chosen[0]
    for i, frame in frames.items():
        if frame.shape != frames[first].shape:
            raise DataError(
                f"{printable(folder)}: frames of a clip have one size, but {paths[i].name} has "
                f"{_size(frame)} pixels and {paths[first].name} {_size(frames[first])}"
            )
    return np.stack([frames[i] for i in chosen])


def frame_files(folder: Path) -> list[Path]:
    """List the images directly in a folder, in the order of their names and the numbers in these.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if path.is_file() and is_image(path)]
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be read: {error.strerror}") from error
    return sorted((path for path in found if not path.name.startswith(".")), key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), p) if p.isdigit() and p.isascii() else (1, 0, p) for p in parts]


def _size(frame: NDArray[Any]) -> str:
    return f"{frame.shape[0]}x{frame.shape[1]}"


# ---- PyAV ----


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise OptionError(
            'videos are read by PyAV, which is missing; pip install "visiongraft[video]"'
        ) from None
    module: ModuleType = av
    return module


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Any]:
    """Open a video, and turn every error inside the block into a one-line error."""
    av = _pyav()
    try:
        with av.open(io.BytesIO(content), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise DataError(f"{name}: the file has no video stream; it may be cut off")
            container.streams.video[0].thread_type = "AUTO"
            yield container
    except DataError:
        raise
    except Exception as error:  # FFmpeg's errors share no base with what corrupt content may raise
        cause = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"{name}: is damaged or not a video: {cause}") from error


def _packets(container: Any, stream: Any) -> tuple[list[int], list[int]]:
    """Return the ascending time stamps of all frames and of the key frames, without decoding.

    They are empty positions of a stream that has none, of which frames are only counted.
    """
    packets = [packet for packet in container.demux(stream) if packet.size]
    if any(packet.pts is None for packet in packets):
        return list(range(len(packets))), []
    stamps = sorted({packet.pts for packet in packets})
    return stamps, sorted(packet.pts for packet in packets if packet.is_keyframe)


def _decoded(
    container: Any, stamps: Sequence[int], keys: Sequence[int], wanted: Sequence[int], name: str
) -> Iterator[tuple[int, Any]]:
    """Decode the frames at some ascending positions; seek where that leaves frames out."""
    stream = container.streams.video[0]
    container.seek(keys[0] if keys else 0, stream=stream)
    frames, position, frame = container.decode(stream), -1, None
    for index in wanted:
        target = stamps[index]
        before = bisect_right(keys, target)
        key = bisect_right(stamps, keys[before - 1]) - 1 if before else 0
        if key > position + 1:
            container.seek(stamps[key], stream=stream)
            frames, position = container.decode(stream), key - 1
        while position < index:
            following = next(frames, None)
            if following is None:
                break
            frame = following
            known = keys and frame.pts is not None
            position = bisect_right(stamps, frame.pts) - 1 if known else position + 1
        missing = position < min(index, len(stamps) - 1 - TRAILING)
        if frame is None or missing:
            raise DataError(f"{name}: is damaged: it ends after {position + 1} frames")
        if frame.is_corrupt:
            raise DataError(f"{name}: is damaged: frame {index} of {len(stamps)} is corrupt")
        yield index, frame


def _array(frame: Any, first: Any, channels: int) -> NDArray[np.uint8]:
    """Convert a frame to uint8 (H, W, channels), of the size of the first one, and turn it upright."""
    array: NDArray[np.uint8] = frame.to_ndarray(
        format=_FORMATS[channels], width=first.width, height=first.height
    )
    array = array[:, :, None] if channels == 1 else array
    return np.ascontiguousarray(np.rot90(array, (first.rotation or 0) // 90))
