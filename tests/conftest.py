from __future__ import annotations

import os

# Several libraries start one thread per core in each of several processes; tests are small.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Plots are written to files, never shown.
os.environ.setdefault("MPLBACKEND", "Agg")
