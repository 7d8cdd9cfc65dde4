"""From raw samples to network input: one module, used in training, evaluation and export."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.errors import OptionError
from visiongraft.inputs import IMAGES, Inputs
from visiongraft.options import is_integer, is_number

RESIZE_MODES = ("crop", "stretch", "letterbox", "pad")
INTERPOLATIONS = ("bilinear", "bicubic")
MULTIPLE = 32  # what ``"pad"`` fills sides up to, in pixels: the coarsest stride of usual networks


@dataclass(frozen=True)
class PreprocessConfig:
    """How a backbone expects its images.

    Attributes:
        size: Height and width of the network input, in pixels.
        mean: Per-channel mean that is subtracted, on the scale 0..1.
        std: Per-channel standard deviation that is divided by, on the scale 0..1.
        interpolation: ``"bilinear"`` or ``"bicubic"``, always antialiased.
        resize: ``"crop"`` keeps the aspect ratio and takes the largest central region;
            ``"stretch"`` squeezes the whole image into ``size``; ``"letterbox"`` keeps the aspect
            ratio of the whole image, filled up at the right or at the bottom with the mean color to
            that of ``size``; ``"pad"`` leaves images as
            large as they are and fills them up, at the right and at the bottom, with the mean
            color to sides that are multiples of 32 pixels: for networks that take any size.
            ``size`` is then that of training images alone, and a multiple of 32 as well.
        crop_fraction: Fraction of that central region's sides that is kept, in (0, 1];
            only ``"crop"`` uses it.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    resize: str = "crop"
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_MODES:
            raise OptionError(f"resize={self.resize!r} is not one of {', '.join(RESIZE_MODES)}")
        if self.interpolation not in INTERPOLATIONS:
            raise OptionError(
                f"interpolation={self.interpolation!r} is not one of {', '.join(INTERPOLATIONS)}"
            )
        if len(self.size) != 2 or not all(is_integer(side, 1) for side in self.size):
            raise OptionError(f"size={self.size} is not a height and a width of at least 1 pixel")
        numbers = all(is_number(x) for x in (*self.mean, *self.std))
        if len(self.mean) != len(self.std) or not (self.mean and numbers and min(self.std) > 0):
            raise OptionError(
                f"mean={self.mean} and std={self.std} are not one number per image channel, "
                "each std above 0"
            )
        if not (is_number(self.crop_fraction) and 0 < self.crop_fraction <= 1):
            raise OptionError(f"crop_fraction={self.crop_fraction} is not in (0, 1]")
        if self.resize == "pad" and any(side % MULTIPLE for side in self.size):
            raise OptionError(f"size={self.size} with resize='pad' takes multiples of {MULTIPLE}")

    def with_channels(self, channels: int) -> PreprocessConfig:
        """Fit mean and std to another number of input channels, each the average of the old ones.

        Args:
            channels: Number of image channels.

        Returns:
            The same config if the number already fits.
        """
        if channels == len(self.mean):
            return self
        mean = sum(self.mean) / len(self.mean)
        std = sum(self.std) / len(self.std)
        return replace(self, mean=(mean,) * channels, std=(std,) * channels)


