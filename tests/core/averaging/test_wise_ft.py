"""WiSE-FT: interpolation with the model that a run continued with, and the choice of alpha."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from visiongraft.errors import OptionError

QUICK: dict[str, Any] = {"schedule": "full(learning_rate=0.02)", "epochs": 1}


@pytest.fixture(scope="module")
def folder(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run ``start``, and the run ``tuned`` that continued with it."""
    folder: Path = tmp_path_factory.mktemp("wise")
    fit_toy(toy_data(30), task="toy", out=folder / "start", **QUICK)
    visiongraft.fit(
        toy_data(40),
        start=folder / "start",
        out=folder / "tuned",
        device="cpu",
        callbacks=(),
        **QUICK,
    )
    return folder


def state(model: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = model.network.inference_state()
    return found


@pytest.mark.parametrize(("alpha", "name"), [(0, "start"), (1.0, "tuned")])
def test_the_ends_are_the_two_models(folder: Path, alpha: float, name: str) -> None:
    expected = state(visiongraft.load(folder / name))
    for key, tensor in state(visiongraft.wise_ft(folder / "tuned", alpha=alpha)).items():
        if tensor.is_floating_point():
            assert torch.equal(tensor, expected[key]), key


def test_alpha_is_the_weight_of_the_fine_tuned_model(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start, tuned = (state(visiongraft.load(folder / name)) for name in ("start", "tuned"))
    model = visiongraft.wise_ft(folder / "tuned", folder / "start", alpha=0.25)
    for key, tensor in state(model).items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, 0.75 * start[key] + 0.25 * tuned[key], atol=1e-6), key
    assert "same weights" not in caplog.text


def test_the_best_of_several_alphas_is_kept_and_all_are_told(folder: Path, toy_data: Any) -> None:
    data = toy_data(40, seed=6)
    model = visiongraft.wise_ft(folder / "tuned", alpha=[0, 0.5, 1], data=data)
    averaging = model.facts["averaging"]
    by_alpha = averaging["share_right by alpha"]
    assert list(by_alpha) == ["0", "0.5", "1"]
    assert by_alpha[str(averaging["alpha"])] == max(by_alpha.values())
    assert model.evaluate(data)["share_right"] == max(by_alpha.values())
    assert (averaging["model"], averaging["start"]) == (
        str(folder / "tuned"), str(folder / "start")
    )  # fmt: skip


def test_a_model_in_memory_is_interpolated_with_another(folder: Path) -> None:
    start, tuned = (visiongraft.load(folder / name / "model") for name in ("start", "tuned"))
    facts = visiongraft.wise_ft(tuned, start).facts["averaging"]
    assert (facts["alpha"], facts["model"], facts["start"]) == (0.5, "model 1", "model 2")


# ---- refusals ----


@pytest.mark.parametrize(
    ("mine", "related"),
    [
        ({"source": "saved model a", "before: source": "timm"}, True),
        ({"source": "timm", "data license": "mit"}, True),
        ({"source": "saved model b", "before: source": "saved model a", "before: before: source": "timm"}, False),
        ({"source": "file"}, False),
    ],
)  # fmt: skip
def test_models_of_other_weights_are_warned_of(
    folder: Path, mine: dict[str, str], related: bool, caplog: pytest.LogCaptureFixture
) -> None:
    models = [visiongraft.load(folder / "start") for _ in range(2)]
    for model, provenance in zip(models, (mine, {"source": "timm"}), strict=True):
        backbone = model.network.backbone
        backbone.info = replace(backbone.info, provenance=provenance)
    if "before: before: source" in mine:
        models[1].network.backbone.info = replace(
            models[1].backbone_info,
            provenance={"source": "saved model c", "before: source": "timm"},
        )
    visiongraft.wise_ft(models[0], models[1], alpha=0.5)
    assert ("do not start from the same weights" not in caplog.text) == related


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan"), [0.5, 2], ["a"]])
def test_an_alpha_outside_of_0_to_1_is_refused(folder: Path, alpha: Any) -> None:
    with pytest.raises(OptionError, match=r"alpha=\S+ is not a number from 0 to 1"):
        visiongraft.wise_ft(folder / "tuned", alpha=alpha)


def test_no_alpha_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="alpha is empty"):
        visiongraft.wise_ft(folder / "tuned", alpha=[])


def test_several_alphas_without_images_to_choose_on_are_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="several alphas are chosen by a metric"):
        visiongraft.wise_ft(folder / "tuned", alpha=[0.2, 0.8])


def test_a_run_that_began_with_a_random_head_has_no_model_before_it(folder: Path) -> None:
    with pytest.raises(
        OptionError, match=r"began with a random head, .* train a linear probe first"
    ):
        visiongraft.wise_ft(folder / "start")


def test_a_saved_model_does_not_tell_what_it_continued_with(folder: Path) -> None:
    with pytest.raises(OptionError, match="start is missing: only the folder of a run"):
        visiongraft.wise_ft(folder / "tuned" / "model")


def test_a_start_that_has_changed_since_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    model = visiongraft.load(folder / "start")
    with torch.no_grad():
        next(model.network.head.parameters()).add_(1)
    run = tmp_path / "copy" / "tuned"
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace(str(folder), str(tmp_path / "copy")))
    model.save(tmp_path / "copy" / "start" / "model")
    with pytest.raises(OptionError, match=r"has changed since run .* continued with it"):
        visiongraft.wise_ft(run)
