"""The hooks of one plugin: what they may be, and what they provide."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pluggy

from visiongraft.errors import PluginError, near_matches
from visiongraft.hookspecs import RunHooks
from visiongraft.registry.records import KINDS, PluginRecord, as_failure

_RENAMED = {"register_listeners": "; it is now register_callbacks"}  # since plugin interface 2.0


def check_hooks(plugin: object, manager: pluggy.PluginManager) -> None:
    """Refuse unknown hooks and arguments: pluggy ignores the former and is terse about the latter.

    Args:
        plugin: A module or object with hook implementations.
        manager: Knows how implementations are marked.

    Raises:
        PluginError: A hook is unknown, is one of callbacks or takes arguments; or there is none.
    """
    known = {kind.hook for kind in KINDS.values()}
    found = False
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        found = True
        hook = options.get("specname") or name
        if hook in vars(RunHooks):
            raise PluginError(
                f"hook {hook!r} is for callbacks: make it a method of a class, and return that "
                "class from register_callbacks"
            )
        if hook not in known:
            hint = _RENAMED.get(hook) or near_matches(hook, known)
            raise PluginError(f"unknown hook {hook!r}{hint}")
        required = [
            p.name
            for p in inspect.signature(getattr(plugin, name)).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if required:
            raise PluginError(
                f"hook {hook!r} takes no arguments, but {name}({', '.join(required)}) does"
            )
    if not found:
        raise PluginError("it has no hook; mark its functions with visiongraft.hookimpl")


def provided_by(
    plugin: object, record: PluginRecord, manager: pluggy.PluginManager
) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Call each hook of one plugin; a hook that fails provides nothing and is recorded.

    Args:
        plugin: A registered plugin.
        record: Its record, which is given the failures.
        manager: Where it is registered.

    Yields:
        Each kind with the items that the plugin provides, by name.
    """
    for kind, rules in KINDS.items():
        for implementation in getattr(manager.hook, rules.hook).get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            try:
                yield kind, rules.named(implementation.function)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # a third-party hook may raise anything
                record.failures.append(as_failure(error, f"{rules.hook}() raised "))
