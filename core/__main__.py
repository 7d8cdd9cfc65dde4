"""Run ``python -m visiongraft`` as the ``visiongraft`` command."""

from __future__ import annotations

from visiongraft.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
