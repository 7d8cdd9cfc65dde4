"""The task that a dataset is meant for."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from visiongraft.errors import DataError, OptionError
from visiongraft.lookup import tasks
from visiongraft.lookup.tasks import infer_task


@pytest.fixture
def install(Toy: type[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install tasks that claim datasets by their first letter, instead of all others."""

    def kind(name: str) -> type[Any]:
        @dataclass(frozen=True)
        class Lettered(Toy):  # type: ignore[misc]
            def claims(self, data: Any) -> bool:
                if data == "reader:broken":
                    raise ZeroDivisionError("no data")
                return str(data).startswith(name[0])

        Lettered.name = name
        return Lettered

    def put(*names: str) -> None:
        installed = {name: kind(name) for name in names}
        manager = SimpleNamespace(tasks=lambda: installed)
        monkeypatch.setattr(tasks, "plugins", lambda: manager)

    return put


def test_the_only_task_that_claims_a_dataset_is_found(install: Any) -> None:
    install("apples", "pears")
    assert infer_task("pictures").name == "pears"


def test_a_dataset_that_several_tasks_claim_is_refused_with_their_names(install: Any) -> None:
    install("apples", "pears", "plums")
    with pytest.raises(OptionError) as refused:
        infer_task("pictures")
    assert str(refused.value) == (
        "task is missing: pass task=NAME, one of pears, plums; each of these reads pictures"
    )


def test_a_dataset_that_no_task_claims_is_refused_with_all_names(
    install: Any, tmp_path: Path
) -> None:
    install("apples", "pears")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OptionError) as refused:
        infer_task(tmp_path)
    assert str(refused.value) == (
        f"task is missing: pass task=NAME, one of apples, pears; none of them claims {tmp_path}; "
        "the one that is named says what is wrong with it"
    )


def test_what_is_not_there_or_empty_is_said_in_place_of_a_missing_task(
    install: Any, tmp_path: Path
) -> None:
    install("apples", "pears")
    with pytest.raises(DataError, match="is an empty folder"):
        infer_task(tmp_path)
    with pytest.raises(DataError, match="no does not exist"):
        infer_task(tmp_path / "no")


def test_a_task_that_fails_to_check_is_named_and_claims_nothing(
    install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install("apples", "pears")
    with caplog.at_level(logging.WARNING), pytest.raises(OptionError, match="none of them"):
        infer_task("reader:broken")
    assert "task 'apples' failed to check whether it reads the dataset" in caplog.text


def test_by_default_a_task_claims_what_it_reads(Toy: type[Any], toy_data: Any) -> None:
    assert Toy().claims(toy_data(12))
    assert not Toy().claims(3)
