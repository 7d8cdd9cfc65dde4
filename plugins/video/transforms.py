"""Augmentation of clips: all frames alike."""

from __future__ import annotations

from typing import Any

import torch

from visiongraft.plugins.whole_images.transforms import TrainTransform


class ClipTransform:
    """Take one of the clips of a video at random, and augment its frames alike.

    Args:
        size: Height and width to produce, in pixels.
        strength: ``"light"`` or ``"strong"``.
        flip: Flip half of the clips horizontally.
        frames: Frames of a clip.
    """

    def __init__(self, size: tuple[int, int], strength: str, flip: bool, frames: int) -> None:
        self.images, self.frames = TrainTransform(size, strength, flip), frames

    def __call__(self, video: Any, target: Any) -> tuple[Any, Any]:
        """Augment one video.

        Args:
            video: ``tv_tensors.Video``, uint8 (clips * frames, C, H, W).
            target: Its target.

        Returns:
            The clip, uint8 (frames, C, height, width), and the same target.
        """
        return self.images(random_clip(video, self.frames), target)


def random_clip(video: Any, frames: int) -> Any:
    """Return one of the clips of a video at random.

    Args:
        video: ``tv_tensors.Video`` (clips * frames, C, H, W).
        frames: Frames of a clip.
    """
    start = int(torch.randint(len(video) // frames, ())) * frames
    return type(video)(video[start : start + frames])
