"""Streams of the target domain are measured after each epoch without a look at labels, and choose epochs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from visiongraft.errors import DataError, OptionError


class Labeled:
    """Images with labels that nobody may use."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.items[index][0], Forbidden()


class Forbidden:
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the label was used: {name}")


@pytest.fixture(autouse=True)
def splits_alike(Toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let validation images have the loss that training images have."""
    monkeypatch.setattr(Toy, "splits_alike", True)


@pytest.fixture
def Classes(Toy: Any) -> Any:
    class ClassesToy(Toy):  # type: ignore[misc]
        name = "classes-toy"
        splits_alike = True

        def class_logits(self, outputs: Tensor) -> Tensor:
            return outputs

    return ClassesToy


FAST: dict[str, Any] = {"schedule": "full(learning_rate=0.02)", "epochs": 3}


def test_each_epoch_measures_the_stream_that_select_names(
    fit_toy: Any, toy_data: Any, Classes: Any, tmp_path: Path
) -> None:
    model = fit_toy(
        toy_data(30),
        task=Classes(augment=False),
        streams={"unlabelled": Labeled(toy_data(13, seed=3))},
        select="lowest(unlabelled.class_confusion)",
        out=tmp_path / "run",
        **FAST,
    )
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["evaluate_on"]["unlabelled"] for line in lines]
    names = {"entropy", "diversity", "class_confusion", "weighted_risk"}
    assert all(each.keys() == names for each in found)
    values = [each["class_confusion"] for each in found]
    assert model.facts["metrics"]["epoch"] == values.index(min(values))
    assert model.facts["evaluation"]["unlabelled.class_confusion"] == min(values)
    assert "unlabelled.class_confusion before training" in model.facts["evaluation"]


def test_a_task_without_class_logits_has_the_weighted_risk_alone(
    fit_toy: Any, toy_data: Any, Toy: Any
) -> None:
    class Alike(Toy):  # type: ignore[misc]
        name = "alike-toy"
        splits_alike = True

    settings = {"streams": {"unlabelled": Labeled(toy_data(13, seed=3))}, **FAST}
    settings["task"] = Alike(augment=False)
    fit_toy(toy_data(30), select="lowest(unlabelled.weighted_risk)", **settings)
    with pytest.raises(OptionError, match="the task has no metric 'entropy'") as caught:
        fit_toy(toy_data(30), select="lowest(unlabelled.entropy)", **settings)
    assert "\n" not in str(caught.value)


def test_a_task_whose_validation_images_have_no_training_loss_has_no_weighted_risk(
    fit_toy: Any, toy_data: Any, Toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "splits_alike", False)
    settings = {"streams": {"unlabelled": Labeled(toy_data(13, seed=3))}, **FAST}
    with pytest.raises(OptionError, match="the task has no metric 'weighted_risk'"):
        fit_toy(toy_data(30), select="lowest(unlabelled.weighted_risk)", **settings)


def test_a_stream_and_an_evaluation_set_of_one_name_are_refused(
    fit_toy: Any, toy_data: Any
) -> None:
    with pytest.raises(OptionError, match="streams and evaluate_on both name 'new'"):
        fit_toy(
            toy_data(30),
            streams={"new": toy_data(9)},
            evaluate_on={"new": toy_data(9)},
            select="lowest(new.weighted_risk)",
            **FAST,
        )


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ([], "stream 'unlabelled'.*no images|stream 'unlabelled'.*empty"),
        ("five channels", "stream 'unlabelled'.*channels"),
    ],
)
def test_an_empty_stream_and_one_with_other_channels_are_refused_in_one_line(
    fit_toy: Any, toy_data: Any, stream: Any, words: str
) -> None:
    if stream:
        stream = [image[..., [0, 1, 2, 0, 1]] for image, _ in toy_data(9)]
    settings = {"streams": {"unlabelled": stream}, "select": "lowest(unlabelled.weighted_risk)"}
    with pytest.raises((DataError, OptionError), match=words) as caught:
        fit_toy(toy_data(30), **settings, **FAST)
    assert "\n" not in str(caught.value)


@pytest.fixture
def SeveralColors(Toy: Any) -> Any:
    class SeveralColorsToy(Toy):  # type: ignore[misc]
        """A third party's task: images have several labels, and it does not say so of its logits."""

        name = "several-colors"

        def metadata(self) -> dict[str, Any]:
            return {"class_names": ["red", "green", "blue"]}

        def collate(self, targets: Sequence[Any]) -> Tensor:
            return torch.tensor([[t == 0, t < 2, True] for t in targets], dtype=torch.float32)

        def mix(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
            return images, targets

        def build_metrics(self) -> Any:
            return AlwaysHalf()

    return SeveralColorsToy


class AlwaysHalf:
    def update(self, decoded: Any, targets: Any) -> None:
        pass

    def compute(self) -> dict[str, Any]:
        return {"share_right": 0.5}


def test_several_labels_are_no_classes_that_exclude_each_other(
    fit_toy: Any, toy_data: Any, SeveralColors: Any
) -> None:
    streams = {"unlabelled": Labeled(toy_data(13, seed=3))}
    settings = {"task": SeveralColors(augment=False), "streams": streams, **FAST}
    with pytest.raises(OptionError, match="the task has no metric 'entropy'"):
        fit_toy(toy_data(30), select="lowest(unlabelled.entropy)", **settings)
