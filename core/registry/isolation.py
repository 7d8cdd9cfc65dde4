"""Imports of plugins that would end the process, kept apart from it.

A plugin that calls ``os._exit`` is stopped while it is imported. What ends a process in other ways,
such as a crash in compiled code, is found by importing an installed plugin in a child process first,
once for each content of its source files; the results are kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from visiongraft.errors import PluginError

HOST = "visiongraft"
PATIENCE = 120.0  # seconds after which an import in a child process is given up
KEPT = 200  # results of earlier imports
REMEDY = "repair it, remove it, or disable it with --no-plugin NAME"

_CHILD = """
import importlib, json, os, sys
sys.path[:] = json.loads(sys.argv[2])
try:
    importlib.import_module(sys.argv[1])
    result = "imported"
except KeyboardInterrupt:
    result = "interrupts"
except BaseException:
    result = "raises"
sys.stdout.flush()
os.write(1, f"\\n{sys.argv[3]}{result}".encode())
"""


class ProcessEnd(BaseException):
    """A plugin wanted to end the process; no handler of ``Exception`` in it shall catch this."""


@contextmanager
def exits_refused() -> Iterator[None]:
    """Turn calls that end this process into a ``ProcessEnd`` within a block."""
    owner, ends = os.getpid(), {name: getattr(os, name) for name in ("_exit", "abort")}

    def refusing(name: str) -> Any:
        def refuse(*arguments: Any) -> None:
            if os.getpid() != owner:  # a child of the plugin may end
                ends[name](*arguments)
            raise ProcessEnd(f"os.{name}() was called during the import; {REMEDY}")

        return refuse

    for name in ends:
        setattr(os, name, refusing(name))
    try:
        yield
    finally:
        for name, end in ends.items():
            setattr(os, name, end)


def check_import(module: str, distribution: str) -> None:
    """Import an installed plugin in a child process first, unless its present content was.

    Args:
        module: The module of its entry point.
        distribution: Who ships it; the own plugins are not checked.

    Raises:
        PluginError: The import ends the process, or interrupts it like Ctrl-C.
    """
    if distribution.lower() == HOST or module in sys.modules or getattr(sys, "frozen", False):
        return
    key = _content_key(module)
    if key is None:
        return
    results = _read_results()
    result = results.get(key)
    if result is None:
        result = _import_in_child(module)
        if result in ("imported", "raises", "interrupts") or result.startswith("exit code"):
            _write_results({**results, key: result})  # a kill may be due to the machine
    if result == "interrupts":
        raise PluginError(f"it raises KeyboardInterrupt when it is imported; {REMEDY}")
    if result.startswith(("exit code", "signal")):
        raise PluginError(f"it ends the process when it is imported ({result}); {REMEDY}")


def _import_in_child(module: str) -> str:
    """Return how an import ended; "unknown" if that could not be found out."""
    mark = os.urandom(8).hex()
    words = [sys.executable, "-c", _CHILD, module, json.dumps(sys.path), mark]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    _, found, result = done.stdout.decode(errors="replace").rpartition(mark)
    if found:
        return result
    if done.returncode < 0:
        return f"signal {signal.Signals(-done.returncode).name}"
    return f"exit code {done.returncode}"


def _content_key(module: str) -> str | None:
    """Hash the source files of the package that a module is in, without importing anything."""
    try:
        spec = find_spec(module.partition(".")[0])
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    if not folders and spec.origin is not None:
        files = [Path(spec.origin)]
    content = hashlib.sha256(f"{module} {sys.version} {sys.prefix}".encode())
    try:
        for path in files:
            content.update(str(path).encode(errors="replace") + path.read_bytes())
    except OSError:
        return None
    return content.hexdigest()


def _results_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / HOST / "plugin-imports.json"


def _read_results() -> dict[str, str]:
    try:
        values = json.loads(_results_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}


def _write_results(results: dict[str, str]) -> None:
    with suppress(OSError, RuntimeError):  # without them, starts are slower only
        path = _results_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(dict(list(results.items())[-KEPT:]), indent=2))
        os.replace(temporary, path)
