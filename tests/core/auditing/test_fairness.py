"""Metrics by group: a planted difference is found, a random one is not, and small groups are flagged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from PIL import Image
from sklearn.metrics import accuracy_score

import visiongraft
from visiongraft.auditing.fairness import SHUFFLES, Estimate, Fairness, Group, _chance
from visiongraft.cli import main
from visiongraft.errors import OptionError

Table = Callable[..., Path]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Write bright and dark images; ``wrong`` of each group have the other label."""
    folder = tmp_path_factory.mktemp("groups")

    def write(name: str, groups: dict[str, tuple[int, float]]) -> Path:
        generator = np.random.default_rng(0)
        lines = ["path,label,site"]
        for group, (count, wrong) in groups.items():
            for i in range(count):
                file = folder / f"{name}-{group}-{i}.png"
                shade = 200 if i % 2 else 60
                pixels = generator.integers(shade - 40, shade + 40, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file)
                label = (i % 2) != (i < wrong * count)
                lines.append(f"{file.name},{'bright' if label else 'dark'},{group}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        return folder / f"{name}.csv"

    return write


@pytest.fixture(scope="module")
def run(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    visiongraft.fit(
        table("train", {"a": (40, 0.0)}),
        task="classification",
        backbone="simple_cnn",
        weights=None,
        size=16,
        schedule="full",
        task_options={"augment": "none"},
        epochs=6,
        learning_rate=3e-3,
        device="cpu",
        out=out,
        callbacks=(),
    )
    return out


def test_a_planted_difference_is_found_with_intervals(run: Path, table: Table) -> None:
    data = table("planted", {"north": (40, 0.0), "south": (40, 0.4)})
    found = visiongraft.fairness(run, data, groups="site", replicates=30)
    north, south = (group.metrics["accuracy"] for group in found.groups)
    assert north.value > south.value and not found.groups[0].small
    assert south.low < south.value < south.high
    gap = found.differences["accuracy"]
    assert gap.value == pytest.approx(north.value - south.value)
    assert found.ratios["accuracy"].value == pytest.approx(south.value / north.value)
    assert found.chance is not None and found.chance < 0.05
    assert "can be told from chance" in found.statements()[-1]


def test_groups_that_differ_by_chance_alone_are_not_called_different(
    run: Path, table: Table
) -> None:
    data = table("alike", {"north": (40, 0.2), "south": (40, 0.25)})
    found = visiongraft.fairness(run, data, groups="site", replicates=20)
    assert found.chance is not None and found.chance > 0.05
    assert "cannot be told from chance" in found.statements()[-1]


def test_values_and_differences_are_those_of_fairlearn_on_labels(run: Path, table: Table) -> None:
    data = table("same", {"north": (30, 0.1), "south": (25, 0.3)})
    found = visiongraft.fairness(run, data, groups="site", replicates=20)
    rows = [line.split(",") for line in data.read_text().splitlines()[1:]]
    model = visiongraft.load(run)
    predicted = [p.label for p in model.predict([data.parent / row[0] for row in rows])]
    frame = MetricFrame(
        metrics=accuracy_score,
        y_true=[row[1] for row in rows],
        y_pred=predicted,
        sensitive_features=[row[2] for row in rows],
    )
    assert {g.name: g.metrics["accuracy"].value for g in found.groups} == pytest.approx(
        dict(frame.by_group)
    )
    assert found.differences["accuracy"].value == pytest.approx(frame.difference())


def test_small_groups_are_flagged_and_have_no_part_in_differences(run: Path, table: Table) -> None:
    data = table("small", {"north": (30, 0.0), "south": (30, 0.0), "tiny": (4, 1.0)})
    found = visiongraft.fairness(run, data, groups="site", replicates=20)
    assert [group.small for group in found.groups] == [False, False, True]
    assert found.differences["accuracy"].value < 0.2
    assert "too few images to compare: tiny" in found.statements()


def test_a_function_may_define_the_groups(run: Path, table: Table) -> None:
    data = table("named", {"x": (22, 0.0), "y": (22, 0.5)})
    found = visiongraft.fairness(run, data, groups=lambda name: Path(name).name.split("-")[1])
    assert [group.name for group in found.groups] == ["x", "y"]


def test_unknown_columns_and_a_single_group_are_refused(run: Path, table: Table) -> None:
    data = table("one", {"north": (22, 0.0)})
    with pytest.raises(OptionError, match="groups='city': no sample has this attribute"):
        visiongraft.fairness(run, data, groups="city")
    with pytest.raises(OptionError, match="are in one group, 'north'"):
        visiongraft.fairness(run, data, groups="site")


def test_the_command_prints_the_groups(run: Path, table: Table, capsys: Any) -> None:
    data = table("command", {"north": (22, 0.0), "south": (22, 0.5)})
    command = ["fairness", str(run), str(data), "--by", "site", "--replicates", "20"]
    weights = (run / "model" / "model.safetensors").read_bytes()
    assert main([*command, "--json", "--save"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [group["name"] for group in answer["groups"]] == ["north", "south"]
    assert main(command) == 0
    assert "largest difference in accuracy" in capsys.readouterr().out
    assert "## Fairness" in (run / "model" / "README.md").read_text()
    assert (run / "model" / "model.safetensors").read_bytes() == weights
    page = visiongraft.report(run, run / "page.html").read_text()
    assert "Measured on command.csv, by site" in page and "largest difference in accuracy" in page


def test_a_task_that_compares_images_is_refused(
    run: Path, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = visiongraft.load(run)
    monkeypatch.setattr(type(model.task), "metrics_over_pairs", True)
    with pytest.raises(OptionError, match="compares images with each other"):
        visiongraft.fairness(model, table("pairs", {"a": (22, 0.0)}), groups="site")


def test_own_metrics_are_compared_by_group_as_the_headline_is(run: Path, table: Table) -> None:
    data = table("own", {"north": (40, 0.0), "south": (40, 0.4)})
    metrics = ["f1=MulticlassF1Score", "each=MulticlassRecall(average=none)"]
    found = visiongraft.fairness(run, data, groups="site", replicates=20, metrics=metrics)
    whole = visiongraft.load(run).evaluate(data, by="site", metrics=metrics)
    for group in found.groups:
        value = group.metrics["f1"]
        assert value.value == pytest.approx(whole["groups"][group.name]["f1"])
        assert value.low <= value.value <= value.high
    assert found.own == ("f1",)  # lists cannot be compared
    assert found.chances["f1"] < 0.05
    assert "largest difference in f1" in found.statements()[-1]
    assert found.table()[0] == ["site", "images", "accuracy", "95 %", "f1", "95 %"]


def test_own_metrics_of_the_command_are_refused_in_one_line_if_they_do_not_fit(
    run: Path, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(table("command", {"north": (22, 0.0), "south": (22, 0.4)}))
    given = ["fairness", str(run), data, "--by", "site", "--replicates", "20"]
    assert main([*given, "--metric", "kappa=MulticlassCohenKappa"]) == 0
    assert "kappa" in capsys.readouterr().out
    assert main([*given, "--metric", "Kappa"]) != 0
    assert "torchmetrics has no metric 'Kappa'" in capsys.readouterr().err


class Planted:
    """Rows of which groups have values in the order they are asked for, and then none."""

    def __init__(self, *values: float) -> None:
        self.values = iter(values)

    def measure(self, positions: object) -> dict[str, float]:
        return {"own": next(self.values, float("nan"))}


@pytest.mark.filterwarnings("error")
def test_random_groups_without_a_value_do_not_make_a_difference_certain() -> None:
    labels, all_of_them = np.array(["a", "b"] * 10), np.arange(20)

    def chance(*values: float) -> float | None:
        return _chance(cast(Any, Planted(*values)), labels, all_of_them, "own", 0)

    assert chance(0.5, 0.9) is None  # no draw has a value
    assert chance() is None
    half = SHUFFLES // 2
    assert chance(0.5, 0.9, *[0.1, 0.9] * half) is None  # fewer than half of the draws have one
    assert chance(0.5, 0.9, *[0.1, 0.9] * (half + 1)) == 1.0
    assert chance(0.5, 0.9, *[0.9, 0.9] * SHUFFLES) == pytest.approx(1 / (1 + SHUFFLES))


def test_what_cannot_be_judged_is_said() -> None:
    groups = tuple(Group(name, 30, False, {}) for name in "ab")
    gap = {"f1": Estimate(0.4, 0.1, 0.5)}
    found = Fairness("f1", "site", groups, gap, {}, None, ("own",), {"own": None})
    assert found.statements() == [
        "largest difference in f1: 0.400 (0.100 to 0.500); most random groups have no value, so that it cannot be told "
        + "from chance",
        "own has no value in groups that could be compared",
    ]
