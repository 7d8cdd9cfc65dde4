"""``advise`` on toy data: what it computes, says and refuses, and that it leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft
from visiongraft.advice import advising
from visiongraft.advice.candidates import Embedded
from visiongraft.advice.ranking import Score
from visiongraft.advice.report import statements
from visiongraft.advice.trials import Trials
from visiongraft.errors import BackboneError, DataError, OptionError, VisiongraftError, WeightsError
from visiongraft.system.memory import used_memory


@pytest.fixture(scope="module", autouse=True)
def without_trials() -> Iterator[None]:
    """Leave out evidence trainings, which have their own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trials, "run", lambda self, embedded: self._fit_head(embedded.features))
        yield


@pytest.fixture(scope="module")
def advise(toy_data: Any, Toy: Any) -> Any:
    data = toy_data(163)

    def compute(**settings: Any) -> visiongraft.Advice:
        defaults = {
            "task": Toy(augment=False),
            "backbones": ["toys/toy"],
            "weights": None,
            "device": "cpu",
            "epochs": 2,
            "scorers": ["linear_probe", "knn"],
        }
        return visiongraft.advise(settings.pop("data", data), **{**defaults, **settings})

    return compute


@pytest.fixture(scope="module")
def advice(advise: Any) -> visiongraft.Advice:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    made: visiongraft.Advice = advise(backbones=["toys/toy", "toys/toy32"])
    assert torch.equal(before, torch.get_rng_state())
    return made


def test_backbones_are_scored_on_the_same_images_with_their_cost(advice: Any) -> None:
    assert (advice.images, advice.available, advice.classes) == (130, 130, 3)
    assert {each.name for each in advice.ranking} == {"toys/toy", "toys/toy32"}
    for each in advice.ranking:
        assert each.parameters > 0 and each.seconds > 0
        score = each.scores["linear_probe"]
        assert 0 <= score.low <= score.value <= score.high <= 1
    assert advice.curve.images == (16, 32, 65, 130)


def test_each_schedule_is_timed(advice: Any) -> None:
    assert [each.schedule for each in advice.costs] == ["linear_probe", "lp_ft", "full"]
    assert all(each.epochs == 2 and each.seconds > 0 for each in advice.costs)


def test_the_memory_of_each_schedule_is_that_of_the_process(advice: Any) -> None:
    needed = [each.memory for each in advice.costs]
    assert all(each > 5e7 for each in needed) and needed == sorted(needed)
    assert needed[-1] <= used_memory(peak=True) and str(advice.costs[0]).endswith(" GB of memory")


def test_the_text_holds_the_table_and_all_statements(advice: Any) -> None:
    text = str(advice)
    assert text.startswith("backbone")
    assert all(line in text for line in (*advice.statements, *map(str, advice.costs)))
    assert "computed from all 130 training images in" in advice.statements[0]


def test_fewer_images_are_used_to_stay_within_the_time_and_it_is_said(
    advise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "seconds_per_image", lambda *_: 0.04)
    few = advise(within=6)  # of which 0.4 are for images: 0.05 s for each with its validation
    assert 32 <= few.images < 64
    assert f"computed from {few.images} of 130 training images" in few.statements[0]
    assert few.curve is None


def test_twenty_images_are_enough_for_advice(advise: Any, toy_data: Any) -> None:
    found = advise(data=toy_data(20))
    assert found.images == found.available == 17
    assert found.curve is None and found.ranking and found.evidence is not None


def test_few_images_that_a_probe_is_all_right_for_do_not_show_that_it_is_enough(
    advice: Any,
) -> None:
    ranked = replace(advice.ranking[0], scores={"linear_probe": Score(1.0, 1.0, 1.0)})
    sure = replace(advice, ranking=(ranked,), evidence=None)
    few, many = (list(statements(replace(sure, images=n), 0.5)) for n in (16, 500))
    assert any(line.startswith("schedule='lp_ft'") for line in few)
    assert any("a probe is enough" in line for line in many)


