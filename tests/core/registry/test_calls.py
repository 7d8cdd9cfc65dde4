"""Names with options, as users write them."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.errors import OptionError
from visiongraft.registry.calls import read_call


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("none", None),
        ("true", True),
        ("False", False),
        ("frozen", "frozen"),
        ("[qkv, 'blocks.*.fc1']", ["qkv", "blocks.*.fc1"]),
        ("-2.5e-3", -0.0025),
        ("{2: stage3}", {2: "stage3"}),
    ],
)
def test_values_are_literals_and_words_need_no_quotes(written: str, value: Any) -> None:
    assert read_call(f"x(option={written})", "schedule") == ("x", {"option": value})


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("bss(k=2, k=3)", "transfer loss 'bss': option 'k' appears twice"),
        ("bss(1)", "transfer loss 'bss': option 1 has no name; write OPTION=1"),
        ("bss(**{'k': 1})", r"option \{'k': 1\} has no name"),
        ("bss(k={[1]: 2})", r"transfer loss 'bss': k=\{\[1\]: 2\} is neither a number nor a text"),
        ("bss(k=-nan)", "k=-nan is neither a number nor a text in quotes"),
        ("bss(k=open('file'))", r"k=open\('file'\) is neither a number nor a text in quotes"),
        ("lora(targets=attn.qkv)", "targets=attn.qkv is neither a number nor a text in quotes"),
        ("bss(k=", "'bss\\(k=' is neither 'name' nor 'name\\(option=value\\)'"),
        ("bss(k=" + 9000 * "-" + "1)", "is neither 'name' nor"),
        ("bss(k=" + 300 * "(" + "1" + 300 * ")" + ")", "is neither 'name' nor"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_short_line(written: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        read_call(written, "transfer loss")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
