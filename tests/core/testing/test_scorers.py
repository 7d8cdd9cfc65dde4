"""The conformance kit passes the built-in scorers, and catches faulty ones."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from visiongraft.hookspecs import hookimpl
from visiongraft.registry.manager import PluginManager, plugins, using
from visiongraft.scorers import Scorer, ScorerInput
from visiongraft.testing import SCORER_CHECKS, CheckError, ScorerTrial, check_scorer

BUILT_IN = sorted(PluginManager().scorers())


class Ratio(Scorer):
    """Divides by a variance that can be 0."""

    name = "ratio"

    def score(self, given: ScorerInput) -> float:
        with np.errstate(all="ignore"):
            return float(given.features.mean() / given.features.std())


class Drawn(Scorer):
    """Differs from call to call."""

    name = "drawn"

    def score(self, given: ScorerInput) -> float:
        return float(np.random.random())


class Writing(Scorer):
    """Writes into its input."""

    name = "writing"

    def score(self, given: ScorerInput) -> float:
        given.features[:] = 0
        return 0.0


class First(Scorer):
    """Reads the first image only."""

    name = "first"

    def score(self, given: ScorerInput) -> float:
        return float(given.features[0, 0])


class Numbered(Scorer):
    """Takes class ids for numbers."""

    name = "numbered"

    def score(self, given: ScorerInput) -> float:
        return float((given.features[:, 0] * given.labels).mean())


class Inverse(Scorer):
    """Scores noise highest."""

    name = "inverse"

    def score(self, given: ScorerInput) -> float:
        return -float(given.features.std())


FAULTY = {
    "scores_are_finite_numbers": Ratio,
    "the_same_input_has_the_same_score": Drawn,
    "the_order_of_images_does_not_matter": First,
    "the_numbers_of_classes_do_not_matter": Numbered,
    "separated_classes_score_at_least_as_high": Inverse,
}


@pytest.fixture(autouse=True, scope="module")
def faulty_ones() -> Iterator[None]:
    kinds = [*FAULTY.values(), Writing]
    register = hookimpl(lambda: kinds, specname="register_scorers")
    with using(PluginManager()):
        plugins().register(SimpleNamespace(register_scorers=register), "faulty")
        yield


@pytest.mark.parametrize("name", [*BUILT_IN, "h_score(shrinkage=False)", "knn(k=3)"])
def test_a_built_in_scorer_passes_the_kit(name: str) -> None:
    trial = ScorerTrial(name)
    for check in SCORER_CHECKS:
        check(trial)  # and none is skipped


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_scorer_is_caught_by_its_check(name: str) -> None:
    (check,) = (check for check in SCORER_CHECKS if check.name == name)
    with pytest.raises(CheckError):
        check(FAULTY[name].name)


def test_a_scorer_that_changes_its_input_is_caught() -> None:
    with pytest.raises(CheckError, match="changed arrays"):
        check_scorer("writing")
