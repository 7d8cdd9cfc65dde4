"""Progress is shown as bars in a terminal, and as few lines in a log file."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from visiongraft.system import progress
from visiongraft.system.progress import Display, current_display, shown_progress, track, working


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def display() -> Any:
    """A display on a stream that is no terminal."""
    made = Display(io.StringIO())
    token = progress._shown.set(made)
    yield made
    progress._shown.reset(token)


def written(display: Display) -> list[str]:
    assert isinstance(display.stream, io.StringIO)
    return display.stream.getvalue().splitlines()


def test_nothing_is_shown_unless_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "counting", 2)) == [1, 2]
    with shown_progress(wanted=False), working("waiting"):
        assert current_display() is None
    assert capsys.readouterr() == ("", "")


def test_a_log_file_has_no_line_about_what_is_short(display: Display, clock: list[float]) -> None:
    for _ in track(range(5), "counting", 5):
        clock[0] += 1.9
    assert written(display) == []


def test_a_log_file_has_few_lines_about_what_is_long(display: Display, clock: list[float]) -> None:
    for _ in track(range(100), "counting", 100):
        clock[0] += 2
    assert written(display) == [
        "counting: 5 of 100, about 3 min 10 s left",
        "counting: 35 of 100, about 2 min 10 s left",
        "counting: 65 of 100, about 1 min 10 s left",
        "counting: 95 of 100, about 10 s left",
        "counting: 100 in 3 min 20 s",
    ]


def test_items_count_for_as_many_as_they_hold(display: Display, clock: list[float]) -> None:
    for _ in track([[1, 2, 3], [4, 5]], "counting", 5, len):
        clock[0] += 12
    assert written(display)[0].startswith("counting: 3 of 5")


def test_what_has_no_length_is_told_at_its_end(display: Display, clock: list[float]) -> None:
    with working("tracing"):
        clock[0] += 30
    assert written(display) == ["tracing: 30 s"]


def test_what_fails_is_not_told_to_have_ended(display: Display, clock: list[float]) -> None:
    with pytest.raises(ValueError, match="fault"), working("tracing"):
        clock[0] += 30
        raise ValueError("fault")
    assert written(display) == []
    assert display.open == 0


def test_a_bar_fits_into_80_columns_of_a_terminal() -> None:
    made = Display(io.StringIO())
    made.console = Console(file=made.stream, force_terminal=True, width=80, _environ={})
    bar = made.begin("caching features of images", 123456, "loss 0.1234")
    made.bars.update(bar, completed=23456, refresh=True)
    made.end(bar)
    assert isinstance(made.stream, io.StringIO)
    shown = made.stream.getvalue()
    assert "caching features of images" in shown
    assert "23456/123456" in shown
    assert "loss 0.1234" in shown
    assert "-:--:--" in shown  # the last column, which a line that is too long would lose


def test_a_bar_vanishes_at_its_end_and_another_may_follow() -> None:
    made = Display(io.StringIO())
    made.console = Console(file=made.stream, force_terminal=True, width=80, _environ={})
    for label in ("first", "second"):
        bar = made.begin(label, 2)
        assert made.bars.live.is_started
        made.end(bar)
        assert not made.bars.live.is_started
    assert made.bars.tasks == []


def test_blocks_within_blocks_share_a_display() -> None:
    with shown_progress():
        outer = current_display()
        with shown_progress():
            assert current_display() is outer
        assert current_display() is outer
    assert current_display() is None
