"""Run the examples in docstrings."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"core": "visiongraft"} | {n: f"visiongraft.{n}" for n in ("exporters", "plugins")}


def modules_with_examples() -> list[str]:
    """Return the names of the modules that contain examples."""
    found = []
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*.py"):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                found.append(".".join([package, *(p for p in parts if p != "__init__")]))
    return sorted(found)


MODULES = modules_with_examples()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    results = doctest.testmod(import_module(name))
    assert results.failed == 0


def test_there_are_examples_and_a_false_one_is_caught() -> None:
    found = [doctest.DocTestFinder().find(import_module(name)) for name in MODULES]
    assert sum(len(test.examples) for tests in found for test in tests) > 50

    false = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "false", None, None)
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(false, out=lambda _: None).failed == 1
