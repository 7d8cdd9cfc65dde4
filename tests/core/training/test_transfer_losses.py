"""Transfer losses pull towards the source, are exact on resume, and cannot change the source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from visiongraft.data.batch import Batch
from visiongraft.errors import (
    CheckpointError,
    OptionError,
    PluginError,
    ReceiptError,
    TrainingError,
    VisiongraftError,
)
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup import find_transfer_loss
from visiongraft.network import Network
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Phase
from visiongraft.training.checkpoint import Checkpoint
from visiongraft.training.freezing import check_optimizers
from visiongraft.training.trainable import apply_phase, parameter_groups
from visiongraft.training.transfer_losses import L2SP, Transfer, TransferLoss, TransferStep

FULL = {"schedule": "full(learning_rate=0.02)", "weight_decay": 0.0, "epochs": 3, "device": "cpu"}


class Embeddings(TransferLoss):
    """Keeps embeddings close to the source's, with a learned projection."""

    name = "embeddings"
    reads_features = True

    def __init__(self, backbone: Any, source: Any, *, weight: float = 1.0) -> None:
        super().__init__(backbone, source)
        self.weight = weight
        self.project = nn.Linear(source.info.embedding_dim, source.info.embedding_dim)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        moved = self.project(step.features.pooled) - step.source_features().pooled
        return {"distance": self.weight * moved.square().sum(1).mean()}


class Undeclared(Embeddings):
    name = "undeclared"
    reads_features = False


class Hoarder(TransferLoss):
    """Registers the source backbone, which would train it."""

    name = "hoarder"

    def __init__(self, backbone: Any, source: Any) -> None:
        super().__init__(backbone, source)
        self.source = source

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        return {}


class Writer(TransferLoss):
    """Writes to the source backbone."""

    name = "writer"

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        next(step.source.parameters()).add_(0.1)
        return {}


class Failing(TransferLoss):
    name = "failing"

    def __init__(self, backbone: Any, source: Any) -> None:
        raise KeyError("cannot be made")

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        return {}


KINDS = [Embeddings, Undeclared, Hoarder, Writer, Failing]


@pytest.fixture(autouse=True, scope="module")
def losses_are_registered() -> None:
    if "embeddings" not in plugins().losses():
        plugin = SimpleNamespace(
            register_losses=hookimpl(lambda: KINDS, specname="register_losses")
        )
        assert plugins().register(plugin, "test-losses").problems == []


def distance(model: Any, source: dict[str, Tensor]) -> float:
    now = dict(model.network.backbone.named_parameters())
    return sum(float((now[n].detach() - source[n]).square().sum()) for n in now) ** 0.5


