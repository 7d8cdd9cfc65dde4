"""What targets look like: as the prediction that would be right, and in one line."""

from __future__ import annotations

from typing import Any

from visiongraft.task import Task


def describe_target(task: Task, target: Any) -> str:
    """Return a target in one line, as far as the task can tell; otherwise nothing."""
    ideal = ideal_prediction(task, target)
    own = getattr(ideal, "contents", None)  # without scores, which a target has not
    return str(own()) if callable(own) else describe_prediction(ideal)


def describe_prediction(prediction: Any) -> str:
    """Return a prediction in one line, as far as it can tell; otherwise nothing."""
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
