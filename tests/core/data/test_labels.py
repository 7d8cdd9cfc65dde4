"""Names and ids are one mapping, whatever the order of the data."""

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
    assert labels.names == tuple(names)


@given(names, st.randoms())
def test_the_order_and_number_of_appearances_do_not_matter(names, random):
    shuffled = names * 2
    random.shuffle(shuffled)
    assert LabelMap.from_names(shuffled) == LabelMap.from_names(names)


def test_an_unknown_name_is_refused_with_near_ones():
    with pytest.raises(DataError, match=r"'daisi' is not in the label map; did you mean 'daisy'"):
        LabelMap(("daisy", "rose")).id_of("daisi")


@pytest.mark.parametrize(
    ("names", "words"),
    [(("a", "b", "a"), r"\['a'\] appear more than once"), (("a", ""), "an empty name")],
)
def test_a_map_that_is_no_mapping_is_refused(names, words):
    with pytest.raises(DataError, match=words):
        LabelMap(names)