def test_of_twenty_thousand_images_a_sample_is_used_and_it_is_said(
    advise: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    found = advise(data=[(image, label) for image, label in toy_data(60)] * 334, images=90)
    assert (found.images, found.available) == (90, 16032)
    assert "computed from 90 of 16032 training images" in found.statements[0]


def test_schedules_are_not_timed_if_there_is_no_time_left(
    advise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "seconds_to_measure", lambda *_: 1e6)
    hurried = advise(images=32)
    assert hurried.costs == ()
    assert any("schedules were not timed" in line for line in hurried.statements)


@pytest.fixture
def vectors(Toy: Any) -> Any:
    class Vectors(Toy):  # type: ignore[misc]
        name = "vectors"
        known = False

        def collate(self, targets: Any) -> Any:
            return {"labels": torch.tensor(targets)}

        def build_loss(self) -> Any:
            loss = super().build_loss()
            forward = loss.forward
            loss.forward = lambda outputs, targets: forward(outputs, targets["labels"])
            return loss

        def build_metrics(self) -> Any:
            metrics = super().build_metrics()
            update = metrics.update
            metrics.update = lambda decoded, targets: update(decoded, targets["labels"])
            return metrics

        def identity_ids(self, targets: Any) -> Any:
            return targets if self.known else None

    return Vectors


def test_costs_are_those_of_schedules_with_the_options_that_suit_the_task(
    advise: Any, Toy: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs() -> dict[str, float]:
        told = advise(data=toy_data(40))
        return {cost.schedule: cost.seconds for cost in told.costs}

    alone = costs()
    assert alone["lp_ft"] != alone["full"]
    monkeypatch.setattr(Toy, "schedule_options", {"probe_epochs": 0})
    together = costs()
    assert together["lp_ft"] == together["full"], "phases of one kind are measured once"


def test_a_task_without_single_classes_is_told_what_has_no_meaning(
    advise: Any, vectors: Any, toy_data: Any
) -> None:
    names = ["toys/toy32", "toys/toy"]
    told = advise(task=vectors(augment=False), data=toy_data(40), backbones=names)
    assert [each.name for each in told.ranking] == names
    assert all(not each.scores and each.seconds > 0 for each in told.ranking)
    assert told.curve is None and told.classes is None and told.identities is None
    assert "task 'vectors' has no single class for each image" in told.statements[1]
    assert len(told.costs) == 3
    assert str(told).splitlines()[0].split() == ["backbone", "parameters", "ms", "per", "image"]


def test_schedules_that_are_not_timed_are_told_without_classes_too(
    advise: Any, vectors: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "seconds_to_measure", lambda *_: 1e6)
    hurried = advise(task=vectors(augment=False), data=toy_data(40))
    assert any("schedules were not timed" in line for line in hurried.statements)


def test_a_task_that_embeds_images_is_told_the_nearest_images_by_identity(
    advise: Any, vectors: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "known", True)
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    task, names = vectors(augment=False), ["toys/toy", "toys/toy32"]
    told = advise(task=task, data=toy_data(60), backbones=names, scorers=None)
    assert list(told.ranking[0].scores) == ["knn", "class_mean", "parameters"]
    assert told.ranking[0].scores["knn"].value > 0.5
    assert (told.classes, told.identities, told.curve, told.evidence) == (None, 3, None, None)
    assert "has no single class" not in str(told)
    assert "learning curves of 3 identities have no meaning here" in str(told)
    one = [(image, 0) for image, _ in toy_data(20)]
    with pytest.raises(DataError, match="of one identity; advice needs images of at least two"):
        advise(task=task, data=one)


def test_a_backbone_whose_weights_are_missing_is_left_out_with_the_reason(
    advise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = advising.load_candidate

    def offline(name: str, *args: Any, **options: Any) -> Any:
        if name == "toys/toy32":
            raise WeightsError("the hub cannot be reached")
        return load(name, *args, **options)

    monkeypatch.setattr(advising, "load_candidate", offline)
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    found = advise(backbones=["toys/toy32", "toys/toy"], images=32)
    assert found.left_out == {"toys/toy32": "the hub cannot be reached"}
    assert "left out toys/toy32: the hub cannot be reached" in str(found)
    with pytest.raises(WeightsError, match="the hub cannot be reached"):
        advise(backbones=["toys/toy32"])
    monkeypatch.setattr(advising, "load_candidate", lambda name, *_, **__: missing(name))
    words = "no backbone could be loaded; toys/toy32: no file of toys/toy32; toys/toy: no file of toys/toy"
    with pytest.raises(WeightsError, match=words):
        advise(backbones=["toys/toy32", "toys/toy"])


def missing(name: str) -> Any:
    raise WeightsError(f"no file of {name}")


def test_a_part_of_a_weights_file_is_loaded_on_request(
    advise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    state = visiongraft.load_backbone("toys/toy", None).state_dict()
    torch.save({n: t for n, t in state.items() if "stage2" not in n}, tmp_path / "some.pth")
    given = {"weights": tmp_path / "some.pth", "images": 32}
    with pytest.raises(WeightsError, match=r"partial=True \(--partial\) loads"):
        advise(**given)
    assert advise(**given, partial=True).ranking[0].name == "toys/toy"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"within": "soon"}, OptionError, "within='soon' is not a time"),
        ({"backbones": "toys/toy"}, OptionError, "backbones='toys/toy' is not a list"),
        ({"scorers": []}, OptionError, "scorers=[] is not a list of names"),
        ({"scorers": ["logm"]}, VisiongraftError, "no scorer 'logm'; did you mean 'logme'"),
        ({"backbones": ["toys/to"]}, BackboneError, "no backbone 'toys/to'"),
        ({"target": 1.5}, OptionError, "target=1.5 is not an accuracy above 0 and below 1"),
        ({"images": 1}, OptionError, "images=1 is not an integer of at least 2"),
        ({"schedule": "full"}, OptionError, "advise has no option 'schedule'"),
        ({"data": "nowhere", "task": "classification"}, DataError, "nowhere"),
        ({"data": "nowhere", "task": "video"}, OptionError, "images, but task 'video' takes clips"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    advise: Any, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)) as caught:
        advise(**settings)
    assert "\n" not in str(caught.value)


def test_unreadable_data_are_refused_in_one_line(advise: Any) -> None:
    with pytest.raises(DataError, match=r"cannot be read|unreadable") as caught:
        advise(data=[(object(), number % 3) for number in range(30)])
    assert "\n" not in str(caught.value)


def test_one_class_is_refused(advise: Any, toy_data: Any) -> None:
    alone = [(image, 0) for image, _ in toy_data(20)]
    with pytest.raises(DataError, match="all training images are of one class"):
        advise(data=alone)


def test_features_that_are_not_finite_are_left_out_or_refused(
    advise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = advising.embed

    def broken(candidate: Any, samples: Any) -> Embedded:
        found = compute(candidate, samples)
        bad = candidate.name == "toys/toy"
        return replace(found, features=found.features * np.nan) if bad else found

    monkeypatch.setattr(advising, "embed", broken)
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    found = advise(images=32, backbones=["toys/toy", "toys/toy32"])
    assert [each.name for each in found.ranking] == ["toys/toy32"]
    assert found.left_out == {"toys/toy": "it computes features that are not finite"}
    with pytest.raises(DataError, match="'toys/toy' computes features that are not finite"):
        advise(images=32)


def test_an_unreadable_image_among_few_is_left_out_with_a_warning(
    advise: Any, toy_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    data = toy_data(300)
    for position in range(3):
        data[position] = (object(), data[position][1])
    found = advise(data=data, images=200)
    assert 195 <= found.images < 200
    assert any("unreadable images were dropped" in line for line in found.warnings)


def test_a_saved_model_is_a_candidate_with_its_own_head(
    advise: Any, fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    fit_toy(toy_data(30), epochs=1, schedule="full", out=tmp_path / "run")
    found = advise(
        backbones=[tmp_path / "run"], weights="pretrained", scorers=["leep", "nce"], images=32
    )
    (only,) = found.ranking
    assert only.name == str(tmp_path / "run")
    assert all(score.value is not None and score.value <= 0 for score in only.scores.values())


def test_a_backbone_without_its_head_is_not_scored_by_source_classes(
    advise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advising, "schedule_costs", lambda *_: [])
    (only,) = advise(scorers=["leep"], images=32).ranking
    assert only.scores["leep"].value is None
    assert "comes without one" in only.scores["leep"].refused
