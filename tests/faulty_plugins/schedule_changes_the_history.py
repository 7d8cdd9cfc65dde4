"""The schedule modifies the records of the run's history in place."""

from visiongraft import Phase, hookimpl, schedule


@schedule
def changes_the_history(stages, epochs):
    history = yield Phase(1, "head", 1e-3)
    for record in history:
        record["validation"] = {"mean_error": round(record["validation"]["mean_error"], 1)}
    if epochs > 1:
        yield Phase(epochs - 1, "all", 1e-4)


@hookimpl
def register_schedules():
    return [changes_the_history]
