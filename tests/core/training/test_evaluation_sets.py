"""Evaluation sets: measured before training and after each epoch, and what selects the epoch."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.core.stopping import StopAt
from visiongraft.data.samples import EvaluationSplit
from visiongraft.errors import CheckpointError, DataError, OptionError, VisiongraftError
from visiongraft.training.resuming.checkpoint import Checkpoint

QUICK: dict[str, Any] = {"schedule": "full(learning_rate=0.02)", "epochs": 3}


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run with an evaluation set; its model and its folder."""
    folder = tmp_path_factory.mktemp("sets") / "run"
    sets = {"old": toy_data(12, seed=5)}
    return fit_toy(toy_data(30), out=folder, evaluate_on=sets, **QUICK), folder


def test_each_epoch_records_the_metrics_of_every_set(run: tuple[Any, Path]) -> None:
    for record in history(run[1]):
        assert record["evaluate_on"].keys() == {"old"}
        assert record["evaluate_on"]["old"].keys() == {"share_right", "seen"}
        assert record["evaluate_on"]["old"]["seen"] == 12


def test_the_model_states_the_metrics_of_its_epoch_and_those_before_training(
    run: tuple[Any, Path], toy_data: Any
) -> None:
    model, folder = run
    measured = model.evaluate(toy_data(12, seed=5))["share_right"]
    best = history(folder)[model.facts["metrics"]["epoch"]]
    assert model.facts["evaluation"]["old.share_right"] == measured
    assert best["evaluate_on"]["old"]["share_right"] == measured
    before = Checkpoint.read(folder / "checkpoints" / "last.safetensors").state.before
    assert before.keys() == {"validation", "old"}
    told = model.facts["evaluation"]["old.share_right before training"]
    assert told == before["old"]["share_right"]
    assert "old.share_right before training" in (folder / "model" / "README.md").read_text()
    assert model.facts["data"]["images of evaluate_on old"] == 12


