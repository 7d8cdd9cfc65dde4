"""The public names: complete, and imported on first use."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import visiongraft

NAMES = [name for name in dir(visiongraft) if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(visiongraft, name)), name


@pytest.mark.parametrize("name", sorted(visiongraft._HOMES))
def test_a_public_name_is_called_what_it_is_called_where_it_lives(name: str) -> None:
    thing = getattr(visiongraft, name)
    if hasattr(thing, "__module__") and not isinstance(thing, visiongraft.schedules.Schedule):
        assert thing.__module__.startswith(visiongraft._HOMES[name]) or name == "hookimpl"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'visiongraft' has no attribute 'fitt'"):
        visiongraft.fitt  # noqa: B018
    assert not hasattr(visiongraft, "keras")


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'timm', 'torchvision', 'numpy', 'onnx', 'onnxruntime', 'accelerate'}"
    code = (
        "import sys, visiongraft; visiongraft.errors, visiongraft.schedules\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert inspect.isfunction(visiongraft.fit)


def test_the_first_use_of_a_name_leaves_the_random_numbers_of_the_process_alone() -> None:
    code = (
        "import random, visiongraft; state = random.getstate()\n"
        "visiongraft.lr_find; print(random.getstate() == state)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_help_lists_the_public_names_and_no_internal_module() -> None:
    modules = {name for name in dir(visiongraft) if inspect.ismodule(getattr(visiongraft, name))}
    assert modules == {"data", "errors", "schedules"}
    assert {"fit", "load", "TransferModel", "Task"} <= set(dir(visiongraft))
    assert sorted(visiongraft.__all__) == sorted({"__version__", *visiongraft._HOMES})


def test_what_the_api_page_documents_of_the_core_is_an_attribute() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "python-api.md"
    names = re.findall(
        r"^::: visiongraft\.(?!plugins|exporters)\S*?\.(\w+)$", page.read_text(), re.MULTILINE
    )
    assert len(names) > 10
    assert [name for name in names if not hasattr(visiongraft, name)] == []
