"""Consoles print whatever the environment says about the terminal."""

from __future__ import annotations

import io

import pytest

from visiongraft.system.terminal import make_console


@pytest.mark.parametrize("columns", ["0", "1", "abc", "-5", ""])
def test_a_console_prints_at_any_number_of_columns(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = io.StringIO()
    make_console(stream, soft_wrap=True).print("epoch 1/1")
    assert stream.getvalue() == "epoch 1/1\n"
