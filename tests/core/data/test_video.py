"""Videos are decoded upright, by time, and damaged ones are named in one line."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visiongraft.data.video import find_clips, read_video
from visiongraft.errors import DataError, OptionError

av = pytest.importorskip("av")

HEIGHT, WIDTH = 32, 48


def write_video(
    path: Path, frames: Any, stamps: list[int] | None = None, rotation: int = 0
) -> Path:
    """Write frames (T, H, W, 3), at 25 per second or at given time stamps of 1/100 s."""
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25 if stamps is None else 100)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        stream.codec_context.gop_size = 4
        if rotation:
            stream.set_display_rotation(rotation)
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steps(count: int) -> Any:
    """Return frames that get brighter by 10."""
    values = (np.arange(count, dtype=np.uint8) * 10)[:, None, None, None]
    return np.broadcast_to(values, (count, HEIGHT, WIDTH, 3)).copy()


def numbers(clip: Any) -> list[int]:
    return [round(float(frame.mean()) / 10) for frame in clip]


def test_chosen_frames_come_in_the_chosen_order_also_repeated(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", steps(20)).read_bytes()
    clip = read_video(content, "a.mp4", lambda times, name: [13, 2, 2, 19])
    assert clip.shape == (4, HEIGHT, WIDTH, 3)
    assert numbers(clip) == [13, 2, 2, 19]


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    stamps = [0, 4, 8, 50, 52, 150, 154]
    content = write_video(tmp_path / "a.mkv", steps(7), stamps).read_bytes()
    seen: list[Any] = []
    read_video(content, "a", lambda times, name: [seen.append(times) or 0])
    assert np.allclose(seen[0] - seen[0][0], np.array(stamps) / 100, atol=2e-3)


def test_a_rotated_video_is_turned_upright(tmp_path: Path) -> None:
    frames = np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, : HEIGHT // 2, : WIDTH // 2] = 255  # at the top left
    content = write_video(tmp_path / "a.mp4", frames, rotation=90).read_bytes()
    clip = read_video(content, "a", lambda times, name: [1])
    assert clip.shape == (1, WIDTH, HEIGHT, 3)
    corner = clip[0, WIDTH // 2 :, : HEIGHT // 2]  # counter-clockwise: at the bottom left
    assert corner.mean() > 200
    assert clip[0].mean() < 80


def test_gray_frames_have_one_channel(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", steps(4)).read_bytes()
    assert read_video(content, "a", lambda times, name: [3], channels=1).shape == (1, 32, 48, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"not a video, but text\n" * 50, "is damaged or not a video: [A-Z][a-z ]+$"),
    ],
    ids=["empty", "text"],
)
def test_what_is_no_video_is_refused_in_one_line(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=f"^a.mp4: .*{words}") as caught:
        read_video(content, "a.mp4", lambda times, name: [0])
    assert "\n" not in str(caught.value)


def test_a_cut_off_video_is_refused(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", steps(20)).read_bytes()
    with pytest.raises(DataError, match=r"^a\.mp4: .*(is damaged|cut off)"):
        read_video(content[: len(content) // 2], "a.mp4", lambda times, name: [0])


def test_a_file_of_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"^a\.wav: the file has no video stream"):
        read_video(path.read_bytes(), "a.wav", lambda times, name: [0])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptionError, match=r'pip install "visiongraft\[video\]"'):
        read_video(b"x", "a.mp4", lambda times, name: [0])


def test_videos_and_folders_of_frames_are_found(tmp_path: Path) -> None:
    for name in ("a/one.mp4", "a/poster.jpg", "b/clip1/0.png", "b/clip1/1.png", "b/two.AVI"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_clips(tmp_path)]
    assert found == ["a/one.mp4", "b/clip1", "b/two.AVI"]
