"""The mapping of names and ids does not depend on the order of the samples."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.labels import LabelMap, class_name, similar_names
from visiongraft.errors import DataError


def composed(name):
    return unicodedata.normalize("NFC", name)


names = st.lists(st.text(min_size=1), min_size=1, unique_by=composed)


@given(names)
def test_a_name_is_found_at_its_position(names):
    labels = LabelMap(tuple(names))
    assert [labels.id_of(name) for name in labels] == list(range(len(labels)))
    assert [labels.names[labels.id_of(name)] for name in names] == names
    assert labels.names == tuple(names) and len(labels) == len(names)


@given(names, st.randoms())
def test_the_order_and_number_of_appearances_do_not_matter(names, random):
    shuffled = names * 2
    random.shuffle(shuffled)
    assert LabelMap.from_names(shuffled) == LabelMap.from_names(names)
    assert LabelMap.from_names(shuffled).names == tuple(sorted(names))


@given(names, st.text())
def test_an_unknown_name_has_no_id(names, other):
    labels = LabelMap.from_names(name for name in names if composed(name) != composed(other))
    with pytest.raises(DataError) as caught:
        labels.id_of(other)
    assert str(caught.value).startswith(f"label {other!r} is not in the label map")


@given(st.text("abcdefgh", min_size=6, max_size=12), st.data())
def test_a_name_with_a_letter_missing_is_recognized(name, data):
    at = data.draw(st.integers(0, len(name) - 1))
    with pytest.raises(DataError, match=f"did you mean {name!r}"):
        LabelMap((name, "-----")).id_of(name[:at] + name[at + 1 :])


def test_an_unknown_name_is_refused_with_near_ones():
    labels = LabelMap(("daisy", "rose"))
    for name in ("daisi", "Daisy", "dasy"):
        words = f"{name!r} is not in the label map; did you mean 'daisy'"
        with pytest.raises(DataError, match=words):
            labels.id_of(name)
    with pytest.raises(DataError, match=r"'x' is not in the label map; available: daisy, rose$"):
        labels.id_of("x")


@pytest.mark.parametrize(
    ("names", "words"),
    [(("a", "b", "a"), r"\['a'\] appear more than once"), (("a", ""), "an empty class name")],
)
def test_names_that_are_not_unique_are_refused(names, words):
    with pytest.raises(DataError, match=words):
        LabelMap(names)


def test_names_in_another_unicode_form_are_the_same_class():
    labels = LabelMap(("rot", "gr\u00fcn"))
    assert labels.id_of("gru\u0308n") == 1
    with pytest.raises(DataError, match="appear more than once"):
        LabelMap(("gr\u00fcn", "gru\u0308n"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gru\u0308n", "gr\u00fcn"),
        ("a\x1b[31mb\n\x07", "a\\x1b[31mb\\n\\x07"),
        ("\udce9", "\\udce9"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),  # a joiner that Persian needs
        ("new\u00a0york", "new\u00a0york"),
        ("Cat ", "Cat "),
    ],
)
def test_class_names_keep_their_letters_and_lose_control_characters(text, name):
    assert class_name(text) == name


@pytest.mark.parametrize(
    "pair", [("Cat", "cat"), ("cat", "cat "), ("new york", "new\u00a0york"), ("a\u200bb", "ab")]
)
def test_names_that_look_the_same_are_named_in_a_warning(pair):
    (line,) = similar_names([*pair, "dog"])
    assert all(repr(name) in line for name in pair) and "dog" not in line and line.isprintable()


def test_different_names_and_a_name_that_comes_twice_are_no_warning():
    assert similar_names(["cat", "cats", "cat", "class 1", "class 11"]) == []
