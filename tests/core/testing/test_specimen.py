"""The small task that backbones are tried with: its comparison of exported files."""

from __future__ import annotations

import numpy as np
import pytest

from visiongraft.testing.specimen import Specimen
from visiongraft.verification.engine import TOLERANCE


def difference(reference: list[float], candidate: list[float]) -> float:
    compare = Specimen().export_support().compare
    sides = (np.array(values, np.float64) for values in (reference, candidate))
    one, other = ({"brightness": side} for side in sides)
    return compare(one, other).difference


def test_rounding_of_what_cancels_is_accepted() -> None:
    assert difference([1e-4], [1e-4 + 1.6e-8]) < TOLERANCE
    assert difference([0.0], [1.1e-7]) < TOLERANCE


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ([0.0], [1.3e-7]),
        ([1e-4], [1e-4 + 1e-6]),
        ([0.5], [0.5 + 6e-5]),
        ([0.5, 0.0], [0.5, 6e-5]),
        ([0.5], [float("nan")]),
        ([0.5], [0.5, 0.5]),
    ],
)
def test_anything_more_is_a_fault(reference: list[float], candidate: list[float]) -> None:
    assert difference(reference, candidate) > TOLERANCE
