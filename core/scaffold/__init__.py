"""Write an installable plugin package whose tests already pass."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import visiongraft
from visiongraft.errors import OptionError
from visiongraft.hookspecs import API_VERSION
from visiongraft.saving.files import write_bytes
from visiongraft.scaffold.templates import FILES

PREFIX = "visiongraft-"


def new_plugin(name: str, folder: Path | None = None) -> list[Path]:
    """Create a package with a task, its tests and a README.

    Args:
        name: Name of the task, such as ``"ripeness"``; the package is ``visiongraft-ripeness``.
        folder: Folder to write to; ``None`` for one named like the package in the current folder.

    Returns:
        The files, in the order to read them.

    Raises:
        OptionError: The name is invalid or taken, or the folder is not empty.
    """
    task = _task_name(name)
    target = Path(f"{PREFIX}{task.replace('_', '-')}") if folder is None else folder
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{target} already exists; choose another folder with --out FOLDER")
    words = {
        "@DISTRIBUTION@": f"{PREFIX}{task.replace('_', '-')}",
        "@NAME@": task,
        "@MODULE@": f"visiongraft_{task}",
        "@CLASS@": "".join(part.capitalize() for part in task.split("_")),
        "@API@": ".".join(map(str, API_VERSION)),
        "@VERSIONS@": _compatible(visiongraft.__version__),
    }
    written = []
    for path, text in FILES.items():
        file = target / _filled(path, words)
        write_bytes(file, _filled(text, words).encode())
        written.append(file)
    return written


def _task_name(name: str) -> str:
    from visiongraft.registry.manager import plugins

    task = name.removeprefix(PREFIX).replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", task) or keyword.iskeyword(task):
        raise OptionError(
            f"{name!r} is not a valid task name; use lowercase letters and digits, such as ripeness"
        )
    if plugins().provides("task", task):
        raise OptionError(f"task {task!r} already exists; choose another name")
    return task


def _compatible(version: str) -> str:
    """Return a requirement for this version and later compatible ones.

    Example:
        >>> _compatible("0.1.3"), _compatible("2.4.0")
        ('>=0.1.3,<0.2', '>=2.4.0,<3')
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    return f">={version},<{major + 1}" if major else f">={version},<0.{minor + 1}"


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
