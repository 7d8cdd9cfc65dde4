"""Results tell which images were measured, and whether they were in training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from visiongraft.data.check import check_evaluated
from visiongraft.data.samples import EvaluationSplit, Samples
from visiongraft.errors import DataError
from visiongraft.inputs.samples import InputSamples
from visiongraft.saving.training_images import TrainingImages
from visiongraft.training.measuring.evaluation_data import prepare_evaluation


class Patients(InputSamples):
    """Images of one value, each two of one patient."""

    def subject(self, index: int) -> str:
        return f"patient {self.values[index].max() // 2}"


@pytest.fixture(scope="module")
def task(Toy: type[Any]) -> Any:
    @dataclass(frozen=True)
    class Given(Toy):  # type: ignore[misc]
        """Takes what it is given."""

        def read_evaluation(self, data: Any) -> Any:
            return data

    return Given()


def samples(*values: int, kind: Callable[..., Samples] = InputSamples) -> Samples:
    return kind([np.array([[0, value]], np.uint8) for value in values])


def trained_on(known: Samples) -> TrainingImages:
    return TrainingImages.of(known, check_evaluated(known).images)


def test_split_and_counts_are_results(task: Any) -> None:
    split = EvaluationSplit(samples(1, 2, 3), "test")
    measured = prepare_evaluation(task, split, 3, trained_on(samples(8, 9)))
    assert measured.samples is split.samples
    assert measured.facts == {
        "split": "test",
        "images": 3,
        "unreadable": 0,
        "images_seen_in_training": 0,
        "warnings": [],
    }


def test_images_that_were_in_training_are_counted_and_named(
    task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    split = EvaluationSplit(samples(1, 2, 3), "test")
    facts = prepare_evaluation(task, split, 3, trained_on(samples(3, 7, 1))).facts
    assert facts["images_seen_in_training"] == 2
    [line] = facts["warnings"]
    assert line.startswith("2 of 3 evaluated images were in training, so that the results do not")
    assert line.endswith(": image 0, image 2")
    assert caplog.messages == [line]


def test_what_is_not_known_is_none_and_no_warning(task: Any) -> None:
    facts = prepare_evaluation(task, samples(1, kind=Patients), 3).facts  # of a task without splits
    assert facts["split"] is None
    assert facts["images_seen_in_training"] is None
    assert facts["subjects_seen_in_training"] is None
    assert facts["warnings"] == []


def test_subjects_that_were_in_training_are_counted_and_named(task: Any) -> None:
    split = EvaluationSplit(samples(3, 4, 5, 9, kind=Patients), subjects="patients")
    facts = prepare_evaluation(task, split, 3, trained_on(samples(2, 8, kind=Patients))).facts
    assert facts["images_seen_in_training"] == 0
    assert facts["patients_seen_in_training"] == 2  # 1 and 4, on other images of them
    [line] = facts["warnings"]
    assert line.startswith("2 of 3 evaluated patients were in training")
    assert line.endswith(": patient 1, patient 4")


def test_warnings_of_the_reader_and_of_the_check_are_logged_in_this_order(
    task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Masked(InputSamples):
        def problem(self, index: int, height: int, width: int) -> str:
            return "mask 7 is missing" if index == 7 else ""

    split = EvaluationSplit(samples(*range(120), kind=Masked), warnings=("2 files were skipped",))
    with caplog.at_level(logging.WARNING):
        facts = prepare_evaluation(task, split, 3).facts
    dropped = "1 unreadable images were dropped: mask 7 is missing; repair or remove them"
    lines = ["2 files were skipped", dropped]
    assert facts["warnings"] == caplog.messages == lines
    assert (facts["images"], facts["unreadable"]) == (119, 1)


def test_an_error_carries_what_the_reader_noticed(task: Any) -> None:
    split = EvaluationSplit(samples(), warnings=("9 files are not images",))
    words = r"no images to evaluate \(noticed before: 9 files are not images\)"
    with pytest.raises(DataError, match=words):
        prepare_evaluation(task, split, 3)
