"""Two generators and two critics learn, runs resume exactly, and one generator is kept and exported."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import visiongraft
from visiongraft.backbone import Backbone
from visiongraft.data.batch import Batch, StepInfo
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.translation.unpaired.cycle import CycleLoss
from visiongraft.plugins.translation.unpaired.example import write_example
from visiongraft.plugins.translation.unpaired.metrics import UnpairedMetrics
from visiongraft.plugins.translation.unpaired.pool import ImagePool
from visiongraft.plugins.translation.unpaired.task import CRITICS, UnpairedTranslation
from visiongraft.training.resuming.checkpoint import Checkpoint

OPTIONS: dict[str, Any] = {"channels": 8, "features_size": 32}


@pytest.fixture(scope="module")
def network() -> Network:
    return build()


def build(**options: Any) -> Network:
    torch.manual_seed(0)
    backbone = load_backbone("simple_cnn", weights=None, size=32)
    preprocess = replace(backbone.info.preprocess, resize="stretch")
    backbone.info = replace(backbone.info, preprocess=preprocess)
    return Network(backbone, UnpairedTranslation(**OPTIONS, **options))


def batch_for(optimizer: str, targets_of_each: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def target() -> Tensor:
        return torch.randint(0, 256, (20, 28, 3), generator=generator, dtype=torch.uint8)

    images = torch.randn(2, 3, 32, 32, generator=generator)
    targets = [[target() for _ in range(targets_of_each)] for _ in range(2)]
    step = StepInfo(optimizer)
    return Batch(images, targets, torch.tensor([[20, 28]] * 2), torch.arange(2), step)


def both(*names: str) -> set[str]:
    return {f"{name}{ending}" for name in names for ending in ("", "_inverse")}


@pytest.mark.parametrize(
    ("optimizer", "parts", "trained"),
    [
        (CRITICS, both("real", "fake"), {"loss.critics"}),
        (
            "generators",
            both("adversarial", "cycle", "identity"),
            {"backbone", "head", "loss.inverse"},
        ),
    ],
)
def test_each_optimizer_has_its_own_loss_of_which_its_parameters_have_gradients(
    network: Network, optimizer: str, parts: set[str], trained: set[str]
) -> None:
    network.zero_grad()
    found = network.train()(batch_for(optimizer))
    assert set(found) == parts
    torch.stack([*found.values()]).sum().backward()
    for name, parameter in network.named_parameters():
        if name.startswith(tuple(f"{part}." for part in trained)):
            unused = "stage2.dense" in name  # of the embedding, which decoders do not read
            assert unused or parameter.grad is not None, name
        elif optimizer == CRITICS:
            assert parameter.grad is None, name


def test_both_generators_begin_with_the_same_encoder_and_stay_two(network: Network) -> None:
    loss = network.loss
    assert isinstance(loss, CycleLoss)
    pairs = zip(network.backbone.parameters(), loss.inverse.backbone.parameters(), strict=True)
    assert all(torch.equal(one, other) and one is not other for one, other in pairs)
    first, second = (next(head.parameters()) for head in (network.head, loss.inverse.head))
    assert not torch.equal(first, second)


def test_generators_that_begin_without_a_change_have_no_cycle_and_identity_loss() -> None:
    whole = build(residual=True)
    batch = batch_for("generators")
    batch.images = whole.preprocess.normalize(torch.full((2, 3, 32, 32), 99.0))
    with torch.no_grad():
        found = whole.eval()(batch)
    for name in both("cycle", "identity"):
        assert found[name].item() < 1e-4
    assert found["adversarial"].item() > 0


def test_decoders_normalize_each_image_by_itself(network: Network) -> None:
    loss = network.loss
    assert isinstance(loss, CycleLoss)
    for head in (network.head, loss.inverse.head):
        assert not any(isinstance(module, _BatchNorm) for module in head.modules())
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        whole, alone = (
            network.train().head(network.backbone(x))["image"] for x in (images, images[:1])
        )
    assert torch.allclose(whole[:1], alone, atol=1e-5)


def test_an_identity_loss_without_weight_is_left_out() -> None:
    assert not any("identity" in part for part in build(identity_weight=0)(batch_for("generators")))


def test_one_of_several_targets_is_drawn(network: Network) -> None:
    torch.manual_seed(0)
    batch = batch_for("generators", targets_of_each=3)
    with torch.no_grad():
        values = {float(network.eval()(batch)["identity"]) for _ in range(12)}
    assert len(values) > 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"adversarial_loss": "wgan"},
        {"cycle_weight": 0},
        {"identity_weight": -1},
        {"features_size": 0},
        {"direction": "both"},
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        UnpairedTranslation(**wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (16, 32)}, "a critic needs images of 24 pixels"),
        ({"size": 32, "in_channels": 1}, "takes RGB images, not 1 channels"),
    ],
)
def test_other_inputs_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        UnpairedTranslation().build_head(load_backbone("simple_cnn", weights=None, **settings))


def test_padding_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    data = write_example(tmp_path, 4, seed=0)
    with pytest.raises(OptionError, match="leave out resize='pad'"):
        visiongraft.fit(data, task="unpaired_translation", resize="pad", epochs=1, **settings)


def test_a_repeated_target_counts_once() -> None:
    metrics = UnpairedMetrics("bundled/efficientnet_lite0", 32)
    image, other = (torch.full((8, 8, 3), value, dtype=torch.uint8) for value in (9, 99))
    metrics.update({"image": np.zeros((2, 3, 8, 8), np.float32)}, [[image], [image, other]])
    metrics.update({"image": np.zeros((1, 3, 9, 8), np.float32)}, [[other]])
    assert sum(map(len, metrics.sets.real)) == 2
    assert sum(map(len, metrics.sets.made)) == 3


# ---- runs ----


class SmallPools(UnpairedTranslation):
    """Fills its pools within a few steps, and can end the process between critics and generators."""

    left = 0

    def build_loss(self, backbone: Backbone) -> nn.Module:
        loss = super().build_loss(backbone)
        pools = {name: ImagePool((32, 32), capacity=3) for name in ("inputs", "targets")}
        loss.pools = nn.ModuleDict(pools)
        return loss

    def training_step(self, network: Network, batch: Batch) -> Any:
        if batch.step.optimizer != CRITICS:
            SmallPools.left -= 1
            if not SmallPools.left:
                raise KeyboardInterrupt
        return super().training_step(network, batch)


@dataclass
class Runs:
    """A run that was killed between critics and generators in each phase, and one that was not."""

    folder: Path
    killed: TransferModel
    whole: TransferModel

    def last(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of the network in the last checkpoint of a run."""
        path = self.folder / name / "checkpoints" / "last.safetensors"
        return Checkpoint.read(path).tensors["network"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    data = write_example(folder / "kinds", 10, seed=0)
    given = {**settings, "batch_size": 4, "epochs": 2, "schedule": "lp_ft", "workers": 0}

    def run(out: str, stop: int, **more: Any) -> TransferModel | None:
        SmallPools.left = stop
        try:
            task = SmallPools(**OPTIONS)
            return visiongraft.fit(data, task=task, out=folder / out, **given, **more)
        except KeyboardInterrupt:
            return None

    # There are two steps in each of the two phases, and pools are full after the first.
    assert run("killed", stop=2, checkpoint_every=1) is None
    assert run("killed", stop=2, resume=True) is None
    killed, whole = run("killed", stop=0, resume=True), run("whole", stop=0)
    assert killed is not None and whole is not None
    return Runs(folder, killed, whole)


def test_a_run_that_was_killed_with_full_pools_resumes_exactly(runs: Runs) -> None:
    killed, whole = runs.last("killed"), runs.last("whole")
    assert killed.keys() == whole.keys()
    pools = [killed[name] for name in killed if name.endswith("pools.targets.images")]
    assert [bool(images.any()) for images in pools] == [True]
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name


def test_receipts_cover_the_frozen_encoder_of_both_generators(runs: Runs) -> None:
    first, second = json.loads((runs.folder / "whole" / "receipts.json").read_text())
    prefixes = ("backbone.", "loss.inverse.backbone.")
    of_both = [
        {name.removeprefix(prefix) for name in first["frozen"] if name.startswith(prefix)}
        for prefix in prefixes
    ]
    assert of_both[0] == of_both[1] and of_both[0]
    assert (first["trainable"], second["trainable"]) == ("head", "all")


def test_what_is_kept_has_one_generator_and_no_critic(runs: Runs, tmp_path: Path) -> None:
    runs.whole.save(tmp_path / "model")
    loaded = visiongraft.load(tmp_path / "model", task=SmallPools)
    saved = loaded.network.inference_state()
    assert not any(name.startswith("loss.") for name in saved)
    for name, tensor in runs.whole.network.inference_state().items():
        assert torch.equal(saved[name], tensor)
    (made,) = loaded.predict([np.zeros((20, 24, 3), np.uint8)])
    assert made.image.shape == (20, 24, 3)


@pytest.mark.exhaustive
def test_the_command_trains_evaluates_exports_and_predicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from visiongraft.cli import main

    data = str(write_example(tmp_path / "kinds", 10, seed=0))
    run, exported = str(tmp_path / "run"), str(tmp_path / "model.onnx")
    fit = f"fit {data} --task unpaired_translation --backbone simple_cnn --weights none --size 32"
    fit += " --epochs 1 --batch-size 8 --schedule full --set channels=8 --set features_size=32"
    fit += f" --set direction=b_to_a --device cpu --out {run}"
    assert main(fit.split()) == 0
    assert main(["evaluate", run, data]) == 0
    assert "kid" in capsys.readouterr().out
    assert main(["export", run, exported]) == 0
    out = tmp_path / "out"
    assert main(["predict", exported, f"{data}/B", "--out", str(out)]) == 0
    assert len(list(out.glob("*.png"))) == 10
