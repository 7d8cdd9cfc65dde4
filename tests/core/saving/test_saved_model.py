"""The saved model: complete, checked, never pickled, and a backbone for the next task."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import visiongraft
from tests.core.conftest import Toy
from visiongraft.errors import ArtifactError, CheckpointError, VisiongraftError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.backbones import load_backbone
from visiongraft.saving.classes import is_class
from visiongraft.saving.files import read_json, write_json
from visiongraft.saving.saved_config import read_config
from visiongraft.saving.saved_model import is_saved_model
from visiongraft.saving.tensor_files import read_tensors, write_tensors

AUDITED = Path(__file__).with_name("run_audited.py")


@pytest.fixture(scope="module")
def model(fit_toy, toy_data):
    return fit_toy(toy_data(30), epochs=2)


@pytest.fixture
def saved(model, tmp_path) -> Path:
    model.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_loaded_model_predicts_bit_for_bit_what_was_saved(model, saved, toy_data):
    images = [image for image, _ in toy_data(9, seed=3)]
    loaded = visiongraft.load(saved)
    assert loaded.predict(images) == model.predict(images)
    assert loaded.evaluate(toy_data(9)) == model.evaluate(toy_data(9))
    for name, tensor in loaded.network.state_dict().items():
        if not name.startswith("loss."):
            assert torch.equal(tensor, model.network.state_dict()[name])
    assert not loaded.network.training


def test_a_loaded_model_has_the_memory_layout_of_a_trained_one(model, saved):
    # A map of 1x1 cells has both orders at once, so there the weights' order chooses the kernel.
    strides = [
        {n: t.stride() for n, t in m.network.inference_state().items()}
        for m in (model, visiongraft.load(saved))
    ]
    assert strides[0] == strides[1]
    assert any(len(s) == 4 and s[1] == 1 and s[0] > 1 for s in strides[0].values())


def test_the_folder_holds_weights_config_card_and_digests_and_no_loss(saved):
    names = {"model.safetensors", "config.json", "README.md", "training-images.safetensors"}
    assert {p.name for p in saved.iterdir()} == names
    config = read_json(saved / "config.json")
    assert (config["format"], config["task"]) == (3, "toy")
    assert config["backbone"]["name"] == "toys/toy"
    from safetensors import safe_open

    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert {n.split(".")[0] for n in file.keys()} == {"backbone", "head"}  # noqa: SIM118


def test_the_card_contains_data_schedule_metrics_and_receipts(saved):
    card = (saved / "README.md").read_text()
    for words in ("toys/toy", "training images | 24", "gradual", "share_right", "frozen tensors"):
        assert words in card


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.mark, "unpickled"))


@pytest.fixture
def stopped(fit_toy: Any, toy_data: Any, tmp_path: Path) -> Path:
    """A run that was stopped before its second phase, and weights files beside it."""

    class Stop:
        @hookimpl
        def phase_started(self, run: Any, index: int) -> None:
            if index == 1:
                raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit_toy(toy_data(20), out=run, schedule="lp_ft", epochs=2, callbacks=[Stop()])
    tensors = load_backbone("toys/toy", None).state_dict()
    torch.save(tensors, run / "backbone.pth")
    write_tensors(run / "backbone.safetensors", tensors, {})
    return run


@pytest.mark.slow
def test_loading_and_resuming_unpickle_nothing_and_run_nothing(
    saved: Path, stopped: Path, tmp_path: Path
) -> None:
    torch.save(Payload(tmp_path / "mark"), tmp_path / "bad.pth")
    words = [sys.executable, AUDITED, saved, stopped, tmp_path / "bad.pth"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.stdout == "loaded\n", done.stderr
    assert done.returncode == 1
    assert "forbidden: pickle.find_class" in done.stderr  # the hook does see pickles
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "backbone.pth", "backbone.safetensors"]
)
def test_a_pickle_instead_of_a_file_is_refused_and_not_run(
    saved: Path, tmp_path: Path, name: str
) -> None:
    payload = Payload(tmp_path / "mark")
    torch.save(payload, saved / name)
    for content in (None, pickle.dumps(payload)):
        if content is not None:
            (saved / name).write_bytes(content)
        with pytest.raises(VisiongraftError) as caught:
            if name.startswith("backbone"):
                load_backbone("toys/toy", saved / name)
            else:
                visiongraft.load(saved)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "mark").exists()
    pickle.loads(pickle.dumps(payload))
    assert (tmp_path / "mark").exists()  # the payload does work


@pytest.mark.parametrize("name", ["last.safetensors", "best-0.safetensors"])
def test_a_pickle_instead_of_a_checkpoint_is_refused_and_not_run(
    stopped: Path, tmp_path: Path, fit_toy: Any, toy_data: Any, name: str
) -> None:
    torch.save(Payload(tmp_path / "mark"), stopped / "checkpoints" / name)
    with pytest.raises(CheckpointError, match="is damaged"):
        fit_toy(toy_data(20), out=stopped, schedule="lp_ft", epochs=2, resume=True)
    assert not (tmp_path / "mark").exists()


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
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "not the config of a saved model"),
        (lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04junk"), "damaged"),
        (
            lambda f: spoil_json(f, format=1, visiongraft="0.1.0"),
            r"was saved by visiongraft 0\.1\.0 in format 1; visiongraft .* reads format 4",
        ),
        (lambda f: spoil_json(f, format=99, visiongraft="9.1.0"), r"saved by visiongraft 9\.1\.0"),
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


def test_weights_that_another_program_rewrote_in_another_type_are_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    with pytest.raises(
        ArtifactError, match=r"rewritten .*: 'backbone\..*' is float16, not float32"
    ):
        visiongraft.load(saved)


def test_a_missing_folder_and_an_unfinished_run_are_distinguished(tmp_path, fit_toy, toy_data):
    with pytest.raises(ArtifactError, match="is not a folder"):
        visiongraft.load(tmp_path / "nothing")
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=1)
    assert visiongraft.load(tmp_path / "run").run_folder == tmp_path / "run"
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="no finished model yet"):
        visiongraft.load(tmp_path / "run")


def test_metadata_survives_as_json(saved):
    assert json.loads((saved / "config.json").read_text())["facts"]["data"]["kind"] == "toy"


def test_a_model_is_not_loaded_for_another_task(saved: Path, Toy: Any) -> None:
    class Other(Toy):
        name = "other"

    with pytest.raises(ArtifactError, match="holds a model for task 'toy', not 'other'"):
        visiongraft.load(saved, task=Other)
    assert visiongraft.load(saved, task=Toy).task == visiongraft.load(saved).task


def test_the_backbone_of_a_saved_model_takes_weights_of_a_file(saved: Path, tmp_path: Path) -> None:
    tensors = {n: t + 1 for n, t in load_backbone(saved).state_dict().items()}
    write_tensors(tmp_path / "file.safetensors", tensors, {})
    backbone = load_backbone(saved, tmp_path / "file.safetensors")
    assert all(torch.equal(t, tensors[n]) for n, t in backbone.state_dict().items())
    assert backbone.info.provenance["weights"] == "file.safetensors"


# ---- the class of the task ----


@dataclass(frozen=True)
class Contrary(Toy):
    """Predicts another class than the task that it extends, under the same name."""

    def predictions(self, decoded: Any) -> list[Any]:
        return [int(2 - label) for label in decoded["label"]]


@pytest.fixture(scope="module")
def contrary(fit_toy, toy_data, tmp_path_factory) -> Path:
    model = fit_toy(toy_data(30), task=Contrary(augment=False), epochs=1)
    folder = tmp_path_factory.mktemp("contrary") / "saved"
    model.save(folder)
    return folder


def test_a_model_of_a_subclass_is_not_loaded_as_the_task_that_it_extends(contrary: Path) -> None:
    with pytest.raises(ArtifactError, match=r"class .*:Contrary, but task 'toy' is .*:Toy here"):
        visiongraft.load(contrary)
    with pytest.raises(ArtifactError, match=r"pass the class itself, load\(folder, task=MyTask\)"):
        visiongraft.load(contrary)


def test_a_model_of_a_subclass_is_loaded_with_its_class(contrary: Path, toy_data: Any) -> None:
    images = [image for image, _ in toy_data(9, seed=3)]
    as_saved = visiongraft.load(contrary, task=Contrary).predict(images)
    as_toy = visiongraft.load(contrary, task=Toy).predict(images)  # asked for
    assert [2 - label for label in as_toy] == as_saved


def test_a_run_of_a_subclass_is_not_evaluated_as_the_task_that_it_extends(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    fit_toy(toy_data(30), task=Contrary(augment=False), epochs=1, out=tmp_path / "run")
    with pytest.raises(ArtifactError, match="Contrary"):
        visiongraft.load(tmp_path / "run")


def test_the_class_of_the_backbone_must_be_the_same_too(saved: Path) -> None:
    spoil_json(saved, classes={"backbone": "other.place:OtherBackbone"})
    with pytest.raises(ArtifactError, match=r"'toys/toy' is .*:ToyBackbone here; install the plug"):
        visiongraft.load(saved)
    with pytest.raises(ArtifactError, match="OtherBackbone"):
        load_backbone(saved)


@pytest.mark.parametrize("module", ["__main__", "toys", "my.package.tasks"])
def test_a_class_may_move_to_another_module(saved: Path, module: str) -> None:
    spoil_json(saved, classes={"task": f"{module}:Toy"})
    assert visiongraft.load(saved).task.name == "toy"


def test_a_class_of_the_name_of_a_built_in_one_is_another() -> None:
    built_in = "visiongraft.plugins.classification.task:Classification"
    assert not is_class(built_in, "mine:Classification")
    assert not is_class("mine:Classification", built_in)
    assert is_class("mine.before:Classification", "mine:Classification")


def test_a_model_of_an_earlier_format_which_names_no_class_is_loaded(saved: Path) -> None:
    config = read_json(saved / "config.json")
    del config["classes"]
    write_json(saved / "config.json", {**config, "format": 2})
    assert visiongraft.load(saved).task.name == "toy"


def test_the_config_of_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        read_config(tmp_path / "nowhere")


# ---- wrong types ----

WRONG: list[Any] = [None, True, -1, 10**30, 0.5, float("nan"), "x", [], [1, "x"], {}, {"x": None}]


def entries(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every entry of a JSON value."""
    items = value.items() if isinstance(value, dict) else ()
    for key, inside in items:
        yield (*path, key)
        yield from entries(inside, (*path, key))


