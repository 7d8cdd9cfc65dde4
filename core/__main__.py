"""The ``visiongraft`` command, and ``python -m visiongraft``: little is imported before Ctrl-C is heard."""

from __future__ import annotations

import sys

from visiongraft.system.interrupts import EXIT_CODE, LINE, quick_interrupts


def main() -> int:
    """Run one command; see ``visiongraft.cli.main``.

    Returns:
        The exit code.
    """
    try:
        with quick_interrupts("--json" in sys.argv):
            from visiongraft.cli import main as run

            return run()
    except KeyboardInterrupt:
        print(LINE, file=sys.stderr)
        return EXIT_CODE


if __name__ == "__main__":
    raise SystemExit(main())
