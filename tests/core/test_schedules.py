"""Schedules divide the epochs, name real stages, and hear the history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.errors import OptionError, PluginError, ScheduleError
from visiongraft.freezing import trainable_stages
from visiongraft.schedules import (
    Phase,
    Schedule,
    find_schedule,
    full,
    gradual,
    last_n,
    linear_probe,
    lp_ft,
    milestones,
    register_schedules,
    schedule,
)

BUILT_IN = {s.name: s for s in register_schedules()}


def stages_of(count: int) -> tuple[str, ...]:
    return ("stem", *(f"stage{i}" for i in range(1, count)))


@given(
    name=st.sampled_from(sorted(BUILT_IN)),
    count=st.integers(1, 14),
    epochs=st.integers(1, 60),
)
def test_every_schedule_spends_exactly_the_epochs_on_stages_that_exist(name, count, epochs):
    phases = list(BUILT_IN[name].phases(stages_of(count), epochs))
    assert sum(p.epochs for p in phases) == epochs
    for phase in phases:
        trainable_stages(stages_of(count), phase.trainable)


@given(count=st.integers(1, 14), epochs=st.integers(2, 60))
def test_gradual_never_freezes_again_and_ends_with_everything(count, epochs):
    stages = stages_of(count)
    sizes = [len(trainable_stages(stages, p.trainable)) for p in gradual.phases(stages, epochs)]
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (0, count)


def test_gradual_adds_one_stage_a_phase_when_there_are_epochs_enough():
    phases = list(gradual.phases(stages_of(3), 8))
    assert [p.trainable for p in phases] == ["head", "stage2", "stage1", "stem"]
    assert [p.epochs for p in phases] == [2, 2, 2, 2]


def test_lp_ft_probes_first_without_augmentation_then_trains_everything():
    probe, tune = lp_ft.phases(stages_of(3), 10)
    assert (probe.trainable, probe.epochs, probe.augment) == ("head", 3, False)
    assert (tune.trainable, tune.epochs, tune.augment) == ("all", 7, True)


def test_linear_probe_and_full_have_one_phase():
    assert [p.trainable for p in linear_probe.phases(stages_of(2), 4)] == ["head"]
    assert [p.trainable for p in full.phases(stages_of(2), 4)] == ["all"]


def test_last_n_counts_stages_from_the_head():
    (phase,) = last_n(n=2).phases(stages_of(4), 3)
    assert phase.trainable == "stage2"
    with pytest.raises(ScheduleError, match=r"last_n\(n=9\)"):
        list(last_n(n=9).phases(stages_of(4), 3))


def test_milestones_unfreeze_at_the_stated_epochs():
    phases = list(milestones(at={2: "stage1", 5: "all"}).phases(stages_of(3), 7))
    assert [(p.trainable, p.epochs) for p in phases] == [("head", 2), ("stage1", 3), ("all", 2)]
    with pytest.raises(ScheduleError, match="within 4 epochs"):
        list(milestones(at={5: "all"}).phases(stages_of(3), 4))


def test_milestones_refuse_an_unknown_stage_before_the_first_phase():
    phases = milestones(at={2: "stage1", 4: "stage9"}).phases(stages_of(3), 7)
    with pytest.raises(ScheduleError, match=r"'stage9', which is no stage .* did you mean"):
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
        ("gradual(layer_deca=1)", OptionError, "did you mean 'layer_decay'"),
        ("gradual(__import__('os'))", OptionError, "name\\(option=value\\)"),
        ("gradual(layer_decay=open('x'))", OptionError, "name\\(option=value\\)"),
    ],
)
def test_a_misspelt_or_executable_schedule_is_refused_in_words(what, error, words):
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
        {"epochs": 1, "batch_norm": "off"},
    ],
)
def test_an_impossible_phase_is_refused(values):
    with pytest.raises(ScheduleError):
        Phase(**values)


def test_options_do_not_leak_between_schedules():
    assert isinstance(last_n(n=2), Schedule)
    assert last_n.options == {}
