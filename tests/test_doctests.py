"""Run the examples in docstrings."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import visiongraft

NOT_IMPORTED = {"visiongraft.__main__"}  # it runs the command line
MODULES = sorted(
    {m.name for m in pkgutil.walk_packages(visiongraft.__path__, "visiongraft.")} - NOT_IMPORTED
)


@pytest.mark.parametrize("name", ["visiongraft", *MODULES])
def test_the_examples_of_a_module_are_true(name: str) -> None:
    results = doctest.testmod(import_module(name))
    assert results.failed == 0


def test_there_are_examples_and_a_false_one_is_caught() -> None:
    found = [doctest.DocTestFinder().find(import_module(name)) for name in MODULES]
    assert sum(len(test.examples) for tests in found for test in tests) > 50

    false = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "false", None, None)
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(false, out=lambda _: None).failed == 1
