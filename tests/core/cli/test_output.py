"""Results are printed on one line each, in the encoding of the stream, whatever they contain."""

from __future__ import annotations

import io
import json

import pytest

from visiongraft.cli.output import Answer, table

NASTY = "a\x1b[31m\x07\nb\x9b1m\x7f\u202e\udce9"
SHOWN = "a\\x1b[31m\\x07\\nb\\x9b1m\\x7f\\u202e\\udce9"


def printed(answer: Answer, as_json: bool, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    answer.print(stream, as_json)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_lines_and_tables_escape_what_cannot_be_printed() -> None:
    answer = Answer({}, [f"{NASTY}: grün 😀", table(["class"], [[NASTY]])])
    lines = printed(answer, as_json=False).splitlines()
    assert lines == [f"{SHOWN}: grün 😀", "class", SHOWN]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "utf-16"])
def test_json_escapes_what_cannot_be_printed_or_encoded_and_keeps_its_value(encoding: str) -> None:
    text = printed(Answer({NASTY: ["grün", "😀", NASTY]}), as_json=True, encoding=encoding)
    assert json.loads(text) == {NASTY: ["grün", "😀", NASTY]}
    assert text.endswith("\n") and text[:-1].isprintable()
    assert ("grün" in text) == (encoding != "ascii")


def test_a_console_that_cannot_show_a_label_shows_its_escape() -> None:
    answer = Answer({}, ["grün 猫", table(["klass"], [["grün"]])])
    lines = printed(answer, as_json=False, encoding="ascii").splitlines()
    assert lines == ["gr\\xfcn \\u732b", "klass", "gr\\xfcn"]
