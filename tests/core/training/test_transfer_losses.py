"""Transfer losses pull towards the source, are exact on resume, and cannot change the source."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.core.stopping import StopAt
from visiongraft.config import FitConfig
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
from visiongraft.lookup.methods import find_transfer_loss
from visiongraft.network import Network
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Phase
from visiongraft.training.freezing import check_optimizers
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.trainable import apply_phase, parameter_groups
from visiongraft.training.transfer.applying import Transfer
from visiongraft.training.transfer_losses import TransferChoice, TransferLoss, TransferStep

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


class Prepared(TransferLoss):
    """Pulls embeddings towards their mean on the training set, which it computes once."""

    name = "prepared"
    reads_features = True
    stop: ClassVar[bool] = False  # in the middle of the training set
    passes: ClassVar[int] = 0

    def __init__(self, backbone: Any, source: Any) -> None:
        super().__init__(backbone, source)
        self.register_buffer("mean", None)

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        type(self).passes += 1
        pooled = []
        for step in steps:
            assert not step.backbone.training and not step.features.pooled.requires_grad
            pooled.append(step.features.pooled)
            if self.stop:
                raise KeyboardInterrupt
        self.mean = torch.cat(pooled).mean(0) + torch.rand(()) * 0.01

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        return {"distance": (step.features.pooled - self.mean).square().mean()}


class Meddler(TransferLoss):
    """Changes the network while it is prepared."""

    name = "meddler"

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        next(next(iter(steps)).head.parameters()).data.add_(1)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        return {}


class OldHead(TransferLoss):
    """Keeps the outputs of the source head, by way of a trained copy of it."""

    name = "old_head"
    reads_features = reads_outputs = needs_source_head = True

    def __init__(self, backbone: Any, source: Any, head: nn.Module, *, weight: float = 1.0) -> None:
        super().__init__(backbone, source)
        self.weight, self.copy = weight, deepcopy(head).requires_grad_(True)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        moved = self.copy(step.features) - step.source_outputs()
        return {"distance": self.weight * moved.square().mean(), "new": 0 * step.outputs.sum()}


class HeadWriter(OldHead):
    """Writes to the source head."""

    name = "head_writer"

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        assert step.source_head is not None
        next(step.source_head.parameters()).add_(0.1)
        return {}


class Teacher(TransferLoss):
    """Holds another network, and writes to it."""

    name = "teacher"

    def __init__(self, backbone: Any, source: Any, *, write: bool) -> None:
        super().__init__(backbone, source)
        self.write, self.other = write, (self.hold(nn.Linear(2, 2)),)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        if self.write:
            self.other[0].weight.add_(1)
        return {}


class Aligned(TransferLoss):
    """Pulls the mean embedding of labeled images towards that of a stream, and checks what it sees."""

    name = "aligned"
    reads_features = True
    reads_outputs = True
    streams = ("unlabelled",)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        assert step.images is step.batch.images
        assert len(step.outputs) == len(step.features.pooled) == len(step.batch.targets)
        further = step.backbone(step.batch.streams["unlabelled"].images).pooled.mean(0)
        return {"distance": (step.features.pooled.mean(0) - further).square().sum()}


KINDS = [Embeddings, Undeclared, Hoarder, Writer, Failing, Prepared, Meddler, OldHead, HeadWriter]
KINDS += [Teacher, Aligned]


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
    from visiongraft.lookup.backbones import load_backbone

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
    assert model.facts["training"]["transfer_loss"] == [{"name": "l2_sp", "options": {}}]
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


def assert_same_checkpoints(*runs: Path) -> Checkpoint:
    one, other = (Checkpoint.read(run / "checkpoints" / "last.safetensors") for run in runs)
    for group, tensors in one.tensors.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other.tensors[group][name]), f"{group} {name}"
    return one


@pytest.mark.parametrize(
    "loss",
    [
        "embeddings(weight=0.5)",
        pytest.param("l2_sp(alpha=0.5)", marks=pytest.mark.exhaustive),
        pytest.param("old_head", marks=pytest.mark.exhaustive),
        pytest.param(["prepared", "l2_sp", "old_head"], marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_a_run_with_a_transfer_loss_resumes_exactly(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path, loss: Any
) -> None:
    settings = {"transfer_loss": loss, "checkpoint_every": 1, "ema": 0.9, "epochs": 2}
    whole = fit_from(start, fit_toy, toy_data(40), out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        fit_from(
            start, fit_toy, toy_data(40), out=tmp_path / "part", callbacks=[StopAt(3)], **settings
        )
    again = fit_from(start, fit_toy, toy_data(40), out=tmp_path / "part", resume=True, **settings)
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name
    one = assert_same_checkpoints(tmp_path / "whole", tmp_path / "part")
    if loss == "embeddings(weight=0.5)":  # its own parameters trained, and came back
        assert "transfer.losses.0.project.weight" in one.tensors["network"]
        assert "transfer.losses.0.project.weight" in str(one.tensors["optimizer"].keys())


def test_resuming_from_another_source_is_refused_and_may_be_allowed(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss then compares with the other weights, and the model card says so."""
    source = tmp_path / "source"
    shutil.copytree(start, source)
    settings = {"transfer_loss": "l2_sp", "out": tmp_path / "run", "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        fit_from(source, fit_toy, toy_data(40), callbacks=[StopAt(3)], **settings)
    shutil.rmtree(source)
    fit_toy(toy_data(60, seed=4), epochs=1, out=source)  # another model under the same name
    words = "the file of backbone has other content; the transfer losses compare with other weights"
    with pytest.raises(CheckpointError, match=f"since the run began, {words}; .* allow_changed"):
        fit_from(source, fit_toy, toy_data(40), resume=True, **settings)
    source_seen: dict[str, Tensor] = {}

    class Watch:
        @hookimpl
        def run_started(self, run: Any) -> None:
            source_seen.update(run.network.transfer.source.named_parameters())

    again = {"resume": True, "allow_changed_data": True, "callbacks": [Watch()], **settings}
    with caplog.at_level(logging.WARNING, "visiongraft"):
        model = fit_from(source, fit_toy, toy_data(40), **again)
    assert all(torch.equal(source_seen[n], p) for n, p in source_of(source).items())
    assert f"the run goes on with changed data: {words}" in caplog.text
    assert model.facts["data"]["changed during training"] == [f"from epoch 1: {words}"]


def test_weights_that_change_without_their_file_are_noticed(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those do that a library downloads."""
    settings = {"transfer_loss": "l2_sp", "out": tmp_path / "run", "epochs": 1}
    fit_from(start, fit_toy, toy_data(30), **settings)
    monkeypatch.setattr(Transfer, "_contents", lambda self: {"the source": "another"})
    with pytest.raises(CheckpointError, match="began, the transfer losses compare with other"):
        fit_from(start, fit_toy, toy_data(30), resume=True, **settings)


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

    toy_network.transfer = Transfer([TransferChoice("embeddings", Watch, {})], toy_network)
    apply_phase(toy_network, Phase(1, "all"))
    toy_network.eval()
    images = torch.randn(5, 3, 16, 16)
    batch = Batch(images, torch.tensor([0, 1, 2, 0, 1]), torch.ones(5, 2), torch.arange(5))
    parts = toy_network(batch)
    assert "embeddings.distance" in parts
    (step,) = seen
    assert torch.equal(step.features.pooled, step.source_features().pooled)
    assert step.source_features() is step.source_features()  # computed once
    assert step.batch is batch and step.task is toy_network.task
    assert torch.equal(step.images, images)
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


# ---- several at once ----


def test_several_losses_add_their_parts_and_share_the_source(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    losses = ["l2_sp", find_transfer_loss("embeddings"), "embeddings(weight=0)"]
    fit_from(start, fit_toy, toy_data(30), transfer_loss=losses, epochs=1, out=tmp_path / "run")
    (record,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    parts = {"l2_sp.backbone", "l2_sp.head", "embeddings.distance", "embeddings_2.distance"}
    assert parts <= record["train"].keys()
    assert record["train"]["embeddings_2.distance"] == 0 < record["train"]["embeddings.distance"]
    assert len(FitConfig.read(tmp_path / "run").transfer_loss) == 3


@pytest.mark.parametrize("old", [None, {"name": "l2_sp", "options": {"alpha": 0.2}}])
def test_a_config_with_one_transfer_loss_or_none_is_read(
    make_config: Any, tmp_path: Path, old: dict[str, Any] | None
) -> None:
    make_config(transfer_loss=[]).write(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "transfer_loss": old}))
    assert FitConfig.read(tmp_path).transfer_loss == ([] if old is None else [old])


# ---- before the first step ----


def test_a_loss_is_prepared_once_and_its_results_are_resumed_exactly(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"transfer_loss": "prepared", "checkpoint_every": 1, "ema": 0.9, "epochs": 2}
    monkeypatch.setattr(Prepared, "passes", 0)
    whole = fit_from(start, fit_toy, toy_data(40), out=tmp_path / "whole", **settings)
    assert Prepared.passes == 1
    part = {"out": tmp_path / "part", **settings}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Prepared, "stop", True)
        fit_from(start, fit_toy, toy_data(40), **part)
    with pytest.raises(KeyboardInterrupt):
        fit_from(start, fit_toy, toy_data(40), callbacks=[StopAt(1)], resume=True, **part)
    assert Prepared.passes == 3  # killed within, and killed after the first step
    again = fit_from(start, fit_toy, toy_data(40), resume=True, **part)
    assert Prepared.passes == 4  # the run was killed before its first checkpoint
    assert_same_checkpoints(tmp_path / "whole", tmp_path / "part")
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name]), name


def test_what_was_prepared_comes_from_the_checkpoint(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"transfer_loss": "prepared", "checkpoint_every": 1, "epochs": 1}
    fit_from(start, fit_toy, toy_data(40), out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        part = {"out": tmp_path / "part", **settings}
        fit_from(start, fit_toy, toy_data(40), callbacks=[StopAt(2)], **part)
    monkeypatch.setattr(Prepared, "stop", True)  # it would stop if it was prepared again
    fit_from(start, fit_toy, toy_data(40), resume=True, **part)
    assert_same_checkpoints(tmp_path / "whole", tmp_path / "part")


# ---- the source head ----


def test_the_source_head_is_that_of_the_saved_model(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    from visiongraft import load

    seen: list[Any] = []

    class Look:
        @hookimpl
        def run_started(self, run: Any) -> None:
            seen.append(run.network.transfer)

    settings = {"transfer_loss": "old_head", "epochs": 1, "callbacks": [Look()]}
    fit_from(start, fit_toy, toy_data(30), out=tmp_path / "run", **settings)
    (transfer,) = seen
    for name, tensor in load(start).network.head.state_dict().items():
        assert torch.equal(transfer.source_head.state_dict()[name], tensor)
    point = Checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")
    own = [n for n in point.tensors["network"] if n.startswith("transfer.")]
    assert own and all(n.startswith("transfer.losses.0.copy.") for n in own)


# ---- the source stays what it is ----


def test_a_run_that_breaks_a_receipt_before_its_first_step_is_kept(
    start: Path, fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    with pytest.raises(ReceiptError):
        fit_from(start, fit_toy, toy_data(30), transfer_loss="meddler", epochs=1, out=tmp_path)
    assert {"config.json", "run.log"} <= {path.name for path in tmp_path.iterdir()}


def test_the_source_is_no_part_of_the_network_but_goes_with_it(toy_network: Network) -> None:
    toy_network.transfer = Transfer([find_transfer_loss("embeddings")], toy_network)
    own = {id(p) for p in toy_network.parameters()}
    source = toy_network.transfer.source
    assert not own & {id(p) for p in source.parameters()}
    assert [n for n in toy_network.state_dict() if n.startswith("transfer.")] == [
        "transfer.losses.0.project.weight",
        "transfer.losses.0.project.bias",
    ]
    toy_network.train().double()
    assert {p.dtype for p in source.parameters()} == {torch.float64}
    assert not any(module.training for module in source.modules())
    assert not any(p.requires_grad for p in source.parameters())


def test_a_losss_own_parameters_train_with_the_head(toy_network: Network) -> None:
    toy_network.transfer = Transfer([find_transfer_loss("embeddings")], toy_network)
    apply_phase(toy_network, Phase(1, "head"))
    groups = parameter_groups(toy_network, Phase(1, "head", 0.1), 0.05)
    names = {name: group["lr"] for group in groups for name in group["names"]}
    assert names["transfer.losses.0.project.weight"] == names["head.linear.weight"] == 0.1
    optimizer = torch.optim.AdamW(groups)
    assert check_optimizers(toy_network, [optimizer], "here") == len(names)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ("writer", "source backbone of transfer loss 'writer' changed in phase 1"),
        ("head_writer", "source head of transfer loss 'head_writer' changed in phase 1"),
        ("teacher(write=True)", "module 1 that transfer loss 'teacher' holds changed in phase 1"),
        ("meddler", "'meddler' changed 'head.norm.weight' while it was prepared"),
    ],
)
def test_a_loss_that_writes_to_what_is_read_only_breaks_the_receipt(
    start: Path, fit_toy: Any, toy_data: Any, loss: str, words: str
) -> None:
    with pytest.raises(ReceiptError, match=words.replace("(", r"\(")):
        fit_from(start, fit_toy, toy_data(30), transfer_loss=loss, epochs=1)


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        ("hoarder", PluginError, "'hoarder' registers a backbone as its own"),
        ("failing", PluginError, "'failing' cannot be made: KeyError: 'cannot be made'"),
        ("undeclared", TrainingError, "set reads_features = True"),
        ("l2sp", PluginError, "no loss 'l2sp'; did you mean 'l2_sp'?"),
        ("l2_sp(alfa=1)", OptionError, "transfer loss 'l2_sp' has no option 'alfa'; did you mean"),
        ("l2_sp(1", OptionError, "is neither 'name' nor 'name"),
        (["l2_sp", "nope"], PluginError, "no loss 'nope'"),
        (3, OptionError, "transfer_loss=3 is not the name of a transfer loss"),
        ("teacher", OptionError, "'teacher' needs the option 'write': teacher(write=...)"),
        ("old_head", OptionError, "'old_head' needs the head that the backbone was trained with"),
    ],
)
def test_a_wrong_transfer_loss_is_one_line_and_leaves_nothing(
    fit_toy: Any,
    toy_data: Any,
    tmp_path: Path,
    loss: Any,
    error: type[VisiongraftError],
    words: str,
) -> None:
    with pytest.raises(error, match=re.escape(words)) as caught:
        fit_toy(toy_data(30), transfer_loss=loss, out=tmp_path / "run", **FULL)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@given(st.dictionaries(st.sampled_from(["alpha", "beta"]), st.floats(0, 10, allow_nan=False)))
def test_a_choice_comes_back_from_what_a_run_stores(options: dict[str, float]) -> None:
    words = ", ".join(f"{name}={value!r}" for name, value in options.items())
    choice = find_transfer_loss(f"l2_sp({words})")
    assert (choice.kind.name, choice.options) == ("l2_sp", options)
    assert find_transfer_loss(choice.to_json()) == choice


# ---- streams ----


def test_a_loss_uses_a_stream_beside_any_task(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    settings = {**FULL, "transfer_loss": "aligned", "epochs": 1}
    fit_toy(toy_data(20), streams={"unlabelled": toy_data(9)}, out=tmp_path, **settings)
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert record["train"]["aligned.distance"] > 0
    with pytest.raises(OptionError, match="transfer loss 'aligned' needs the stream 'unlabelled'"):
        fit_toy(toy_data(20), **settings)


def test_a_loss_sees_the_labeled_batch_of_a_task_that_uses_a_stream_too(
    fit_toy: Any, toy_data: Any, StreamingToy: Any
) -> None:
    settings = {**FULL, "transfer_loss": "aligned", "epochs": 1, "batch_size": 7}
    streams = {"unlabelled": toy_data(9)}
    fit_toy(toy_data(20), task=StreamingToy(), streams=streams, **settings)
