"""Training for groups: the loss is the weighted mean of the groups' losses, and resuming is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import CheckpointError, OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.training.grouped.weights import updated_weights

FIT: dict[str, Any] = {
    "task": "classification",
    "backbone": "simple_cnn",
    "weights": None,
    "size": 16,
    "schedule": "full",
    "task_options": {"augment": "none", "head_start": "random"},
    "batch_size": 8,
    "learning_rate": 3e-3,
    "device": "cpu",
    "callbacks": (),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images whose color tells the label in the large group, and misleads in the small one."""
    root = tmp_path_factory.mktemp("groups")
    generator = np.random.default_rng(0)
    for name, counts in (("train", {"plain": 40, "odd": 12}), ("val", {"plain": 24, "odd": 24})):
        lines = {site: ["path,label,site"] for site in ("all", *counts)}
        for site, count in counts.items():
            for i in range(count):
                label = i % 2
                pixels = generator.integers(0, 60, (16, 16, 3), dtype=np.uint8)
                pixels[..., 0 if label == (site == "plain") else 2] += 120
                pixels[4:12, 4:12] += np.uint8(40 * label)
                file = f"{name}-{site}{i}.png"
                Image.fromarray(pixels).save(root / file)
                for table in ("all", site):
                    lines[table].append(f"{file},{'ab'[label]},{site}")
        for table, rows in lines.items():
            (root / f"{name}-{table}.csv").write_text("\n".join(rows) + "\n")
    return root


def pair(folder: Path, site: str = "all") -> tuple[Path, Path]:
    return folder / f"train-{site}.csv", folder / "val-all.csv"


def first_gradients(folder: Path, site: str = "all", **settings: Any) -> dict[str, torch.Tensor]:
    """Return the gradients of one step on all training images."""
    found: dict[str, torch.Tensor] = {}

    class Watch:
        @hookimpl
        def phase_started(self, run: Any) -> None:
            self.network = run.network

    watch = Watch()

    def keep(*_: Any) -> None:
        for name, parameter in watch.network.named_parameters():
            if parameter.grad is not None:
                found[name] = parameter.grad.clone()

    handle = register_optimizer_step_pre_hook(keep)
    try:
        fit = {**FIT, "epochs": 1, "batch_size": 64, "clip_norm": None, "callbacks": (watch,)}
        visiongraft.fit(pair(folder, site), **{**fit, **settings})
    finally:
        handle.remove()
    return found


def test_reweighting_lets_the_mean_loss_of_each_group_count_alike(folder: Path) -> None:
    alone = [first_gradients(folder, site) for site in ("plain", "odd")]
    whole = first_gradients(folder, groups="site", group_training="reweight")
    for name, gradient in whole.items():
        expected = (alone[0][name] + alone[1][name]) / 2
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
    assert not all(
        torch.allclose(g, first[n], rtol=0.05) for first in alone for n, g in whole.items()
    )


def test_accumulated_batches_have_the_gradients_of_one(folder: Path) -> None:
    settings = {"groups": "site", "group_training": "group_dro(step_size=0.5)"}
    whole = first_gradients(folder, **settings)
    parts = first_gradients(folder, **settings, batch_size=13, accumulate=4)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5)


@given(
    losses=st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6), min_size=1),
    step_size=st.floats(1e-3, 10),
)
def test_weights_stay_a_distribution_and_prefer_high_losses(
    losses: dict[str, float], step_size: float
) -> None:
    before = dict.fromkeys("abc", 1 / 3)
    after = updated_weights(before, losses, dict.fromkeys(losses, 1.0), step_size)
    assert sum(after.values()) == pytest.approx(1)
    order = sorted("abc", key=lambda g: losses.get(g, 0.0))
    assert after[order[0]] <= after[order[1]] <= after[order[2]]


class Stop:
    @hookimpl
    def step_ended(self, run: Any) -> None:
        if run.state.steps == 9:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def dro(folder: Path) -> dict[str, Any]:
    return {
        **FIT,
        "epochs": 4,
        "groups": "site",
        "group_training": "group_dro(step_size=0.2)",
        "select": "highest(validation.worst_group_accuracy)",
        "checkpoint_every": 2,
    }