def test_a_plain_run_measures_nothing_before_training(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    model = fit_toy(toy_data(30), out=tmp_path / "run", **{**QUICK, "epochs": 1})
    assert Checkpoint.read(tmp_path / "run/checkpoints/last.safetensors").state.before == {}
    assert "evaluation" not in model.facts and "selection" not in model.facts
    assert "evaluate_on" not in history(tmp_path / "run")[0]


def test_a_cached_phase_evaluates_the_sets_from_cached_features(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    results = []
    for replay in (True, False):
        settings = {"schedule": "linear_probe", "epochs": 2, "replay": replay}
        sets = {"old": toy_data(12, seed=5)}
        folder = tmp_path / str(replay)
        fit_toy(toy_data(30), out=folder, evaluate_on=sets, **settings)
        results.append([(r["replayed"], r["evaluate_on"]) for r in history(folder)])
    assert [r for _, r in results[0]] == [r for _, r in results[1]]
    assert [c for c, _ in results[0]] == [True, True]


def test_the_console_shows_the_sets(
    fit_toy: Any, toy_data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {"old": toy_data(12, seed=5)}
    fit_toy(toy_data(30), evaluate_on=sets, callbacks=["progress"], **{**QUICK, "epochs": 1})
    err = capsys.readouterr().err
    assert "before training: validation share_right 0." in err
    assert ", old share_right 0." in err.splitlines()[-2] + err.splitlines()[-3]


# ---- selection ----


def select(fit_toy: Any, toy_data: Any, text: str, **settings: Any) -> Any:
    sets = {"old": toy_data(12, seed=5)}
    return fit_toy(toy_data(30), evaluate_on=sets, select=text, **{**QUICK, **settings})


def test_last_keeps_the_last_epoch(fit_toy: Any, toy_data: Any) -> None:
    model = select(fit_toy, toy_data, "last")
    assert model.facts["metrics"]["epoch"] == 2
    assert model.facts["selection"] == {"select": "last", "satisfied": True}


def test_patience_counts_epochs_without_a_better_headline_with_last_too(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings = {"schedule": "full(learning_rate=1e-9)", "epochs": 6, "patience": 2}
    select(fit_toy, toy_data, "last", out=tmp_path / "run", **settings)
    assert len(history(tmp_path / "run")) == 3


def test_the_best_epoch_among_those_that_satisfy_the_condition_is_kept(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    select(fit_toy, toy_data, "best", out=tmp_path / "all", epochs=5)
    records = history(tmp_path / "all")
    values = [record["evaluate_on"]["old"]["share_right"] for record in records]
    bound = sorted(values)[-2]
    text = f"best(old.share_right >= {bound})"
    model = select(fit_toy, toy_data, text, epochs=5)
    good = [r for r in records if r["evaluate_on"]["old"]["share_right"] >= bound]
    best = max(good, key=lambda r: (r["validation"]["share_right"], -r["epoch"]))
    assert model.facts["metrics"]["epoch"] == best["epoch"]
    assert model.facts["selection"] == {"select": text, "satisfied": True}


def test_if_no_epoch_satisfies_the_condition_the_closest_is_kept_with_a_warning(
    fit_toy: Any, toy_data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "best(old.share_right >= 1.5)"
    with caplog.at_level(logging.WARNING, "visiongraft"):
        model = select(fit_toy, toy_data, text, out=tmp_path / "run")
    (line,) = [m for m in caplog.messages if "select" in m]
    values = [r["evaluate_on"]["old"]["share_right"] for r in history(tmp_path / "run")]
    epoch = model.facts["metrics"]["epoch"]
    assert values[epoch] == max(values)
    assert line.startswith(f"no epoch satisfies select='{text}'; the model is that of epoch ")
    assert f"epoch {epoch + 1}, which comes closest: old.share_right is " in line
    assert not model.facts["selection"]["satisfied"]
    assert "below 1.5" in model.facts["selection"]["not satisfied"][0]


# ---- refused before anything is written ----


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"select": "best(old.sharerigt >= 0.5)"}, "no metric 'sharerigt'; did you mean"),
        ({"select": "best(odl.share_right >= 0.5)"}, "'odl', which evaluate_on does not"),
        ({"select": "most"}, "select='most' is not 'best'"),
        ({"select": None}, "select=None is not a string"),
        ({"evaluate_on": {"old": []}}, "evaluation set 'old': .* is empty"),
        ({"evaluate_on": {"old": None}}, "evaluation set 'old' is None: pass a path or a dataset"),
        ({"evaluate_on": {"old": 7}}, "evaluation set 'old': "),
        ({"evaluate_on": {"validation": []}}, "is not a dict from names to datasets"),
        ({"evaluate_on": {"a/b": []}}, "is not a dict from names to datasets"),
        ({"evaluate_on": "old"}, "evaluate_on='old' is not a dict from names to datasets"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line_and_leaves_no_run(
    fit_toy: Any, toy_data: Any, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    given = {"evaluate_on": {"old": toy_data(12)}, **QUICK, **settings}
    with pytest.raises(VisiongraftError, match=words) as caught:
        fit_toy(toy_data(20), out=tmp_path / "run", **given)
    assert isinstance(caught.value, OptionError | DataError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_images_of_a_set_that_are_also_in_training_are_reported(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings = {**QUICK, "epochs": 1}
    fit_toy(toy_data(30), out=tmp_path / "run", evaluate_on={"old": toy_data(30)}, **settings)
    log = (tmp_path / "run" / "run.log").read_text()
    assert "24 images of evaluation set 'old' are also in training" in log


def test_what_the_reader_of_a_set_warns_of_is_reported(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    class Skipping(Toy):
        def read_evaluation(self, data: Any) -> Any:
            return EvaluationSplit(super().read_evaluation(data), warnings=("2 were skipped",))

    settings = {**QUICK, "epochs": 1, "task": Skipping(augment=False), "out": tmp_path / "run"}
    fit_toy(toy_data(30), evaluate_on={"old": toy_data(9, seed=5)}, **settings)
    assert "evaluation set 'old': 2 were skipped" in (tmp_path / "run" / "run.log").read_text()


# ---- resuming ----


class Stop(BaseException):
    """Ends a run like a crash."""


def test_a_run_with_sets_and_streams_that_is_killed_within_an_epoch_resumes_exactly(
    fit_toy: Any, toy_data: Any, tmp_path: Path, StreamingToy: Any
) -> None:
    settings = {
        **QUICK,
        "epochs": 2,
        "task": StreamingToy(),
        "batch_size": 8,
        "checkpoint_every": 1,
        "evaluate_on": {"old": toy_data(7, seed=5)},
        "select": "best(old.share_right >= -0.5)",
        "streams": {"unlabelled": [image for image, _ in toy_data(11, seed=6)]},
    }
    fit_toy(toy_data(20), out=tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        fit_toy(toy_data(20), out=tmp_path / "run", callbacks=[StopAt(4, Stop)], **settings)
    kept = Checkpoint.read(tmp_path / "run/checkpoints/last.safetensors").state
    assert kept.step > 0 and kept.streams == {"unlabelled": 3 * 8} and kept.before
    fit_toy(toy_data(20), out=tmp_path / "run", resume=True, **settings)
    for file in ("metrics.jsonl", "model/model.safetensors", "model/config.json"):
        one, other = (tmp_path / name / file for name in ("whole", "run"))
        assert one.read_bytes() == other.read_bytes(), file


def test_another_content_of_a_set_is_refused_on_resume(
    fit_toy: Any, toy_data: Any, run: tuple[Any, Path]
) -> None:
    again = {"out": run[1], "resume": True, **QUICK}
    with pytest.raises(CheckpointError, match="1 image removed"):
        fit_toy(toy_data(30), evaluate_on={"old": toy_data(12, seed=5)[:11]}, **again)
    with pytest.raises(CheckpointError, match=r"evaluate_on='old' .* was in memory"):
        fit_toy(toy_data(30), **again)
    with pytest.raises(CheckpointError, match=r"evaluate_on=.*'new'.* \(the run has"):
        fit_toy(toy_data(30), evaluate_on={"new": toy_data(12, seed=5)}, **again)
    with pytest.raises(CheckpointError, match="select='last'"):
        fit_toy(toy_data(30), evaluate_on={"old": toy_data(12, seed=5)}, select="last", **again)


def test_a_set_on_disk_may_have_moved(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    class FromFile(Toy):
        def read_evaluation(self, data: Any) -> Any:
            images, targets = (np.load(data)[key] for key in ("images", "targets"))
            return super().read_evaluation(list(zip(images, targets.tolist(), strict=True)))

    images, targets = zip(*toy_data(9, seed=5), strict=True)
    np.savez(tmp_path / "old.npz", images=np.stack(images), targets=np.array(targets))
    settings = {**QUICK, "epochs": 1, "task": FromFile(augment=False), "out": tmp_path / "run"}
    first = fit_toy(toy_data(30), evaluate_on={"old": tmp_path / "old.npz"}, **settings)
    fit_toy(toy_data(30), resume=True, **settings)
    (tmp_path / "old.npz").rename(tmp_path / "moved.npz")
    sets = {"old": tmp_path / "moved.npz"}
    again = fit_toy(toy_data(30), resume=True, evaluate_on=sets, **settings)
    assert again.facts == first.facts
