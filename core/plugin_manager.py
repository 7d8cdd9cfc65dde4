"""Finds plugins, keeps their failures apart, and looks up what they provide."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

import pluggy

from visiongraft.errors import PluginError, near_matches
from visiongraft.hookspecs import PROJECT, RegistrationHooks

if TYPE_CHECKING:
    from visiongraft.backbone import BackboneSource
    from visiongraft.exporter import Exporter
    from visiongraft.schedules import Schedule
    from visiongraft.task import Task

DISABLE_VARIABLE = "VISIONGRAFT_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Kind:
    """One kind of thing that plugins provide.

    Attributes:
        hook: The hook that provides it.
        key: The attribute of an item that users ask for it by.
        base: What an item must be, as ``module:class``; a subclass if ``is_class``, else an
            instance. ``None`` where any object will do.
        is_class: Whether items are classes.
    """

    hook: str
    key: str = "name"
    base: str | None = None
    is_class: bool = True


KINDS = {
    "task": Kind("register_tasks", base="visiongraft.task:Task"),
    "backbone": Kind(
        "register_backbones", "prefix", base="visiongraft.backbone:BackboneSource", is_class=False
    ),
    "schedule": Kind("register_schedules", base="visiongraft.schedules:Schedule", is_class=False),
    "exporter": Kind("register_exporters", base="visiongraft.exporter:Exporter"),
    "listener": Kind("register_listeners"),
}


@dataclass
class PluginRecord:
    """One plugin, loaded or not.

    Attributes:
        name: Entry-point name, or the name it was registered under.
        distribution: The distribution that ships it, or ``"-"``.
        version: That distribution's version, or ``"-"``.
        provides: Names of what it registers, by kind.
        failures: What kept it, or one of its hooks, from being used, one line each.
        clashes: What it provides under a name that another plugin provides too, one line each.
    """

    name: str
    distribution: str = "-"
    version: str = "-"
    provides: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong with it."""
        return self.failures + self.clashes

    @property
    def owner(self) -> str:
        """The plugin as error messages name it."""
        if self.distribution == "-":
            return f"plugin {self.name}"
        return f"plugin {self.name} ({self.distribution} {self.version})"