@pytest.fixture(scope="module")
def run(folder: Path, dro: Any) -> Path:
    visiongraft.fit(pair(folder), **dro, out=folder / "run")
    return folder / "run"


def test_a_run_says_how_good_it_is_for_each_group(run: Path) -> None:
    model = visiongraft.load(run)
    groups = model.facts["groups"]
    assert groups["odd"]["training images"] == 12 and groups["plain"]["validation images"] == 24
    values = [groups[name]["accuracy"] for name in ("odd", "plain")]
    assert model.facts["metrics"]["worst_group_accuracy"] == min(values)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(record["validation"]["worst_group_accuracy"] for record in records)
    assert model.facts["metrics"]["worst_group_accuracy"] == best
    assert sum(records[-1]["groups"]["weights"].values()) == pytest.approx(1)
    first = records[0]["groups"]
    assert first["losses"]["odd"] > first["losses"]["plain"]  # so that it counts more
    assert first["weights"]["odd"] > 0.5
    card = (run / "model" / "README.md").read_text()
    assert "## Groups" in card and "| odd | {" in card


def test_a_stopped_run_goes_on_bit_for_bit(folder: Path, run: Path, dro: Any) -> None:
    out = folder / "stopped"
    with pytest.raises(KeyboardInterrupt):
        visiongraft.fit(pair(folder), **{**dro, "callbacks": (Stop(),)}, out=out)
    visiongraft.fit(pair(folder), out=out, resume=True, callbacks=())
    whole, resumed = (load_file(f / "model" / "model.safetensors") for f in (run, out))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert (out / "metrics.jsonl").read_text() == (run / "metrics.jsonl").read_text()


def test_a_run_is_not_resumed_with_other_groups(folder: Path, dro: Any) -> None:
    out = folder / "changed"
    table = folder / "groups.csv"
    rows = [line.split(",") for line in (folder / "train-all.csv").read_text().splitlines()[1:]]
    table.write_text("path,group\n" + "\n".join(f"{row[0]},{row[2]}" for row in rows) + "\n")
    settings = {**dro, "groups": table, "select": "best"}
    with pytest.raises(KeyboardInterrupt):
        visiongraft.fit(pair(folder), **{**settings, "callbacks": (Stop(),)}, out=out)
    table.write_text(table.read_text().replace("odd\n", "plain\n", 3))
    with pytest.raises(CheckpointError, match="puts training images into other groups"):
        visiongraft.fit(pair(folder), out=out, resume=True, callbacks=())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_training": "reweight"}, "needs groups"),
        ({"groups": "site", "group_training": "dro"}, "available: group_dro, reweight"),
        ({"groups": "site", "group_training": "group_dro(step_size=0)"}, "not a positive number"),
        ({"groups": "sight"}, "did you mean 'site'"),
        ({"groups": lambda name: "all"}, "are in one group, 'all'"),
        (
            {"groups": "site", "privacy": "epsilon=3,delta=1e-3"},
            "privacy: how many training images each group has is not covered",
        ),
        (
            {"groups": "site", "group_training": "reweight", "transfer_loss": "l2_sp"},
            "would weigh transfer_loss='l2_sp' by groups",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    folder: Path, settings: Any, message: str
) -> None:
    with pytest.raises(OptionError, match=message) as error:
        visiongraft.fit(pair(folder), **{**FIT, "schedule": "linear_probe", **settings}, epochs=1)
    assert "\n" not in str(error.value)


def test_the_command_trains_for_groups(folder: Path, capsys: Any) -> None:
    command = ["fit", str(folder / "train-all.csv"), "--out", str(folder / "command")]
    command += ["--backbone", "simple_cnn", "--weights", "none", "--size", "16", "--epochs", "1"]
    command += ["--groups", "site", "--group-training", "reweight", "--device", "cpu", "--json"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["groups"].keys() == {"odd", "plain"}
