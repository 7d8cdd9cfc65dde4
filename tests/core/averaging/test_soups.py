"""Soups: means of weights, the greedy choice, and refusals of what cannot be averaged."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from tests.core.stopping import StopAt
from visiongraft.averaging.weights import weighted_mean
from visiongraft.errors import OptionError
from visiongraft.model import TransferModel
from visiongraft.training.resuming.epochs import kept_epochs, read_epoch

QUICK: dict[str, Any] = {"schedule": "full(learning_rate=0.02)", "epochs": 1}


@pytest.fixture(scope="module")
def runs(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs that continue with the same model, with other seeds."""
    folder = tmp_path_factory.mktemp("runs")
    fit_toy(toy_data(30), task="toy", out=folder / "start", **QUICK)
    for seed in (1, 2, 3):
        visiongraft.fit(
            toy_data(40), start=folder / "start", out=folder / str(seed), seed=seed,
            device="cpu", callbacks=(), **QUICK,
        )  # fmt: skip
    return [folder / str(seed) for seed in (1, 2, 3)]


def tensors(model: TransferModel) -> dict[str, torch.Tensor]:
    return model.network.inference_state()


def test_a_uniform_soup_is_the_mean_of_all_weights(runs: list[Path]) -> None:
    states = [tensors(visiongraft.load(run)) for run in runs]
    for name, tensor in tensors(visiongraft.soup(runs)).items():
        if tensor.is_floating_point():
            mean = torch.stack([state[name].double() for state in states]).mean(0)
            assert torch.allclose(tensor.double(), mean, rtol=1e-6, atol=1e-7), name
        else:
            assert torch.equal(tensor, states[0][name]), name


def test_equal_tensors_stay_bit_identical_whatever_the_weights() -> None:
    frozen = torch.randn(1000)
    states = [{"w": frozen.clone()} for _ in range(3)]
    assert torch.equal(weighted_mean(states, [0.1, 0.2, 0.7])["w"], frozen)


def test_half_precision_is_averaged_without_its_rounding() -> None:
    states = [
        {"w": torch.tensor([value], dtype=torch.float16)} for value in (60000.0, 60000.0, 1.0)
    ]
    assert weighted_mean(states, [1 / 3] * 3)["w"].item() == pytest.approx(40000, rel=1e-3)


def test_a_soup_of_one_model_twice_is_that_model(runs: list[Path]) -> None:
    alone, twice = tensors(visiongraft.load(runs[0])), tensors(visiongraft.soup([runs[0]] * 2))
    assert all(torch.equal(alone[name], twice[name]) for name in alone)


def test_the_metrics_are_those_of_the_ordinary_evaluation(
    runs: list[Path], toy_data: Any, tmp_path: Path
) -> None:
    data = toy_data(20, seed=5)
    model = visiongraft.soup(runs, data=data)
    model.save(tmp_path / "soup")
    again = visiongraft.load(tmp_path / "soup")
    assert again.facts["averaging"] == {"method": "uniform soup", "models": list(map(str, runs))}
    assert again.evaluate(data)["share_right"] == again.facts["metrics"]["share_right"]
    assert again.facts["data"]["images"] == 20
    assert "uniform soup" in (tmp_path / "soup" / "README.md").read_text()


def test_without_data_and_without_validation_images_nothing_is_measured(runs: list[Path]) -> None:
    assert "metrics" not in visiongraft.soup(runs).facts  # the data of these runs were in memory


def test_a_greedy_soup_is_at_least_as_good_as_its_best_member(
    runs: list[Path], toy_data: Any
) -> None:
    data = toy_data(40, seed=6)
    model = visiongraft.soup(runs, greedy=True, data=data)
    alone = {str(run): visiongraft.load(run).evaluate(data)["share_right"] for run in runs}
    averaging = model.facts["averaging"]
    assert averaging["share_right of each"] == alone
    assert model.facts["metrics"]["share_right"] >= max(alone.values())
    assert alone[averaging["models"][0]] == max(alone.values())
    assert {*averaging["models"], *averaging["left out"]} == set(alone)


def test_a_member_that_harms_is_left_out_of_a_greedy_soup(runs: list[Path], toy_data: Any) -> None:
    good, bad = visiongraft.load(runs[0]), visiongraft.load(runs[1])
    with torch.no_grad():
        for parameter in bad.network.head.linear.parameters():  # type: ignore[union-attr]
            parameter.copy_(10 * parameter.roll(1, 0))  # tells other classes, and louder
    model = visiongraft.soup([bad, good], greedy=True, data=toy_data(40, seed=6))
    assert len(model.facts["averaging"]["models"]) == 1
    assert len(model.facts["averaging"]["left out"]) == 1
    best = {str(good.run_folder): good, str(bad.run_folder): bad}[
        model.facts["averaging"]["models"][0]
    ]
    assert all(torch.equal(t, tensors(model)[n]) for n, t in tensors(best).items())


def test_the_members_are_not_changed(runs: list[Path], toy_data: Any) -> None:
    models = [visiongraft.load(run) for run in runs]
    before = [deepcopy(tensors(model)) for model in models]
    visiongraft.soup(models, greedy=True, data=toy_data(20, seed=6))
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(state[name], t) for name, t in tensors(model).items())


