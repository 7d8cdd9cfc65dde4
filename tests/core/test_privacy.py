"""What users ask of privacy is read, and refused in one line if it makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from visiongraft.errors import OptionError
from visiongraft.privacy import Privacy


def test_text_options_and_objects_mean_the_same() -> None:
    asked = Privacy(epsilon=3, delta=1e-5, accountant="rdp")
    assert Privacy.read("epsilon=3, delta=1e-5, accountant=rdp") == asked
    assert Privacy.read({"epsilon": 3, "delta": 1e-5, "accountant": "rdp"}) == asked
    assert Privacy.read(asked.to_json()) == asked
    assert Privacy.read(None) is None


@pytest.mark.parametrize(
    "given, message",
    [
        ("epsilon=3", "privacy needs delta"),
        ("3", "not options by name"),
        ("epsilon=3, delta=__import__('os')", "not options by name"),
        ("epsilon=0, delta=1e-5", "epsilon=0 is not a positive number"),
        ("epsilon=1e9, delta=1e-5", r"promises nothing, as an image may change .* exp\(1e\+09\)"),
        ("epsilon=1, delta=1", "delta=1 is not in"),
        ("epsilon=1, delta=0.1, norm=1", "privacy has no option 'norm'"),
        ("epsilon=1, delta=0.1, accountant='moments'", "'moments' is unknown"),
        ({"epsilon": 1, "delta": 0.1, "noise_seed": -1}, "noise_seed=-1"),
        (3, "is not a Privacy"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message) as refused:
        Privacy.read(given)
    assert "\n" not in str(refused.value)
