"""A budget for forgetting: epochs and WiSE-FT interpolations are chosen within it, with a confidence."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from tests.core.stopping import StopAt
from visiongraft.errors import OptionError
from visiongraft.training.resuming.checkpoint import Checkpoint

QUICK: dict[str, Any] = {"schedule": "full(learning_rate=0.02)", "epochs": 2}
BUDGET = "best(old.share_right >= -0.5, confidence=0.9)"


@pytest.fixture(scope="module")
def first(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("budget") / "first"
    fit_toy(toy_data(30), task="toy", out=folder, **QUICK)
    return folder


def go_on(first: Path, toy_data: Any, **settings: Any) -> Any:
    sets = {"old": toy_data(20, seed=5)}
    given = {"wise_ft": 4, "evaluate_on": sets, "select": BUDGET, "callbacks": (), "batch_size": 16}
    return visiongraft.fit(
        toy_data(40, seed=2), device="cpu", **{**QUICK, "start": first, **given, **settings}
    )


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(first: Path, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run with four interpolations per epoch and a budget; its model and its folder."""
    folder = tmp_path_factory.mktemp("wise") / "run"
    return go_on(first, toy_data, out=folder, callbacks=["curves"]), folder


def test_each_epoch_records_all_interpolations_and_the_metrics_of_the_chosen_one(
    run: tuple[Any, Path],
) -> None:
    for record in records(run[1]):
        found = record["interpolations"]
        assert [one["alpha"] for one in found] == [0.0, 0.25, 0.5, 0.75, 1.0]
        (chosen,) = (one for one in found if one["alpha"] == record["alpha"])
        assert chosen["validation"] == record["validation"]
        assert chosen["evaluate_on"] == record["evaluate_on"]


def test_the_model_is_the_chosen_interpolation_and_says_so(
    run: tuple[Any, Path], toy_data: Any
) -> None:
    model, folder = run
    selection = model.facts["selection"]
    best = records(folder)[model.facts["metrics"]["epoch"]]
    assert (selection["select"], selection["satisfied"]) == (BUDGET, True)
    assert selection["alpha"] == best["alpha"]
    assert selection["margins"] == best["margins"]
    assert selection["margins"]["old.share_right"] > 0
    measured = model.evaluate(toy_data(20, seed=5))["share_right"]
    assert measured == best["evaluate_on"]["old"]["share_right"]
    assert '"alpha"' in (folder / "model" / "config.json").read_text()


def test_training_goes_on_from_its_own_weights_not_from_the_interpolation(
    first: Path, toy_data: Any, tmp_path: Path
) -> None:
    for name, steps in (("with", 4), ("without", None)):
        go_on(first, toy_data, out=tmp_path / name, wise_ft=steps, select="best")
    ends = [
        Checkpoint.read(tmp_path / name / "checkpoints" / "last.safetensors").tensors["network"]
        for name in ("with", "without")
    ]
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name
    plain = [record["validation"] for record in records(tmp_path / "without")]
    ones = [record["interpolations"][-1]["validation"] for record in records(tmp_path / "with")]
    assert ones == plain


def test_a_stage_that_froze_after_it_moved_is_interpolated_too(
    first: Path, toy_data: Any, tmp_path: Path
) -> None:
    settings = {
        "schedule": "milestones(at={0: 'all', 1: 'head'})",
        "learning_rate": 0.02,
        "epochs": 3,
    }
    results = []
    for replay in (True, False):
        folder = tmp_path / str(replay)
        task = visiongraft.load(first).task
        settings |= {"task": type(task)(augment=False), "replay": replay}
        go_on(first, toy_data, out=folder, **settings)
        results.append([record["interpolations"] for record in records(folder)])
        assert [record["replayed"] for record in records(folder)][1:] == [replay] * 2
    assert results[0] == results[1]


def test_the_trade_off_is_drawn(run: tuple[Any, Path]) -> None:
    assert (run[1] / "tradeoff.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_condition_on_an_evaluation_set_no_trade_off_is_drawn(
    first: Path, toy_data: Any, tmp_path: Path
) -> None:
    settings = {"epochs": 1, "select": "best", "wise_ft": None}
    go_on(first, toy_data, out=tmp_path / "run", callbacks=["curves"], **settings)
    assert (tmp_path / "run" / "curves.png").exists()
    assert not (tmp_path / "run" / "tradeoff.png").exists()


def test_a_stopped_run_resumes_exactly(
    run: tuple[Any, Path], first: Path, toy_data: Any, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on(first, toy_data, out=tmp_path / "run", callbacks=[StopAt(3)], checkpoint_every=1)
    again = visiongraft.fit(
        toy_data(40, seed=2), evaluate_on={"old": toy_data(20, seed=5)}, out=tmp_path / "run",
        resume=True, callbacks=(),
    )  # fmt: skip
    assert records(tmp_path / "run") == records(run[1])
    for name, tensor in run[0].network.inference_state().items():
        assert torch.equal(tensor, again.network.inference_state()[name]), name


def test_a_budget_that_nothing_meets_keeps_the_smallest_step_and_says_so(
    first: Path, toy_data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = go_on(
            first, toy_data, select="best(old.share_right >= 1.01, confidence=0.9)", epochs=1
        )
    assert model.facts["selection"]["satisfied"] is False
    assert model.facts["selection"]["alpha"] == 0
    lines = [record.getMessage() for record in caplog.records]
    assert any("the model is the one that the run started with" in line for line in lines)
    (line,) = [line for line in lines if "no epoch satisfies" in line]
    assert "less than its margin of error of" in line


def test_the_console_states_what_was_kept(
    first: Path, toy_data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on(first, toy_data, callbacks=["progress"], epochs=1)
    assert "at alpha " in capsys.readouterr().err


# ---- refusals ----


def test_a_set_that_is_too_small_for_the_budget_is_refused_and_leaves_no_run(
    first: Path, toy_data: Any, tmp_path: Path
) -> None:
    text = "best(old.share_right >= -0.02, confidence=0.95)"
    words = (
        r"20 images cannot show a change of at most 0.02 .* takes at least 185 images for 2 epochs"
    )
    with pytest.raises(OptionError, match=words):
        go_on(first, toy_data, out=tmp_path / "run", select=text)
    assert not (tmp_path / "run" / "config.json").exists()


def test_interpolation_needs_a_model_to_start_with(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match="wise_ft=4 interpolates with a trained model"):
        fit_toy(toy_data(20), wise_ft=4)
