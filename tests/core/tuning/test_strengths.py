"""Of several strengths of a transfer loss each is trained, and the best is kept."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.stopping import StopAt
from visiongraft.config import FitConfig
from visiongraft.errors import OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.model import load
from visiongraft.registry.manager import plugins
from visiongraft.training.transfer_losses import TransferLoss, TransferStep


class Pull(TransferLoss):
    """Pulls weights to where they began, and has a parameter that is drawn at random."""

    name = "pull"

    def __init__(self, backbone: Any, source: Any, *, strength: float = 1.0) -> None:
        super().__init__(backbone, source)
        if strength == 13:
            raise OptionError("strength=13 of pull brings bad luck")
        self.strength = strength
        self.scale = torch.nn.Parameter(torch.rand(()))

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        pairs = zip(step.backbone.parameters(), step.source.parameters(), strict=True)
        moved = torch.stack([(a - b).square().sum() for a, b in pairs]).sum()
        return {"moved": self.strength * moved, "scale": self.scale.square()}


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    if "pull" not in plugins().losses():
        plugin = SimpleNamespace(
            register_losses=hookimpl(lambda: [Pull], specname="register_losses")
        )
        assert plugins().register(plugin, "pull").problems == []


STRENGTHS = "pull(strength=[100, 0.1, 0])"
SETTINGS: dict[str, Any] = {
    "schedule": "full(learning_rate=0.02)",
    "epochs": 2,
    "checkpoint_every": 1,
}


def weights(folder: Path) -> dict[str, Tensor]:
    return load(folder).network.state_dict()


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def settings(toy_data: Any) -> dict[str, Any]:
    return {
        **SETTINGS,
        "evaluate_on": {"old": toy_data(12, seed=5)},
        "select": "best(old.share_right >= -0.9)",
    }


@pytest.fixture(scope="module")
def run(fit_toy: Any, toy_data: Any, settings: dict[str, Any], tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("strengths") / "run"
    callbacks = ["progress", "curves"]
    fit_toy(toy_data(30), transfer_loss=STRENGTHS, out=folder, callbacks=callbacks, **settings)
    return folder


def test_each_training_is_what_a_run_with_this_strength_is(
    run: Path, fit_toy: Any, toy_data: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    fit_toy(toy_data(30), transfer_loss="pull(strength=0.1)", out=tmp_path / "alone", **settings)
    assert_equal(weights(run / "strengths" / "2"), weights(tmp_path / "alone"))
    for name in ("metrics.jsonl", "receipts.json", "config.json"):
        own, alone = (folder / name for folder in (run / "strengths" / "2", tmp_path / "alone"))
        assert own.read_text() == alone.read_text()


def test_the_run_is_the_training_that_select_prefers(run: Path) -> None:
    table = json.loads((run / "strengths.json").read_text())
    values = {name: facts["share_right"] for name, facts in table["trainings"].items()}
    assert list(values) == [f"pull(strength={s})" for s in (100, 0.1, 0)]
    assert table["kept"] == max(values, key=lambda name: values[name])
    kept = run / table["trainings"][table["kept"]]["folder"]
    assert_equal(weights(run), weights(kept))
    for name in ("metrics.jsonl", "receipts.json"):
        assert (run / name).read_text() == (kept / name).read_text()
    assert load(run).facts["strengths"] == table["trainings"]
    assert (
        load(run).facts["training"]["transfer_loss"]
        == load(kept).facts["training"]["transfer_loss"]
    )


def test_a_run_that_cannot_be_satisfied_says_which_strength_comes_closest(
    fit_toy: Any, toy_data: Any, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    impossible = {**settings, "epochs": 1, "select": "best(old.share_right >= 1.5)"}
    with caplog.at_level(logging.WARNING, "visiongraft"):
        model = fit_toy(toy_data(30), transfer_loss=STRENGTHS, **impossible)
    line = "no strength satisfies select='best(old.share_right >= 1.5)'; pull(strength="
    assert [m for m in caplog.messages if m.startswith(line) and m.endswith("comes closest")]
    by_strength = model.facts["strengths"]
    best = max(facts["old.share_right"] for facts in by_strength.values())
    assert model.facts["evaluation"]["old.share_right"] == best


@pytest.mark.parametrize("step", [1, 6])  # of 12
def test_a_killed_run_goes_on_exactly(
    step: int, run: Path, fit_toy: Any, toy_data: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    given = {**settings, "out": folder}
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(30), transfer_loss=STRENGTHS, callbacks=[StopAt(step)], **given)
    assert not (folder / "metrics.jsonl").exists() and not (folder / "model").exists()
    fit_toy(toy_data(30), transfer_loss=STRENGTHS, resume=True, **given)
    for name in ("", "strengths/1", "strengths/2", "strengths/3"):
        assert_equal(weights(folder / name), weights(run / name))
        for file in ("metrics.jsonl", "receipts.json", "config.json", "strengths.json"):
            if (run / name / file).exists():
                assert (folder / name / file).read_text() == (run / name / file).read_text()


def test_the_trade_off_of_all_strengths_is_drawn(run: Path) -> None:
    drawn = [(run / name).read_bytes() for name in ("tradeoff.png", "strengths/1/tradeoff.png")]
    assert drawn[0] != drawn[1]
    assert (run / "curves.png").is_file()


def test_trainings_share_the_probability_of_error(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    select = "best(old.share_right >= -0.9, confidence=0.8)"
    sets = {"old": toy_data(40, seed=5)}
    loss = ["pull(strength=[0, 1])"]
    folder = tmp_path / "run"
    fit_toy(
        toy_data(30),
        transfer_loss=loss,
        evaluate_on=sets,
        out=folder,
        **{**SETTINGS, "select": select, "epochs": 1},
    )
    assert FitConfig.read(folder).select == select
    own = FitConfig.read(folder / "strengths" / "2")
    assert own.select == "best(old.share_right >= -0.9, confidence=0.9)"
    assert own.transfer_loss == [{"name": "pull", "options": {"strength": 1}}]


def test_without_a_folder_each_combination_of_two_losses_is_trained(
    fit_toy: Any, toy_data: Any
) -> None:
    losses = ["pull(strength=[0, 1])", "pull(strength=(2, 3))"]
    model = fit_toy(toy_data(30), transfer_loss=losses, **{**SETTINGS, "epochs": 1})
    assert list(model.facts["strengths"]) == [
        f"pull(strength={a}), pull(strength={b})" for a in (0, 1) for b in (2, 3)
    ]


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        ("pull(strength=[])", {}, r"strength=\[\] of pull is not a list of numbers"),
        ("pull(strength=[1, -1])", {}, "is not a list of numbers of at least 0"),
        ("pull(strength=[1, True])", {}, "is not a list of numbers of at least 0"),
        ("pull(strength=[1, 1.0])", {}, "names a strength twice"),
        (f"pull(strength={list(range(30))})", {}, "30 combinations of strengths, more than 20"),
        ("pull(strength=[1, 13])", {}, "brings bad luck"),
        (
            "pull(strength=[1, 2])",
            {"privacy": "epsilon=3,delta=1e-5"},
            "each strength of a transfer loss",
        ),
    ],
)
def test_bad_strengths_are_refused_before_training(
    loss: str,
    settings: dict[str, Any],
    message: str,
    fit_toy: Any,
    toy_data: Any,
    tmp_path: Path,
) -> None:
    with pytest.raises(OptionError, match=message):
        fit_toy(toy_data(30), transfer_loss=loss, out=tmp_path / "run", **{**SETTINGS, **settings})
    assert not (tmp_path / "run").exists()


def test_a_single_strength_in_a_list_is_an_ordinary_run(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    fit_toy(
        toy_data(30),
        transfer_loss="pull(strength=[1])",
        out=tmp_path / "run",
        **{**SETTINGS, "epochs": 1},
    )
    assert not (tmp_path / "run" / "strengths").exists()
    assert FitConfig.read(tmp_path / "run").transfer_loss[0]["options"] == {"strength": 1}