@pytest.fixture(scope="module")
def start(fit_toy: Any, toy_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Train a source model; its backbone is what the others start from."""
    folder = tmp_path_factory.mktemp("source")
    fit_toy(toy_data(30), epochs=2, out=folder)
    yield folder


def fit_from(start: Path, fit_toy: Any, data: Any, **settings: Any) -> Any:
    defaults = {**FULL, "backbone": start, "weights": "pretrained"}
    return fit_toy(data, **{**defaults, **settings})


def source_of(start: Path) -> dict[str, Tensor]:
    from visiongraft.lookup import load_backbone

    return {n: p.detach() for n, p in load_backbone(start).named_parameters()}


# ---- l2_sp ----


def test_a_large_alpha_keeps_the_backbone_near_its_source(
    start: Path, fit_toy: Any, toy_data: Any
) -> None:
    source = source_of(start)
    moved = {}
    for alpha in (None, 5.0, 500.0):
        loss = None if alpha is None else f"l2_sp(alpha={alpha}, beta=0)"
        settings = {"transfer_loss": loss, "optimizer": "sgd", "clip_norm": None}
        settings["schedule"] = "full(learning_rate=0.002)"
        moved[alpha] = distance(fit_from(start, fit_toy, toy_data(45), **settings), source)
    assert moved[500.0] < 0.2 * moved[None]
    assert moved[500.0] < moved[5.0] < moved[None]


def test_l2_sp_is_half_the_squared_distance_times_its_weights(toy_network: Network) -> None:
    choice = find_transfer_loss("l2_sp(alpha=0.2, beta=0.4)")
    transfer = Transfer(choice, toy_network.backbone)
    apply_phase(toy_network, Phase(1, "all"))
    with torch.no_grad():
        for parameter in toy_network.backbone.parameters():
            parameter.add_(0.5)
    parts = transfer.add(toy_network.backbone, toy_network.head, lambda: {"own": torch.ones(())})
    moved = sum(p.numel() for p in toy_network.backbone.parameters()) * 0.25
    norm = sum(float(p.square().sum()) for p in toy_network.head.parameters())
    assert parts.keys() == {"own", "l2_sp.backbone", "l2_sp.head"}
    assert float(parts["l2_sp.backbone"]) == pytest.approx(0.1 * moved, rel=1e-5)
    assert float(parts["l2_sp.head"]) == pytest.approx(0.2 * norm, rel=1e-5)


def test_l2_sp_pulls_each_trainable_weight_straight_back(toy_network: Network) -> None:
    transfer = Transfer(find_transfer_loss("l2_sp(alpha=3.0)"), toy_network.backbone)
    apply_phase(toy_network, Phase(1, "stage2"))
    with torch.no_grad():
        for parameter in toy_network.backbone.parameters():
            parameter.add_(0.5)
    parts = transfer.add(toy_network.backbone, toy_network.head, dict)
    parts["l2_sp.backbone"].backward()
    for name, parameter in toy_network.backbone.named_parameters():
        if "stage2" in name:
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, torch.full_like(parameter, 1.5), atol=1e-5)
        else:
            assert parameter.grad is None  # frozen


def test_l2_sp_is_zero_where_nothing_of_the_backbone_trains(toy_network: Network) -> None:
    transfer = Transfer(find_transfer_loss("l2_sp"), toy_network.backbone)
    apply_phase(toy_network, Phase(1, "head"))
    parts = transfer.add(toy_network.backbone, toy_network.head, dict)
    assert float(parts["l2_sp.backbone"]) == 0


@pytest.mark.parametrize("options", ["alpha=-1", "beta='much'", "alpha=True"])
def test_l2_sp_refuses_other_weights(toy_network: Network, options: str) -> None:
    with pytest.raises(OptionError, match="of l2_sp is not a number of at least 0"):
        Transfer(find_transfer_loss(f"l2_sp({options})"), toy_network.backbone)


# ---- in a run ----


def test_the_parts_of_a_transfer_loss_are_recorded_by_name(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    model = fit_toy(
        toy_data(30), **{**FULL, "epochs": 1}, transfer_loss="l2_sp", out=tmp_path / "run"
    )
    record = (tmp_path / "run" / "metrics.jsonl").read_text()
    for name in ("entropy", "l2_sp.backbone", "l2_sp.head"):
        assert f'"{name}"' in record
    assert model.facts["training"]["transfer_loss"] == {"name": "l2_sp", "options": {}}
    assert "transfer_loss" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_the_saved_model_holds_nothing_of_the_loss(
    fit_toy: Any, toy_data: Any, tmp_path: Path, Toy: Any
) -> None:
    from visiongraft import load
    from visiongraft.saving.tensor_files import read_tensors

    model = fit_toy(
        toy_data(30), **{**FULL, "epochs": 1}, transfer_loss="embeddings", out=tmp_path / "run"
    )
    assert model.network.transfer is None
    tensors, _ = read_tensors(tmp_path / "run" / "model" / "model.safetensors")
    assert {name.split(".")[0] for name in tensors} <= {"backbone", "head", "preprocess"}
    assert load(tmp_path / "run").predict(toy_data(3)[0][0]) == model.predict(toy_data(3)[0][0])


def test_a_run_without_a_transfer_loss_is_what_it_was(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    model = fit_toy(toy_data(30), epochs=1, out=tmp_path / "run")
    point = Checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert not [name for name in point.tensors["network"] if name.startswith("transfer")]
    assert "transfer_loss" not in model.facts["training"]


class Stop:
    def __init__(self, step: int) -> None:
        self.left = step

    @hookimpl
    def step_ended(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("loss", ["l2_sp(alpha=0.5)", "embeddings(weight=0.5)"])
def test_a_run_with_a_transfer_loss_resumes_exactly(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path, loss: str
) -> None:
    settings = {"transfer_loss": loss, "checkpoint_every": 1, "ema": 0.9, "epochs": 2}
    whole = fit_from(start, fit_toy, toy_data(40), out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        fit_from(
            start, fit_toy, toy_data(40), out=tmp_path / "part", callbacks=[Stop(3)], **settings
        )
    again = fit_from(start, fit_toy, toy_data(40), out=tmp_path / "part", resume=True, **settings)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
    one, other = (
        Checkpoint.read(tmp_path / run / "checkpoints" / "last.safetensors")
        for run in ("whole", "part")
    )
    for group, tensors in one.tensors.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other.tensors[group][name]), f"{group} {name}"
    if loss.startswith("embeddings"):  # its own parameters trained, and came back
        assert "transfer.loss.project.weight" in one.tensors["network"]
        assert "transfer.loss.project.weight" in str(one.tensors["optimizer"].keys())


def test_resuming_from_another_source_is_refused(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    import shutil

    source = tmp_path / "source"
    shutil.copytree(start, source)
    settings = {"transfer_loss": "l2_sp", "out": tmp_path / "run", "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        fit_from(source, fit_toy, toy_data(40), callbacks=[Stop(3)], **settings)
    shutil.rmtree(source)
    fit_toy(toy_data(60, seed=4), epochs=1, out=source)  # another model under the same name
    with pytest.raises(CheckpointError, match="the file of backbone has other content"):
        fit_from(source, fit_toy, toy_data(40), resume=True, **settings)


@pytest.mark.parametrize("other", ["l2_sp(alpha=0.2)", None, "embeddings"])
def test_resuming_with_another_transfer_loss_is_refused(
    fit_toy: Any, toy_data: Any, tmp_path: Path, other: str | None
) -> None:
    settings = {**FULL, "out": tmp_path / "run", "epochs": 1}
    fit_toy(toy_data(30), transfer_loss="l2_sp(alpha=0.1)" if other else None, **settings)
    given = other or "l2_sp"
    with pytest.raises(CheckpointError, match="transfer_loss="):
        fit_toy(toy_data(30), transfer_loss=given, resume=True, **settings)


def test_features_of_both_backbones_are_of_the_same_images(toy_network: Network) -> None:
    seen: list[TransferStep] = []

    class Watch(Embeddings):
        def forward(self, step: TransferStep) -> dict[str, Tensor]:
            seen.append(step)
            return super().forward(step)

    toy_network.transfer = Transfer(
        find_transfer_loss("embeddings").__class__("embeddings", Watch, {}), toy_network.backbone
    )
    apply_phase(toy_network, Phase(1, "all"))
    toy_network.eval()
    images = torch.randn(5, 3, 16, 16)
    batch = Batch(images, torch.tensor([0, 1, 2, 0, 1]), torch.ones(5, 2), torch.arange(5))
    parts = toy_network(batch)
    assert "embeddings.distance" in parts
    (step,) = seen
    assert torch.equal(step.features.pooled, step.source_features().pooled)
    assert step.features.pooled.requires_grad
    assert not step.source_features().pooled.requires_grad
    toy_network(batch)["embeddings.distance"].backward()
    assert all(p.grad is None for p in toy_network.transfer.source.parameters())
    assert not toy_network.backbone._forward_hooks


def test_nothing_is_replayed_where_the_loss_needs_the_images(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings = {"schedule": "linear_probe", "epochs": 2, "device": "cpu"}
    for loss, replayed in (("l2_sp", True), ("embeddings", False)):
        fit_toy(toy_data(40), transfer_loss=loss, out=tmp_path / loss, **settings)
        lines = (tmp_path / loss / "metrics.jsonl").read_text()
        assert f'"replayed": {str(replayed).lower()}' in lines
    assert (
        "no replay: transfer loss 'embeddings' needs the images"
        in (tmp_path / "embeddings" / "run.log").read_text()
    )


# ---- the source stays what it is ----


def test_the_source_is_no_part_of_the_network_but_goes_with_it(toy_network: Network) -> None:
    toy_network.transfer = Transfer(find_transfer_loss("embeddings"), toy_network.backbone)
    own = {id(p) for p in toy_network.parameters()}
    source = toy_network.transfer.source
    assert not own & {id(p) for p in source.parameters()}
    assert [n for n in toy_network.state_dict() if n.startswith("transfer.")] == [
        "transfer.loss.project.weight",
        "transfer.loss.project.bias",
    ]
    toy_network.train().double()
    assert {p.dtype for p in source.parameters()} == {torch.float64}
    assert not any(module.training for module in source.modules())
    assert not any(p.requires_grad for p in source.parameters())


def test_a_losss_own_parameters_train_with_the_head(toy_network: Network) -> None:
    toy_network.transfer = Transfer(find_transfer_loss("embeddings"), toy_network.backbone)
    apply_phase(toy_network, Phase(1, "head"))
    groups = parameter_groups(toy_network, Phase(1, "head", 0.1), 0.05)
    names = {name: group["lr"] for group in groups for name in group["names"]}
    assert names["transfer.loss.project.weight"] == names["head.linear.weight"] == 0.1
    optimizer = torch.optim.AdamW(groups)
    assert check_optimizers(toy_network, [optimizer], "here") == len(names)


def test_a_loss_that_writes_to_the_source_breaks_the_receipt(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(ReceiptError, match="source backbone of transfer loss 'writer' changed in"):
        fit_toy(toy_data(30), transfer_loss="writer", **FULL)


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        ("hoarder", PluginError, "'hoarder' registers a backbone as its own"),
        ("failing", PluginError, "'failing' cannot be made: KeyError: 'cannot be made'"),
        ("undeclared", TrainingError, "set reads_features = True"),
        ("l2sp", PluginError, "no loss 'l2sp'; did you mean 'l2_sp'?"),
        ("l2_sp(alfa=1)", OptionError, "transfer loss 'l2_sp' has no option 'alfa'; did you mean"),
        ("l2_sp(1", OptionError, "is neither 'name' nor 'name"),
    ],
)
def test_a_wrong_transfer_loss_is_one_line(
    fit_toy: Any, toy_data: Any, loss: str, error: type[VisiongraftError], words: str
) -> None:
    with pytest.raises(error, match=words.replace("(", r"\(").replace("?", r"\?")) as caught:
        fit_toy(toy_data(30), transfer_loss=loss, **FULL)
    assert "\n" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(["alpha", "beta"]), st.floats(0, 10, allow_nan=False)))
def test_a_choice_comes_back_from_what_a_run_stores(options: dict[str, float]) -> None:
    words = ", ".join(f"{name}={value!r}" for name, value in options.items())
    choice = find_transfer_loss(f"l2_sp({words})")
    assert (choice.kind, choice.options) == (L2SP, options)
    assert find_transfer_loss(choice.to_json()) == choice
