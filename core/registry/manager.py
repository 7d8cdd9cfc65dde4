"""Finds plugins, keeps their failures apart, and looks up what they provide."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from visiongraft.errors import PluginError, near_matches
from visiongraft.hookspecs import PROJECT, RegistrationHooks
from visiongraft.registry.disabled import DISABLE_VARIABLE, disabled, disabling
from visiongraft.registry.functions import function_points, is_disabled
from visiongraft.registry.hooks import check_hooks, provided_by
from visiongraft.registry.isolation import exits_refused, refused_imports
from visiongraft.registry.records import (
    KINDS,
    Owned,
    PluginRecord,
    as_failure,
    normalized,
    owned_by,
    selectors,
)
from visiongraft.registry.settings import UNDONE, kept_settings
from visiongraft.registry.sources import api_of, distributions, import_file, points_of

if TYPE_CHECKING:
    from visiongraft.adapters import Adapter
    from visiongraft.backbone import BackboneSource
    from visiongraft.data.readers import DataReader
    from visiongraft.exporter import Exporter
    from visiongraft.optimizers import OptimizerFactory
    from visiongraft.reporting.contract import ReportSection
    from visiongraft.schedules import Schedule
    from visiongraft.scorers import Scorer
    from visiongraft.task import Task
    from visiongraft.text_encoders import TextEncoderSource
    from visiongraft.training.transfer_losses import TransferLoss

__all__ = ["DISABLE_VARIABLE", "KINDS", "PluginManager", "PluginRecord", "plugins", "using"]

log = logging.getLogger("visiongraft")


class PluginManager:
    """A set of plugins and what they provide.

    A plugin that cannot be imported, was written for another API, has an unknown or ill-formed
    hook, or raises while it registers is kept with its problem and never stops another one. A name
    that two plugins provide belongs to neither; ``"distribution:name"`` selects one.

    Args:
        discover: Load every entry point of the group ``visiongraft``.
        blocked: Plugins or distributions to leave out, besides those that the environment names.

    Raises:
        PluginError: There is nothing of a name in ``blocked``.

    Examples:
        >>> manager = PluginManager(discover=False)
        >>> manager.records
        []
    """

    def __init__(self, discover: bool = True, blocked: Iterable[str] = ()) -> None:
        self.records: list[PluginRecord] = []
        self.blocked = tuple(blocked)
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(RegistrationHooks)
        self._items: dict[str, dict[str, list[Owned]]] = {k: {} for k in KINDS}
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
        changes: list[str] = []
        with kept_settings(changes):
            self._register(plugin, record)
        self._note_changes(record, changes)
        return record

    def register_file(self, path: str | Path) -> PluginRecord:
        """Add one Python file as a plugin, named like the file.

        Args:
            path: The file.

        Returns:
            Its record.

        Raises:
            PluginError: The file cannot be used; the user named this plugin.
        """
        changes: list[str] = []
        with kept_settings(changes):
            plugin = import_file(Path(path))
        record = self.register(plugin, Path(path).stem)
        self._note_changes(record, changes)
        if record.failures:
            raise PluginError(f"plugin file {path}: {record.failures[0]}")
        return record

    def tasks(self) -> dict[str, type[Task]]:
        """Return all tasks by name; ambiguous names are left out."""
        return self._unambiguous("task")

    def backbone_sources(self) -> dict[str, BackboneSource]:
        """Return all backbone sources by prefix."""
        return self._unambiguous("backbone")

    def schedules(self) -> dict[str, Schedule]:
        """Return all schedules by name."""
        return self._unambiguous("schedule")

    def optimizers(self) -> dict[str, OptimizerFactory]:
        """Return all optimizers by name."""
        return self._unambiguous("optimizer")

    def exporters(self) -> dict[str, type[Exporter]]:
        """Return all exporters by name."""
        return self._unambiguous("exporter")

    def readers(self) -> dict[str, DataReader]:
        """Return all data readers by name."""
        return self._unambiguous("reader")

    def losses(self) -> dict[str, type[TransferLoss]]:
        """Return all transfer losses by name."""
        return self._unambiguous("loss")

    def adapters(self) -> dict[str, type[Adapter]]:
        """Return all adapters by name."""
        return self._unambiguous("adapter")

    def scorers(self) -> dict[str, type[Scorer]]:
        """Return all scorers by name."""
        return self._unambiguous("scorer")

    def text_encoder_sources(self) -> dict[str, TextEncoderSource]:
        """Return all sources of text encoders by prefix."""
        return self._unambiguous("text_encoder")

    def callbacks(self) -> dict[str, type[Any]]:
        """Return all callbacks by name."""
        return self._unambiguous("callback")

    def report_sections(self) -> dict[str, type[ReportSection]]:
        """Return all sections of reports by name."""
        return self._unambiguous("section")

    def provides(self, kind: str, name: str) -> bool:
        """Check whether any plugin provides a name, ambiguous or not."""
        return bool(self._owners(kind, name))

    def get(self, kind: str, name: str) -> Any:
        """Look one item up.

        Args:
            kind: ``"task"``, ``"backbone"``, ``"schedule"``, ``"optimizer"``, ``"exporter"``,
                ``"reader"``, ``"loss"``, ``"adapter"``, ``"scorer"``, ``"text_encoder"``, ``"callback"``
                or ``"section"``.
            name: Its name, or ``"distribution:name"`` or ``"plugin:name"`` where several plugins
                provide it.

        Returns:
            What the plugin registered.

        Raises:
            PluginError: There is none, its plugin failed, or two plugins provide it.
        """
        owners = self._owners(kind, name)
        if len(owners) == 1:
            return owners[0][1]
        raise PluginError(self.missing(kind, name, self._items[kind]))

    def name_of(self, kind: str, item: Any) -> str:
        """Return the name that selects an item, even if another plugin provides the same name.

        Args:
            kind: What it is.
            item: What a plugin registered, or something that none did.

        Returns:
            Its name, or ``"distribution:name"`` where the name alone is ambiguous.
        """
        name: str = getattr(item, KINDS[kind].key)
        owners = self._items[kind].get(name, [])
        if len(owners) > 1:
            for word in selectors(owners, name):
                if self._owners(kind, word)[0][1] is item:
                    return word
        return name

    def missing(self, kind: str, name: str, known: Iterable[str]) -> str:
        """Explain why a name cannot be found: two plugins provide it, or none, or a broken one would.

        Args:
            kind: What was looked for.
            name: Its name; for a backbone with or without its prefix.
            known: Names that exist.

        Returns:
            One line.
        """
        for key in accumulate(name.split("/"), "{}/{}".format):
            owners = self._items[kind].get(key, [])
            if len(owners) > 1:
                names = " and ".join(record.owner for record, _ in owners)
                words = " or ".join(repr(word) for word in selectors(owners, key))
                choose = f"use {words}, or " if words else ""
                return (
                    f"{kind} {key!r} is provided by {names}; {choose}disable one with --no-plugin "
                    f"NAME or {DISABLE_VARIABLE}=NAME"
                )
        text = f"no {kind.replace('_', ' ')} {name!r}{near_matches(name, known)}"
        for record in self.records:
            if record.blocked:
                text += f" / {record.owner} is disabled"
            for failure in record.failures:
                text += f" / {record.owner} failed: {failure}"
        return text

    def _owners(self, kind: str, name: str) -> list[Owned]:
        items = self._items[kind]
        owner, colon, short = name.partition(":")
        if not colon or name in items:
            return items.get(name, [])
        return owned_by(items.get(short, []), owner)

    # ---- loading ----

    def _discover(self) -> None:
        off = disabled(self.blocked)
        found = [(d, points_of(d)) for d in distributions(functions=True)]
        refused = refused_imports(
            (point.module, distribution.name)
            for distribution, points in found
            if not isinstance(points, Exception)
            for point in points
            if point.group == PROJECT and not is_disabled(point, distribution, off)
        )
        for distribution, points in found:
            if isinstance(points, Exception):
                record = self._record(distribution.name, distribution)
                record.blocked = normalized(distribution.name) in off
                if not record.blocked:
                    record.failures.append(as_failure(points, "its entry points cannot be read: "))
                continue
            for point in (each for each in points if each.group == PROJECT):
                if is_disabled(point, distribution, off):
                    self._record(point.name, distribution).blocked = True
                else:
                    self._load(point, distribution, refused.get(point.module))
        self._list_functions([distribution for distribution, _ in found], off)
        names = {word for r in self.records for word in (r.name, r.distribution)}
        for name in self.blocked:
            if normalized(name) not in {normalized(known) for known in names}:
                raise PluginError(f"no plugin {name!r} to disable{near_matches(name, names)}")

    def _list_functions(self, found: list[metadata.Distribution], off: set[str]) -> None:
        """Record which functions there are, and which names several distributions provide."""
        owners: dict[tuple[str, str], list[PluginRecord]] = {}
        for distribution in found:
            own = {r.name: r for r in self.records if r.distribution == distribution.name}
            for kind, point in function_points(distribution):
                record = own.get(point.name) or self._record(point.name, distribution)
                own[point.name] = record
                record.blocked = is_disabled(point, distribution, off)
                if not record.blocked:
                    record.functions.append(kind)
                    others = owners.setdefault((kind, point.name), [])
                    _note_clashes(f"{kind} {point.name!r}", record, others)
                    others.append(record)

    def _load(
        self,
        point: metadata.EntryPoint,
        distribution: metadata.Distribution,
        refused: PluginError | None,
    ) -> None:
        changes: list[str] = []
        try:
            if refused is not None:
                raise refused
            with kept_settings(changes), exits_refused():
                plugin = point.load()
        except KeyboardInterrupt:  # the user's own: a plugin's was found by the check
            raise
        except BaseException as error:  # a third-party import may raise anything
            record = self._record(point.name, distribution)
            record.failures.append(as_failure(error))
        else:
            record = self.register(plugin, point.name, distribution)
        self._note_changes(record, changes)

    def _note_changes(self, record: PluginRecord, changes: list[str]) -> None:
        """Note process-wide settings that a plugin changed, and that were changed back."""
        for change in changes:
            record.changes.append(f"{change} {UNDONE}")
            log.warning("%s %s", record.owner, record.changes[-1])

    def _register(self, plugin: object, record: PluginRecord) -> None:
        try:
            record.api = api_of(plugin)
            check_hooks(plugin, self._pluggy)
            self._pluggy.register(plugin, name=f"{record.distribution}:{record.name}")
        except Exception as error:  # a third-party object may raise any error
            record.failures.append(as_failure(error))
            return
        for kind, items in provided_by(plugin, record, self._pluggy):
            self._add(kind, items, record)

    def _record(self, name: str, distribution: metadata.Distribution | None) -> PluginRecord:
        record = PluginRecord(name)
        if distribution is not None:
            record.distribution, record.version = distribution.name, distribution.version
        self.records.append(record)
        return record

    def _add(self, kind: str, items: list[tuple[str, Any]], record: PluginRecord) -> None:
        for name, item in items:
            record.provides.setdefault(kind, []).append(name)
            owners = self._items[kind].setdefault(name, [])
            _note_clashes(f"{kind} {name!r}", record, [other for other, _ in owners])
            owners.append((record, item))

    def _unambiguous(self, kind: str) -> dict[str, Any]:
        return {n: o[0][1] for n, o in sorted(self._items[kind].items()) if len(o) == 1}


def _note_clashes(what: str, record: PluginRecord, others: list[PluginRecord]) -> None:
    for other in others:
        record.clashes.append(f"{what} is also provided by {other.owner}")
        if other is not record:
            other.clashes.append(f"{what} is also provided by {record.owner}")


_in_use: list[PluginManager] = []


def plugins() -> PluginManager:
    """Return the manager in use: the process-wide one, unless ``using`` has replaced it."""
    return _in_use[-1] if _in_use else _installed()


def undiscovered() -> bool:
    """Check whether the next lookup has to find and import all installed plugins first."""
    return not _in_use and not _installed.cache_info().currsize


@contextmanager
def using(manager: PluginManager) -> Iterator[PluginManager]:
    """Let everything look up plugins in another manager for the length of a block.

    What the manager blocks is disabled within the block, functions included.

    Args:
        manager: The manager to use.

    Yields:
        That manager.
    """
    _in_use.append(manager)
    try:
        with disabling(manager.blocked):
            yield manager
    finally:
        _in_use.pop()


@lru_cache(maxsize=1)
def _installed() -> PluginManager:
    """Discover installed plugins, on first use."""
    return PluginManager()
