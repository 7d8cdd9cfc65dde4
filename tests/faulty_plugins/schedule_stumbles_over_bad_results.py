"""The schedule yields a stage that does not exist once results get worse."""

from visiongraft import Phase, hookimpl, schedule


@schedule
def stumbles(stages, epochs):
    history = yield Phase(1, "head", 1e-3)
    for _ in range(epochs - 1):
        history = yield Phase(1, "all" if history[-1]["best"] else "embedding", 1e-4)


@hookimpl
def register_schedules():
    return [stumbles]