def test_images_that_any_member_was_trained_on_are_counted(runs: list[Path], toy_data: Any) -> None:
    model = visiongraft.soup(runs, data=toy_data(40))
    assert model.facts["data"]["images_seen_in_training"] > 0
    assert model.training_images is not None


# ---- refusals ----


def altered(run: Path, change: str) -> TransferModel:
    """Return a model of a run that differs from it in one respect."""
    model = visiongraft.load(run)
    network = model.network
    if change == "architecture":
        network.head = torch.nn.Sequential(network.head, torch.nn.Linear(3, 3))
    elif change == "preprocessing":
        backbone, config = network.backbone, network.backbone.info.preprocess
        backbone.info = replace(backbone.info, preprocess=replace(config, size=(24, 24)))
    elif change == "backbone":
        network.backbone.info = replace(network.backbone.info, name="toys/other")
    elif change == "task":
        kind = type("Other", (type(network.task),), {"name": "other"})
        network.task = kind(**network.task.options())
    return model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("architecture", "its architecture is another one, .* tensors differ: head"),
        ("preprocessing", r"its preprocessing has size=\(24, 24\) instead of \(16, 16\)"),
        ("backbone", "its backbone is 'toys/other', not 'toys/toy'"),
        ("task", "its task is 'other', not 'toy'"),
    ],
)
def test_models_that_differ_in_what_averaging_keeps_are_refused(
    runs: list[Path], change: str, words: str
) -> None:
    with pytest.raises(OptionError, match=f"cannot be averaged with .*: {words}"):
        visiongraft.soup([runs[0], altered(runs[1], change)])


@pytest.mark.parametrize("models", ["runs", [], ["runs/a"]])
def test_a_soup_takes_at_least_two_models(models: Any) -> None:
    with pytest.raises(OptionError, match="at least two models"):
        visiongraft.soup(models)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(OptionError, match="3 is neither a model nor the folder of one"):
        visiongraft.soup([3, 4])


def test_a_greedy_soup_without_images_to_choose_on_is_refused(runs: list[Path]) -> None:
    with pytest.raises(OptionError, match="a greedy soup chooses by a metric: pass data=PATH"):
        visiongraft.soup(runs, greedy=True)


# ---- epochs of a run ----


@pytest.fixture(scope="module")
def keeping(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs that kept the last three, and was killed in between."""
    folder: Path = tmp_path_factory.mktemp("epochs") / "run"
    settings = {"schedule": "full(learning_rate=0.02)", "epochs": 4, "keep_epochs": 3}
    given = {**settings, "out": folder, "select": "last", "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(40), task="toy", callbacks=[StopAt(6)], **given)
    fit_toy(toy_data(40), task="toy", resume=True, **given)
    return folder


def test_the_last_epochs_are_kept_and_the_last_is_the_model_of_the_run(keeping: Path) -> None:
    assert kept_epochs(keeping) == [1, 2, 3]
    last, model = read_epoch(keeping, 3), tensors(visiongraft.load(keeping))
    assert last.keys() == model.keys()
    assert all(torch.equal(last[name], model[name]) for name in model)


@pytest.mark.parametrize(("epochs", "chosen"), [("all", [1, 2, 3]), ([2, 4], [1, 3])])
def test_a_soup_of_epochs_is_the_mean_of_their_weights(
    keeping: Path, epochs: Any, chosen: list[int]
) -> None:
    soup = visiongraft.soup(keeping, epochs=epochs)
    assert soup.facts["averaging"]["models"] == [f"{keeping} epoch {e + 1}" for e in chosen]
    states = [read_epoch(keeping, epoch) for epoch in chosen]
    for name, tensor in tensors(soup).items():
        if tensor.is_floating_point():
            mean = torch.stack([state[name].double() for state in states]).mean(0)
            assert torch.allclose(tensor.double(), mean, rtol=1e-6, atol=1e-7), name


def test_a_greedy_soup_of_epochs_is_never_worse_than_the_best_of_them(
    keeping: Path, toy_data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    soup = visiongraft.soup([keeping], greedy=True, epochs="all", data=toy_data(20, seed=5))
    alone = soup.facts["averaging"]["share_right of each"]
    assert soup.facts["metrics"]["share_right"] >= max(alone.values())


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        ([1, 2], "did not keep epoch 1; it has 2, 3, 4"),
        ([2], "at least two epochs"),
        ([0, 2], "are neither 'all' nor numbers from 1"),
        ("last", "are neither 'all' nor numbers from 1"),
        ([2, 2], "names an epoch twice"),
        ([], "are neither 'all' nor numbers from 1"),
    ],
)
def test_epochs_that_are_not_there_are_refused(keeping: Path, epochs: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        visiongraft.soup(keeping, epochs=epochs)


def test_a_run_that_kept_no_epoch_says_how_to_keep_some(runs: list[Path]) -> None:
    with pytest.raises(
        OptionError, match=r"kept the weights of no epoch; train with keep_epochs=N"
    ):
        visiongraft.soup(runs, epochs="all")


def test_epochs_of_adapters_are_not_kept(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="epochs of adapters are not kept"):
        fit_toy(toy_data(20), adapters="gains", keep_epochs=2, out=tmp_path / "run")
