"""Simulated sites train together; only what is declared travels, and the rest is shown not to change."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import VisiongraftError
from visiongraft.plugins.federated import simulation
from visiongraft.plugins.federated.exchange import encode
from visiongraft.plugins.federated.server import STATE, Reply
from visiongraft.plugins.federated.simulation import LocalSites, simulate
from visiongraft.plugins.federated.site import Site
from visiongraft.saving.tensor_files import read_tensors
from visiongraft.schedules import Phase, schedule


def final(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / STATE)[0]


def equal(one: Path, other: Path) -> bool:
    first, second = final(one), final(other)
    return first.keys() == second.keys() and all(
        torch.equal(t, second[n]) for n, t in first.items()
    )


@pytest.fixture(scope="module")
def done(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("simulation") / "out"
    return out, simulate(settings(rounds=3), out)


def test_only_the_declared_tensors_travel(done: Any) -> None:
    _, result = done
    head = {"head.output.weight": (2, 128), "head.output.bias": (2,)}
    assert result["tensors"] == len(head)
    weight, bias = ((n, np.zeros(s, np.float32)) for n, s in head.items())
    each = sum(len(data) for data in encode(dict([weight, bias])).values())
    for record in result["rounds"]:
        assert record["bytes_to_sites"] == record["bytes_from_sites"] == 3 * each
    assert result["numbers"] * 4 < each <= result["numbers"] * 4 + 2 * 128  # and a header for each


def test_models_of_all_sites_are_equal_learn_and_are_ordinary_models(done: Any, sites: Any) -> None:
    out, result = done
    models = [visiongraft.load(out / "sites" / site / "model") for site in sites]
    weights = [model.network.head.output.weight for model in models]
    assert all(torch.equal(weights[0], weight) for weight in weights)
    assert result["mean"]["accuracy"] > 0.8
    assert models[0].evaluate(sites["south"])["accuracy"] > 0.8


def test_the_global_values_are_the_mean_by_numbers_of_images(settings: Any, tmp_path: Path) -> None:
    config = settings(rounds=1)
    local = LocalSites(config, tmp_path)
    hellos, _ = local.hello()
    payload = hellos["east"].values
    replies, _ = local.train(sorted(hellos), payload, 0)
    images = {site: reply.images for site, reply in replies.items()}
    assert len(set(images.values())) > 1
    name = "head.output.bias"
    values = {s: np.load(io.BytesIO(r.payload[name])) for s, r in replies.items()}
    mean = sum(values[s] * n for s, n in images.items()) / sum(images.values())
    simulate(config, tmp_path / "out")
    np.testing.assert_allclose(final(tmp_path / "out")[f"values:{name}"], mean, rtol=1e-6)


def test_a_stopped_simulation_goes_on_bit_for_bit(
    settings: Any, done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = LocalSites.train

    def stop(self: LocalSites, sites: Sequence[str], payload: Any, number: int) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return train(self, sites, payload, number)

    with monkeypatch.context() as patched:
        patched.setattr(LocalSites, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(settings(rounds=3), tmp_path / "out")
    assert len(read_tensors(tmp_path / "out" / STATE)[1]["rounds"]) == 2
    simulate(settings(rounds=3), tmp_path / "out", resume=True)
    assert equal(done[0], tmp_path / "out")


class Faulty(LocalSites):
    """Of its sites one fails, one sends garbage."""

    def train(self, sites: Sequence[str], payload: Any, number: int) -> Any:
        replies, failures = super().train(sites, payload, number)
        del replies["east"]
        failures["east"] = "it died"
        replies["north"] = spoil(replies["north"])
        return replies, failures


def spoil(reply: Reply) -> Reply:
    weight = np.full((2, 128), np.nan, np.float32)
    return replace(reply, payload={**reply.payload, **encode({"head.output.weight": weight})})


def test_sites_that_fail_are_named_and_do_not_end_the_round(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "LocalSites", Faulty)
    result = simulate(settings(rounds=1), tmp_path / "out")
    (record,) = result["rounds"]
    assert list(record["sites"]) == ["south"]
    assert record["failed"]["east"] == "it died"
    assert "'head.output.weight' is not finite" in record["failed"]["north"]
    with pytest.raises(VisiongraftError, match="1 site sent an update and least_sites is 2"):
        simulate(settings(rounds=1, least_sites=2), tmp_path / "few")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda p: {**p, "backbone.stem": p["head.output.bias"]},
            "'backbone.stem' is not declared",
        ),
        (lambda p: {n: d for n, d in p.items() if n.endswith("bias")}, "weight' is missing"),
        (lambda p: {**p, "head.output.bias": p["head.output.weight"]}, r"is float32 \(2, 128\)"),
        (
            lambda p: {**p, "head.output.bias": p["head.output.bias"] + b"more"},
            "more than its values",
        ),
        (lambda p: {**p, "head.output.bias": b"garbage"}, "is no .npy file"),
        (lambda p: {**p, **encode({"head.output.bias": np.zeros(2)})}, "is float64"),
    ],
)
def test_everything_but_the_declared_tensors_is_refused(
    settings: Any, sites: Any, tmp_path: Path, change: Any, message: str
) -> None:
    site = Site("east", sites["east"], settings(), tmp_path)
    with pytest.raises(VisiongraftError, match=message):
        site.train(change(site.values()), 0)


def test_a_site_that_claims_other_numbers_of_images_than_before_is_refused(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would decide the mean."""
    train = LocalSites.train

    def many(self: LocalSites, sites: Any, payload: Any, number: int) -> Any:
        replies, failures = train(self, sites, payload, number)
        return {**replies, "south": replace(replies["south"], images=10**9)}, failures

    monkeypatch.setattr(LocalSites, "train", many)
    (record,) = simulate(settings(rounds=1), tmp_path / "out")["rounds"]
    assert "claims to have 1000000000 images, and had 16 before" in record["failed"]["south"]
    assert list(record["sites"]) == ["east", "north"]


