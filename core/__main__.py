"""The ``visiongraft`` command, and ``python -m visiongraft``: little is imported before Ctrl-C is heard."""

from __future__ import annotations

import os
import sys

from visiongraft.system.interrupts import EXIT_CODE, LINE, quick_interrupts

# Threads of PyTorch sleep while they wait for each other. They would otherwise keep their cores busy, and where other programs
# want these too, a training took five times as long. Results are the same.
WAITING = "OMP_WAIT_POLICY", "PASSIVE"


def main() -> int:
    """Run one command; see ``visiongraft.cli.main``.

    Returns:
        The exit code.
    """
    os.environ.setdefault(*WAITING)  # read when PyTorch is imported
    try:
        with quick_interrupts("--json" in sys.argv):
            from visiongraft.cli import main as run

            return run()
    except KeyboardInterrupt:
        print(LINE, file=sys.stderr)
        return EXIT_CODE


if __name__ == "__main__":
    raise SystemExit(main())
