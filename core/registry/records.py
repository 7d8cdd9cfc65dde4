"""What plugins may provide, and what is known of each plugin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from visiongraft.errors import PluginError, one_line, type_and_message


@dataclass(frozen=True)
class PluginKind:
    """One kind of thing that plugins provide.

    Attributes:
        hook: The hook that provides it.
        key: The attribute of an item that users ask for it by.
        base: What an item must be, as ``module:class``; a subclass if ``is_class``, else an
            instance. ``None`` where any object will do.
        is_class: Whether items are classes.
        needs: Further attributes that lookups read of every item.
        check: What else holds an item to its contract, as ``module:function``.
    """

    hook: str
    key: str = "name"
    base: str | None = None
    is_class: bool = True
    needs: tuple[str, ...] = ()
    check: str | None = None

    def named(self, hook: Callable[[], Iterable[Any]]) -> list[tuple[str, Any]]:
        """Call a registration hook and check what it returns.

        Args:
            hook: The plugin's function.

        Returns:
            Its items, each with its name.

        Raises:
            PluginError: It returns something else.
        """
        items = hook()
        if not isinstance(items, Iterable):
            raise PluginError(f"{self.hook}() returned {items!r}, not a list")
        named = []
        for item in items:
            name = getattr(item, self.key, None)
            if not isinstance(name, str):
                raise PluginError(f"{self.hook}() returned {item!r}, which has no {self.key}")
            if ":" in name:
                raise PluginError(
                    f"{self.hook}() returned {name!r}; a colon in a name stands between distribution "
                    "and name"
                )
            self._check_base(item)
            for attribute in self.needs:
                if not isinstance(getattr(item, attribute, None), str):
                    raise PluginError(f"{self.hook}() returned {item!r}, which has no {attribute}")
            if self.check is not None:
                imported(self.check)(item)
            named.append((name, item))
        return named

    def _check_base(self, item: Any) -> None:
        if self.base is None:
            return
        base = imported(self.base)
        fits = isinstance(item, type) and issubclass(item, base)
        if not (fits if self.is_class else isinstance(item, base)):
            noun = "a subclass" if self.is_class else "an instance"
            raise PluginError(
                f"{self.hook}() returned {item!r}, which is not {noun} of {base.__name__}"
            )


def imported(path: str) -> Any:
    """Import what is written as ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


KINDS = {
    "task": PluginKind(
        "register_tasks",
        base="visiongraft.task:Task",
        check="visiongraft.task_contract.checks:check_task_class",
    ),
    "backbone": PluginKind(
        "register_backbones", "prefix", base="visiongraft.backbone:BackboneSource", is_class=False
    ),
    "schedule": PluginKind(
        "register_schedules", base="visiongraft.schedules:Schedule", is_class=False
    ),
    "optimizer": PluginKind(
        "register_optimizers", base="visiongraft.optimizers:OptimizerFactory", is_class=False
    ),
    "exporter": PluginKind(
        "register_exporters", base="visiongraft.exporter:Exporter", needs=("suffix",)
    ),
    "reader": PluginKind(
        "register_readers",
        base="visiongraft.data.readers:DataReader",
        is_class=False,
        needs=("targets",),
    ),
    "loss": PluginKind("register_losses", base="visiongraft.training.transfer_losses:TransferLoss"),
    "adapter": PluginKind("register_adapters", base="visiongraft.adapters:Adapter"),
    "scorer": PluginKind("register_scorers", base="visiongraft.scorers:Scorer"),
    "text_encoder": PluginKind(
        "register_text_encoders",
        "prefix",
        base="visiongraft.text_encoders:TextEncoderSource",
        is_class=False,
    ),
    "callback": PluginKind("register_callbacks"),
    "section": PluginKind(
        "register_report_sections",
        base="visiongraft.reporting.contract:ReportSection",
        needs=("title",),
    ),
}


@dataclass
class PluginRecord:
    """One plugin, loaded or not.

    Attributes:
        name: Entry-point name, or the name it was registered under.
        distribution: The distribution that ships it, or ``"-"``.
        version: That distribution's version, or ``"-"``.
        api: The API version that it declares, or ``"-"``.
        blocked: Whether the user has left it out; it is not even imported then.
        provides: Names of what it registers, by kind.
        functions: The kinds of functions that its distribution provides under its name.
        failures: What kept it, or one of its hooks, from being used, one line each.
        clashes: What it provides under a name that another plugin provides too, one line each.
        changes: Process-wide settings of libraries that it changed on import, one line each.
    """

    name: str
    distribution: str = "-"
    version: str = "-"
    api: str = "-"
    blocked: bool = False
    provides: dict[str, list[str]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong with it."""
        return self.failures + self.clashes + self.changes

    @property
    def owner(self) -> str:
        """The plugin as error messages name it."""
        if self.distribution == "-":
            return f"plugin {self.name}"
        return f"plugin {self.name} ({self.distribution} {self.version})"


Owned = tuple[PluginRecord, Any]


def owned_by(owners: Iterable[Owned], name: str) -> list[Owned]:
    """Choose among those who provide one name.

    Args:
        owners: The plugins and what each provides.
        name: A distribution, or a plugin's name, which tells plugins of one distribution apart.

    Returns:
        Those that the name fits.
    """
    found = list(owners)
    for by in ("distribution", "name"):
        fitting = [(r, i) for r, i in found if normalized(getattr(r, by)) == normalized(name)]
        if len(fitting) == 1:
            return fitting
    return []


def selectors(owners: Iterable[Owned], name: str) -> list[str]:
    """Return the names that select each provider of one name.

    Args:
        owners: The plugins and what each provides.
        name: What they provide.

    Returns:
        One ``owner:name`` each, as far as they can be distinguished.
    """
    records = [record for record, _ in owners]
    distributions = [record.distribution for record in records]
    words = []
    for record in records:
        alone = record.distribution != "-" and distributions.count(record.distribution) == 1
        words.append(f"{record.distribution if alone else record.name}:{name}")
    return [word for word in words if words.count(word) == 1]


def normalized(name: str) -> str:
    """Write a distribution's name as package indexes compare them.

    Example:
        >>> normalized(" Grafted.Extras")
        'grafted-extras'
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def as_failure(error: BaseException, prefix: str = "") -> str:
    """Return what a plugin raised as one line; a ``PluginError`` speaks for itself."""
    if isinstance(error, PluginError):
        return one_line(error, None)
    return prefix + type_and_message(error)