class Preprocess(nn.Module):
    """Resize, crop and normalize a batch of raw images, or of the samples of another kind, of one size.

    The arithmetic on sizes is in integers, so that the traced graph and PyTorch agree on every
    height and width, and the crop is taken before the resize, so that the output size is fixed.

    Args:
        config: What the backbone needs.
        inputs: What the samples are.

    Examples:
        >>> preprocess = Preprocess(PreprocessConfig(size=(8, 8)))
        >>> preprocess(torch.zeros(2, 20, 30, 3, dtype=torch.uint8)).shape
        torch.Size([2, 3, 8, 8])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: PreprocessConfig, inputs: Inputs = IMAGES) -> None:
        super().__init__()
        self.config = config
        self.inputs = inputs
        shape = (1, len(config.mean), 1, 1)
        self.register_buffer("mean", torch.tensor(config.mean).view(shape) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(shape) * 255, persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        """Make network input from a raw batch; see ``Inputs``."""
        return self.inputs.prepare(raw, self.images)

    def images(self, images: Tensor) -> Tensor:
        """Make network input from raw images.

        Args:
            images: uint8 (N, H, W, C) in 0..255, any H and W.

        Returns:
            float32 (N, C, height, width), normalized.
        """
        x = self.normalize(self.resize(images))
        if self.config.resize != "pad":
            return x
        below, right = self.filled(images.shape[1], images.shape[2])
        return F.pad(x, (0, right, 0, below))  # 0 is the mean color

    def resize(self, images: Tensor) -> Tensor:
        """Crop and resize only.

        Args:
            images: uint8 (N, H, W, C) in 0..255, any H and W.

        Returns:
            float32 (N, C, height, width) in 0..255, not rounded; not yet padded.
        """
        config = self.config
        height, width = images.shape[1], images.shape[2]
        if config.resize == "crop":
            top, left, kept_h, kept_w = self.region(height, width)
            # Splitting returns views whose sizes a traced graph knows; narrowing at a traced position
            # does not, and fails for one channel.
            images = images.split([top, kept_h, height - top - kept_h], dim=1)[1]
            images = images.split([left, kept_w, width - left - kept_w], dim=2)[1]
        # Planes one after the other: resizing them is twice as fast as resizing interleaved ones.
        x = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if config.resize == "pad":
            return x
        if config.resize == "letterbox":
            below, right = self.filled(height, width)
            x = F.pad(x - self.mean, (0, right, 0, below)) + self.mean
        x = F.interpolate(
            x, size=config.size, mode=config.interpolation, align_corners=False, antialias=True
        )
        return x.clamp(0.0, 255.0) if config.interpolation == "bicubic" else x

    def normalize(self, images: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation.

        Args:
            images: (..., C, height, width) in 0..255.

        Returns:
            float32 of the same shape.
        """
        return (images.to(torch.float32) - self.mean) / self.std

    def denormalize(self, images: Tensor) -> Tensor:
        """Undo ``normalize``.

        Args:
            images: float (..., C, height, width), normalized.

        Returns:
            float32 of the same shape, in 0..255 for what was an image.
        """
        return images.to(torch.float32) * self.std + self.mean

    def restore(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Resize maps over the network's input to the images: the inverse of ``resize``.

        Args:
            maps: float (N, C, h, w), of any resolution.
            height: Height of the images in pixels.
            width: Width of the images in pixels.

        Returns:
            float32 (N, C, height, width), interpolated bilinearly.

        Raises:
            OptionError: Images are cropped, so that nothing is known of what was cut off.
        """
        maps = maps.to(torch.float32)
        if self.config.resize == "crop":
            raise OptionError(
                "feature maps cannot be mapped back to cropped images; resize='stretch'"
            )
        if self.config.resize == "stretch":
            return _interpolate(maps, height, width)
        below, right = self.filled(height, width)
        maps = _interpolate(maps, height + below, width + right)
        rows: Tensor = maps.split([height, below], dim=2)[0]
        kept: Tensor = rows.split([width, right], dim=3)[0]
        return kept

    def filled(self, height: int, width: int) -> tuple[int, int]:
        """Find how many rows and columns are added to an image, at the bottom and at the right.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            Rows and columns, 0 unless ``resize`` is ``"letterbox"`` or ``"pad"``.

        Examples:
            >>> Preprocess(PreprocessConfig(size=(224, 224), resize="letterbox")).filled(300, 400)
            (100, 0)
        """
        if self.config.resize == "pad":
            return -height % MULTIPLE, -width % MULTIPLE
        if self.config.resize != "letterbox":
            return 0, 0
        h, w = self.config.size
        rows: Any = torch.sym_max(-(-width * h // w) - height, 0)
        columns: Any = torch.sym_max(-(-height * w // h) - width, 0)
        return rows, columns

    def region(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Find the part of an image that the network sees.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            Top, left, height and width of that part in pixels.

        Examples:
            >>> Preprocess(PreprocessConfig(size=(224, 224))).region(300, 400)
            (0, 50, 300, 300)
        """
        h, w = self.config.size
        if self.config.resize != "crop":
            return 0, 0, height, width
        keep = Fraction(self.config.crop_fraction).limit_denominator(1000)
        up, down = keep.numerator, keep.denominator
        # The largest h:w region, shrunk by `keep`; at least one pixel.
        area = torch.sym_min(height * w, width * h) * up
        crop_h: Any = torch.sym_max(area // (w * down), 1)  # a symbol while a graph is traced
        crop_w: Any = torch.sym_max(area // (h * down), 1)
        return (height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w


def _interpolate(maps: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)


def as_size(
    size: int | tuple[int, int] | list[int] | None, name: str = "size"
) -> tuple[int, int] | None:
    """Read a user's size: one number is a square, two are height and width.

    Args:
        size: The user's setting, or ``None``.
        name: What the user calls it.

    Returns:
        Height and width in pixels, or ``None``.

    Raises:
        OptionError: It is neither, or not positive.

    Examples:
        >>> as_size(96), as_size((64, 96))
        ((96, 96), (64, 96))
    """
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(type(side) is int and side > 0 for side in pair):
        raise OptionError(f"{name}={size!r} is neither a number of pixels nor a height and a width")
    return pair[0], pair[1]
