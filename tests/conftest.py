from __future__ import annotations

import functools
import gc
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.chromium import CHROMIUM
from visiongraft.registry import isolation
from visiongraft.system import user_cache

# Several libraries start one thread per core in each of several processes; tests are small.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Plots are written to files, never shown.
os.environ.setdefault("MPLBACKEND", "Agg")
# A busy machine is no fault of the code: no property test is timed. Those that use a folder made
# for the test overwrite what an example before left there. `make test-all` tries more examples.
for profile, examples in {"ordinary": 25, "exhaustive": 200}.items():
    settings.register_profile(
        profile,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
settings.load_profile("ordinary")


@pytest.fixture(scope="session", autouse=True)
def _plugins_of_tests_are_imported_at_once() -> Iterator[None]:
    """Import no plugin made for a test in a child process first: there are many, at seconds each.

    tests/core/registry/test_isolation.py tries what is left out here.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            isolation, "_import_in_child", lambda modules: dict.fromkeys(modules, "imported")
        )
        patch.setattr(isolation, "_write_results", lambda results: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache folder out of all tests, also of the processes that they start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(user_cache.VARIABLE, str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _no_features_of_other_tests(cache_of_the_session: Path) -> None:
    """Remove the features that tests before have cached, as a test may patch what computes them."""
    shutil.rmtree(cache_of_the_session / "features", ignore_errors=True)


def pytest_sessionstart() -> None:
    """Collect no garbage while tests are collected, which makes a million lasting objects."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()


_modules_left_out = 0


def _leave_modules_out_of_garbage_collection() -> None:
    """Freeze what exists after imports: each phase of a run and each export visits all the rest.

    That would take up to half a second each time.
    """
    global _modules_left_out
    if len(sys.modules) > _modules_left_out + 50:
        gc.collect()
        gc.freeze()
        _modules_left_out = len(sys.modules)


def pytest_runtest_setup() -> None:
    _leave_modules_out_of_garbage_collection()
    _read_operators_once()


def _read_operators_once() -> None:
    """Read onnxscript's operators once a process: every export parses all of them, in a second.

    Nothing is imported for this, because most tests export nothing.
    """
    schemas: Any = sys.modules.get("torch.onnx._internal.exporter._schemas")
    if schemas is not None and not hasattr(schemas.op_signature_from_function, "cache_info"):
        schemas.op_signature_from_function = functools.cache(schemas.op_signature_from_function)
    for name in [name for name in sys.modules if name.startswith("onnxscript._framework_apis.")]:
        library: Any = sys.modules[name]
        read = getattr(library, "get_torchlib_ops", None)
        if read is not None and not hasattr(read, "cache_info"):
            library.get_torchlib_ops = functools.cache(read)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install distributions, each with entry points and modules of given code, for one test."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def install(name: str, entry_points: str, **modules: str) -> Path:
        info = site / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(entry_points)
        for module, code in modules.items():
            (site / f"{module}.py").write_text(code)
        importlib.invalidate_caches()
        return site

    yield install
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; the tests that use it are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()
