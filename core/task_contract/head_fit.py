"""What a task says of a head that it computed from features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class HeadFit:
    """How ``Task.start_head`` fitted a head.

    Attributes:
        accuracy: Of a classifier its balanced accuracy on images that it was not fitted to, in [0, 1], by which
            ``lp_ft`` chooses how fast the backbone trains; ``None`` if it is not known.
        facts: What a later fit in the same run should know of the first one, as JSON; kept in checkpoints.
    """

    accuracy: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
