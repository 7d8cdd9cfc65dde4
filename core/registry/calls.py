"""Names with options, as users write them: ``gradual(layer_decay=0.8)``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from visiongraft.errors import OptionError, shorten

TASK_FILES = (
    ".toml",
    ".yaml",
    ".yml",
)  # endings of files with a task's heads, passed in place of a name
TOO_DEEP = (RecursionError, MemoryError)  # what nested expressions raise
WORDS = {"none": None, "true": True, "false": False}


def is_task_file(task: object) -> bool:
    """Check whether a task is given by a file instead of its name."""
    return isinstance(task, str | Path) and str(task).endswith(TASK_FILES)


def read_call(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Read a name, or a name with options in the form of a call; nothing is evaluated.

    Values are literals of Python. ``none``, ``true`` and ``false`` may be written as listings show them,
    and a text that is one word without quotes.

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
        >>> read_call("surgical(head=false, batch_norm=train)", "schedule")
        ('surgical', {'head': False, 'batch_norm': 'train'})
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
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return head + node.func.id, _options(node, f"{kind} {node.func.id!r}")
    except (SyntaxError, ValueError, *TOO_DEEP):
        pass
    if text.isprintable() and "(" not in text:
        return text, {}
    raise OptionError(f"{kind} {shorten(text)!r} is neither 'name' nor 'name(option=value)'")


class _Words(ast.NodeTransformer):
    """Replaces words by what they mean."""

    def visit_Name(self, node: ast.Name) -> ast.Constant:
        return ast.Constant(WORDS.get(node.id, node.id))


def _options(call: ast.Call, owner: str) -> dict[str, Any]:
    """Return the options of a call."""
    options: dict[str, Any] = {}
    unnamed = [*call.args, *(each.value for each in call.keywords if each.arg is None)]
    if unnamed:
        written = shorten(ast.unparse(unnamed[0]))
        raise OptionError(f"{owner}: option {written} has no name; write OPTION={written}")
    for each in call.keywords:
        name = str(each.arg)
        if name in options:
            raise OptionError(f"{owner}: option {name!r} appears twice")
        written = shorten(ast.unparse(each.value))
        try:
            options[name] = ast.literal_eval(_Words().visit(each.value))
        except (ValueError, TypeError) as error:
            raise OptionError(
                f"{owner}: {name}={written} is neither a number nor a text in quotes, nor a list of these"
            ) from error
    return options
