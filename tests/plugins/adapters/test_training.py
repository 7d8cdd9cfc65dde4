"""Training with adapters: frozen means frozen, resume is exact, files are plain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.cli import main
from visiongraft.config import FitConfig
from visiongraft.errors import ArtifactError, OptionError
from visiongraft.lookup import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network

FAST: dict[str, Any] = {
    "task": "classification",
    "backbone": "timm/test_resnet",
    "weights": None,
    "schedule": "full(learning_rate=0.01)",
    "epochs": 2,
    "size": 32,
    "batch_size": 8,
    "workers": 0,
    "device": "cpu",
    "callbacks": (),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for index, name in enumerate(("red", "green")):
        (root / name).mkdir()
        for i in range(10):
            pixels = generator.integers(0, 150, (32, 32, 3), dtype=np.uint8)
            pixels[..., index] += 100
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A saved model whose backbone is the base of all others."""
    folder = tmp_path_factory.mktemp("base")
    visiongraft.fit(images, **{**FAST, "epochs": 1}).save(folder)
    return folder


@pytest.fixture(scope="module")
def fit(images: Path, base: Path) -> Callable[..., TransferModel]:
    def fit(**settings: Any) -> TransferModel:
        start = {"backbone": base, "weights": "pretrained"}
        return visiongraft.fit(images, **{**FAST, **start, **settings})

    return fit


