"""Small features with class ids, and probabilities of source classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visiongraft.scorers import ScorerInput


def make_scored(images: int = 30, features: int = 5, classes: int = 3, seed: int = 0) -> Any:
    generator = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(images) % classes
    values = generator.normal(size=(images, features)) * np.linspace(0.5, 3, features)
    values[:, 0] += labels
    chances = generator.random((images, 4)) + np.eye(4)[labels]
    return ScorerInput(
        "made", values + 1, labels, source_probabilities=chances / chances.sum(1, keepdims=True)
    )


@pytest.fixture(name="make_scored", scope="session")
def make_scored_fixture() -> Any:
    return make_scored
