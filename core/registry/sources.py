"""Where plugins come from: installed distributions, and single files."""

from __future__ import annotations

import importlib
import re
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from visiongraft.errors import PluginError, place_of
from visiongraft.hookspecs import API_ATTRIBUTE, API_VERSION, PROJECT
from visiongraft.registry.isolation import exits_refused, file_fault
from visiongraft.registry.records import KINDS, as_failure, imported, normalized


def distributions(functions: bool = False) -> list[metadata.Distribution]:
    """List the installed distributions that name plugins, by name; the first on the path counts.

    Args:
        functions: Whether to list those, too, that name functions only.
    """
    found: dict[str, metadata.Distribution] = {}
    mark = f"[{PROJECT}." if functions else f"[{PROJECT}]"
    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt") or ""
        if f"[{PROJECT}]" not in text and mark not in text:
            continue
        # Without either file it is what a broken removal left behind.
        if distribution.read_text("METADATA") or distribution.read_text("PKG-INFO"):
            found.setdefault(normalized(distribution.name), distribution)
    return [distribution for _, distribution in sorted(found.items())]


def points_of(distribution: metadata.Distribution) -> list[metadata.EntryPoint] | Exception:
    """Return all entry points of a distribution in order, or what prevents reading them."""
    try:
        return sorted(distribution.entry_points)
    except Exception as error:  # it raises whatever its parser trips over
        return error


def import_file(path: Path) -> ModuleType:
    """Import one Python file as a module of its own name.

    Its folder joins the end of the import path, so that worker processes can import it too.

    Args:
        path: A file such as ``my_task.py``.

    Returns:
        The module.

    Raises:
        PluginError: There is no such file, its name is taken, or it cannot be imported, or not without
            ending this process.
    """
    path = path.absolute()
    name = path.stem
    if not path.is_file():
        raise PluginError(f"plugin file {path} does not exist")
    if path.suffix != ".py" or not name.isidentifier():
        raise PluginError(
            f"plugin file {path} cannot be imported by its name; rename it, such as my_task.py"
        )
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    importlib.invalidate_caches()
    try:
        known = sys.modules.get(name)
        origin = known.__file__ if known is not None else getattr(find_spec(name), "origin", None)
        if origin is None or not path.samefile(origin):
            raise PluginError(
                f"plugin file {path} has the name of another module ({origin or name}); rename it"
            )
        fault = file_fault(name, path)
        if fault is not None:
            raise PluginError(f"plugin file {path}: it {fault}")
        with exits_refused():
            return importlib.import_module(name)
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a third-party import may raise anything
        place = place_of(error)
        where = f" (at {place})" if place else ""
        raise PluginError(
            f"plugin file {path} cannot be imported{where}: {as_failure(error)}"
        ) from error


def api_of(plugin: object) -> str:
    """Read which API version a plugin was written for, and refuse one that does not fit.

    Args:
        plugin: The module or object.

    Returns:
        The version that the plugin declares, or ``"-"``.

    Raises:
        PluginError: It was written for another API, or declares something other than a version.
    """
    declared = getattr(plugin, API_ATTRIBUTE, None)
    if declared is None:
        return "-"
    if not isinstance(declared, str) or not re.fullmatch(r"\d+\.\d+", declared):
        raise PluginError(f"{API_ATTRIBUTE} = {declared!r} is not a version such as '2.0'")
    major, minor = (int(number) for number in declared.split("."))
    if major == API_VERSION[0] and minor <= API_VERSION[1]:
        return declared
    if (major, minor) > API_VERSION:
        remedy = "install a newer visiongraft or an older version of the plugin"
    else:
        remedy = "install a newer version of the plugin or an older visiongraft" + _advice(plugin)
    host = ".".join(map(str, API_VERSION))
    raise PluginError(f"written for plugin API {declared}; this visiongraft has {host}; {remedy}")


def _advice(plugin: object) -> str:
    """Return what the author of an old plugin has to change first, as far as its classes reveal."""
    if not isinstance(plugin, ModuleType):
        return ""
    package = plugin.__name__.partition(".")[0]
    classes = [item for item in vars(plugin).values() if isinstance(item, type)]
    own = [item for item in classes if item.__module__.partition(".")[0] == package]
    for kind in KINDS.values():
        if kind.base is None or kind.check is None:
            continue
        for item in own:
            try:
                if issubclass(item, imported(kind.base)):
                    imported(kind.check)(item)
            except PluginError as error:
                return f"; or update it: {error}"
    return ""
