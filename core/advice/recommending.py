"""The schedule that a linear probe on frozen features recommends, with its evidence in words."""

from __future__ import annotations

from dataclasses import dataclass

LITTLE = 0.02  # errors that fine-tuning could at most remove where a probe is enough
HEDGES = {  # schedules for what is not known before
    "lp_ft": "trains the head first, then all stages, and the best epoch is kept",
    "open_on_gain": "trains the head first, tries more stages, and goes on with them if validation improves",
}


@dataclass(frozen=True)
class Recommendation:
    """A schedule and why.

    Attributes:
        schedule: Its name.
        reason: The evidence.
        pretrained: Whether to start from pretrained weights.
    """

    schedule: str
    reason: str
    pretrained: bool = True

    def __str__(self) -> str:
        """Describe the recommendation in one line."""
        return f"schedule={self.schedule!r}: {self.reason}"


def recommend(
    backbone: str, accuracy: float, low: float, chance: float, hedge: str = "lp_ft"
) -> Recommendation:
    """Recommend a schedule by the accuracy of a linear probe.

    Args:
        backbone: Name of the backbone.
        accuracy: Accuracy of a linear probe on its features.
        low: Lower end of the interval of that accuracy.
        chance: Fraction of the images of the most frequent class.
        hedge: One of ``HEDGES``.

    Returns:
        ``linear_probe`` where little is left to gain, ``full`` where features are of no use, and otherwise
        the hedge.
    """
    probe = f"a linear probe on {backbone} is right for {accuracy:.1%} of the images"
    always = f"{chance:.1%} by always the most frequent class"
    if low >= 1 - LITTLE:
        gain = f"fine-tuning could gain {1 - low:.1%} at most"
        return Recommendation("linear_probe", f"a probe is enough; {probe}, and {gain}")
    if accuracy <= chance:
        return Recommendation(
            "full",
            f"frozen features do not help; {probe} ({always}); check the labels, or try other backbones",
        )
    unknown = "what fine-tuning gains beyond that is not known before"
    if low <= chance:
        unknown = "so few images do not tell that from chance"
    return Recommendation(hedge, f"{probe} ({always}); {unknown}: this schedule {HEDGES[hedge]}")
