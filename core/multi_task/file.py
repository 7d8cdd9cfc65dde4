"""Read a task of several heads from a TOML or YAML file, as the command line takes it."""

from __future__ import annotations

from pathlib import Path

from visiongraft.data.parsing import read_toml, read_yaml
from visiongraft.errors import DataError, OptionError
from visiongraft.multi_task.task import MultiTask
from visiongraft.task import create_task


def read_task_file(path: str | Path) -> MultiTask:
    """Read the options of a ``MultiTask``.

    Args:
        path: A TOML or YAML file with a table ``heads`` and, if not all weigh the same, ``weights``.

    Returns:
        The task.

    Raises:
        OptionError: The file cannot be read, or an option is invalid.
        PluginError: No plugin provides the task of a head.
    """
    file = Path(path)
    try:
        options = read_toml(file) if file.suffix == ".toml" else read_yaml(file)
    except DataError as error:
        raise OptionError(f"task {path} cannot be read: {error}") from error
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise OptionError(f"task {path} has no heads; write heads: {{NAME: TASK, ...}}")
    try:
        return create_task(MultiTask, options)
    except OptionError as error:
        raise OptionError(f"task {path}: {error}") from error
