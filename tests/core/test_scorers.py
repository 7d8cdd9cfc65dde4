"""What a scorer is given, what it may return, and how it is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from visiongraft.errors import DataError, OptionError, PluginError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.methods import find_scorer
from visiongraft.registry.manager import PluginManager, using
from visiongraft.scorers import Scorer, ScorerInput


class Given(Scorer):
    """Returns what it is told."""

    name = "given"

    def __init__(self, *, value: Any = 1.0) -> None:
        if value == "odd":
            raise OptionError("value='odd' is odd")
        self.value = value

    def score(self, given: ScorerInput) -> float:
        if self.value == "raise":
            raise ValueError("no such thing")
        return self.value  # type: ignore[no-any-return]


class Headed(Given):
    """Needs the source head."""

    name = "headed"
    needs_source_head = True


@pytest.fixture(autouse=True)
def scorers() -> Iterator[None]:
    manager = PluginManager(discover=False)
    register = hookimpl(lambda: [Given, Headed], specname="register_scorers")
    manager.register(SimpleNamespace(register_scorers=register), "mine")
    with using(manager):
        yield


def make_given(**changes: Any) -> ScorerInput:
    values = {"backbone": "toy", "features": np.eye(4), "labels": np.array([0, 1, 0, 1])}
    return ScorerInput(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"labels": np.zeros(4, int)}, DataError, "images of at least two classes"),
        ({"labels": np.array([0, 2, 0, 2])}, OptionError, "not class ids 0, 1, ..."),
        ({"features": np.ones((3, 2))}, OptionError, "shape (3, 2) do not belong to 4 labels"),
        ({"features": np.full((4, 2), np.nan)}, DataError, "'toy' computes features that are not"),
        ({"source_probabilities": -np.eye(4)}, OptionError, "apply a softmax to logits"),
        ({"source_probabilities": 3 * np.eye(4)}, OptionError, "apply a softmax to logits"),
    ],
)
def test_input_that_no_scorer_can_use_is_refused(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        make_given(**changes)


def test_a_subset_has_the_rows_of_its_images() -> None:
    part = make_given(source_probabilities=np.eye(4)).subset([3, 0])
    assert part.labels.tolist() == [1, 0]
    assert part.features.tolist() == np.eye(4)[[3, 0]].tolist()
    assert part.source_probabilities is not None
    assert part.source_probabilities.tolist() == np.eye(4)[[3, 0]].tolist()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("given(value='raise')", "scorer 'given' failed: ValueError: no such thing"),
        ("given(value=None)", "scorer 'given' returned None for 'toy', not a number"),
        ("given(value=1e999)", "scorer 'given' returned inf for 'toy', not a number"),
    ],
)
def test_a_scorer_that_fails_is_named(what: str, words: str) -> None:
    with pytest.raises(PluginError, match=re.escape(words)):
        find_scorer(what).score(make_given())


def test_a_scorer_that_needs_a_source_head_is_not_run_without_one() -> None:
    with pytest.raises(OptionError, match="'headed' needs the head that the backbone was trained"):
        find_scorer("headed").score(make_given())
    assert find_scorer("headed").score(make_given(source_probabilities=np.eye(4))) == 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("givn", "no scorer 'givn'; did you mean 'given'"),
        ("given(valu=1)", "scorer 'given' has no option 'valu'"),
        ("given(value='odd')", "scorer 'given': value='odd' is odd"),
        (7, "scorer 7 is not a name"),
    ],
)
def test_a_scorer_that_cannot_be_made_is_refused(what: Any, words: str) -> None:
    with pytest.raises((OptionError, PluginError), match=re.escape(words)):
        find_scorer(what)
