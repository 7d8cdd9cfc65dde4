"""The schedule trains a stage that only some backbones have."""

from visiongraft import Phase, hookimpl, schedule


@schedule
def names_a_stage(stages, epochs):
    yield Phase(epochs, "stage4", 1e-3)


@hookimpl
def register_schedules():
    return [names_a_stage]
