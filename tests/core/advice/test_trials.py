"""Evidence trainings on toy data: folds that do not see what they predict, and a limited time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import visiongraft
from visiongraft.advice import trials
from visiongraft.advice.candidates import Embedded
from visiongraft.advice.evidence import ALL, HEAD, LAST, SCRATCH
from visiongraft.advice.folds import FoldTrainer, fold_trainer, folds_of
from visiongraft.advice.trials import Trials
from visiongraft.data.check import check_samples
from visiongraft.preparation.arguments import completed_settings, new_settings
from visiongraft.task_contract.checks import bound, read_splits
from visiongraft.training.batches.sources import ImageBatches


@pytest.fixture(scope="module")
def given(Toy: Any, toy_data: Any) -> Any:
    class Named(Toy):  # type: ignore[misc]
        """Has logits of classes."""

        def class_logits(self, outputs: Any) -> Any:
            return outputs

    settings = {"task": Named(augment=False), "weights": None, "device": "cpu", "epochs": 2}
    data = toy_data(45)
    config, task, _ = new_settings(
        {**completed_settings(visiongraft.advise, data, settings), "backbone": "toys/toy"}
    )
    splits = read_splits(task, data, 0.2, 0)
    checked = check_samples(splits.train, splits.validation, channels=3, save=False)
    labels = np.array([checked.train.target(i) for i in range(len(checked.train))])
    return config, bound(task, checked.train), checked, labels


def tried(given: Any, seconds: float) -> Trials:
    made = Trials(*given, learning_rate=None, deadline=time.monotonic() + seconds)
    generator = np.random.default_rng(0)
    features = np.eye(3)[given[3]] + 0.1 * generator.normal(size=(len(given[3]), 3))
    made.run(Embedded(features, None, 0.001))
    return made


def test_each_part_is_trained_and_predicts_all_images(
    given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SMALL_EPOCHS", 1)
    found = tried(given, 600)
    assert found.left_out == {}
    assert {each.what for each in found.trained} == {HEAD, LAST, ALL, SCRATCH}
    assert {each.what: each.schedule for each in found.trained}[LAST] == "last_n(n=1)"
    assert all(each.right.shape == given[3].shape for each in found.trained)
    (head,) = (each for each in found.trained if each.what == HEAD)
    assert head.epochs is None and head.right.mean() > 0.95


def test_what_there_is_no_time_for_is_left_out_with_the_time_it_needs(given: Any) -> None:
    found = tried(given, 0.01)
    assert [each.what for each in found.trained] == [HEAD]
    assert set(found.left_out) == {LAST, ALL, SCRATCH}
    assert all("pass a longer time as within" in reason for reason in found.left_out.values())
    late = tried(given, -1.0)
    assert set(late.left_out.values()) == {"no time is left for it; pass a longer time as within"}


def test_of_a_handful_of_images_nothing_is_trained(given: Any) -> None:
    config, task, checked, labels = given
    few = replace(checked, train=checked.train.subset(range(5)))
    found = Trials(config, task, few, labels[:5], None, time.monotonic() + 600)
    found.run(Embedded(np.eye(5), None, 0.001))
    assert found.trained == [] and set(found.left_out) == {HEAD, LAST, ALL, SCRATCH}
    assert found.left_out[HEAD] == "it takes 6 images, and there are 5; add more"


@contextmanager
def trainer_of(given: Any) -> Iterator[tuple[FoldTrainer, Any, Any]]:
    with fold_trainer(*given) as trainer:
        run = trainer.engine.run
        phase = trials._only_phase(trials.full, run.network.backbone.stages, 2)
        yield trainer, phase, ImageBatches(trainer.engine.images, augment=False)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_folds_have_all_classes_in_the_same_proportions(classes: int) -> None:
    labels = np.arange(63) % classes
    found = folds_of(labels, seed=0)
    assert sorted(np.concatenate([part for _, part in found])) == list(range(63))
    for kept, part in found:
        assert np.array_equal(np.sort([*kept, *part]), np.arange(63))
        counts = np.bincount(labels[part], minlength=classes)
        assert counts.max() - counts.min() <= 1


def test_no_image_is_predicted_by_a_training_that_saw_it(
    given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []
    predicted: list[int] = []
    train, predict = FoldTrainer._train, FoldTrainer._predicted

    def spy_train(self: Any, ready: Any, kept: Any, epochs: int) -> None:
        seen.append(set(kept.tolist()))
        train(self, ready, kept, epochs)

    def spy_predict(self: Any, batches: Any, held_out: Any) -> Any:
        assert not seen[-1] & set(held_out.tolist())
        predicted.extend(held_out.tolist())
        return predict(self, batches, held_out)

    monkeypatch.setattr(FoldTrainer, "_train", spy_train)
    monkeypatch.setattr(FoldTrainer, "_predicted", spy_predict)
    with trainer_of(given) as (trainer, phase, batches):
        trainer.predict(phase, batches, 600)
    assert sorted(predicted) == list(range(len(given[3])))


def test_equal_trainings_predict_alike(given: Any) -> None:
    with trainer_of(given) as (trainer, phase, batches):
        first = trainer.predict(phase, batches, 600)
        second = trainer.predict(phase, batches, 600)
    assert first[1] == second[1] == 2
    assert np.array_equal(first[0], second[0])
