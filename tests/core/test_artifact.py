"""The saved model: complete, checked, never pickled, and a backbone for the next task."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import visiongraft
from visiongraft.artifact import is_saved_model
from visiongraft.backbone import load_backbone
from visiongraft.errors import ArtifactError, VisiongraftError
from visiongraft.files import read_json, write_json


@pytest.fixture
def model(fit_toy, toy_data):
    return fit_toy(toy_data(30), epochs=2)


@pytest.fixture
def saved(model, tmp_path) -> Path:
    model.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_loaded_model_predicts_bit_for_bit_what_was_saved(model, saved, toy_data):
    pictures = [picture for picture, _ in toy_data(9, seed=3)]
    loaded = visiongraft.load(saved)
    assert loaded.predict(pictures) == model.predict(pictures)
    assert loaded.evaluate(toy_data(9)) == model.evaluate(toy_data(9))
    for name, tensor in loaded.network.state_dict().items():
        if not name.startswith("loss."):
            assert torch.equal(tensor, model.network.state_dict()[name])
    assert not loaded.network.training


def test_the_folder_holds_weights_config_and_card_and_no_loss(saved):
    assert {p.name for p in saved.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    config = read_json(saved / "config.json")
    assert (config["format"], config["task"]) == (1, "toy")
    assert config["backbone"]["name"] == "toys/toy"
    from safetensors import safe_open

    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert {n.split(".")[0] for n in file.keys()} == {"backbone", "head"}  # noqa: SIM118


def test_the_card_tells_data_schedule_metrics_and_receipts(saved):
    card = (saved / "README.md").read_text()
    for words in ("toys/toy", "training pictures | 24", "gradual", "share_right", "frozen tensors"):
        assert words in card


def test_loading_never_touches_pickle(saved, tmp_path):
    script = tmp_path / "load.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from conftest import register_toys, toy_data\n"
        "import visiongraft, visiongraft.model\n"
        "register_toys()\n"
        "def forbid(event, args):\n"
        "    if event == 'pickle.find_class':\n"
        "        raise RuntimeError(f'unpickled {args}')\n"
        "sys.addaudithook(forbid)\n"
        f"model = visiongraft.load({str(saved)!r})\n"
        "model.predict([picture for picture, _ in toy_data(2)])\n"
        "if sys.argv[1:] == ['fault']:\n"
        "    import pickle\n"
        "    pickle.loads(pickle.dumps(print))\n"
    )
    good = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert good.returncode == 0, good.stderr
    bad = subprocess.run(
        [sys.executable, str(script), "fault"], capture_output=True, text=True, check=False
    )
    assert "unpickled" in bad.stderr  # the hook does see pickles


def test_a_saved_model_is_the_backbone_of_the_next_fit(model, saved, fit_toy, toy_data):
    assert is_saved_model(saved)
    backbone = load_backbone(saved)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, model.network.backbone.state_dict()[name])
    assert backbone.info.provenance["source"] == "saved model saved"
    run = saved.parent / "run"
    shutil.copytree(saved, run / "model", dirs_exist_ok=True)
    assert load_backbone(run).info.provenance["source"] == "saved model run"
    random = load_backbone(saved, weights=None)
    assert not torch.equal(
        random.blocks["stem"][0].weight, model.network.backbone.blocks["stem"][0].weight
    )
    onward = fit_toy(
        toy_data(30), backbone=saved, weights="pretrained", schedule="linear_probe", epochs=1
    )
    for name, tensor in onward.network.backbone.state_dict().items():
        assert torch.equal(tensor, backbone.state_dict()[name])


def spoil_json(folder: Path, **changes: object) -> None:
    values = read_json(folder / "config.json")
    values.update(changes)
    write_json(folder / "config.json", {k: v for k, v in values.items() if v is not None})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors does not exist"),
        (lambda f: (f / "config.json").write_text("{"), "no valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not the config of a saved model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04junk"), "damaged"),
        (lambda f: spoil_json(f, format=99), "another format"),
        (lambda f: spoil_json(f, task=None), "'task' is missing"),
        (lambda f: spoil_json(f, surplus=1), "unknown entries"),
        (lambda f: spoil_json(f, task="nothing"), "no task 'nothing'"),
        (lambda f: spoil_json(f, task_options={"classes": 5}), "does not fit"),
        (lambda f: spoil_json(f, task_options={"clases": 5}), "did you mean 'classes'"),
        (lambda f: spoil_json(f, backbone={}), "does not describe a model"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(saved, spoil, words):
    spoil(saved)
    with pytest.raises(VisiongraftError, match=words) as caught:
        visiongraft.load(saved)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_an_unfinished_run_are_told_apart(tmp_path, fit_toy, toy_data):
    with pytest.raises(ArtifactError, match="is no folder"):
        visiongraft.load(tmp_path / "nothing")
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=1)
    assert visiongraft.load(tmp_path / "run").run_folder == tmp_path / "run"
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="no finished model yet"):
        visiongraft.load(tmp_path / "run")


def test_metadata_survives_as_json(saved):
    assert json.loads((saved / "config.json").read_text())["facts"]["data"]["kind"] == "toy"
