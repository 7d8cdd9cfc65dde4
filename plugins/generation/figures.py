"""Figures of a run: a grid of generated images, and ways from one latent to another."""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.dense.made_image import as_images
from visiongraft.plugins.generation.head import GenerationHead
from visiongraft.saving.files import write_bytes

if TYPE_CHECKING:
    from visiongraft.training.run import Run

log = logging.getLogger("visiongraft")

COLUMNS = 8
ROWS = 4
MARGIN = 2  # in pixels
LEAST_SIDE = 64  # in pixels, to which small images are enlarged


class SampleFigures:
    """Draws images of the trained generator into ``samples.png`` and ``interpolations.png`` of a run.

    Their latents have fixed seeds, so that runs can be compared.
    """

    name = "samples"

    @hookimpl
    def run_started(self, run: Run) -> None:
        """Warn of a task that generates no images."""
        if not isinstance(run.network.head, GenerationHead):
            log.warning(
                "callback %r draws generated images, but task %r generates none",
                self.name,
                run.network.task.name,
            )

    @hookimpl
    def run_finished(self, run: Run) -> None:
        """Draw."""
        if run.folder is None or not isinstance(run.network.head, GenerationHead):
            return
        draw = run.network.task.inputs.draw
        ends = draw(2 * ROWS, seed=1)
        ways = [interpolate(ends[2 * i], ends[2 * i + 1], COLUMNS) for i in range(ROWS)]
        figures = {"samples": draw(ROWS * COLUMNS, seed=0), "interpolations": np.concatenate(ways)}
        for name, latents in figures.items():
            write_grid(run.folder / f"{name}.png", _generated(run, latents))


def interpolate(
    one: NDArray[np.float32], other: NDArray[np.float32], steps: int
) -> NDArray[np.float32]:
    """Go from one latent to another on a sphere, where latents are (White, 2016, "Sampling generative networks").

    Args:
        one: float (D,).
        other: float (D,).
        steps: Latents to return, at least 2.

    Returns:
        float32 (steps, D), the two included.
    """
    cosine = float(one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12)
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    ways = np.linspace(0, 1, steps)[:, None]
    if math.sin(angle) < 1e-6:  # the same direction, or opposite ones
        return np.asarray((1 - ways) * one + ways * other, np.float32)
    found = np.sin((1 - ways) * angle) * one + np.sin(ways * angle) * other
    return np.asarray(found / math.sin(angle), np.float32)


def write_grid(path: Path, images: NDArray[np.uint8], columns: int = COLUMNS) -> None:
    """Write images as one PNG file, row by row; small ones are enlarged.

    Args:
        path: The file.
        images: uint8 (N, H, W, 1 or 3).
        columns: Images in a row.
    """
    factor = max(round(LEAST_SIDE / max(images.shape[1:3])), 1)
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = (side + MARGIN for side in images.shape[1:3])
    rows = math.ceil(len(images) / columns)
    grid = np.full((rows * height + MARGIN, columns * width + MARGIN, 3), 255, np.uint8)
    for position, image in enumerate(images):
        top, left = position // columns * height + MARGIN, position % columns * width + MARGIN
        grid[top : top + height - MARGIN, left : left + width - MARGIN] = image
    written = io.BytesIO()
    Image.fromarray(grid).save(written, "PNG")
    write_bytes(path, written.getvalue())


def _generated(run: Run, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    network = run.network.eval()
    device = next(network.parameters()).device
    values = torch.from_numpy(latents).to(device)
    with torch.no_grad():
        decoded = network.decode(values, torch.ones(len(values), 2, dtype=torch.int64))
    return as_images(decoded["images"].cpu().numpy())
