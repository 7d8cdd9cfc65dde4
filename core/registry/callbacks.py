"""The callbacks of one run or one export, in a plugin manager of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pluggy

from visiongraft.errors import OptionError, one_line
from visiongraft.hookspecs import PROJECT, RunHooks, hookimpl
from visiongraft.registry.manager import plugins


def listen(callbacks: Sequence[str | object]) -> pluggy.PluginManager:
    """Make a manager of chosen callbacks, so that no installed plugin is called unasked.

    Args:
        callbacks: Names of callbacks, objects that implement some of ``RunHooks``, or functions that
            are called with the record of each epoch.

    Returns:
        The manager; ``manager.hook.run_started(run=run)`` calls all of them.

    Raises:
        OptionError: One implements no run hook, or one with arguments that the hook does not have.
        PluginError: There is none of a name.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RunHooks)
    for callback in callbacks:
        chosen = plugins().get("callback", callback)() if isinstance(callback, str) else callback
        if inspect.isroutine(chosen) or isinstance(chosen, partial):
            chosen = _AfterEpoch(chosen)
        try:
            manager.register(chosen)
            manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            raise OptionError(f"callback {callback!r}: {one_line(error)}") from error
        if not manager.get_hookcallers(chosen):
            raise OptionError(f"callback {callback!r} implements no run hook; see RunHooks")
    return manager


class _AfterEpoch:
    """Calls a function with the record of each epoch."""

    def __init__(self, function: Callable[[dict[str, Any]], Any]) -> None:
        self.function = function

    @hookimpl
    def epoch_ended(self, record: dict[str, Any]) -> None:
        self.function(record)
