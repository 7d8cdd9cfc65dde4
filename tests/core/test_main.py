"""What the command sets before anything heavy is imported."""

from __future__ import annotations

import os
import sys

import pytest

from visiongraft.__main__ import main

NAME = "OMP_WAIT_POLICY"


@pytest.fixture
def asked_for_help(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(sys, "argv", ["visiongraft", "--help"])
    monkeypatch.setenv(NAME, "ACTIVE")
    return monkeypatch


def test_threads_sleep_while_they_wait(asked_for_help: pytest.MonkeyPatch) -> None:
    asked_for_help.delenv(NAME)
    assert main() == 0
    assert os.environ[NAME] == "PASSIVE"


def test_what_the_user_has_set_stays(asked_for_help: pytest.MonkeyPatch) -> None:
    assert main() == 0
    assert os.environ[NAME] == "ACTIVE"
