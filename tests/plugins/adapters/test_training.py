"""Training with adapters: the base stays as it is, files are plain, adapters are exchanged."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import visiongraft
from visiongraft.adaptation.networks import apply_adapters
from visiongraft.cli import main
from visiongraft.config import FitConfig
from visiongraft.errors import ArtifactError, OptionError, VisiongraftError
from visiongraft.exporters.onnx.graph import trace
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.methods import find_adapter
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.classification.task import Classification
from visiongraft.preparation.arguments import new_settings
from visiongraft.preparation.resumed import resumed_settings

FAST: dict[str, Any] = {
    "task": "classification",
    "backbone": "simple_cnn",
    "weights": None,
    "schedule": "full(learning_rate=0.01)",
    "epochs": 1,
    "size": 16,
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
        for i in range(6):
            pixels = generator.integers(0, 150, (16, 16, 3), dtype=np.uint8)
            pixels[..., index] += 100
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A saved model whose backbone is the base of the others."""
    folder = tmp_path_factory.mktemp("base")
    visiongraft.fit(images, **FAST).save(folder)
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


def scores(model: TransferModel, images: Path) -> list[float]:
    return [prediction.score for prediction in model.predict(images / "red")]


# ---- frozen means frozen ----


def test_the_base_is_unchanged_while_adapters_train(
    fit: Callable[..., TransferModel], base: Path
) -> None:
    before = load_backbone(base).state_dict()
    after = fit(adapters="lora(rank=2)").network.backbone.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(bool(t.any()) for n, t in after.items() if n.endswith("lora.b"))


def test_receipts_cover_the_base(run: Path, base: Path) -> None:
    (receipt,) = json.loads((run / "receipts.json").read_text())
    names = {f"backbone.{n}" for n in load_backbone(base).state_dict() if not n.endswith("bias")}
    assert {n for n in receipt["frozen"] if n.startswith("backbone.")} == names


def test_what_no_phase_gives_an_effect_is_warned_of(
    fit: Callable[..., TransferModel], caplog: pytest.LogCaptureFixture
) -> None:
    both = {"adapters": ["lora(rank=2)"], "transfer_loss": ["delta", "l2_sp"]}
    fit(schedule="linear_probe", **both)
    assert "adapter 'lora' changed nothing" in caplog.text
    assert "transfer loss 'delta' acts on features, and changed nothing" in caplog.text
    assert "l2_sp' acts" not in caplog.text  # it acts on the head, too
    caplog.clear()
    fit(**both)
    assert "changed nothing" not in caplog.text


# ---- saved models ----


def test_a_saved_model_is_plain(run: Path) -> None:
    plain = load_backbone("simple_cnn", None, size=16)
    backbone = visiongraft.load(run).network.backbone
    assert [type(m) for m in backbone.modules()] == [type(m) for m in plain.modules()]
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["format"] == 3
    assert "adapters" not in config["backbone"]
    assert config["facts"]["training"]["adapters"][0]["name"] == "lora"
    assert "lora" in (run / "model" / "README.md").read_text()


def test_an_adapter_is_saved_without_its_base_and_loads_on_it(
    run: Path, base: Path, images: Path
) -> None:
    files = ("adapter/adapter.safetensors", "model/model.safetensors")
    small, large = ((run / file).stat().st_size for file in files)
    assert small < large / 10
    whole, adapted = visiongraft.load(run), visiongraft.load(run / "adapter", base=base)
    np.testing.assert_allclose(scores(adapted, images), scores(whole, images), rtol=1e-4)
    seen = [model.evaluate(images)["images_seen_in_training"] for model in (whole, adapted)]
    assert seen[0] == seen[1] > 0


def test_an_adapter_is_refused_on_another_base(run: Path) -> None:
    other = load_backbone("simple_cnn", None, size=16)
    with pytest.raises(ArtifactError, match="was trained on a base with other weights"):
        visiongraft.load(run / "adapter", base=other)


def test_adapters_of_one_base_are_exchanged(
    fit: Callable[..., TransferModel], run: Path, base: Path, tmp_path: Path
) -> None:
    fit(adapters="dora(rank=2)", seed=1).save_adapter(tmp_path / "dora")
    model = visiongraft.load(run / "adapter", base=base)
    first = state(model.network)
    model.use_adapter(tmp_path / "dora")
    assert any(".dora." in n for n in state(model.network))
    assert not any(".lora." in n for n in state(model.network))
    with pytest.raises(ArtifactError, match="is not the folder of an adapter"):
        model.use_adapter(tmp_path)
    model.use_adapter(run / "adapter")
    again = state(model.network)
    assert first.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())


