"""The schedule's option has integers as keys, which become strings in a run's config."""

from visiongraft import Phase, hookimpl, schedule


@schedule
def by_epoch(stages, epochs, *, at):
    start = min(at.get(1, epochs), epochs)
    yield Phase(start, "head", 1e-3)
    if start < epochs:
        yield Phase(epochs - start, "all", 1e-4)


@hookimpl
def register_schedules():
    return [by_epoch(at={1: 2})]
