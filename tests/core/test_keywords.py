"""A wrong keyword argument of a public function is answered with the right one, in one line."""

from __future__ import annotations

from typing import Any

import pytest

import visiongraft
from visiongraft.errors import OptionError


@pytest.mark.parametrize(
    ("function", "keyword", "own"),
    [
        ("load", "tsk", "task"),
        ("load_backbone", "image_size", "size"),
        ("assemble", "pretrained", "weights"),
        ("compare", "bacth_size", "batch_size"),
        ("explain", "methd", "method"),
        ("report", "projectio", "projection"),
        ("soup", "epoch", "epochs"),
        ("wise_ft", "alpa", "alpha"),
        ("audit", "shadow", "shadows"),
        ("forget", "otu", "out"),
        ("fairness", "group", "groups"),
        ("zero_shot", "template", "templates"),
        ("show_batch", "cuont", "count"),
        ("show_batch", "transforms", "augment"),
        ("lr_find", "step", "steps"),
        ("advise", "scorer", "scorers"),
        ("find_mistakes", "fold", "folds"),
    ],
)
def test_a_function_suggests_the_right_name(function: str, keyword: str, own: str) -> None:
    with pytest.raises(OptionError) as refused:
        getattr(visiongraft, function)("x", **{keyword: 1})
    assert str(refused.value).startswith(f"{function} has no option {keyword!r}; did you mean ")
    assert f"{own!r}" in str(refused.value)


@pytest.mark.parametrize(
    ("method", "keyword", "own"),
    [
        ("predict", "conf", "score_threshold"),
        ("predict", "topk", "top"),
        ("evaluate", "batch", "batch_size"),
        ("evaluate", "metric", "metrics"),
        ("embed", "bs", "batch_size"),
    ],
)
def test_a_method_of_a_model_suggests_the_right_name(
    method: str, keyword: str, own: str, toy_network: Any
) -> None:
    model = visiongraft.TransferModel(toy_network)
    with pytest.raises(
        OptionError, match=f"{method} has no option '{keyword}'; did you mean '{own}'"
    ):
        getattr(model, method)([], **{keyword: 1})


def test_what_is_refused_is_not_suggested() -> None:
    with pytest.raises(OptionError) as refused:
        visiongraft.show_batch("x", epochs=3)
    assert "learning_rate" not in str(refused.value)
