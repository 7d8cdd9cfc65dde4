"""Images of a report: what samples look like, whatever the task."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from visiongraft.data.samples import Samples
from visiongraft.pages.parts import pillow_image
from visiongraft.reporting.contract import ReportedRun


def raw_image(run: ReportedRun, samples: Samples, index: int) -> PillowImage.Image | None:
    """Return the image that is shown for a sample; ``None`` if there is none, as for latents."""
    channels = run.network.backbone.info.in_channels
    shown = run.task.inputs.shown(np.asarray(samples.load(index, channels)))
    if shown is None:
        return None
    return pillow_image(shown)
