"""The mapping of names and ids does not depend on the order of the samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.data.labels import LabelMap
from visiongraft.errors import DataError

names = st.lists(st.text(min_size=1), min_size=1, unique=True)


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
    labels = LabelMap.from_names(name for name in names if name != other)
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
