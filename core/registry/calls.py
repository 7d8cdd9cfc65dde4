"""Names with options, as users write them: ``gradual(layer_decay=0.8)``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from visiongraft.errors import OptionError

TASK_FILE = ".toml"  # ending of a file with a task's heads, which is passed in place of a name


def is_task_file(task: object) -> bool:
    """Check whether a task is given by a file instead of its name."""
    return isinstance(task, str | Path) and str(task).endswith(TASK_FILE)


def read_call(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Read a name, or a name with options in the form of a call; nothing is evaluated.

    Args:
        text: What the user wrote.
        kind: What it names, for the message.

    Returns:
        The name, and the options by name.

    Raises:
        OptionError: It is neither.

    Example:
        >>> read_call("last_n(n=2)", "schedule")
        ('last_n', {'n': 2})
        >>> read_call("my-package:last_n", "schedule")
        ('my-package:last_n', {})
    """
    head, tail = "", text.strip()
    owner, colon, rest = tail.partition(":")
    if colon and "(" not in owner:  # "distribution:name"; elsewhere colons belong to options
        head, tail = owner + colon, rest.strip()
    try:
        node = ast.parse(tail, mode="eval").body
        if isinstance(node, ast.Name):
            return head + node.id, {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            options = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
            return head + node.func.id, options
    except (SyntaxError, ValueError):
        pass
    if text.isprintable() and "(" not in text:
        return text, {}
    raise OptionError(f"{kind} {text!r} is neither 'name' nor 'name(option=value)'")
