"""The listeners of one run or one export, in a plugin manager of their own."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from visiongraft.errors import OptionError, on_one_line
from visiongraft.hookspecs import PROJECT, RunHooks
from visiongraft.registry.manager import plugins


def listen(listeners: Sequence[str | object]) -> pluggy.PluginManager:
    """Make a manager of chosen listeners, so that no installed plugin hears anything unasked.

    Args:
        listeners: Names of listeners, or objects that implement some of ``RunHooks``.

    Returns:
        The manager; ``manager.hook.run_started(run=run)`` tells them all.

    Raises:
        OptionError: One implements no run hook, or one with arguments that the hook does not have.
        PluginError: There is none of a name.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(RunHooks)
    for listener in listeners:
        chosen = plugins().get("listener", listener)() if isinstance(listener, str) else listener
        try:
            manager.register(chosen)
            manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            raise OptionError(f"listener {listener!r}: {on_one_line(str(error))}") from error
        if not manager.get_hookcallers(chosen):
            raise OptionError(f"listener {listener!r} implements no run hook; see RunHooks")
    return manager
