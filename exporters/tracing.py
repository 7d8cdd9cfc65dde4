"""What exporters that trace a graph share: example images, silence, the cause of a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from visiongraft.errors import ExportError, type_and_message
from visiongraft.exporters.runtime.capture import captured_output, unlogged
from visiongraft.preprocess import Preprocess


def example_batch(preprocess: Preprocess, size: tuple[int, int] | None) -> Tensor:
    """Make two raw samples of a size that none of the later comparisons has, unless it is fixed.

    Args:
        preprocess: The network's preprocessing.
        size: Fixed height and width of the images, or ``None``.

    Returns:
        A raw batch; of images uint8 (2, H, W, C).
    """
    config = preprocess.config
    height, width = size or (config.size[0] + 13, config.size[1] + 29)
    generator = torch.Generator().manual_seed(0)
    shape = (2, height, width, len(config.mean))
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return torch.from_numpy(preprocess.inputs.from_images(images.numpy()))


def untraceable(error: BaseException, size: tuple[int, int] | None) -> ExportError:
    """Condense the long error messages of tracing to one line.

    Args:
        error: What it raised.
        size: Fixed height and width of the images, or ``None``.

    Returns:
        The innermost cause, with what to do about it.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    cause = type_and_message(error)
    remedy = "" if size else "; if its size cannot vary, export with size=(height, width)"
    if "data-dependent" in cause:
        remedy = "; head and decode may not depend on values, as .item() and 'if' on tensors do"
    return ExportError(f"PyTorch cannot export this model: {cause}{remedy}")


@contextmanager
def silenced() -> Iterator[None]:
    """Keep progress, warnings and logs of tracing off the user's terminal."""
    with captured_output(), unlogged():
        yield
