"""Read a task of several heads from a TOML file, as the command line takes it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from visiongraft.errors import OptionError, one_line
from visiongraft.multi_task.task import MultiTask
from visiongraft.task import create_task


def read_task_file(path: str | Path) -> MultiTask:
    """Read the options of a ``MultiTask``.

    Args:
        path: A TOML file with a table ``heads`` and, if not all weigh the same, ``weights``.

    Returns:
        The task.

    Raises:
        OptionError: The file cannot be read, or an option is invalid.
        PluginError: No plugin provides the task of a head.
    """
    try:
        options = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"task {path} cannot be read: {one_line(error)}") from error
    try:
        return create_task(MultiTask, options)
    except OptionError as error:
        raise OptionError(f"task {path}: {error}") from error
