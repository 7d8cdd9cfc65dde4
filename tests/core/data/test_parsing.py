"""JSON, YAML and CSV are read whole and as they are meant, or refused in one line and at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from visiongraft.data.parsing import parse_number, read_json, read_table, read_yaml, show_value
from visiongraft.errors import DataError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def bomb(levels: int, width: int = 9) -> str:
    """Write YAML whose value has width**levels items, after its aliases are replaced."""
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]")
    return "\n".join(lines) + f"\nnames: *a{levels - 1}\n"


REFUSED_JSON = {
    "nested": ("[" * 200_000 + "]" * 200_000, "recursion"),
    "nested, never closed": ("[" * 200_000, "recursion"),
    "objects": ('{"a":' * 200_000 + "1" + "}" * 200_000, "recursion"),
    "digits": (f'{{"area": {"9" * 5000}}}', "an integer with 5000 digits"),
    "digits of a float": (f'{{"area": -{"9" * 101}}}', "an integer with 102 digits"),
    "cut off": ('{"images": [', "Expecting value"),
    "key twice": ('{"a": [1], "b": {"id": 1, "id": 2}}', "the key 'id' appears twice"),
    "one key as two types": ('{"a": 1, "a": "1"}', "the key 'a' appears twice"),
}


@pytest.mark.parametrize("case", REFUSED_JSON)
def test_json_that_has_no_sure_meaning_or_costs_too_much_is_refused_at_once(
    tmp_path: Path, case: str
) -> None:
    content, words = REFUSED_JSON[case]
    path = tmp_path / "a\n.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    begun = time.process_time()
    with pytest.raises(DataError, match=f"is not valid JSON: .*{words}") as caught:
        read_json(path)
    assert time.process_time() - begun < 1
    assert str(caught.value).startswith(str(tmp_path / "a\\n.json"))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_every_encoding_that_it_may_have(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes('{"a": "grün"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"a": "grün"}


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ('{"a": "grün"}'.encode("latin-1"), "UTF-8"),
        ('{"a": "人"}'.encode("gbk"), "UTF-8"),
        (b"\xef\xbb\xbf" + '{"a": "grün"}'.encode("latin-1"), "UTF-8"),
        ('{"a": 1}'.encode("utf-16")[:-1], "UTF-16"),
    ],
)
def test_json_in_another_encoding_is_refused_with_the_remedy(
    tmp_path: Path, content: bytes, encoding: str
) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"a\.json is not {encoding} text \(.*\); save it as UTF-8$"
    ):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "a": 1, "b": {"a": 2}}', {"a": 1, "b": {"a": 2}}),
        (f"[{'9' * 100}, 1e400, -0.5]", [int("9" * 100), float("inf"), -0.5]),
        ("[" * 500 + "]" * 500, None),
    ],
    ids=["a key twice with one value", "large numbers", "nested"],
)
def test_unusual_but_sound_json_is_read(tmp_path: Path, text: str, value: object) -> None:
    found = read_json(write(tmp_path / "a.json", text))
    assert value is None or found == value
    assert value is None or float(max(found, default=0) if isinstance(found, list) else 0) >= 0


REFUSED_YAML = {
    "alias bomb": (bomb(9), "more than 200,000 values"),
    "keys that are bombs": (bomb(9) + "? *a8\n: 1\n", "more than 200,000 values"),
    "an alias inside of its value": ("a: &a [1, *a]\nnames: [x]", "stands inside of its own value"),
    "nested": ("x: " + "[" * 100_000, "nested more than 100 levels deep"),
    "nested mappings": ("x: " + "{a: " * 100_000, "nested more than 100 levels deep"),
    "nested by indentation": ("- " * 50_000 + "a", "nested more than 100 levels deep"),
    "key twice": ("names: [a]\ntrain: x\nnames: [b]", "the key 'names' appears twice"),
    "class twice": ("names:\n  0: a\n  0: b", "the key '0' appears twice"),
    "digits": (f"nc: {'9' * 5000}", "4300"),
    "not closed": ("names: [a", "did not find expected|expected ',' or '\\]'"),
    "a list as a key": ("? [a]\n: b", "unhashable"),
    "a tag of Python": ("a: !!python/object/apply:os.system [ls]", "could not determine"),
}


@pytest.mark.parametrize("case", REFUSED_YAML)
def test_yaml_that_has_no_sure_meaning_or_costs_too_much_is_refused_at_once(
    tmp_path: Path, case: str
) -> None:
    text, words = REFUSED_YAML[case]
    path = write(tmp_path / "data.yaml", text)
    begun = time.process_time()
    with pytest.raises(DataError, match=f"is not valid YAML: .*{words}") as caught:
        read_yaml(path)
    assert time.process_time() - begun < 2
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_aliases_anchors_and_merged_keys_are_read(tmp_path: Path) -> None:
    text = bomb(3, 4) + "base: &base {nc: 2, path: p}\nall:\n  <<: *base\n  nc: 3\n"
    found = read_yaml(write(tmp_path / "data.yaml", text))
    assert len(found["names"]) == 4 and found["names"][0][0] == ["x"] * 4
    assert found["all"] == {"nc": 3, "path": "p"}


def test_ten_thousand_class_names_are_read(tmp_path: Path) -> None:
    names = "".join(f"  {i}: class {i}\n" for i in range(10_000))
    assert len(read_yaml(write(tmp_path / "data.yaml", f"names:\n{names}"))["names"]) == 10_000


def test_a_table_is_read_by_its_columns(tmp_path: Path) -> None:
    text = '\ufeffPath; Label ;x;x\na.png;"c;d"\n\n;;;\nb.png; e;1;1\n'
    columns, rows = read_table(write(tmp_path / "a.csv", text))
    assert columns == ["path", "label", "x", "x"]
    assert rows == [
        (2, {"path": "a.png", "label": "c;d", "x": ""}),
        (5, {"path": "b.png", "label": "e", "x": "1"}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\na.png,b,c\n", r"row 2: 3 fields for 2 columns"),
        ("path,label,label\na.png,b,b\nb.png,a,b\n", r"row 3: the column 'label' appears twice"),
        ("path,label,splita.png,a,train\nb.png,b,val\n", r"5 columns, but no row has more than 3"),
        ('path,label\na.png,"b\n', r"is not valid CSV: unexpected end"),
        ("path,label\na.png," + "b" * 140_000, r"is not valid CSV: field larger"),
    ],
    ids=["too many fields", "column twice", "no line end", "open quote", "long field"],
)
def test_a_table_that_has_no_sure_meaning_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_table(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize("read", [read_json, read_yaml, read_table])
def test_a_named_pipe_is_refused_instead_of_waiting_for_it(tmp_path: Path, read: object) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert callable(read)
    with pytest.raises(DataError, match="it is a named pipe, socket or device, not a file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1e3", "x", "1" * 5000, "²"])
def test_other_than_decimal_digits_are_no_number(text: str) -> None:
    assert parse_number(text) is None


def test_a_long_value_is_cut_off_in_messages() -> None:
    shown = show_value(["a\n"] * 1000)
    assert shown.startswith("['a\\n', 'a\\n', ") and shown.endswith("...") and len(shown) == 80
    assert show_value({"a": 1}) == "{'a': 1}"
