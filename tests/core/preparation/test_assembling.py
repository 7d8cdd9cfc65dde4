"""Models of published weights, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import visiongraft
from visiongraft.backbone import Backbone, Features
from visiongraft.cli import main
from visiongraft.errors import OptionError, WeightsError
from visiongraft.saving.saved_model import WEIGHTS
from visiongraft.task_contract.published import Published


class Pooled(nn.Module):
    """A head without weights."""

    def forward(self, features: Features) -> Tensor:
        return features.pooled[:, :3]


@pytest.fixture
def Plain(Toy: Any) -> Any:
    @dataclass(frozen=True)
    class Plain(Toy):
        name = "plain"

        def build_head(self, backbone: Backbone) -> nn.Module:
            return Pooled()

    return Plain


@pytest.fixture
def Known(Toy: Any) -> Any:
    """A task that recognizes the files of another library."""

    @dataclass(frozen=True)
    class Known(Toy):
        name = "known"

        def read_published(self, tensors: Mapping[str, Tensor]) -> Published | None:
            if "other.body.stem.0.weight" not in tensors:
                return None
            body = {
                n.replace("other.body.", "blocks."): t
                for n, t in tensors.items()
                if n.startswith("other.body.")
            }
            head = {
                n.removeprefix("other.head."): t
                for n, t in tensors.items()
                if n.startswith("other.head.")
            }
            options = {"classes": len(head["linear.weight"])}
            return Published("a network", "toys/toy", options, body, head, ("other.more.weight",))

    return Known


@pytest.fixture
def trained(Toy: Any) -> Any:
    backbone = visiongraft.load_backbone("toys/toy", None)
    return visiongraft.Network(backbone, Toy(classes=5)).eval()


def named(network: Any, path: Path) -> Path:
    state = {
        n.replace("backbone.blocks.", "other.body.").replace("head.", "other.head."): t
        for n, t in network.inference_state().items()
        if not n.startswith("preprocess.")
    }
    torch.save(state, path)
    return path


def same_outputs(one: Any, other: Any) -> bool:
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        found = [each.head(each.backbone(images)) for each in (one, other)]
    return torch.equal(*found)


def test_a_file_that_the_task_recognizes_needs_neither_backbone_nor_options(
    Known: Any, trained: Any, tmp_path: Path
) -> None:
    model = visiongraft.assemble(Known(), weights=named(trained, tmp_path / "other.pth"))
    assert model.task == Known(classes=5)
    assert same_outputs(model.network, trained)
    assert model.facts["assembled"] == {"of": "a network (other.pth)", "not used": ["other"]}
    provenance = model.backbone_info.provenance
    assert (provenance["weights"], provenance["architecture"]) == ("other.pth", "a network")
    model.save(tmp_path / "model")
    again = visiongraft.load(tmp_path / "model", task=Known)
    assert same_outputs(again.network, trained)


def test_a_run_starts_from_a_file_and_resumes_without_it(
    Known: Any, trained: Any, toy_data: Any, tmp_path: Path
) -> None:
    file = named(trained, tmp_path / "other.pth")
    settings: dict[str, Any] = {"task": Known(augment=False), "callbacks": ()}
    fitted = {**settings, "schedule": "full", "device": "cpu"}
    once = visiongraft.fit(toy_data(20), start=file, epochs=2, out=tmp_path / "run", **fitted)
    assert once.facts["start"] == {"backbone": "kept", "kept": ["norm", "linear"]}
    settings["task"] = Known(classes=5, augment=False)
    again = visiongraft.fit(toy_data(20), start=file, out=tmp_path / "run", resume=True, **settings)
    file.unlink()
    third = visiongraft.fit(toy_data(20), out=tmp_path / "run", resume=True, **settings)
    for name, tensor in once.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
        assert torch.equal(tensor, third.network.state_dict()[name])


def test_a_file_with_our_own_names_needs_a_backbone(Toy: Any, trained: Any, tmp_path: Path) -> None:
    torch.save(trained.state_dict(), tmp_path / "own.pth")
    model = visiongraft.assemble(Toy(classes=5), "toys/toy", tmp_path / "own.pth")
    assert same_outputs(model.network, trained)
    with pytest.raises(OptionError, match="no architecture that task 'toy' recognizes"):
        visiongraft.assemble(Toy(classes=5), weights=tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=r"does not fit the head .* \(5,\) instead of \(4,\)"):
        visiongraft.assemble(Toy(classes=4), "toys/toy", tmp_path / "own.pth")


def test_a_head_without_weights_needs_those_of_a_backbone_only(
    Plain: Any, Toy: Any, trained: Any, tmp_path: Path
) -> None:
    torch.save(trained.backbone.state_dict(), tmp_path / "body.pth")
    model = visiongraft.assemble(Plain(), "toys/toy", tmp_path / "body.pth")
    assert torch.equal(
        model.network.backbone.state_dict()["blocks.stem.0.weight"],
        trained.backbone.state_dict()["blocks.stem.0.weight"],
    )
    with pytest.raises(WeightsError, match="holds no weights of the head of task 'toy'"):
        visiongraft.assemble(Toy(), "toys/toy", tmp_path / "body.pth")


def test_the_file_of_a_saved_model_stands_for_its_folder(
    toy_data: Any, fit_toy: Any, tmp_path: Path
) -> None:
    first = fit_toy(toy_data(20), out=tmp_path / "run", epochs=1, schedule="full")
    settings: dict[str, Any] = {"epochs": 1, "schedule": "full", "callbacks": (), "device": "cpu"}
    again = visiongraft.fit(toy_data(20), start=tmp_path / "run" / "model" / WEIGHTS, **settings)
    assert again.task == first.task


def test_the_command_writes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from visiongraft.plugins.classification.task import Classification

    network = visiongraft.Network(
        visiongraft.load_backbone("simple_cnn", None, size=32), Classification(("a", "b"))
    )
    torch.save(network.state_dict(), tmp_path / "own.pth")
    arguments = ["assemble", "--task", "classification", "--backbone", "simple_cnn", "--size", "32"]
    arguments += ["--weights", str(tmp_path / "own.pth"), "--set", "class_names=a,b"]
    assert main([*arguments, "--out", str(tmp_path / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backbone"] == "simple_cnn"
    assert visiongraft.load(tmp_path / "model").task.class_names == ("a", "b")
    assert main([*arguments, "--out", str(tmp_path / "model")]) == 2
    assert "already exists" in capsys.readouterr().err
