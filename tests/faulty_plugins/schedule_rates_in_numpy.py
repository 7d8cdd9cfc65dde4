"""The schedule's learning rates are numpy numbers, which cannot be written as JSON."""

import numpy as np

from visiongraft import Phase, hookimpl, schedule


@schedule
def rates_in_numpy(stages, epochs):
    for rate in np.geomspace(1e-3, 1e-4, epochs, dtype=np.float32):
        yield Phase(1, "head", rate)


@hookimpl
def register_schedules():
    return [rates_in_numpy]
