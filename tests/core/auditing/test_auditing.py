"""Attacks on models that remember their images and on those that cannot, and exact unlearning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.auditing import forgetting
from visiongraft.auditing.attacks import area, confidence, judge, likelihood_ratios, permitted_area
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, DataError, OptionError, ReceiptError
from visiongraft.saving.training_images import TrainingImages

SETTINGS: dict[str, Any] = {
    "task": "classification",
    "backbone": "simple_cnn",
    "weights": None,
    "size": 32,
    "schedule": "linear_probe",
    "task_options": {"augment": "none"},
    "device": "cpu",
    "callbacks": (),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with labels at random, which can only be learned by heart."""
    folder = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("val", 40)):
        for i in range(count):
            path = folder / part / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def learned(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "by-heart"
    visiongraft.fit(
        images, out=out, epochs=40, learning_rate=0.05, weight_decay=0, select="last", **SETTINGS
    )
    return out


def test_canaries_that_were_learned_by_heart_are_told_from_others(
    images: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "schedule": "full", "learning_rate": 5e-3, "epochs": 30}
    visiongraft.fit(images, out=tmp_path / "run", select="last", weight_decay=0, **settings)
    attack = visiongraft.audit(tmp_path / "run", shadows=0, canaries=20).attacks[-1]
    assert attack.name == "canaries" and attack.low > 0.6


def test_the_command_plants_canaries(learned: Path, capsys: Any) -> None:
    assert main(["audit", str(learned), "--shadows", "0", "--canaries", "20", "--json"]) == 0
    attack = json.loads(capsys.readouterr().out)["attacks"][-1]
    assert attack["name"] == "canaries" and attack["low"] < attack["auc"] < attack["high"]


def test_losses_with_weights_of_their_own_are_audited_by_canaries_alone(tmp_path: Path) -> None:
    """A saved model lacks these weights, and a loss with random ones would tell nothing."""
    generator = np.random.default_rng(0)
    for i in range(80):
        path = tmp_path / "people" / f"p{i % 20}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    settings = {**SETTINGS, "task": "face_embedding", "task_options": {}, "size": 16, "epochs": 1}
    visiongraft.fit(tmp_path / "people", out=tmp_path / "run", **settings)
    with pytest.raises(OptionError, match="has weights of its own, which are not saved"):
        visiongraft.audit(tmp_path / "run")
    found = visiongraft.audit(tmp_path / "run", canaries=20)
    assert [attack.name for attack in found.attacks] == ["canaries"]
    assert "weights of its own" in found.left_out["loss"]


def test_too_many_and_too_few_canaries_are_refused(learned: Path) -> None:
    for count in (3, 21):
        with pytest.raises(OptionError, match=f"canaries={count} is not from 20 to 20"):
            visiongraft.audit(learned, shadows=0, canaries=count)


def test_a_model_that_learned_by_heart_is_found_out_by_both_attacks(learned: Path) -> None:
    found = visiongraft.audit(learned, shadows=8)
    attacks = {attack.name: attack for attack in found.attacks}
    assert (found.members, found.others) == (40, 40)
    assert attacks["loss"].low > 0.55 and attacks["lira"].low > 0.55
    assert attacks["loss"].low < attacks["loss"].auc < attacks["loss"].high
    assert found.privacy == {} and found.left_out == {}


def test_a_model_that_has_learned_nothing_is_not(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    visiongraft.fit(images, out=out, epochs=1, learning_rate=1e-9, **SETTINGS)
    (loss,) = visiongraft.audit(out, shadows=0).attacks
    assert loss.low < 0.5 < loss.high


def test_what_privacy_permits_is_stated(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    private = "epsilon=1, delta=1e-3, accountant=rdp, noise_seed=0"
    visiongraft.fit(images, out=out, epochs=1, batch_size=40, privacy=private, **SETTINGS)
    found = visiongraft.audit(out, shadows=0)
    assert found.privacy["permitted_auc"] == permitted_area(found.privacy["epsilon"], 1e-3)
    assert 0.7 < found.privacy["permitted_auc"] < 0.735
    assert found.attacks[0].low < found.privacy["permitted_auc"]


def test_runs_that_trained_more_than_the_head_have_no_shadow_heads(
    images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    visiongraft.fit(images, out=out, epochs=1, **{**SETTINGS, "schedule": "full"})
    assert "trained more than its head" in visiongraft.audit(out).left_out["lira"]


def test_the_area_is_how_often_a_member_has_the_higher_score() -> None:
    members, others = np.array([1.0, 2.0, 2.0]), np.array([0.0, 2.0])
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert area(members, others) == pytest.approx(np.mean(pairs))
    assert judge("loss", members + 10, others).found_at_low_rate == 1.0


def test_lira_finds_images_whose_loss_is_lower_than_that_of_their_shadows_without_them() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 3, 200)  # some images are hard for all models
    inside = generator.random((16, 200)) < 0.5
    shadows = hard + 1.0 * inside + generator.normal(0, 0.5, inside.shape)
    member = np.arange(200) < 100
    target = hard + 1.0 * member + generator.normal(0, 0.5, 200)
    scores = likelihood_ratios(target, shadows, inside)
    assert area(scores[member], scores[~member]) > 0.85
    assert area(target[member], target[~member]) < 0.65
    assert np.all(np.diff(confidence(np.array([0.1, 1.0, 2.0]))) < 0)


@pytest.mark.parametrize("epsilon, delta", [(0.0, 0.0), (1.0, 0.0), (3.0, 1e-5)])
def test_the_permitted_area_is_that_of_the_worst_mechanism(epsilon: float, delta: float) -> None:
    p = (np.exp(epsilon) + 0) / (1 + np.exp(epsilon))  # randomized response
    assert permitted_area(epsilon, delta) == pytest.approx(p, abs=1e-4)


# ---- forgetting ----


@pytest.fixture(scope="module")
def without(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run, the same without two images, and one on a folder that never had them."""
    folder = tmp_path_factory.mktemp("forgetting")
    settings = {**SETTINGS, "epochs": 2}
    visiongraft.fit(images, out=folder / "run", **settings)
    gone = ["train/a/0.png", "train/b/1.png"]
    visiongraft.forget(folder / "run", [images / name for name in gone], out=folder / "without")
    for file in images.rglob("*.png"):
        if str(file.relative_to(images)) not in gone:
            link = folder / "never" / file.relative_to(images)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    visiongraft.fit(folder / "never", out=folder / "clean", **settings)
    return folder / "run", folder / "without", folder / "clean"


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return visiongraft.load(run).network.state_dict()


def test_a_model_that_forgot_equals_one_that_never_saw_the_images(without: Any) -> None:
    run, forgot, clean = map(tensors, without)
    assert all(torch.equal(tensor, clean[name]) for name, tensor in forgot.items())
    assert any(not torch.equal(tensor, clean[name]) for name, tensor in run.items())


def test_what_was_forgotten_is_recorded_and_no_longer_known(without: Any, images: Path) -> None:
    record = json.loads((without[1] / "forgotten.json").read_text())
    assert len(record["images"]) == 2 and record["training_images"] == 38
    assert record["frozen_as_before"] and record["frozen_tensors"] > 0
    counts = []
    for run in without[:2]:
        known = TrainingImages.read(run / "model")
        assert known is not None
        counts.append(len(known.images))
        text = (run / "inputs.json").read_text()
        assert (record["images"][0] in text) == (run == without[0])
    assert counts == [40, 38]
    assert not any(
        digest in (without[1] / "model" / "config.json").read_text() for digest in record["images"]
    )


def test_images_that_were_not_used_are_refused_before_any_training(
    without: Any, images: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    for wrong, message in (("other.png", "has not used"), ("missing.png", "cannot be read")):
        with pytest.raises(DataError, match=message):
            visiongraft.forget(without[0], [tmp_path / wrong], out=tmp_path / "out")
    with pytest.raises(OptionError, match="takes a list"):
        visiongraft.forget(without[0], str(tmp_path), out=tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_digests_of_no_image_are_counted_in_a_warning(images: Path, caplog: Any) -> None:
    visiongraft.fit(images, leave_out=["0" * 32], epochs=1, **SETTINGS)
    assert "leave_out: the dataset has no image of 1 of 1 digests" in caplog.text


def test_a_run_that_used_an_image_all_the_same_is_found(
    without: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(data: Any, **settings: Any) -> Any:
        return visiongraft.fit(data, **{**settings, "leave_out": None})

    monkeypatch.setattr(forgetting, "fit", forgetful)
    with pytest.raises(ReceiptError, match="still used the image"):
        visiongraft.forget(without[0], [images / "train/a/0.png"], out=tmp_path / "out")
    assert not (tmp_path / "out" / "forgotten.json").exists()


@pytest.mark.parametrize("inner", ["", "model"])
def test_folders_that_are_no_runs_are_refused(learned: Path, tmp_path: Path, inner: str) -> None:
    """As one of federated training, which has a model and no list of images, and that model itself."""
    shutil.copytree(learned / "model", tmp_path / "model")
    for act in (visiongraft.audit, lambda run: visiongraft.forget(run, ["x.png"], out=tmp_path)):
        with pytest.raises(ArtifactError, match="not the folder of a run"):
            act(tmp_path / inner)


def test_the_commands_audit_and_forget(
    without: Any, images: Path, tmp_path: Path, capsys: Any
) -> None:
    assert main(["audit", str(without[0]), "--shadows", "4", "--json"]) == 0
    assert {a["name"] for a in json.loads(capsys.readouterr().out)["attacks"]} == {"loss", "lira"}
    person = str(images / "train" / "a" / "2.png")
    assert main(["forget", str(without[0]), person, "--out", str(tmp_path / "out")]) == 0
    assert "1 images left out, 39 are left" in capsys.readouterr().out
    assert main(["audit", str(tmp_path)]) == 2
