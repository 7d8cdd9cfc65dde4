"""Schedules divide the epochs, name real stages, and receive the history."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import OptionError, PluginError, ScheduleError
from visiongraft.lookup.methods import find_schedule
from visiongraft.schedules import (
    STARTED_RATE,
    TUNING_RATE,
    Phase,
    Schedule,
    full,
    gradual,
    last_n,
    linear_probe,
    lp_ft,
    milestones,
    register_schedules,
    schedule,
)
from visiongraft.training.trainable import trainable_stages

BUILT_IN = {s.name: s for s in register_schedules()}


def stages_of(count: int) -> tuple[str, ...]:
    return ("stem", *(f"stage{i}" for i in range(1, count)))


@st.composite
def plans(draw: st.DrawFn) -> tuple[Schedule, tuple[str, ...], int]:
    """Draw a built-in schedule, with or without options, a number of stages and of epochs."""
    name = draw(st.sampled_from(sorted(BUILT_IN)))
    stages = stages_of(draw(st.integers(1, 14)))
    epochs = draw(st.integers(1, 60))
    rates = {
        "learning_rate": st.floats(1e-6, 1.0),
        "probe_learning_rate": st.floats(1e-6, 1.0),
        "layer_decay": st.floats(0.01, 1.0),
        "batch_norm": st.sampled_from(["frozen", "train"]),
        "probe_epochs": st.integers(0, 80),
        "refit": st.booleans(),
        "n": st.integers(0, len(stages)),
        "trainable": st.sampled_from(["all", "head"]),
        "at": st.builds(growing, st.just(stages), st.sets(st.integers(0, epochs - 1), min_size=1)),
    }
    known = BUILT_IN[name].generate.__kwdefaults__
    chosen = draw(st.sets(st.sampled_from(sorted(known))))
    return BUILT_IN[name](**{o: draw(rates[o]) for o in sorted(chosen)}), stages, epochs


def growing(stages: tuple[str, ...], epochs: set[int]) -> dict[int, str]:
    """Unfreeze one more stage at each of these epochs, and everything at the end."""
    names = ["head", *reversed(stages), *["all"] * len(epochs)]
    return dict(zip(sorted(epochs), names, strict=False))


@given(plans())
def test_every_schedule_spends_exactly_the_epochs_on_stages_that_exist(plan: Any) -> None:
    schedule, stages, epochs = plan
    phases = list(schedule.phases(stages, epochs))
    assert sum(p.epochs for p in phases) == epochs
    for phase in phases:
        trainable_stages(stages, phase.trainable)


@given(plans())
def test_no_built_in_schedule_freezes_again_but_to_fit_the_head(plan: Any) -> None:
    schedule, stages, epochs = plan
    phases = [p for p in schedule.phases(stages, epochs) if not p.refit_head]
    sizes = [len(trainable_stages(stages, p.trainable)) for p in phases]
    assert sizes == sorted(sizes)


def test_a_schedule_that_freezes_again_would_be_noticed() -> None:
    schedule = milestones(at={0: "all", 2: "head"})
    sizes = [len(trainable_stages(("stem",), p.trainable)) for p in schedule.phases(("stem",), 4)]
    assert sizes != sorted(sizes)


@given(plans())
def test_histories_that_are_sent_change_nothing_in_the_built_in_schedules(plan: Any) -> None:
    schedule, stages, epochs = plan
    phases = schedule.phases(stages, epochs)
    heard = [next(phases)]
    with contextlib.suppress(StopIteration):
        while True:
            heard.append(phases.send([{"phase": 0, "validation": {}}]))
    assert heard == list(schedule.phases(stages, epochs))


@given(count=st.integers(1, 14), epochs=st.integers(2, 60))
def test_gradual_adds_a_stage_or_more_a_phase_and_ends_with_everything(
    count: int, epochs: int
) -> None:
    stages = stages_of(count)
    sizes = [len(trainable_stages(stages, p.trainable)) for p in gradual.phases(stages, epochs)]
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (0, count)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("linear_probe(learning_rate=0)", "learning_rate=0 of a phase"),
        ("full(layer_decay='x')", "layer_decay='x'"),
        ("full(batch_norm='off')", "batch_norm='off'"),
        ("lp_ft(learning_rate=-1)", "learning_rate=-1"),
        ("lp_ft(refit='twice')", "refit='twice'"),
        ("lp_ft(layer_decay=2)", "layer_decay=2"),
        ("lp_ft(probe_epochs=-3)", r"lp_ft\(probe_epochs=-3\): expected a non-negative integer"),
        ("lp_ft(probe_epochs=1.5)", "probe_epochs=1.5"),
        ("lp_ft(probe_epochs='a')", "probe_epochs='a'"),
        ("gradual(learning_rate=None)", "learning_rate=None"),
        ("gradual(batch_norm='off')", "batch_norm='off'"),
        ("milestones(learning_rate=0)", "learning_rate=0"),
        ("milestones(at={'x': 'all'})", "expected {epoch: stage}"),
        ("milestones(at='all')", "expected {epoch: stage}"),
        ("milestones(at={1: 2})", "milestones name '2'"),
        ("milestones(at={-1: 'all'})", "are not within 4 epochs"),
        ("milestones(at={4: 'all'})", "are not within 4 epochs"),
        ("last_n(n=9)", "n=9"),
        ("last_n(n=-1)", "n=-1"),
        ("last_n(n=1.5)", "n=1.5"),
        ("last_n(n='a')", "n='a'"),
    ],
)
def test_a_wrong_option_is_refused_before_the_first_phase(what: str, words: str) -> None:
    """Otherwise the error would only appear after hours of training."""
    with pytest.raises(ScheduleError, match=words):
        next(find_schedule(what).phases(stages_of(3), 4))


def test_training_takes_at_least_one_epoch() -> None:
    with pytest.raises(ScheduleError, match="epochs=0"):
        full.phases(stages_of(2), 0)


def test_gradual_adds_one_stage_a_phase_when_there_are_epochs_enough():
    phases = list(gradual.phases(stages_of(3), 8))
    assert [p.trainable for p in phases] == ["head", "stage2", "stage1", "stem"]
    assert [p.epochs for p in phases] == [2, 2, 2, 2]


def test_lp_ft_probes_first_without_augmentation_then_trains_everything():
    probe, tune = lp_ft.phases(stages_of(3), 10)
    assert (probe.trainable, probe.epochs, probe.augment) == ("head", 3, False)
    assert (tune.trainable, tune.epochs, tune.augment) == ("all", 7, True)


@pytest.mark.parametrize(
    ("accuracy", "images", "share"),
    [
        (0.0, 100, 1),
        (0.8, 100, 1),
        (0.85, 100, 0.75),
        (0.9, 100, 0.5),
        (0.95, 100, 0.25),
        (1.0, 100, 0.25),
        (0.95, 600, 0.5),  # 30 errors
        (0.95, 2000, 1),
        (None, 100, 1),
    ],
)
def test_lp_ft_trains_everything_more_slowly_the_fewer_errors_the_head_started_with(
    accuracy, images, share
):
    phases = lp_ft.phases(stages_of(3), 10)
    next(phases)
    tune = phases.send([{"head_start": {"accuracy": accuracy, "images": images}}])
    assert tune.learning_rate == pytest.approx(share * TUNING_RATE)
    assert bool(tune.reason) == (share < 1)


def test_lp_ft_keeps_the_rate_that_a_user_set():
    phases = lp_ft(learning_rate=3e-4).phases(stages_of(3), 10)
    next(phases)
    start = {"accuracy": 1.0, "images": 100}
    assert phases.send([{"head_start": start}]).learning_rate == 3e-4


def test_lp_ft_trains_at_the_whole_rate_without_a_start_of_the_head():
    phases = lp_ft.phases(stages_of(3), 10)
    next(phases)
    assert phases.send([{}]).learning_rate == TUNING_RATE


@given(epochs=st.integers(3, 60), probe=st.none() | st.integers(0, 80))
def test_lp_ft_ends_with_an_epoch_for_a_head_that_is_fitted_anew(epochs: int, probe: int | None):
    phases = list(lp_ft(refit=True, probe_epochs=probe).phases(stages_of(3), epochs))
    assert phases[-1] == Phase(1, "head", STARTED_RATE, augment=False, refit_head=True)
    assert phases[-2].trainable == "all"
    assert not any(phase.refit_head for phase in phases[:-1])


@pytest.mark.parametrize("epochs", [1, 2])
def test_lp_ft_with_two_epochs_or_fewer_fits_no_head_anew(epochs):
    assert list(lp_ft(refit=True).phases(("stem",), epochs)) == list(
        lp_ft.phases(("stem",), epochs)
    )


def test_linear_probe_and_full_have_one_phase():
    assert [p.trainable for p in linear_probe.phases(stages_of(2), 4)] == ["head"]
    assert [p.trainable for p in full.phases(stages_of(2), 4)] == ["all"]


def test_last_n_counts_stages_from_the_head():
    (phase,) = last_n(n=2).phases(stages_of(4), 3)
    assert phase.trainable == "stage2"


def test_milestones_unfreeze_at_the_stated_epochs():
    phases = list(milestones(at={2: "stage1", 5: "all"}).phases(stages_of(3), 7))
    assert [(p.trainable, p.epochs) for p in phases] == [("head", 2), ("stage1", 3), ("all", 2)]


def test_milestones_refuse_an_unknown_stage_before_the_first_phase():
    phases = milestones(at={2: "stage1", 4: "stage9"}).phases(stages_of(3), 7)
    with pytest.raises(ScheduleError, match=r"'stage9', which is not a stage .* did you mean"):
        next(phases)


def test_a_schedule_decides_the_next_phase_from_the_history():
    @schedule
    def adaptive(stages, epochs):
        history = yield Phase(1, "head")
        yield Phase(1, "all" if history[-1]["validation"]["accuracy"] < 0.5 else "head")

    for accuracy, then in ((0.4, "all"), (0.6, "head")):
        phases = adaptive.phases(("stem",), 2)
        next(phases)
        assert phases.send([{"validation": {"accuracy": accuracy}}]).trainable == then


def test_a_schedule_is_found_by_name_call_or_its_own_json():
    for what in ("gradual(layer_decay=0.5)", {"name": "gradual", "options": {"layer_decay": 0.5}}):
        found = find_schedule(what)
        assert found == gradual(layer_decay=0.5)
        assert find_schedule(found.to_json()) == found
    assert find_schedule(full) is full
    assert find_schedule("milestones(at={1: 'all'})").options == {"at": {1: "all"}}


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("lpft", PluginError, "did you mean 'lp_ft'"),
        ("lp-ft", PluginError, "did you mean 'lp_ft'"),
        ("gradual(layer_deca=1)", OptionError, "did you mean 'layer_decay'"),
        ("gradual(__import__('os'))", OptionError, "option __import__.* has no name"),
        ("gradual(layer_decay=open('x'))", OptionError, "layer_decay=open.* is neither a number"),
        (print, OptionError, "neither a name nor a schedule"),
        (3, OptionError, "schedule=3 is neither a name nor a schedule"),
    ],
)
def test_a_misspelled_or_executable_schedule_is_refused_in_one_line(what, error, words):
    with pytest.raises(error, match=words):
        find_schedule(what)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": 1, "learning_rate": 0.0},
        {"epochs": 1, "learning_rate": float("nan")},
        {"epochs": 1, "layer_decay": 1.1},
        {"epochs": 1, "learning_rate": "fast"},
        {"epochs": 1, "layer_decay": None},
        {"epochs": 1, "batch_norm": "off"},
        {"epochs": 1, "patience": 0},
        {"epochs": 1, "patience": 1.5},
    ],
)
def test_an_impossible_phase_is_refused(values):
    with pytest.raises(ScheduleError):
        Phase(**values)


def test_options_do_not_leak_between_schedules():
    assert isinstance(last_n(n=2), Schedule)
    assert last_n.options == {}