def test_a_site_whose_frozen_part_changed_is_refused(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = LocalSites.train

    def other(self: LocalSites, sites: Any, payload: Any, number: int) -> Any:
        replies, failures = train(self, sites, payload, number)
        return {**replies, "south": replace(replies["south"], frozen="0" * 64)}, failures

    monkeypatch.setattr(LocalSites, "train", other)
    (record,) = simulate(settings(rounds=1), tmp_path / "out")["rounds"]
    assert "other frozen tensors" in record["failed"]["south"]


@pytest.mark.parametrize(
    "method", ["fedprox(mu=5)", "fedadam", "median", "trimmed_mean(fraction=0.34)"]
)
def test_other_methods_train_too(settings: Any, done: Any, tmp_path: Path, method: str) -> None:
    result = simulate(settings(rounds=2, method=method), tmp_path / "out")
    assert len(result["rounds"]) == 2
    assert not equal(done[0], tmp_path / "out")


def test_a_pull_towards_the_global_values_shortens_the_way(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    ways = []
    for method in ("fedavg", "fedprox(mu=5)"):
        site = Site("east", sites["east"], settings({"optimizer": "sgd"}, method=method), tmp_path)
        before = site.network.head.output.weight.detach().clone()
        site.train(site.values(), 0)
        ways.append(float((site.network.head.output.weight - before).norm().detach()))
    assert ways[1] < ways[0]


def test_some_sites_train_in_each_round_and_every_one_at_some_time(
    settings: Any, tmp_path: Path
) -> None:
    result = simulate(settings(rounds=4, fraction=0.34), tmp_path / "out")
    chosen = [list(record["sites"]) for record in result["rounds"]]
    assert all(len(sites) == 1 for sites in chosen) and len({s for (s,) in chosen}) > 1


@pytest.mark.parametrize("personal, kept", [("norms", "backbone"), ("head", "head.output.weight")])
def test_what_is_personal_stays_at_the_site_and_differs(
    settings: Any, sites: Any, tmp_path: Path, personal: str, kept: str
) -> None:
    fit = {"schedule": "full(batch_norm='train')", "backbone": "timm/test_resnet", "size": 32}
    config = settings(fit, personal=personal)
    result = simulate(config, tmp_path / "out")
    names = {n.partition(":")[2] for n in final(tmp_path / "out")}
    assert not any("running" in n for n in names) if personal == "norms" else kept not in names
    states = [
        visiongraft.load(tmp_path / "out/sites" / s / "model").network.state_dict() for s in sites
    ]
    for name in states[0]:
        same = all(torch.equal(states[0][name], state[name]) for state in states)
        if name in names:
            assert same
    assert any(not torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert result["mean"]["accuracy"] > 0.5


def test_adapters_travel_without_their_base(settings: Any, tmp_path: Path) -> None:
    config = settings({"adapters": ["lora(rank=2)"], "schedule": "full"}, rounds=1)
    result = simulate(config, tmp_path / "out")
    names = {n.partition(":")[2] for n in final(tmp_path / "out")}
    assert result["rounds"][0]["failed"] == {}
    assert names and all(n.startswith("head.") or ".lora." in n for n in names)


def test_sites_with_other_classes_are_refused_in_one_line(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    config = settings()
    del config.fit["task_options"]["class_names"]
    (tmp_path / "third").mkdir()
    for name in ("blue", "green", "red"):
        (tmp_path / "third" / name).symlink_to(Path(sites["east"]) / name.replace("green", "red"))
    other = replace(config, sites={"east": sites["east"], "third": str(tmp_path / "third")})
    with pytest.raises(VisiongraftError, match="do not train the same model: class_names is"):
        simulate(other, tmp_path / "out")


def test_as_many_classes_of_other_names_are_refused_in_one_line(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    """Their tensors have the same shapes, and would be averaged without any sense."""
    other = tmp_path / "other"
    for old, new in (("blue", "cat"), ("red", "dog")):
        shutil.copytree(Path(sites["north"]) / old, other / new)
    config = settings(
        fit={"task_options": {"augment": "none"}}, sites={"east": sites["east"], "west": str(other)}
    )
    with pytest.raises(
        VisiongraftError, match=r"class_names is .*blue.* here and .*cat.* there"
    ) as error:
        simulate(config, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_a_site_begins_with_the_values_of_the_server(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    """Also where a run by itself would begin with a head in closed form."""
    fit = {"backbone": "bundled/efficientnet_lite0", "weights": "pretrained", "learning_rate": 1e-9}
    site = Site("east", sites["east"], settings({**fit, "size": 32}), tmp_path)
    given = {name: np.ones(shape, np.float32) for name, shape in site.declared.shapes.items()}
    done = site.train(encode(given), 0)
    for name, data in done.payload.items():
        np.testing.assert_allclose(np.load(io.BytesIO(data)), given[name], atol=1e-6)


def test_at_least_as_many_sites_are_chosen_as_a_round_needs(settings: Any, tmp_path: Path) -> None:
    result = simulate(settings(rounds=1, fraction=0.34, least_sites=2), tmp_path / "out")
    assert len(result["rounds"][0]["sites"]) == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rounds": 0}, "rounds=0"),
        ({"licenses": {"west": "MIT"}}, "licenses: 'west' is no site; sites are east, north"),
        ({"licenses": {"east": 3}}, "not the name of a license"),
        ({"fit": {"privacy": {"epsilon": 3}}}, "privacy needs delta"),
        ({"fit": {"groups": "side"}}, "no option 'groups'"),
        ({"method": "fedsgd"}, "'fedsgd' is unknown"),
        ({"method": "trimmed_mean(fraction=0.5)"}, "below 0.5"),
        ({"method": "fedprox(nu=1)"}, "no option 'nu'"),
        ({"fraction": 0}, "no site train"),
        ({"personal": 3}, "personal=3 is not 'norms', 'head', or names"),
        ({"fit": {"schedule": "auto"}}, "schedule='auto' chooses by a probe at each site"),
        *(
            ({"sites": {name: "x"}}, "is no name of a site, which is that of a folder")
            for name in ("", "a/b", "../up", "..", "a\\b", "a\nb", "a\x1b[31mb", " a", "a" * 101)
        ),
        ({"fraction": 2}, r"fraction=2 is not in \(0, 1\]"),
        ({"speed": 1}, "no option 'speed'"),
        ({"fit": {"budget": "1h"}}, "no option 'budget'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: Any, changes: Any, message: str) -> None:
    with pytest.raises(VisiongraftError, match=message):
        settings(**changes)


def test_what_all_sites_fail_with_is_said_once(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings({"schedule": "linear_probe(speed=1)"})
    with pytest.raises(VisiongraftError, match=r"0 sites can train") as error:
        simulate(config, tmp_path / "out")
    assert str(error.value).count("no option 'speed'") == 1
    assert "(east, north, south: " in str(error.value) and not caplog.messages
    with pytest.raises(VisiongraftError, match=r"^3 sites can train, and least_sites is 4$"):
        simulate(settings(least_sites=4), tmp_path / "out")


def test_sites_measure_own_metrics_and_take_the_augmentation_of_the_task(
    settings: Any, tmp_path: Path
) -> None:
    fit = {"metrics": ["CohenKappa(task='multiclass')"], "augment": "none", "task_options": {}}
    result = simulate(settings(fit, rounds=1), tmp_path / "out")
    assert all("CohenKappa" in metrics for metrics in result["metrics"].values())
    assert visiongraft.load(tmp_path / "out").task.augment == "none"


def test_warnings_of_a_site_are_said_once_with_its_name(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    privacy = {"epsilon": 8, "delta": 0.5, "accountant": "rdp", "noise_seed": 1}
    fit = {"privacy": privacy, "batch_size": 4, "data_license": "CC-BY-NC-4.0"}
    simulate(settings(fit, rounds=2), tmp_path / "out")
    for words in ("delta=0.5 allows to publish one of", "forbids commercial use"):
        said = [line for line in caplog.messages if words in line]
        assert len(said) == 3 and all(line.startswith("site '") for line in said)


def test_several_phases_and_nothing_to_send_are_refused(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    with pytest.raises(VisiongraftError, match="several phases"):
        Site("a", sites["east"], settings({"schedule": "lp_ft", "epochs": 2}), tmp_path)
    with pytest.raises(VisiongraftError, match="nothing that trains is left"):
        Site("a", sites["east"], settings(personal="head"), tmp_path)


@schedule
def anew(stages: Any, epochs: int, *, learning_rate: float = 1e-3) -> Any:
    """Fit the head anew, then train it."""
    yield Phase(epochs, "head", learning_rate, refit_head=True)


def test_a_schedule_that_fits_the_head_anew_at_each_site_is_refused(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    with pytest.raises(VisiongraftError, match="'anew' fits the head anew"):
        Site("a", sites["east"], settings({"schedule": anew}), tmp_path)


def test_several_processes_are_refused_before_they_write_the_same_files(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(VisiongraftError, match="and there are 2; start one"):
        simulate(settings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_simulates(sites: Any, tmp_path: Path, capsys: Any) -> None:
    values: Mapping[str, Any] = {
        "rounds": 1,
        "sites": {"east": sites["east"], "lost": str(tmp_path / "nothing")},
        "fit": {"task": "classification", "backbone": "simple_cnn", "weights": None, "size": 16}
        | {"schedule": "linear_probe", "epochs": 1},
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    command = [
        "federated",
        "simulate",
        str(tmp_path / "config.json"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer["metrics"]) == ["east"] and "lost" in answer["failed"]
    assert main(command) == 1
    assert "resume it, or choose another folder" in capsys.readouterr().err
    assert main(["federated", "train", str(tmp_path / "config.json"), "--out", "x"]) == 2
