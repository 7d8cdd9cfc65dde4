"""Thresholds by group: a planted difference shrinks, the cost is stated, and what has no meaning is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.plugins.classification.thresholds import PLAIN_RULE, Rule


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write gray images: of site ``b`` all are darker, so that one threshold misses its bright ones."""
    root = tmp_path_factory.mktemp("thresholds")
    generator = np.random.default_rng(0)
    for name, sites, count in (("train", "a", 40), ("all", "ab", 60), ("few", "abc", 24)):
        lines = ["path,label,site"]
        for site in sites:
            for i in range(4 if site == "c" else count):
                shade = generator.normal(150 if i % 2 else 90, 15) - (45 if site == "b" else 0)
                pixels = generator.normal(shade, 5, (16, 16, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / f"{name}-{site}{i}.png")
                lines.append(f"{name}-{site}{i}.png,{'bright' if i % 2 else 'dark'},{site}")
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    visiongraft.fit(
        folder / "train.csv",
        task="classification",
        backbone="simple_cnn",
        weights=None,
        size=16,
        schedule="full",
        task_options={"augment": "none", "class_names": ["dark", "bright"]},
        epochs=6,
        learning_rate=3e-3,
        device="cpu",
        out=folder / "run",
        callbacks=(),
    )
    return folder / "run"


@pytest.fixture(scope="module")
def found(run: Path, folder: Path) -> Any:
    model = visiongraft.load(run)
    return model.group_thresholds(folder / "all.csv", groups="site", constraint="equalized_odds")


def test_a_planted_difference_shrinks_on_images_that_did_not_choose(found: Any) -> None:
    before, after = found.gaps["true_positive_rate"]
    assert before.value > 0.5 and after.value < before.value / 2
    assert found.accuracies[1].value > found.accuracies[0].value
    assert found.positive == "bright" and not found.small


def test_decisions_use_the_rule_of_the_group(found: Any) -> None:
    scores = np.linspace(0, 1, 50)
    share = {site: found.decide(scores, [site] * 50).mean() for site in "ab"}
    assert share["b"] > share["a"]
    np.testing.assert_array_equal(found.decide(scores, ["unknown"] * 50), scores > 0.5)


def test_a_rule_mixes_thresholds_and_ignores_scores_with_its_probabilities() -> None:
    rule = Rule((0.25, 0.75), (0.2, 0.8), (True, True), ignored=0.5, constant=1.0)
    assert rule.chances(np.array([0.1, 0.5, 0.9])) == pytest.approx([0.5, 0.625, 1.0])


def test_small_groups_keep_the_plain_threshold(run: Path, folder: Path) -> None:
    model = visiongraft.load(run)
    found = model.group_thresholds(
        folder / "few.csv", groups="site", constraint="demographic_parity"
    )
    assert found.small == ("c",) and found.rules["c"] == PLAIN_RULE
    assert "too few images for a threshold of their own: c" in found.statements()


def test_what_has_no_meaning_is_refused(run: Path, folder: Path) -> None:
    model = visiongraft.load(run)
    for arguments, message in (
        ({"constraint": "parity"}, "constraint='parity'"),
        ({"positive": "brght"}, "did you mean 'bright'"),
        ({"groups": "sight"}, "did you mean 'site'"),
    ):
        with pytest.raises(OptionError, match=message):
            model.group_thresholds(folder / "all.csv", **{"groups": "site", **arguments})
    with pytest.raises(OptionError, match="at least two must"):
        model.group_thresholds(folder / "train.csv", groups="site")


def test_the_command_writes_the_rules(run: Path, folder: Path, capsys: Any) -> None:
    out = folder / "rules.json"
    command = ["group-thresholds", str(run), str(folder / "all.csv"), "--by", "site"]
    assert main([*command, "--out", str(out)]) == 0
    assert "largest difference in true positive rate" in capsys.readouterr().out
    assert set(json.loads(out.read_text())["rules"]) == {"a", "b"}
