"""Differentially private training at the sites: one budget for all rounds, counted exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.errors import VisiongraftError
from visiongraft.plugins.federated.exchange import encode
from visiongraft.plugins.federated.server import STATE
from visiongraft.plugins.federated.simulation import LocalSites, simulate
from visiongraft.plugins.federated.site import Site
from visiongraft.saving.tensor_files import read_tensors
from visiongraft.training.private.accounting import opacus

PRIVACY = {"epsilon": 5, "delta": 1e-2, "accountant": "rdp", "noise_seed": 1}
FIT = {"batch_size": 4, "privacy": PRIVACY}


@pytest.fixture(scope="module")
def done(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("private") / "out"
    return out, simulate(settings(FIT, rounds=3), out)


def final(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / STATE)[0]


def test_all_rounds_together_spend_no_more_than_the_budget(done: Any, sites: Any) -> None:
    out, result = done
    for site in sites:
        spent = [record["metrics"][site]["epsilon"] for record in result["rounds"]]
        assert spent == sorted(set(spent)) and 4.5 < spent[-1] <= 5
        facts = visiongraft.load(out / "sites" / site / "model").facts["privacy"]
        assert facts["epsilon"] == spent[-1] and facts["rounds"] == 3


def test_the_model_of_the_server_states_the_largest_budget_of_a_site(done: Any) -> None:
    out, result = done
    facts = visiongraft.load(out / "model").facts["privacy"]
    spent = [m["epsilon"] for record in result["rounds"] for m in record["metrics"].values()]
    assert facts["epsilon"] == max(spent) and facts["delta"] == 1e-2
    assert "noise_seed" not in (out / "model" / "config.json").read_text()


def test_the_budget_is_that_of_opacus_for_the_steps_of_all_rounds(done: Any) -> None:
    out, result = done
    facts = visiongraft.load(out / "sites" / "south" / "model").facts["privacy"]
    images = result["rounds"][0]["sites"]["south"]
    assert facts["steps"] == 3 * images // 4 and facts["sample rate"] == 4 / images
    accountant = opacus("accountants").create_accountant("rdp")
    accountant.history = [(facts["noise multiplier"], facts["sample rate"], facts["steps"])]
    assert facts["epsilon"] == pytest.approx(accountant.get_epsilon(1e-2), abs=1e-4)


def test_models_do_not_tell_about_the_images_otherwise(done: Any) -> None:
    model = visiongraft.load(done[0] / "sites" / "south" / "model")
    assert set(model.facts["data"]) == {"training images", "validation images"}
    text = (done[0] / "sites" / "south" / "model" / "config.json").read_text()
    secret = json.loads((done[0] / "sites" / "south" / "privacy.json").read_text())["drawn"]
    assert str(secret["noise_seed"]) not in text


def test_a_stopped_simulation_repeats_its_noise_and_spends_nothing_more(
    settings: Any, done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = LocalSites.train

    def stop(self: LocalSites, sites: Sequence[str], payload: Any, number: int) -> Any:
        if number == 1:
            train(self, ["east"], payload, number)  # the others have not trained
            raise KeyboardInterrupt
        return train(self, sites, payload, number)

    with monkeypatch.context() as patched:
        patched.setattr(LocalSites, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(settings(FIT, rounds=3), tmp_path / "out")
    simulate(settings(FIT, rounds=3), tmp_path / "out", resume=True)
    whole = final(done[0])
    assert all(torch.equal(t, whole[name]) for name, t in final(tmp_path / "out").items())
    ledger = json.loads((tmp_path / "out/sites/east/privacy.json").read_text())
    assert len(ledger["trainings"]) == 3


def test_other_values_in_the_same_round_draw_other_noise_and_are_counted(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    """Otherwise a server could ask twice, and subtract the noise."""
    site = Site("east", sites["east"], settings(FIT, rounds=2), tmp_path)
    assert site.spending is not None
    first = site.values()
    zeros = encode({n: np.zeros(s, np.float32) for n, s in site.declared.shapes.items()})
    seeds = [
        site.spending.state(values, 0).privacy["noise_seed"] for values in (first, zeros, first)
    ]
    assert seeds[0] == seeds[2] != seeds[1]
    once, again = site.train(first, 0).payload, site.train(first, 0).payload
    assert once == again
    with pytest.raises(VisiongraftError, match="budget is spent by 2 trainings"):
        site.train(first, 1)
    # A process of its own, as Flower starts one for each message, counts on.
    restarted = Site("east", sites["east"], settings(FIT, rounds=2), tmp_path)
    with pytest.raises(VisiongraftError, match="budget is spent"):
        restarted.train(first, 1)
    with pytest.raises(VisiongraftError, match="whose budget it counts"):
        Site("east", sites["east"], settings(FIT, rounds=5), tmp_path)


def test_a_replaced_image_or_another_setting_draws_other_noise_and_is_counted(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    """With the same noise, the difference of two releases would be that of the image."""
    data = tmp_path / "data"
    shutil.copytree(sites["east"], data)
    payload: dict[str, bytes] = {}

    def seed(fit: dict[str, Any] | None = None, **changes: Any) -> int:
        site = Site("east", str(data), settings({**FIT, **(fit or {})}, **changes), tmp_path)
        payload.update(payload or site.values())  # always the first ones
        assert site.spending is not None
        replaced.append(site.run.training.name(0))
        found: int = site.spending.state(payload, 0).privacy["noise_seed"]
        return found

    replaced: list[str] = []
    made = [seed(rounds=5), seed(rounds=5)]
    assert made[0] == made[1]  # nothing changed
    made += [seed({"learning_rate": 0.01}, rounds=5), seed({"seed": 3}, rounds=5)]
    made += [seed(method="fedprox(mu=1)", rounds=5)]
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(data / replaced[0])
    made += [seed(rounds=5)]
    assert len(set(made)) == 5
    with pytest.raises(VisiongraftError, match="budget is spent by 5 trainings"):
        seed({"learning_rate": 0.03}, rounds=5)


def test_a_secret_seed_is_drawn_for_each_site(settings: Any, sites: Any, tmp_path: Path) -> None:
    secret = {**FIT, "privacy": {**PRIVACY, "noise_seed": None}}
    made = [Site(n, sites["east"], settings(secret), tmp_path / n) for n in ("a", "b")]
    known = [Site(n, sites["east"], settings(FIT), tmp_path / f"{n}2") for n in ("a", "b")]
    for pair in (made, known):
        seeds = {site.spending.drawn["noise_seed"] for site in pair if site.spending}
        assert len(seeds) == 2


@pytest.mark.parametrize(
    "fit, message",
    [
        ({"precision": "bf16"}, "precision='bf16' rounds the gradient of an image"),
        (
            {"schedule": "full(batch_norm='train')", "backbone": "timm/test_resnet", "size": 32},
            "would train on statistics of private images",
        ),
        ({"privacy": {**PRIVACY, "epsilon": 1e-9, "delta": 1e-12}}, "cannot be met in"),
        ({"task_options": {"augment": "none", "class_weights": "balanced"}}, "without noise"),
    ],
)
def test_what_does_not_go_with_privacy_is_refused_in_one_line(
    settings: Any, tmp_path: Path, fit: dict[str, Any], message: str
) -> None:
    with pytest.raises(VisiongraftError, match=message) as error:
        simulate(settings({**FIT, **fit}, rounds=1), tmp_path / "out")
    assert "\n" not in str(error.value)


def test_a_batch_size_that_is_measured_is_refused(settings: Any) -> None:
    with pytest.raises(VisiongraftError, match="pass a number as batch_size"):
        settings({**FIT, "batch_size": "auto"})