def with_entry(value: Any, path: tuple[Any, ...], entry: Any) -> Any:
    changed = json.loads(json.dumps(value))
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = entry
    return changed


def test_wrong_types_in_a_config_are_read_or_refused_in_one_line(saved: Path) -> None:
    config = read_json(saved / "config.json")
    refused = 0
    for path in entries({k: v for k, v in config.items() if k != "facts"}):
        for wrong in WRONG:
            write_json(saved / "config.json", with_entry(config, path, wrong))
            try:
                visiongraft.load(saved)
            except VisiongraftError as error:
                refused += 1
                assert "\n" not in str(error), (path, wrong)
                assert error.exit_code == 2
    assert refused > 100


def test_json_that_is_nested_too_deep_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(ArtifactError, match="is not valid JSON"):
        visiongraft.load(saved)


@pytest.mark.parametrize("name", ["backbone.blocks.stem.0.weight", "head.linear.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(saved: Path, name: str) -> None:
    tensors, metadata = read_tensors(saved / "model.safetensors")
    tensors[name].view(-1)[0] = float("nan")
    write_tensors(saved / "model.safetensors", tensors, metadata)
    with pytest.raises(ArtifactError, match=f"safetensors is damaged: tensor '{name}' contai"):
        visiongraft.load(saved)


def test_weights_of_another_type_are_refused_by_name(saved: Path) -> None:
    tensors, metadata = read_tensors(saved / "model.safetensors")
    tensors["head.linear.weight"] = tensors["head.linear.weight"].to(torch.int8)
    write_tensors(saved / "model.safetensors", tensors, metadata)
    with pytest.raises(ArtifactError, match=r"'head\.linear\.weight' has values of type int8"):
        visiongraft.load(saved)


def test_mutants_of_the_weights_file_are_read_or_refused_in_one_line(saved: Path) -> None:
    """Its header, that is: names, types, shapes and positions of the tensors."""
    file = saved / "model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    generator, refused = random.Random(0), 0
    for _ in range(60):
        mutant = bytearray(content)
        for _ in range(generator.randint(1, 3)):
            mutant[generator.randrange(header)] = generator.randrange(256)
        file.write_bytes(bytes(mutant))
        try:
            visiongraft.load(saved)
        except VisiongraftError as error:
            refused += 1
            assert "\n" not in str(error)
            assert error.exit_code == 2
    assert refused > 40
