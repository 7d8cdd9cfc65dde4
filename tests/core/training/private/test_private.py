"""Private runs: gradients of single images are clipped, noised and counted, and what cannot be is refused."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import visiongraft
from tests.core.stopping import StopAt
from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.hookspecs import hookimpl
from visiongraft.saving.tensor_files import read_tensors
from visiongraft.saving.training_images import TrainingImages
from visiongraft.training.private.accounting import opacus
from visiongraft.training.private.refusals import check_gradients
from visiongraft.training.resuming.checkpoint import Checkpoint

PRIVACY = "epsilon=3, delta=1e-3, accountant=rdp, noise_seed=7"
IMAGES = 31  # of 40, the others are held out for validation
LAST = Path("checkpoints", "last.safetensors")


def test_importing_opacus_adds_no_second_line_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    monkeypatch.delitem(sys.modules, "opacus.utils.module_utils")
    opacus("utils.module_utils")
    assert logging.root.handlers == [] and logging.root.level == logging.WARNING


class Linear(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 3)

    def forward(self, features: Any) -> torch.Tensor:
        return self.linear(features.pooled)


class Entropy(nn.Module):
    """A mean over images, or what privacy must refuse."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        losses = nn.functional.cross_entropy(outputs, targets, reduction="none")
        if self.kind == "pairs":
            return {"entropy": losses.mean() + outputs.std(0, unbiased=False).sum()}
        if self.kind == "weighted":
            return {"entropy": (losses.sum(), len(losses))}
        return {"entropy": losses.mean()}


@pytest.fixture(scope="session")
def private_toy(Toy: type) -> Any:
    @dataclass(frozen=True)
    class PrivateToy(Toy):
        kind: str = ""
        learned: str = ""
        mixes: bool = False

        @property
        def learned_from_targets(self) -> str:
            return self.learned

        def mix(self, images: Any, targets: Any) -> Any:
            return (images.flip(0) + images if self.mixes else images), targets

        def build_head(self, backbone: Any) -> nn.Module:
            return Linear(backbone.info.embedding_dim)

        def build_loss(self) -> nn.Module:
            return Entropy(self.kind)

    return PrivateToy


@pytest.fixture(scope="session")
def fit_private(fit_toy: Any, toy_data: Any, private_toy: Any) -> Callable[..., Any]:
    def fit(count: int = 40, **settings: Any) -> Any:
        kind = {n: settings.pop(n) for n in ("kind", "learned", "mixes") if n in settings}
        augment = settings.pop("augment", False)
        defaults = {"task": private_toy(augment=augment, **kind), "privacy": PRIVACY}
        defaults |= {"schedule": "linear_probe", "epochs": 2}
        return fit_toy(toy_data(count), **{**defaults, **settings})

    return fit


