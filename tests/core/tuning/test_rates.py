"""What a learning-rate sweep suggests."""

from __future__ import annotations

import json
import math
import random
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import OptionError
from visiongraft.tuning.rates import (
    RateSweep,
    has_diverged,
    longest_fall,
    moving_average,
    rates_between,
)

NUMBERS = st.floats(-1e6, 1e6)
STEPS = 100
RATES = rates_between(1e-6, 10.0, STEPS)


def typical(noise: float = 0.0, scale: float = 1.0, shift: float = 0.0) -> RateSweep:
    """A loss that is flat, falls from 1e-4, is lowest near 1e-1 and rises again."""
    generator = random.Random(0)
    losses = []
    for rate in RATES:
        fall = 1 / (1 + math.exp(-2 * (math.log10(rate) + 3)))
        rise = max(0.0, math.log10(rate) + 0.5) ** 2
        losses.append(shift + scale * (2 - fall + rise + noise * generator.gauss(0, 1)))
    return RateSweep(RATES, tuple(losses))


# ---- its parts ----


@given(st.lists(NUMBERS, max_size=9))
def test_the_longest_fall_is_the_longest_of_all_falling_subsequences(values: list[float]) -> None:
    found = longest_fall(values)
    assert all(a < b and values[a] > values[b] for a, b in pairwise(found))
    length = max(
        (
            count
            for count in range(len(values) + 1)
            for chosen in combinations(values, count)
            if all(a > b for a, b in pairwise(chosen))
        ),
        default=0,
    )
    assert len(found) == length


@given(st.floats(1e-9, 1.0), st.floats(1.5, 1e9), st.integers(2, 200))
def test_rates_rise_by_a_constant_factor_from_the_lowest_to_the_highest(
    lowest: float, factor: float, steps: int
) -> None:
    rates = rates_between(lowest, lowest * factor, steps)
    assert len(rates) == steps
    assert rates[0] == lowest
    assert rates[-1] == pytest.approx(lowest * factor)
    assert all(b / a == pytest.approx(factor ** (1 / (steps - 1))) for a, b in pairwise(rates))


@given(st.lists(NUMBERS, min_size=1, max_size=50))
def test_the_average_stays_between_the_values_and_begins_with_the_first(
    values: list[float],
) -> None:
    averages = moving_average(values)
    slack = 1e-9 * max(map(abs, values)) + 1e-300  # values near the smallest floats are rounded off
    assert averages[0] == pytest.approx(values[0], abs=slack)
    assert all(min(values) - slack <= each <= max(values) + slack for each in averages)


@given(st.lists(NUMBERS, min_size=1, max_size=50), st.floats(0.1, 10))
def test_divergence_does_not_depend_on_the_unit_of_the_loss(
    values: list[float], factor: float
) -> None:
    scaled = [value * 2 ** round(factor) for value in values]  # exactly
    assert has_diverged(scaled) == has_diverged(values)


@given(st.lists(NUMBERS, min_size=1, max_size=50))
def test_losses_that_only_fall_have_not_diverged(values: list[float]) -> None:
    assert not has_diverged(sorted(values, reverse=True))


def test_an_easy_first_batch_does_not_make_the_others_look_diverged() -> None:
    # Measured at rates that change nothing yet, with a head that was fitted to these images.
    losses = [0.026, 0.039, 0.063, 0.051, 0.070, 0.243, 0.095, 0.135, 0.054, 0.084, 0.098, 0.243]
    assert not any(has_diverged(losses[:count]) for count in range(1, len(losses) + 1))
    assert has_diverged([*losses, 2.0, 9.0])


# ---- suggestions ----


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("shift", [0.0, -10.0])
def test_both_suggestions_lie_where_the_loss_falls(noise: float, shift: float) -> None:
    sweep = typical(noise, shift=shift)
    assert sweep.valley is not None and sweep.steepest is not None
    assert 1e-4 < sweep.valley < 0.3
    assert 1e-4 < sweep.steepest < 0.3


@given(st.floats(1e-3, 1e3))
def test_suggestions_do_not_depend_on_the_unit_of_the_loss(scale: float) -> None:
    scale = 2.0 ** round(math.log2(scale))  # exact
    plain, scaled = typical(0.05), typical(0.05, scale=scale)
    assert (plain.valley, plain.steepest) == (scaled.valley, scaled.steepest)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_suggested_for_noise(seed: int) -> None:
    generator = random.Random(seed)
    losses = [1 + 0.3 * generator.gauss(0, 1) for _ in RATES]
    rising = [loss + 0.02 * step for step, loss in enumerate(losses)]
    for each in (losses, rising):
        sweep = RateSweep(RATES, tuple(each))
        assert (sweep.valley, sweep.steepest) == (None, None)


@pytest.mark.parametrize("losses", [(1.0,), (1.0, 9.0), (1.0,) * 50, tuple(map(float, range(50)))])
def test_a_loss_that_does_not_fall_is_said_to(losses: tuple[float, ...]) -> None:
    sweep = RateSweep(RATES[: len(losses)], losses)
    assert (sweep.valley, sweep.steepest) == (None, None)
    assert "between rates of 1.0e-06 and" in str(sweep) and "no rate is suggested" in str(sweep)


def test_the_line_names_both_suggestions_and_how_to_pass_them_on() -> None:
    sweep = RateSweep(RATES, typical().losses, 2, "all", "lp_ft(learning_rate={rate})")
    assert sweep.valley is not None and sweep.steepest is not None
    assert str(sweep) == (
        f"phase 2 (all): valley {sweep.valley:.1e}, steepest {sweep.steepest:.1e}; pass "
        f"schedule='lp_ft(learning_rate={sweep.valley:.1e})'"
    )


def test_all_values_are_json() -> None:
    values = json.loads(json.dumps(typical().to_json(), allow_nan=False))
    assert values["valley"] == typical().valley
    assert len(values["rates"]) == len(values["losses"]) == STEPS


# ---- the plot ----


@pytest.mark.parametrize(
    ("name", "start"), [("sweep.png", b"\x89PNG"), ("sweep.SVG", b"<?xml")], ids=["png", "svg"]
)
def test_the_plot_has_the_format_of_its_suffix(tmp_path: Path, name: str, start: bytes) -> None:
    typical(0.05).plot(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


def test_a_plot_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"sweep.pdf is not a path with the suffix .png or .svg"):
        typical().plot(tmp_path / "sweep.pdf")
