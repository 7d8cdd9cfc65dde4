from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft import errors
from visiongraft.errors import (
    VisiongraftError,
    name_some,
    near_matches,
    one_line,
    shorten,
    type_and_message,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, VisiongraftError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_exits_with_wrong_input_or_failed_proof(kind: type[VisiongraftError]) -> None:
    proofs = {"ReceiptError", "ExportError", "RuntimeProviderError"}
    assert kind.exit_code == (1 if kind.__name__ in proofs else 2)
    assert str(kind("what, where, what to do")) == "what, where, what to do"


def test_a_misspelled_name_is_refused_with_the_nearest_one() -> None:
    assert near_matches("lpft", ["lp_ft", "full"]) == "; did you mean 'lp_ft'?"


def test_the_case_of_letters_does_not_matter() -> None:
    assert near_matches("LP_FT", ["lp_ft", "full"]) == "; did you mean 'lp_ft'?"


def test_two_equally_similar_names_are_both_suggested() -> None:
    text = near_matches("resnet50", ["timm/resnet50", "torchvision/resnet50", "timm/vit"])
    assert text == "; did you mean 'timm/resnet50' or 'torchvision/resnet50'?"


def test_names_that_only_share_a_prefix_are_left_out() -> None:
    known = ["register_tasks", "register_exporters", "register_backbones"]
    assert near_matches("register_task", known) == "; did you mean 'register_tasks'?"


def test_a_short_list_is_shown_completely_if_nothing_is_similar() -> None:
    assert near_matches("zzz", ["b", "a", "a"]) == "; available: a, b"


def test_a_long_list_or_none_adds_nothing() -> None:
    assert near_matches("zzz", [f"name{i}" for i in range(21)]) == ""
    assert near_matches("zzz", []) == ""


@given(st.text("ab_/", max_size=8), st.lists(st.text("ab_/", max_size=8), max_size=25))
def test_the_hint_never_breaks_and_only_names_what_exists(name: str, known: list[str]) -> None:
    text = near_matches(name, known)
    assert text == "" or text.startswith("; ")
    if name in known:
        assert repr(name) in text


@pytest.mark.parametrize(("count", "text"), [(0, ""), (3, "a, b, c"), (4, "a, b, c and 1 more")])
def test_the_first_few_names_are_shown(count, text):
    assert name_some("abcde"[:count]) == text


@pytest.mark.parametrize("length", [300, 301, 5000])
def test_a_long_name_is_shortened_in_its_middle(length: int) -> None:
    name = "a" + "x" * (length - 2) + "z"
    for shown in (shorten(name), name_some([name])):
        assert shown[0] == "a" and shown[-1] == "z" and len(shown) == 300
        assert ("..." in shown) == (length > 300)


def test_a_librarys_message_becomes_one_short_line() -> None:
    assert one_line(RuntimeError("a\n\n b")) == "a b"
    assert one_line(EOFError()) == "EOFError"
    assert len(one_line(ValueError("x" * 999), 50)) == 50
    assert len(one_line("x" * 999, None)) == 999


def test_an_error_whose_message_cannot_be_made_is_named_by_its_class() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert type_and_message(Broken()) == "Broken: its message cannot be shown (RuntimeError)"
    assert one_line(Broken()) == "its message cannot be shown (RuntimeError)"
