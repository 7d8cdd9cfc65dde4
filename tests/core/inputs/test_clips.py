"""Clips choose frames by their times, and are the same array wherever they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from visiongraft.errors import DataError, OptionError
from visiongraft.inputs import IMAGES, Clips, Images, described_inputs
from visiongraft.inputs.samples import InputSamples
from visiongraft.preprocess import Preprocess, PreprocessConfig


def numbered(count: int, height: int = 6, width: int = 8) -> Any:
    """Return frames (T, H, W, C) whose values are their positions."""
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(values, (count, height, width, 3)).copy()


def shown(clip: Any) -> list[int]:
    return [int(frame.flat[0]) for frame in clip]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frames = tmp_path / "clip"
    frames.mkdir()
    for i, frame in enumerate(numbered(12)):
        Image.fromarray(frame).save(frames / f"frame{i}.png")
    return frames


def test_uniform_frames_spread_over_the_whole_video() -> None:
    assert Clips(4).choose(np.arange(12.0), "a") == [1, 4, 7, 10]


def test_uniform_frames_are_chosen_by_time_where_the_frame_rate_varies() -> None:
    times = np.array([0.0, 0.04, 0.08, 0.5, 0.52, 1.5, 1.54])
    assert Clips(2).choose(times, "a") == [2, 4]


def test_several_uniform_clips_take_turns() -> None:
    assert Clips(2, clips=3).choose(np.arange(6.0), "a") == [0, 3, 1, 4, 2, 5]


def test_a_dense_clip_is_from_the_middle() -> None:
    assert Clips(3, sampling="dense", stride=2).choose(np.arange(11.0), "a") == [3, 5, 7]


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"^a\.mp4: has 5 frames, fewer than the 8 that are needed$"
    ):
        Clips(8).choose(np.arange(5.0), "a.mp4")


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"clips": True}, {"sampling": "random"}])
def test_invalid_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Clips(**wrong)


def test_a_clip_is_the_same_from_arrays_tensors_images_and_a_folder(folder: Path) -> None:
    frames, clips = numbered(12), Clips(4)
    first = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    given = [frames, first, torch.from_numpy(first), [Image.fromarray(f) for f in frames], folder]
    for value in given:
        clip = clips.array(value, "clip")
        assert clip.shape == (4, 3, 6, 8)
        assert shown(clip) == [1, 4, 7, 10]
    assert clips.is_sample(clip, 3)


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(folder: Path) -> None:
    assert shown(Clips(12).array(folder, "clip")) == list(range(12))


def test_frames_of_several_sizes_are_refused(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "frame4.png")
    with pytest.raises(DataError, match=r"one size, but frame4\.png has 4x4 pixels"):
        Clips(4).array(folder, "clip")


def test_a_folder_of_clips_is_several_samples(folder: Path) -> None:
    samples = InputSamples.of(folder.parent, Clips(4))
    assert len(samples) == 1
    assert samples.load(0).shape == (4, 3, 6, 8)


@pytest.mark.parametrize("value", [3, Image.new("RGB", (4, 4)), np.zeros((6, 8, 3), np.uint8)])
def test_what_is_no_clip_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="a clip must be the path of a video"):
        Clips(2).array(value, "clip")


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        InputSamples.of(tmp_path / "a.mp4", Clips(2))
    with pytest.raises(DataError, match="contains no videos and no frames"):
        InputSamples.of(tmp_path, Clips(2))


def test_frames_are_prepared_as_images_are() -> None:
    config = PreprocessConfig((4, 4))
    raw = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 3, 9, 7), np.uint8))
    prepared = Preprocess(config, Clips(3))(raw)
    assert tuple(prepared.shape) == Clips(3).blank(2, 3, (4, 4))
    images = raw.flatten(0, 1).permute(0, 2, 3, 1)
    assert torch.equal(prepared.flatten(0, 1), Preprocess(config)(images))


def test_sizes_and_axes_follow_the_layout() -> None:
    clips = Clips(4)
    assert clips.shape("N", 3, "H", "W") == ("N", 4, 3, "H", "W")
    assert clips.size((2, 4, 3, 6, 8)) == (6, 8)
    assert clips.axes() == {0: "batch", 3: "height", 4: "width"}
    assert IMAGES.axes(fixed_size=True) == {0: "batch"}


def test_generated_clips_move_and_consist_of_their_images() -> None:
    clips = Clips(3)
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 16, 3), np.uint8)
    batch = clips.from_images(images)
    assert batch.shape == (2, 3, 3, 6, 16)
    frames = clips.split(batch[0])
    assert np.array_equal(frames[0], images[0])
    assert np.array_equal(frames[1], np.roll(images[0], 2, axis=1))
    assert np.array_equal(clips.join(frames), batch[0])
    assert np.array_equal(clips.cropped(batch[0], 2, 4), batch[0][:, :, 2:4, 6:10])


def test_a_file_describes_its_input() -> None:
    clips = Clips(4, clips=2, sampling="dense", stride=3)
    entry = {"layout": clips.layout, **clips.describe()}
    assert described_inputs(entry) == clips
    assert described_inputs({}) == Images()
    assert described_inputs({"layout": "NTCHW"}) is None
    assert described_inputs({**entry, "frames": "many"}) is None
    assert described_inputs({"layout": "NCTHW"}) is None