@pytest.fixture(scope="session")
def trained(fit_private: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("private") / "run"
    return fit_private(out=folder, schedule="gradual", epochs=3)


def test_the_budget_that_was_spent_is_that_of_an_accountant_of_its_own(trained: Any) -> None:
    facts = trained.facts["privacy"]
    accountant = RDPAccountant()
    for _ in range(facts["steps"]):
        accountant.step(
            noise_multiplier=facts["noise multiplier"], sample_rate=facts["sample rate"]
        )
    assert facts["epsilon"] == pytest.approx(accountant.get_epsilon(1e-3), abs=1e-4)
    assert 2.9 < facts["epsilon"] <= 3


def test_metrics_model_card_and_configuration_state_the_budget_and_never_the_seed(
    trained: Any,
) -> None:
    folder = trained.run_folder
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    spent = [json.loads(line)["privacy"]["epsilon"] for line in lines]
    assert (
        0
        < spent[0]
        < spent[1]
        < spent[2]
        == pytest.approx(trained.facts["privacy"]["epsilon"], abs=1e-4)
    )
    assert "| epsilon | 2.9" in (folder / "model" / "README.md").read_text()
    assert "noise_seed" not in (folder / "model" / "config.json").read_text()


def test_a_secret_seed_is_drawn_unless_one_is_given(fit_private: Any) -> None:
    secret = "epsilon=3, delta=1e-3, accountant=rdp"
    first, second = (fit_private(privacy=secret) for _ in range(2))
    weights = [each.network.head.linear.weight for each in (first, second)]
    assert not torch.equal(*weights)
    assert first.facts["privacy"]["noise"] == "from a secret seed"


def test_a_model_does_not_tell_which_images_it_was_trained_on(
    trained: Any, fit_private: Any, tmp_path: Path
) -> None:
    assert TrainingImages.read(trained.run_folder / "model") is None
    plain = fit_private(privacy=None, out=tmp_path / "plain")
    assert TrainingImages.read(plain.run_folder / "model") is not None


def test_a_model_tells_no_exact_counts_of_its_images_but_their_number(trained: Any) -> None:
    assert trained.facts["data"] == {"training images": IMAGES, "validation images": 40 - IMAGES}


def test_names_of_tensors_are_those_of_other_runs_and_nothing_of_opacus_stays(
    trained: Any, fit_private: Any
) -> None:
    plain = fit_private(privacy=None)
    assert trained.network.state_dict().keys() == plain.network.state_dict().keys()
    for parameter in trained.network.parameters():
        assert not {"grad_sample", "summed_grad"} & vars(parameter).keys()
    assert not any(m._forward_hooks or m._backward_hooks for m in trained.network.modules())
    assert all(m.inplace for m in trained.network.modules() if isinstance(m, nn.ReLU))


def test_batch_norms_of_trained_stages_stay_as_they_are(trained: Any) -> None:
    receipts = json.loads((trained.run_folder / "receipts.json").read_text())
    frozen = receipts[-1]["frozen"]
    norms = [n for n, m in trained.network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and {f"{n}.{own}" for n in norms for own in ("weight", "running_mean")} <= set(
        frozen
    )
    assert "backbone.blocks.stage2.0.weight" not in frozen


class Steps:
    """Notes the gradient that each step takes."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.handle: Any = None

    @hookimpl
    def run_started(self, run: Any) -> None:
        def note(optimizer: Any, *_: Any) -> None:
            held = [p for g in optimizer.param_groups for p in g["params"]]
            self.gradients.append(torch.cat([p.grad.flatten() for p in held]))

        self.handle = register_optimizer_step_pre_hook(note)

    @hookimpl
    def run_finished(self, run: Any) -> None:
        self.handle.remove()


@pytest.fixture(scope="session")
def first_step(fit_toy: Any, toy_data: Any, private_toy: Any) -> Callable[..., Any]:
    """Return the gradient of the first step, which sees all images, and the noise multiplier."""

    def gradient(
        norm: float, seed: int = 7, changed: bool = False, batch_size: int = IMAGES
    ) -> tuple[torch.Tensor, float]:
        images = toy_data(40)
        if changed:
            images[1] = (255 - images[1][0], images[1][1])
        steps = Steps()
        model = fit_toy(
            images,
            task=private_toy(augment=False),
            schedule="linear_probe",
            epochs=1,
            batch_size=batch_size,
            accumulate=-(-IMAGES // batch_size),
            optimizer="sgd",
            privacy=f"epsilon=3, delta=1e-3, accountant=rdp, noise_seed={seed}, max_grad_norm={norm}",
            callbacks=[steps],
        )
        return steps.gradients[0], model.facts["privacy"]["noise multiplier"]

    return gradient


@pytest.mark.parametrize("batch_size", [IMAGES, 8])
def test_one_image_moves_a_step_by_no_more_than_the_norm(first_step: Any, batch_size: int) -> None:
    norm = 0.01
    before, _ = first_step(norm, batch_size=batch_size)
    after, _ = first_step(norm, changed=True, batch_size=batch_size)
    assert 0 < (before - after).norm() <= 2 * norm / IMAGES * 1.001


def test_without_clipping_the_image_would_move_it_further(first_step: Any) -> None:
    before, after = first_step(100.0), first_step(100.0, changed=True)
    assert (before[0] - after[0]).norm() > 2 * 0.01 / IMAGES * 1.001


def test_the_noise_of_a_step_has_the_size_that_was_counted(first_step: Any) -> None:
    (one, multiplier), (other, _) = first_step(0.01, seed=1), first_step(0.01, seed=2)
    size = multiplier * 0.01 / IMAGES * 2**0.5
    assert float((one - other).std()) == pytest.approx(size, rel=0.35)


def outcome(folder: Path) -> tuple[dict[str, bytes], str]:
    tensors, _ = read_tensors(folder / "model" / "model.safetensors")
    content = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return content, (folder / "metrics.jsonl").read_text()


def test_an_interrupted_run_ends_with_the_same_weights_and_the_same_budget(
    fit_private: Any, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit_private(out=whole, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        fit_private(out=stopped, checkpoint_every=1, callbacks=[StopAt(3)])
    fit_private(out=stopped, resume=True)
    assert outcome(whole) == outcome(stopped)
    assert "epsilon" in outcome(whole)[1]


@pytest.mark.exhaustive
def test_a_killed_run_ends_with_the_same_weights_and_the_same_budget(
    run: Any, tmp_path: Path
) -> None:
    shape = {"kind": "private", "schedule": "linear_probe", "epochs": 2}
    settings = {**shape, "privacy": PRIVACY, "checkpoint_every": 1}
    assert run(tmp_path / "whole", settings) == 0
    assert run(tmp_path / "killed", settings, "step 3") == -9
    assert run(tmp_path / "killed", {**shape, "resume": True}) == 0
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "killed")


@pytest.mark.exhaustive
def test_a_resumed_run_keeps_its_secret_seed(run: Any, tmp_path: Path) -> None:
    secret = {"kind": "private", "privacy": "epsilon=3, delta=1e-3", "checkpoint_every": 1}
    assert run(tmp_path / "r", secret, "step 2") == -9
    before = Checkpoint.read(tmp_path / "r" / LAST).state.privacy
    assert run(tmp_path / "r", {"kind": "private", "resume": True}) == 0
    assert Checkpoint.read(tmp_path / "r" / LAST).state.privacy == before
    assert json.loads((tmp_path / "r" / "config.json").read_text())["privacy"]["noise_seed"] is None


SHARED = {"kind": "private", "schedule": "linear_probe", "epochs": 2, "batch_size": 7}


def weights(folder: Path) -> torch.Tensor:
    tensors, _ = read_tensors(folder / "model" / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def privacy_of(folder: Path) -> Any:
    return json.loads((folder / "model" / "config.json").read_text())["facts"]["privacy"]


@pytest.fixture(scope="module")
def alone(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process."""
    folder: Path = tmp_path_factory.mktemp("alone") / "run"
    assert run(folder, {**SHARED, "privacy": PRIVACY}) == 0
    return folder


@pytest.mark.exhaustive
def test_two_processes_end_with_the_weights_and_the_budget_of_one(
    run: Any, alone: Path, tmp_path: Path
) -> None:
    """They sample the same images, and add the same noise once: the accountant counts what happens."""
    settings = {**SHARED, "privacy": PRIVACY, "processes": 2}
    assert run(tmp_path / "two", {**settings, "report": True}) == 0
    ranks = [(tmp_path / "two" / f"rank{rank}").read_text() for rank in (0, 1)]
    assert ranks[0] == ranks[1] and ranks[0].startswith("2 ")
    torch.testing.assert_close(weights(tmp_path / "two"), weights(alone), atol=1e-6, rtol=1e-5)
    assert privacy_of(tmp_path / "two") == privacy_of(alone)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", ["sums of one process", "noise of each process"])
def test_a_sum_or_noise_of_one_process_alone_would_be_found(
    run: Any, alone: Path, tmp_path: Path, fault: str
) -> None:
    settings = {**SHARED, "privacy": PRIVACY, "processes": 2}
    assert run(tmp_path / "two", settings, fault) == 0
    assert (weights(tmp_path / "two") - weights(alone)).abs().max() > 1e-3


@pytest.mark.exhaustive
def test_two_processes_share_a_secret_seed_and_resume_exactly(run: Any, tmp_path: Path) -> None:
    secret = {**SHARED, "privacy": "epsilon=3, delta=1e-3", "checkpoint_every": 1, "processes": 2}
    assert run(tmp_path / "r", secret, "step 3") == -9
    before = Checkpoint.read(tmp_path / "r" / LAST).state.privacy
    again = {**SHARED, "resume": True, "processes": 2, "report": True}
    assert run(tmp_path / "r", again) == 0
    assert Checkpoint.read(tmp_path / "r" / LAST).state.privacy == before
    assert len({(tmp_path / "r" / f"rank{rank}").read_text() for rank in (0, 1)}) == 1


@pytest.mark.exhaustive
def test_prv_needs_less_noise_than_rdp(fit_private: Any) -> None:
    rdp = fit_private(epochs=1).facts["privacy"]
    prv = fit_private(epochs=1, privacy="epsilon=3, delta=1e-3, noise_seed=7").facts["privacy"]
    assert prv["noise multiplier"] < rdp["noise multiplier"]
    accountant = PRVAccountant()
    accountant.history = [(prv["noise multiplier"], prv["sample rate"], prv["steps"])]
    assert prv["epsilon"] == pytest.approx(accountant.get_epsilon(1e-3), abs=1e-3)


def test_adapters_train_privately(fit_private: Any) -> None:
    model = fit_private(adapters=["lora(rank=2)"], schedule="full")
    assert model.facts["privacy"]["epsilon"] > 0


def test_bottlenecks_around_frozen_batch_norms_train_privately(fit_private: Any) -> None:
    blocks = {"backbone": "timm/test_efficientnet", "weights": None, "size": 32}
    model = fit_private(adapters=["bottleneck(width=2)"], schedule="full", epochs=1, **blocks)
    state = model.network.backbone.state_dict()
    assert all(bool(t.any()) for n, t in state.items() if n.endswith("bottleneck.up.weight"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"transfer_loss": "l2_sp"}, "transfer_loss='l2_sp' adds gradients"),
        ({"precision": "bf16"}, "precision='bf16' rounds the gradient of an image"),
        ({"schedule": "auto"}, "schedule='auto' chooses by a probe"),
        ({"budget": "10s", "epochs": None}, "pass epochs in place of a budget"),
        ({"batch_size": "auto"}, "a number as batch_size"),
        ({"learned": "weights"}, "weights is computed from the training targets"),
        ({"kind": "pairs"}, "depends on more than single images"),
        ({"kind": "weighted"}, "a part of the loss has a weight of its own"),
        ({"mixes": True, "augment": True, "schedule": "full"}, "mixed with each other"),
        ({"schedule": "full(batch_norm='train')"}, "would train on statistics of private images"),
        ({"privacy": "epsilon=1e-9, delta=1e-3, accountant=rdp"}, "cannot be met"),
        ({"privacy": "epsilon=0.01, delta=1e-3"}, "within the error of the accountant 'prv'"),
    ],
)
def test_what_would_not_be_protected_is_refused_in_one_line(
    fit_private: Any, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(VisiongraftError, match=message) as refused:
        fit_private(out=tmp_path / "run", **settings)
    assert str(refused.value).startswith("privacy: ") and "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_head_whose_batch_norm_trains_is_refused(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(OptionError, match=r"batch norm 'head\.norm' would train"):
        fit_toy(toy_data(30), privacy=PRIVACY)


def test_wrong_gradients_of_single_images_are_found(toy_network: Any) -> None:
    class Silent(nn.Module):
        """Passes for a linear layer whose gradients are those of the images."""

        def forward(self, batch: Batch) -> Any:
            parameter.grad_sample = torch.zeros(len(batch.images), *parameter.shape)
            return {"loss": (parameter * batch.images.mean()).sum()}

        task = toy_network.task

    parameter = nn.Parameter(torch.ones(2))
    images = torch.from_numpy(np.ones((3, 1, 2, 2), dtype=np.float32))
    batches = [
        Batch(part, None, torch.ones(len(part), 2), torch.arange(len(part)))
        for part in (images, *images.split(1))
    ]
    with pytest.raises(OptionError, match="depends on more than single images"):
        check_gradients(Silent(), {"p": parameter}, batches)  # type: ignore[arg-type]


def test_delta_that_allows_to_publish_an_image_is_warned_of(fit_private: Any, caplog: Any) -> None:
    fit_private(privacy="epsilon=3, delta=0.2, accountant=rdp, noise_seed=1", batch_size=1000)
    assert "allows to publish one of" in caplog.text and "noise_seed can remove" in caplog.text


def test_public_names() -> None:
    assert visiongraft.Privacy(epsilon=1, delta=0.1).epsilon == 1
