"""Built-in scorers, registered like those of third parties."""

from __future__ import annotations

from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.scorers.baselines import Parameters, PublishedAccuracy
from visiongraft.plugins.scorers.gbc import GBC
from visiongraft.plugins.scorers.h_score import HScore
from visiongraft.plugins.scorers.logme import LogME
from visiongraft.plugins.scorers.parc import PARC
from visiongraft.plugins.scorers.probes import ClassMean, NearestNeighbors, ProbeAccuracy
from visiongraft.plugins.scorers.source_classes import LEEP, NCE
from visiongraft.plugins.scorers.transrate import TransRate
from visiongraft.scorers import Scorer


@hookimpl
def register_scorers() -> list[type[Scorer]]:
    """Return the built-in scorers."""
    return [
        LogME,
        LEEP,
        NCE,
        HScore,
        TransRate,
        GBC,
        PARC,
        ProbeAccuracy,
        NearestNeighbors,
        ClassMean,
        Parameters,
        PublishedAccuracy,
    ]