@pytest.fixture(scope="module")
def run(fit: Callable[..., TransferModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "lora"
    fit(adapters=["lora(rank=2)", "bitfit"], out=folder, ema=0.9)
    return folder


def state(network: Network) -> dict[str, torch.Tensor]:
    return {n: t.detach().clone() for n, t in network.backbone.state_dict().items()}


# ---- frozen means frozen ----


def test_the_base_is_unchanged_and_under_the_receipt(
    fit: Callable[..., TransferModel], base: Path
) -> None:
    before = load_backbone(base).state_dict()
    model = fit(adapters=["lora(rank=2)"], schedule="full(batch_norm='train', learning_rate=0.01)")
    after = model.network.backbone.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert any(float(t.abs().max()) > 0 for n, t in after.items() if n.endswith("lora.b"))


def test_the_receipts_name_the_whole_base(run: Path, base: Path) -> None:
    frozen = {n for r in json.loads((run / "receipts.json").read_text()) for n in r["frozen"]}
    biases = {n for n, _ in load_backbone(base).named_parameters() if n.endswith("bias")}
    names = {f"backbone.{n}" for n in load_backbone(base).state_dict()}
    assert {n for n in frozen if n.startswith("backbone.")} == names - {
        f"backbone.{n}" for n in biases
    }


def test_a_probe_trains_no_adapter_and_a_stage_its_own(fit: Callable[..., TransferModel]) -> None:
    model = fit(adapters="lora(rank=2)", schedule="linear_probe", epochs=1)
    changed = lora_b(model)
    assert not any(changed.values())
    model = fit(adapters="lora(rank=2)", schedule="last_n(learning_rate=0.01)", epochs=1)
    stage_of, last = model.backbone_info.stage_of, model.network.backbone.stages[-1]
    assert {n for n, c in lora_b(model).items() if c} == {
        n for n in lora_b(model) if stage_of[n] == last
    }


def lora_b(model: TransferModel) -> dict[str, bool]:
    """Return which of the second factors have changed."""
    tensors = model.network.backbone.state_dict()
    return {n: bool(t.any()) for n, t in tensors.items() if n.endswith("lora.b")}


# ---- saved models ----


def test_a_saved_model_is_plain(run: Path, images: Path) -> None:
    model = visiongraft.load(run)
    plain = load_backbone("timm/test_resnet", None, size=32)
    assert [type(m) for m in model.network.backbone.modules()] == [type(m) for m in plain.modules()]
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["format"] == 3
    assert "adapters" not in config["backbone"]
    assert config["facts"]["training"]["adapters"][0]["name"] == "lora"
    assert "lora" in (run / "model" / "README.md").read_text()


def test_an_adapter_is_saved_without_its_base_and_loads_on_it(
    run: Path, base: Path, images: Path
) -> None:
    sizes = [
        (run / part).stat().st_size
        for part in ("adapter/adapter.safetensors", "model/model.safetensors")
    ]
    assert sizes[0] < sizes[1] / 3
    whole = visiongraft.load(run)
    adapted = visiongraft.load(run / "adapter", base=base)
    one, other = (m.predict(images / "red") for m in (whole, adapted))
    assert [p.class_name for p in one] == [p.class_name for p in other]
    np.testing.assert_allclose([p.score for p in one], [p.score for p in other], rtol=1e-4)


def test_an_adapter_is_refused_on_another_base(run: Path) -> None:
    with pytest.raises(ArtifactError, match="was trained on a base with other weights"):
        visiongraft.load(run / "adapter", base=load_backbone("timm/test_resnet", None, size=32))


def test_adapters_of_one_base_are_exchanged(
    fit: Callable[..., TransferModel], run: Path, base: Path, images: Path, tmp_path: Path
) -> None:
    fit(adapters="dora(rank=2)", epochs=1, seed=1).save_adapter(tmp_path / "dora")
    model = visiongraft.load(run / "adapter", base=base)
    first = state(model.network)
    model.use_adapter(tmp_path / "dora")
    assert any(".dora." in n for n in state(model.network))
    assert not any(".lora." in n for n in state(model.network))
    with pytest.raises(ArtifactError):
        model.use_adapter(tmp_path)
    model.use_adapter(run / "adapter")
    again = state(model.network)
    assert first.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_a_model_without_adapters_has_none_to_save(base: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="has no adapters of its own to save"):
        visiongraft.load(base).save_adapter(tmp_path)
    with pytest.raises(ArtifactError, match="holds no adapter"):
        visiongraft.load(base, base="timm/test_resnet")


@pytest.mark.slow
def test_an_exported_model_has_as_many_nodes_as_without_adapters(
    run: Path, base: Path, fit: Callable[..., TransferModel], tmp_path: Path
) -> None:
    counts = []
    for name, model in (
        ("plain", visiongraft.load(base)),
        ("merged", fit(adapters=["lora(rank=2)", "bitfit"], epochs=1)),
    ):
        certificate = model.export(tmp_path / f"{name}.onnx")
        assert certificate.images
        counts.append(len(onnx.load(tmp_path / f"{name}.onnx").graph.node))
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_what_cannot_be_merged_is_saved_loaded_and_exported(
    fit: Callable[..., TransferModel], images: Path, tmp_path: Path
) -> None:
    model = fit(adapters="bottleneck(width=4)", epochs=1)
    model.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["format"] == 4
    assert config["backbone"]["adapters"] == [{"name": "bottleneck", "options": {"width": 4}}]
    again = visiongraft.load(tmp_path / "model")
    one, other = (m.predict(images / "red") for m in (model, again))
    assert [p.score for p in one] == [p.score for p in other]
    again.save(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_text() == json.dumps(config, indent=2) + "\n"
    again.export(tmp_path / "model.onnx")
    backbone = load_backbone(tmp_path / "model")  # and is the base of others
    assert any("bottleneck" in name for name in backbone.state_dict())


def test_stoch_norm_trains_the_base_and_leaves_batch_norm(
    fit: Callable[..., TransferModel], base: Path, tmp_path: Path
) -> None:
    model = fit(adapters="stoch_norm", epochs=1)
    before, after = load_backbone(base).state_dict(), state(model.network)
    assert not torch.equal(before["model.conv1.weight"], after["model.conv1.weight"])
    assert not torch.equal(before["model.bn1.running_mean"], after["model.bn1.running_mean"])
    with pytest.raises(OptionError, match="beside 'stoch_norm' the base has trained as well; save"):
        model.save_adapter(tmp_path)


def test_an_adapter_whose_base_trained_is_not_saved_alone(
    fit: Callable[..., TransferModel], tmp_path: Path
) -> None:
    schedule = "full(trainable=['lora', 'stage4', 'head'], learning_rate=0.01)"
    model = fit(adapters="lora(rank=2)", schedule=schedule, epochs=1, out=tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()
    with pytest.raises(OptionError, match="beside 'lora' the base has trained as well"):
        model.save_adapter(tmp_path / "adapter")


# ---- settings ----


def test_adapters_are_part_of_the_settings(run: Path) -> None:
    config = FitConfig.read(run)
    assert config.adapters == [
        {"name": "lora", "options": {"rank": 2}},
        {"name": "bitfit", "options": {}},
    ]


def test_a_run_without_the_setting_has_no_adapters(run: Path, tmp_path: Path) -> None:
    values = json.loads((run / "config.json").read_text())
    del values["adapters"]
    (tmp_path / "config.json").write_text(json.dumps({**values, "format": 2}))
    assert FitConfig.read(tmp_path).adapters == []


def test_the_command_line_takes_several_adapters(
    images: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "fit",
        str(images),
        "--task",
        "classification",
        "--backbone",
        str(base),
        "--epochs",
        "1",
    ]
    words += ["--size", "32", "--device", "cpu", "--workers", "0", "--out", str(tmp_path / "run")]
    assert main([*words, "--adapter", "lora(rank=0)"]) == 2
    assert "adapter 'lora': rank=0 is not an integer of at least 1" in capsys.readouterr().err
    assert main([*words, "--adapter", "ia3", "--adapter", "norm"]) == 0
    config = FitConfig.read(tmp_path / "run")
    assert [each["name"] for each in config.adapters] == ["ia3", "norm"]


def test_adapters_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["adapters"]}
    names = {"bitfit", "bottleneck", "dora", "ia3", "lora", "norm", "stoch_norm"}
    assert names <= set(listed)
    assert listed["lora"]["options"]["rank"] == 8
