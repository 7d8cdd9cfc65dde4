from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Several libraries start one thread per core in each of several processes; tests are small.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Plots are written to files, never shown.
os.environ.setdefault("MPLBACKEND", "Agg")
# A busy machine is no fault of the code: no property test is timed. Those that use a folder made
# for the test overwrite what an example before left there.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("untimed")
