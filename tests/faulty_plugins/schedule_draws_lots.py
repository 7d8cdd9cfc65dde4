"""The schedule decides at random."""

import random

from visiongraft import Phase, hookimpl, schedule


@schedule
def draws_lots(stages, epochs):
    for _ in range(epochs):
        yield Phase(1, random.choice(["head", *stages, "all"]), 1e-3)


@hookimpl
def register_schedules():
    return [draws_lots]
