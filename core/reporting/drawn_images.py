"""Images of a report: what predictions and targets look like, whatever the task."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image as PillowImage

from visiongraft.data.samples import Samples
from visiongraft.reporting.contract import ReportedRun
from visiongraft.task import Task


def describe_target(task: Task, target: Any) -> str:
    """Return a target in one line, as far as the task can tell; otherwise nothing."""
    prediction = ideal_prediction(task, target)
    own = getattr(prediction, "summary", None)
    if callable(own):
        return str(own())
    return str(getattr(prediction, "label", "") or ", ".join(getattr(prediction, "labels", ())))


def ideal_prediction(task: Task, target: Any) -> Any:
    """Return the prediction that would be right; ``None`` if the task has no ideal results."""
    examples = task.examples()
    if examples is None or examples.ideal is None:
        return None
    found = task.predictions(examples.ideal(task.collate([target])))
    return found[0]


def raw_image(run: ReportedRun, samples: Samples, index: int) -> PillowImage.Image | None:
    """Return the image that is shown for a sample; ``None`` if there is none, as for latents."""
    channels = run.network.backbone.info.in_channels
    shown = run.task.inputs.shown(np.asarray(samples.load(index, channels)))
    if shown is None:
        return None
    return PillowImage.fromarray(shown[..., :3] if shown.shape[-1] >= 3 else shown[..., 0])