def test_the_adapter_of_a_run_folder_is_found(run: Path, base: Path) -> None:
    model = visiongraft.load(run, base=base)
    assert (
        repr(model)
        == "TransferModel('classification' on 'simple_cnn', adapters=['lora', 'bitfit'])"
    )
    model.use_adapter(run)
    assert list(model.network.adapter_parameters) == ["lora", "bitfit"]


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({"source": "saved model base"}, "was trained on the saved model base; pass its folder"),
        ({"source": "file", "weights": "x.pth"}, "with the weights file x.pth; pass base=load_b"),
        (
            {"source": "visiongraft", "weights": "random"},
            "on simple_cnn with random weights; pass b",
        ),
    ],
)
def test_a_base_that_its_name_does_not_determine_must_be_passed(
    run: Path, tmp_path: Path, provenance: dict[str, str], message: str
) -> None:
    shutil.copytree(run / "adapter", tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["backbone"]["provenance"] = provenance
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=message):
        visiongraft.load(tmp_path)


@pytest.mark.parametrize("setting", ["start", "backbone"])
def test_training_from_an_adapter_alone_is_refused(images: Path, run: Path, setting: str) -> None:
    settings = {n: v for n, v in FAST.items() if n not in ("backbone", "weights")}
    with pytest.raises(VisiongraftError, match=f"{setting}=.*is the folder of an adapter"):
        visiongraft.fit(images, **settings, **{setting: run / "adapter"})


def test_a_model_without_adapters_has_none_to_save(base: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="has no adapters of its own to save"):
        visiongraft.load(base).save_adapter(tmp_path)
    with pytest.raises(ArtifactError, match="contains no adapter"):
        visiongraft.load(base, base="simple_cnn")


def test_an_adapter_whose_base_trained_is_not_saved_alone(
    fit: Callable[..., TransferModel], tmp_path: Path
) -> None:
    schedule = "full(trainable=['lora', 'stage2', 'head'], learning_rate=0.01)"
    model = fit(adapters="lora(rank=2)", schedule=schedule, out=tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()
    with pytest.raises(OptionError, match="beside 'lora' the base has trained as well"):
        model.save_adapter(tmp_path / "adapter")


@pytest.mark.slow
def test_an_exported_model_has_as_many_nodes_as_without_adapters(
    base: Path, fit: Callable[..., TransferModel], tmp_path: Path
) -> None:
    plain = trace(visiongraft.load(base).inference_graph(), (32, 32))
    fit(adapters=["lora(rank=2)", "bitfit"]).export(tmp_path / "merged.onnx", size=32)
    assert len(onnx.load(tmp_path / "merged.onnx").graph.node) == len(plain.graph.node)


@pytest.mark.slow
def test_what_cannot_be_merged_is_saved_loaded_and_exported(
    fit: Callable[..., TransferModel], images: Path, tmp_path: Path
) -> None:
    model = fit(adapters="bottleneck(width=4, targets=['stage?'])")
    model.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["format"] == 4
    assert [each["name"] for each in config["backbone"]["adapters"]] == ["bottleneck"]
    again = visiongraft.load(tmp_path / "model")
    assert scores(again, images) == scores(model, images)
    again.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == config
    again.export(tmp_path / "model.onnx", size=32)  # which traces faster than any size
    backbone = load_backbone(tmp_path / "model")  # and is the base of others
    assert any("bottleneck" in name for name in backbone.state_dict())


@pytest.mark.slow
def test_stoch_norm_trains_the_base_and_leaves_batch_norm(images: Path, tmp_path: Path) -> None:
    resnet = {**FAST, "backbone": "timm/test_resnet", "size": 32}
    model = visiongraft.fit(images, adapters="stoch_norm", **resnet)
    plain = visiongraft.fit(images, **resnet)
    one, other = state(model.network), state(plain.network)
    assert not torch.equal(one["model.conv1.0.weight"], other["model.conv1.0.weight"])
    assert one["model.conv1.1.num_batches_tracked"] == 2  # a phase that keeps others' statistics
    assert other["model.conv1.1.num_batches_tracked"] == 0
    with pytest.raises(OptionError, match="beside 'stoch_norm' the base has trained as well; save"):
        model.save_adapter(tmp_path)
    model.save(tmp_path / "model")
    assert not visiongraft.load(tmp_path / "model").network.backbone.adapters


def test_stoch_norm_in_frozen_batch_norms_is_refused() -> None:
    def applied(*adapters: str) -> None:
        backbone = load_backbone("timm/test_resnet", weights=None, size=32)
        network = Network(backbone, Classification(class_names=("red", "green")))
        apply_adapters(network, [find_adapter(each) for each in adapters])

    with pytest.raises(OptionError, match="'stoch_norm' has no effect beside 'lora': the layers"):
        applied("lora", "stoch_norm")
    applied("lora", "stoch_norm", "norm")


# ---- settings ----


def test_adapters_are_part_of_the_settings(run: Path, tmp_path: Path) -> None:
    assert FitConfig.read(run).adapters == [
        {"name": "lora", "options": {"rank": 2}},
        {"name": "bitfit", "options": {}},
    ]
    values = json.loads((run / "config.json").read_text())
    del values["adapters"]  # as in runs of format 2
    (tmp_path / "config.json").write_text(json.dumps({**values, "format": 2}))
    assert FitConfig.read(tmp_path).adapters == []


@pytest.mark.parametrize(
    ("schedule", "adapters", "options"),
    [
        ("lp_ft", ["lora"], {"learning_rate": 2e-3, "layer_decay": 1.0}),
        ("lp_ft(learning_rate=0.01)", ["lora"], {"learning_rate": 0.01, "layer_decay": 1.0}),
        ("full(layer_decay=0.9)", ["norm"], {"learning_rate": 2e-3, "layer_decay": 0.9}),
        ("linear_probe", ["lora"], {}),
        ("lp_ft", ["stoch_norm"], {}),  # trains the base, too
        ("lp_ft", [], {}),
    ],
)
def test_adapters_have_learning_rates_of_their_own_by_default(
    images: Path, schedule: str, adapters: list[str], options: dict[str, Any]
) -> None:
    defaults = {n: p.default for n, p in inspect.signature(visiongraft.fit).parameters.items()}
    settings = {"data": images, "task": "classification", "adapters": adapters}
    config, _, plan = new_settings({**defaults, **settings, "schedule": schedule})
    assert config.schedule["options"] == plan.options == options


def test_a_run_with_adapters_is_resumed_with_its_own_or_the_same_schedule(
    images: Path, run: Path
) -> None:
    options = {"learning_rate": 0.01, "layer_decay": 1.0}
    defaults = {n: p.default for n, p in inspect.signature(visiongraft.fit).parameters.items()}
    given = {**defaults, "data": images, "out": run, "resume": True}
    assert resumed_settings(run, given, defaults)[0].schedule["options"] == options
    given["schedule"] = FAST["schedule"]
    assert resumed_settings(run, given, defaults)[0].schedule["options"] == options


@pytest.mark.slow
def test_the_command_shows_adapters_their_rates_and_their_folder(
    images: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(images), "--out", str(run), "--resume", "--callback", "progress"]) == 0
    shown = capsys.readouterr()
    line = "adapters: lora, bitfit; schedule: full(learning_rate=0.01, layer_decay=1.0)"
    assert line in shown.err.splitlines()
    assert shown.out.endswith(f"model saved to {run / 'model'}, adapter to {run / 'adapter'}\n")


