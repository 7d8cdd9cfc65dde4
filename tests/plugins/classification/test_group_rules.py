"""Models and exported files decide by the rules that they keep, when they are told the group of an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visiongraft
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, DataError, OptionError
from visiongraft.exporters.pt2.runtime import Pt2Predictor
from visiongraft.exporters.runtime import Predictor
from visiongraft.plugins.classification.prediction import Classified, MultiClassified
from visiongraft.plugins.classification.rules import decided
from visiongraft.task_contract.group_rules import RULES

NAMES = ["dark", "bright"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write gray images: of site ``b`` all are darker."""
    root = tmp_path_factory.mktemp("rules")
    generator = np.random.default_rng(0)
    lines, groups = ["path,label,site"], ["path,group"]
    for site in "ab":
        for i in range(40):
            shade = generator.normal(150 if i % 2 else 90, 15) - (45 if site == "b" else 0)
            pixels = generator.normal(shade, 5, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"{site}{i}.png")
            lines.append(f"{site}{i}.png,{NAMES[i % 2]},{site}")
            groups.append(f"{site}{i}.png,{site}")
    (root / "all.csv").write_text("\n".join(lines) + "\n")
    (root / "groups.csv").write_text("\n".join(groups) + "\n")
    return root


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    options = {"augment": "none", "class_names": NAMES}
    return visiongraft.fit(
        folder / "all.csv", task="classification", backbone="simple_cnn", weights=None, size=16,
        schedule="full", task_options=options, epochs=4, learning_rate=3e-3, device="cpu",
        out=folder / "run", callbacks=(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def thresholds(model: Any, folder: Path) -> Any:
    """Rules of the model, which it keeps: site ``b`` needs less to be called bright."""
    settings = {"groups": "site", "constraint": "true_positive_rate_parity"}
    return model.group_thresholds(folder / "all.csv", **settings, save=True)


@pytest.fixture(scope="module", params=["model.onnx", "model.pt2"])
def exported(model: Any, thresholds: Any, folder: Path, request: Any) -> Path:
    model.export(folder / request.param)
    return folder / request.param


def predictor_of(file: Path) -> Any:
    return (Pt2Predictor if file.suffix == ".pt2" else Predictor)(file)


def labels(predictions: list[Any]) -> list[str]:
    return [prediction.label for prediction in predictions]


def test_a_model_decides_as_its_rules_do(model: Any, thresholds: Any, files: Any) -> None:
    plain = model.predict(files)
    fair = model.predict(files, groups=lambda name: Path(name).name[0])
    for file, before, after in zip(files, plain, fair, strict=True):
        chance = thresholds.rules[file.name[0]].chances(np.array([before.probabilities["bright"]]))
        if chance[0] in (0, 1):  # not drawn at random
            assert (after.label == "bright") == bool(chance[0])
        assert after.probabilities == before.probabilities
    assert labels(plain) != labels(fair)


def test_an_exported_file_and_a_loaded_run_decide_alike(
    model: Any, exported: Path, folder: Path, files: Any
) -> None:
    groups = [file.name[0] for file in files]
    expected = labels(model.predict(files, groups=groups))
    predictor = predictor_of(exported)
    for found in (
        predictor.predict(files, groups=groups, batch_size=7),
        predictor.predict(files, groups=folder / "groups.csv"),
        visiongraft.load(folder / "run").predict(files, groups=str(folder / "groups.csv")),
    ):
        assert labels(found) == expected
    assert labels(predictor.predict(files)) == labels(model.predict(files))


def test_the_command_takes_a_table(
    exported: Path, folder: Path, files: Any, model: Any, capsys: Any
) -> None:
    few = [str(file) for file in files[:6]]
    command = ["predict", str(exported), *few, "--groups", str(folder / "groups.csv"), "--json"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out)["predictions"]
    expected = labels(model.predict(few, groups=folder / "groups.csv"))
    assert [one["label"] for one in answer] == expected


def test_unknown_groups_are_decided_as_before_and_counted(
    exported: Path, files: Any, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for predictor in (predictor_of(exported), model):
        caplog.clear()
        found = predictor.predict(files[:3], groups=["x", "x", "y"])
        assert labels(found) == labels(predictor.predict(files[:3]))
        assert "decided by 0.5: x (2) and y (1)" in caplog.text or "x (2), y (1)" in caplog.text


def test_what_has_no_rules_or_other_images_refuses_groups(
    folder: Path, exported: Path, files: Any, tmp_path: Path
) -> None:
    other = visiongraft.fit(
        folder / "all.csv", task="classification", backbone="simple_cnn", weights=None, size=16,
        schedule="linear_probe", epochs=1, device="cpu", callbacks=(),
    )  # fmt: skip
    with pytest.raises(OptionError, match="no thresholds by group; choose them"):
        other.predict(files[:1], groups=["a"])
    file = tmp_path / f"other{exported.suffix}"
    other.export(file)
    with pytest.raises(OptionError, match=r"other\..* has no thresholds by group"):
        predictor_of(file).predict(files[:1], groups=["a"])
    with pytest.raises(OptionError, match="groups has 1 names, and there are more images"):
        predictor_of(exported).predict(files[:2], groups=["a"])
    with pytest.raises(OptionError, match="groups has 3 names for 2 images"):
        predictor_of(exported).predict(files[:2], groups=["a"] * 3)
    with pytest.raises(DataError):
        predictor_of(exported).predict(files[:2], groups=tmp_path / "nothing.csv")


RULE = {"probabilities": [1.0], "thresholds": [0.3], "above": [True]}


def test_the_best_other_class_is_predicted_where_the_rule_is_against_one() -> None:
    rules = {"positive": "cat", "rules": {"x": {**RULE, "thresholds": [0.8]}}}
    sure = Classified("cat", 0.6, {"cat": 0.6, "cow": 0.1, "dog": 0.3})
    assert sure.by_group(rules, "x", 0.5) == Classified("dog", 0.3, sure.probabilities)
    several = MultiClassified(("cat", "dog"), {"cat": 0.6, "cow": 0.4, "dog": 0.9})
    assert several.by_group(rules, "x", 0.5).labels == ("dog",)
    lower = {"positive": "cow", "rules": {"x": RULE}}
    assert several.by_group(lower, "x", 0.5).labels == ("dog", "cat", "cow")


@given(draw=st.floats(0, 1, exclude_max=True), share=st.floats(0, 1))
def test_a_rule_at_random_decides_with_its_probability(draw: float, share: float) -> None:
    rule = {**RULE, "probabilities": [share, 1 - share], "thresholds": [0.3, 0.9]}
    rules = {"positive": "a", "rules": {"x": {**rule, "above": [True, True]}}}
    assert decided(rules, "x", {"a": 0.5, "b": 0.5}, draw) == (draw < share)


@pytest.mark.parametrize(
    "rules, message",
    [
        ({"positive": "cow", "rules": {}}, "about class 'cow', which is not predicted"),
        ({"positive": "a", "rules": {"x": {"thresholds": "?"}}}, "of group 'x' are damaged"),
    ],
)
def test_damaged_rules_are_refused(rules: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        decided(rules, "x", {"a": 1.0}, 0.5)


def test_the_model_card_states_the_rules(model: Any, thresholds: Any) -> None:
    assert set(model.facts[RULES]["rules"]) == {"a", "b"}
    card = (model.run_folder / "model" / "README.md").read_text()
    assert "## Group thresholds" in card
