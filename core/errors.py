"""Every error a user can meet, each one line long: the thing, the place and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VisiongraftError(Exception):
    """Base of all errors raised on purpose; the command line prints it as one line.

    Attributes:
        exit_code: What the command line exits with: 2 for wrong input, 1 for a failed proof.
    """

    exit_code = 2


class OptionError(VisiongraftError):
    """An option is unknown, has the wrong type or an impossible value."""


class DataError(VisiongraftError):
    """Data is missing, unreadable or does not fit the task."""


class BackboneError(VisiongraftError):
    """A backbone is unknown or cannot do what was asked of it."""


class WeightsError(VisiongraftError):
    """A weights file is missing, unreadable or does not fit the model."""


class ScheduleError(VisiongraftError):
    """A schedule asks for a phase that the backbone cannot run."""


class PluginError(VisiongraftError):
    """A plugin is missing, broken, or clashes with another one."""


class TrainingError(VisiongraftError):
    """Training cannot start or go on, such as when the loss is not finite."""


class CheckpointError(VisiongraftError):
    """A run cannot be continued from what its folder holds."""


class ArtifactError(VisiongraftError):
    """A saved model folder is missing, damaged or of an unknown version."""


class ReplayError(VisiongraftError):
    """Replay was demanded where it is impossible or would break its budget."""


class ReceiptError(VisiongraftError):
    """Something that was frozen has changed."""

    exit_code = 1


class ExportError(VisiongraftError):
    """An exported file could not be made, or did not agree with PyTorch."""

    exit_code = 1


class RuntimeProviderError(VisiongraftError):
    """The execution provider that was asked for is not the one really in use."""

    exit_code = 1


def near_matches(name: str, known: Iterable[str]) -> str:
    """Say what a misspelt name may have meant, as the end of an error message.

    Args:
        name: What the user wrote.
        known: Every name that exists.

    Returns:
        ``"; did you mean 'a' or 'b'?"``, or the whole list if nothing is near and it is short,
        or an empty string.

    Examples:
        >>> near_matches("lpft", ["lp_ft", "full"])
        "; did you mean 'lp_ft'?"
        >>> near_matches("x", ["lp_ft", "full"])
        '; there are: full, lp_ft'
    """
    names = sorted(set(known))
    folded = {n.lower(): n for n in names}
    near = [folded[n] for n in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
    # Where one name is nearly right, others that merely share a prefix would only distract.
    near = [n for n in near if _likeness(name, n) > _likeness(name, near[0]) - 0.15]
    near += [n for n in names if n.rsplit("/", 1)[-1] == name and n not in near]
    if near:
        return "; did you mean " + " or ".join(repr(n) for n in near[:3]) + "?"
    return f"; there are: {', '.join(names)}" if 0 < len(names) <= 20 else ""


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()