def test_adapters_are_listed_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters"]) == 0
    assert "rank=8, alpha=none, targets=(), rslora=false" in capsys.readouterr().out


def test_a_wrong_adapter_on_the_command_line_is_one_line(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", str(images), "--task", "classification", "--out", str(tmp_path / "run")]
    assert main([*words, "--adapter", "lora(rank=0)"]) == 2
    assert capsys.readouterr().err == (
        "error: adapter 'lora': rank=0 is not an integer of at least 1\n"
    )
    assert main([*words, "--adapter", "norm", "--adapter", "lorra"]) == 2
    assert "no adapter 'lorra'; did you mean 'lora'?" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "adapters",
    [
        ["lora(rank=2)", "norm"],
        *(
            pytest.param([each], marks=pytest.mark.exhaustive)
            for each in ("dora", "ia3", "bottleneck(width=4)", "bitfit", "norm", "stoch_norm")
        ),
    ],
)
def test_the_command_line_trains_with_adapters(
    adapters: list[str], images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["fit", str(images), "--task", "classification", "--backbone", "timm/test_resnet"]
    words += ["--weights", "none", "--epochs", "1", "--size", "32", "--device", "cpu"]
    for adapter in adapters:
        words += ["--adapter", adapter]
    assert main([*words, "--out", str(run)]) == 0
    config = FitConfig.read(run)
    assert [each["name"] for each in config.adapters] == [a.partition("(")[0] for a in adapters]
    assert json.loads((run / "receipts.json").read_text())
    assert visiongraft.load(run).evaluate(images)["images"] == 12


def test_adapters_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["adapters"]}
    names = {"bitfit", "bottleneck", "dora", "ia3", "lora", "norm", "stoch_norm"}
    assert names <= set(listed)
    assert listed["lora"]["options"]["rank"] == 8
