"""Imports of plugins that would end the process, kept apart from it.

A plugin that calls ``os._exit`` is stopped while it is imported. What ends a process in other ways,
such as a crash in compiled code, is found by importing a plugin in a child process first, once for
each content of its source files; the results are kept in the user's cache folder.

Installed plugins share a new process, since most of its time is the import of torch. A plugin file
changes often and is imported last, when torch is there: it is tried in a copy of this process.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from visiongraft.errors import ArtifactError, PluginError, VisiongraftError
from visiongraft.registry.copies import can_copy, describe_end, try_in_copy
from visiongraft.saving.files import read_json, write_json
from visiongraft.system.user_cache import user_cache

HOST = "visiongraft"
PATIENCE = 120.0  # seconds after which an import in a child process is given up
KEPT = 200  # results of earlier imports
ENDLESS = "endless"  # result of an import that was given up
PASSING = ("signal", "unknown", ENDLESS)  # results that may be due to the machine
REMEDY = "; repair it, remove it, or disable it with --no-plugin NAME"

_CHILD = """
import importlib, json, os, sys
sys.path[:] = json.loads(sys.argv[2])
for module in json.loads(sys.argv[1]):
    try:
        importlib.import_module(module)
        result = "imported"
    except KeyboardInterrupt:
        result = "interrupts"
    except BaseException:
        result = "raises"
    sys.stdout.flush()
    os.write(1, f"\\n{sys.argv[3]}{result}\\n".encode())
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
            raise ProcessEnd(f"os.{name}() was called during the import{REMEDY}")

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
    for error in refused_imports([(module, distribution)]).values():
        raise error


def refused_imports(modules: Iterable[tuple[str, str]]) -> dict[str, PluginError]:
    """Import installed plugins in one child process first, but for those whose content was.

    Args:
        modules: The module of each entry point and who ships it; see ``check_import``.

    Returns:
        What is wrong with an import, by module; the others are safe.
    """
    keys = {module: _content_key(module) for module, owner in modules if _is_checked(module, owner)}
    known = {module: key for module, key in keys.items() if key is not None}
    stored = _read_results() if known else {}
    results = {module: stored[key] for module, key in known.items() if key in stored}
    tried = _import_in_child([module for module in known if module not in results])
    lasting = {known[m]: r for m, r in tried.items() if not r.startswith(PASSING)}
    if lasting:
        _write_results({**stored, **lasting})
    faults = {m: fault for m, r in {**results, **tried}.items() if (fault := _fault(r))}
    return {module: PluginError(f"it {fault}{REMEDY}") for module, fault in faults.items()}


def file_fault(module: str, path: Path) -> str | None:
    """Import a plugin file in a child process first, unless its present content was.

    Args:
        module: The name by which it can be imported.
        path: The file.

    Returns:
        What is wrong, such as ``"ends the process when it is imported (signal SIGSEGV)"``; ``None`` if
        it is safe.
    """
    if module in sys.modules or getattr(sys, "frozen", False):
        return None
    key = _key(module, _with_helpers(path))
    stored = _read_results() if key is not None else {}
    result = stored.get(str(key)) or _import_file(module)
    if key is not None and key not in stored and not result.startswith(PASSING):
        _write_results({**stored, key: result})
    return _fault(result)


def _import_file(module: str) -> str:
    """Return how an import ended that most of the libraries it needs precede."""
    if can_copy():
        with suppress(OSError):
            result = try_in_copy(lambda: _import_guarded(module), PATIENCE)
            if result in ("returns", "raises"):
                return "imported"
            if result == "unknown":
                return ENDLESS
    return _import_in_child([module])[module]  # also where only a copy may have failed


def _import_guarded(module: str) -> None:
    with exits_refused():
        import_module(module)


def _is_checked(module: str, distribution: str) -> bool:
    frozen = getattr(sys, "frozen", False)
    return not (distribution.lower() == HOST or module in sys.modules or frozen)


def _fault(result: str) -> str | None:
    if result == "interrupts":
        return "raises KeyboardInterrupt when it is imported"
    if result.startswith(("exit code", "signal")):
        return f"ends the process when it is imported ({result})"
    if result == ENDLESS:
        return f"is not imported within {PATIENCE:.0f} seconds"
    return None


def _import_in_child(modules: Sequence[str]) -> dict[str, str]:
    """Return how each import ended; "unknown" if that could not be found out.

    A child that an import ends is followed by another one for the modules after it.
    """
    results: dict[str, str] = {}
    while len(results) < len(modules):
        remaining = modules[len(results) :]
        ended, last = _run_child(remaining)
        results |= zip(remaining, [*ended, last], strict=False)
    return results


def _run_child(modules: Sequence[str]) -> tuple[list[str], str]:
    """Return how the imports of one child ended, and what ended it before the next one."""
    mark = os.urandom(8).hex()
    words = [sys.executable, "-c", _CHILD, json.dumps(modules), json.dumps(sys.path), mark]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return _results_in(error.stdout or b"", mark), ENDLESS
    except (OSError, subprocess.SubprocessError):
        return [], "unknown"
    return _results_in(done.stdout, mark), describe_end(done.returncode)


def _results_in(output: bytes, mark: str) -> list[str]:
    return re.findall(rf"{mark}(\w+)\n", output.decode(errors="replace"))


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
    return _key(module, files)


def _key(module: str, files: Iterable[Path]) -> str | None:
    content = hashlib.sha256(f"{module} {sys.version} {sys.prefix}".encode())
    try:
        for path in files:
            content.update(str(path).encode(errors="replace") + path.read_bytes())
    except OSError:
        return None
    return content.hexdigest()


def _with_helpers(path: Path) -> Iterator[Path]:
    """List a file and the files in its folder that it imports, directly or not."""
    found, waiting = set[Path](), [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        yield file
        for name in sorted(_imported_names(file)):
            package = path.parent / name
            if (package / "__init__.py").is_file():
                waiting += sorted(package.rglob("*.py"))
            elif (helper := path.parent / f"{name}.py").is_file():
                waiting.append(helper)


def _imported_names(file: Path) -> set[str]:
    """Return the first parts of the names of modules that a file imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python shows them when it imports the file
            nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - {""}


def _results_file() -> Path:
    return user_cache() / "plugin-imports.json"


def _read_results() -> dict[str, str]:
    try:
        values = read_json(_results_file())
    except (ArtifactError, OSError, RuntimeError):
        return {}
    return {str(k): str(v) for k, v in values.items()} if isinstance(values, dict) else {}


def _write_results(results: dict[str, str]) -> None:
    with suppress(VisiongraftError, OSError, RuntimeError):  # without them, starts are slower only
        write_json(_results_file(), dict(list(results.items())[-KEPT:]))