class PluginManager:
    """Holds plugins and what they provide.

    A plugin that cannot be imported, has an unknown or ill-formed hook, or raises while it
    registers is kept with its problem and never stops another one. A name that two plugins provide
    belongs to neither until one of them is disabled.

    Args:
        discover: Load every entry point of the group ``visiongraft``.

    Examples:
        >>> manager = PluginManager(discover=False)
        >>> manager.records
        []
    """

    def __init__(self, discover: bool = True) -> None:
        self.records: list[PluginRecord] = []
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(RegistrationHooks)
        self._items: dict[str, dict[str, list[tuple[PluginRecord, Any]]]] = {k: {} for k in KINDS}
        if discover:
            self._discover()

    def register(
        self, plugin: object, name: str, distribution: metadata.Distribution | None = None
    ) -> PluginRecord:
        """Add a plugin; what is wrong with it is kept in its record.

        Args:
            plugin: A module or object with hook implementations.
            name: What to call it.
            distribution: Who ships it.

        Returns:
            Its record.
        """
        record = self._record(name, distribution)
        try:
            self._check_hooks(plugin)
            self._pluggy.register(plugin, name=f"{record.distribution}:{name}")
        except Exception as error:  # a stranger's object may raise anything
            record.failures.append(_one_line(error))
            return record
        for kind, items in self._provided_by(plugin, record):
            self._add(kind, items, record)
        return record

    def tasks(self) -> dict[str, type[Task]]:
        """Give all tasks by name, those whose name is not ambiguous."""
        return self._unambiguous("task")

    def backbone_sources(self) -> dict[str, BackboneSource]:
        """Give all backbone sources by prefix."""
        return self._unambiguous("backbone")

    def schedules(self) -> dict[str, Schedule]:
        """Give all schedules by name."""
        return self._unambiguous("schedule")

    def exporters(self) -> dict[str, type[Exporter]]:
        """Give all exporters by name."""
        return self._unambiguous("exporter")

    def listeners(self) -> dict[str, type[Any]]:
        """Give all listeners by name."""
        return self._unambiguous("listener")

    def get(self, kind: str, name: str) -> Any:
        """Look one item up.

        Args:
            kind: ``"task"``, ``"backbone"``, ``"schedule"``, ``"exporter"`` or ``"listener"``.
            name: Its name.

        Returns:
            What the plugin registered.

        Raises:
            PluginError: There is none, its plugin failed, or two plugins provide it.
        """
        owners = self._items[kind].get(name, [])
        if len(owners) == 1:
            return owners[0][1]
        raise PluginError(self.missing(kind, name, self._items[kind]))

    def missing(self, kind: str, name: str, known: Iterable[str]) -> str:
        """Say why something cannot be had: two plugins provide it, or none, or a broken one would.

        Args:
            kind: What was looked for.
            name: Its name; for a backbone with or without its prefix.
            known: Names that exist.

        Returns:
            One line.
        """
        for key in (name, name.rpartition("/")[0]):
            owners = self._items[kind].get(key, [])
            if len(owners) > 1:
                names = " and ".join(record.owner for record, _ in owners)
                return (
                    f"{kind} {key!r} is provided by {names}; disable one with "
                    f"{DISABLE_VARIABLE}=<plugin or distribution>"
                )
        text = f"no {kind} {name!r}{near_matches(name, known)}"
        for record in self.records:
            for failure in record.failures:
                text += f" / {record.owner} failed: {failure}"
        return text

    def _discover(self) -> None:
        blocked = {
            _normalized(name) for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name
        }
        for distribution in _distributions():
            if _normalized(distribution.name) in blocked:
                continue
            try:
                points = sorted(distribution.entry_points.select(group=PROJECT))
            except Exception as error:  # it raises whatever its parser trips over
                record = self._record(distribution.name, distribution)
                record.failures.append(_one_line(error, "its entry points cannot be read: "))
                continue
            for point in points:
                if _normalized(point.name) not in blocked:
                    self._load(point, distribution)

    def _load(self, point: metadata.EntryPoint, distribution: metadata.Distribution) -> None:
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything
            self._record(point.name, distribution).failures.append(_one_line(error))
        else:
            self.register(plugin, point.name, distribution)

    def _record(self, name: str, distribution: metadata.Distribution | None) -> PluginRecord:
        record = PluginRecord(name)
        if distribution is not None:
            record.distribution, record.version = distribution.name, distribution.version
        self.records.append(record)
        return record

    def _check_hooks(self, plugin: object) -> None:
        """Refuse unknown hooks and arguments: pluggy ignores the one and is terse on the other."""
        known = {kind.hook for kind in KINDS.values()}
        found = False
        for name in dir(plugin):
            options = self._pluggy.parse_hookimpl_opts(plugin, name)
            if options is None:
                continue
            found = True
            hook = options.get("specname") or name
            if hook not in known:
                raise PluginError(f"unknown hook {hook!r}{near_matches(hook, known)}")
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

    def _provided_by(
        self, plugin: object, record: PluginRecord
    ) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
        """Call each hook of one plugin; a hook that fails gives nothing and is recorded."""
        for kind, rules in KINDS.items():
            for implementation in getattr(self._pluggy.hook, rules.hook).get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                try:
                    yield kind, _named_items(rules, implementation.function)
                except (Exception, SystemExit) as error:  # a stranger's hook may raise anything
                    record.failures.append(_one_line(error, f"{rules.hook}() raised "))

    def _add(self, kind: str, items: list[tuple[str, Any]], record: PluginRecord) -> None:
        for name, item in items:
            record.provides.setdefault(kind, []).append(name)
            owners = self._items[kind].setdefault(name, [])
            for other, _ in owners:
                record.clashes.append(f"{kind} {name!r} is also provided by {other.owner}")
                if other is not record:
                    other.clashes.append(f"{kind} {name!r} is also provided by {record.owner}")
            owners.append((record, item))

    def _unambiguous(self, kind: str) -> dict[str, Any]:
        return {n: o[0][1] for n, o in sorted(self._items[kind].items()) if len(o) == 1}


@lru_cache(maxsize=1)
def plugins() -> PluginManager:
    """Give the process-wide manager, which discovers installed plugins on first use."""
    return PluginManager()


def _distributions() -> list[metadata.Distribution]:
    """List the installed distributions that name plugins, by name; the first on the path counts."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        if f"[{PROJECT}]" not in (distribution.read_text("entry_points.txt") or ""):
            continue
        # Without either file it is what a broken removal left behind.
        if distribution.read_text("METADATA") or distribution.read_text("PKG-INFO"):
            found.setdefault(_normalized(distribution.name), distribution)
    return [distribution for _, distribution in sorted(found.items())]


def _named_items(rules: Kind, hook: Callable[[], Iterable[Any]]) -> list[tuple[str, Any]]:
    """Call a registration hook and check what it gives."""
    items = hook()
    if not isinstance(items, Iterable):
        raise PluginError(f"{rules.hook}() returned {items!r}, not a list")
    named = []
    for item in items:
        key = getattr(item, rules.key, None)
        if not isinstance(key, str):
            raise PluginError(f"{rules.hook}() gave {item!r}, which has no {rules.key}")
        if rules.base is not None:
            module, _, name = rules.base.partition(":")
            base = getattr(import_module(module), name)
            fits = isinstance(item, type) and issubclass(item, base)
            if not (fits if rules.is_class else isinstance(item, base)):
                noun = "subclass" if rules.is_class else "instance"
                raise PluginError(f"{rules.hook}() gave {item!r}, which is no {noun} of {name}")
        named.append((key, item))
    return named


def _normalized(name: str) -> str:
    """Write a distribution's name as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _one_line(error: BaseException, prefix: str = "") -> str:
    message = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return message
    return f"{prefix}{type(error).__name__}: {message}"
