"""Conclusions from evidence trainings: which words follow from which accuracies."""

from __future__ import annotations

import numpy as np
import pytest

from visiongraft.advice.evidence import (
    ALL,
    HEAD,
    LAST,
    SCRATCH,
    Trained,
    conclude,
    difference,
    proportion,
)

SCHEDULES = {HEAD: "linear_probe", LAST: "last_n(n=2)", ALL: "full", SCRATCH: "full"}


def trained(images: int = 400, **fractions: float) -> list[Trained]:
    names = {"head": HEAD, "last": LAST, "all": ALL, "scratch": SCRATCH}
    return [
        Trained(
            names[name], SCHEDULES[names[name]], 3, np.arange(images) < round(fraction * images)
        )
        for name, fraction in fractions.items()
    ]


@pytest.mark.parametrize(
    ("fractions", "verdict", "schedule"),
    [
        (
            {"head": 0.9, "last": 0.9, "all": 0.9, "scratch": 0.5},
            "a probe is enough",
            "linear_probe",
        ),
        ({"head": 0.7, "last": 0.9, "all": 0.9}, "fine-tune the last stages", "last_n(n=2)"),
        ({"head": 0.7, "last": 0.8, "all": 0.9}, "fine-tune all stages", "full"),
        ({"head": 0.85, "last": 0.88, "all": 0.9}, "fine-tune all stages", "full"),
        ({"head": 0.5, "last": 0.6, "all": 0.7, "scratch": 0.9}, "from scratch is better", "full"),
    ],
)
def test_the_verdict_follows_from_the_accuracies(
    fractions: dict[str, float], verdict: str, schedule: str
) -> None:
    evidence = conclude(trained(**fractions), {})
    assert evidence.verdict == verdict
    assert evidence.recommendation is not None
    assert evidence.recommendation.schedule == schedule
    assert evidence.verdict in evidence.lines()[0]


def test_few_images_cannot_distinguish_and_hedge() -> None:
    evidence = conclude(trained(20, head=0.8, last=0.8, all=0.85), {})
    assert evidence.verdict == "cannot distinguish"
    assert evidence.recommendation is not None and evidence.recommendation.schedule == "lp_ft"
    assert "cannot distinguish head, last stages, all stages" in evidence.lines()[0]


def test_what_was_not_tried_is_told_with_its_reason() -> None:
    evidence = conclude(trained(head=0.7, last=0.9), {ALL: "it would take about 2 h"})
    assert evidence.verdict == "fine-tune the last stages"
    assert evidence.lines()[-1] == "not tried, all stages: it would take about 2 h"


def test_without_time_for_any_training_the_reasons_are_told() -> None:
    evidence = conclude([], {HEAD: "no time", LAST: "no time"})
    assert evidence.recommendation is None
    assert evidence.lines() == [f"not tried, {HEAD}: no time", f"not tried, {LAST}: no time"]


def test_a_head_that_nothing_was_compared_with_is_no_verdict() -> None:
    evidence = conclude(trained(head=0.99), {LAST: "no time", ALL: "no time"})
    assert (evidence.verdict, evidence.recommendation) == ("", None)
    assert "head 99.0%" in evidence.lines()[0]


def test_a_head_that_happens_to_be_ahead_of_few_images_is_no_verdict() -> None:
    assert conclude(trained(20, head=0.85, last=0.8, all=0.8), {}).verdict == "cannot distinguish"


def test_scratch_beats_frozen_features_only_if_all_stages_were_not_tried() -> None:
    evidence = conclude(trained(head=0.5, last=0.5, scratch=0.9), {ALL: "no time"})
    assert "frozen features do not help: from scratch is better" in evidence.lines()[0]


def test_a_small_network_that_is_ahead_of_all_and_better_than_frozen_features_is_recommended() -> (
    None
):
    evidence = conclude(trained(100, head=0.4, last=0.5, all=0.5, scratch=0.51), {})
    recommended = evidence.recommendation
    assert evidence.verdict == "cannot distinguish"
    assert recommended is not None and not recommended.pretrained
    assert "ahead of all and better than the pretrained network's head" in evidence.lines()[0]


@pytest.mark.parametrize(
    "fractions",
    [
        {"head": 0.5, "last": 0.5, "all": 0.5, "scratch": 0.51},  # no better than the head
        {"head": 0.4, "last": 0.5, "all": 0.51, "scratch": 0.5},  # not ahead of all
    ],
)
def test_a_small_network_that_is_only_one_of_both_is_not_recommended(
    fractions: dict[str, float],
) -> None:
    recommended = conclude(trained(100, **fractions), {}).recommendation
    assert recommended is not None and recommended.pretrained
    assert "cannot distinguish pretrained weights from a small network" in recommended.reason


def test_a_small_network_that_is_as_good_is_told() -> None:
    evidence = conclude(trained(head=0.9, last=0.9, all=0.9, scratch=0.9), {})
    assert evidence.verdict == "a probe is enough"
    assert "cannot distinguish pretrained weights from a small network" in evidence.lines()[0]


def test_intervals_of_differences_hold_the_real_one() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        one = generator.random(60) < 0.9
        other = np.where(generator.random(60) < 0.8, one, generator.random(60) < 0.7)
        found = difference(one, other)
        held += found.low <= 0.9 - (0.8 * 0.9 + 0.2 * 0.7) <= found.high
    assert held >= 0.93 * 300


def test_the_interval_of_a_fraction_is_wilsons() -> None:
    # Its ends p solve |p - 0.9| = 1.96 sqrt(p (1 - p) / n).
    low = proportion(np.arange(50) < 45).low
    assert 0.9 - low == pytest.approx(1.96 * np.sqrt(low * (1 - low) / 50))
    assert proportion(np.ones(10, dtype=np.bool_)).low < 0.75
