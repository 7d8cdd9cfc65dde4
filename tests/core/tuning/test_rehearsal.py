"""Trial steps leave the run as it was, which is proved: forgetting it is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.core.conftest import Toy, ToyBackbone
from visiongraft.errors import OptionError, ReceiptError
from visiongraft.network import Network
from visiongraft.schedules import full
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.run import Run
from visiongraft.tuning import rehearsal as module
from visiongraft.tuning.rehearsal import rehearsal


@pytest.fixture
def run(toy_data: Any, make_config: Any, tmp_path: Path) -> Run:
    torch.manual_seed(0)
    samples = Toy().read(toy_data(20)).train
    network = Network(ToyBackbone(), Toy())
    return Run(make_config(), network, full, (), samples, samples, None, tmp_path)


def rehearse(run: Run, spoil: Callable[[Run], Any]) -> None:
    accelerator = make_accelerator(run.config)
    with rehearsal(run, accelerator, "batch_size='auto'") as copy:
        spoil(copy)


def train(copy: Run) -> None:
    copy.network.backbone.requires_grad_(False).train()
    copy.network.head.linear.weight.data.add_(torch.randn(1))
    copy.network.backbone.blocks["stem"][1](torch.rand(2, 4, 3, 3))  # running statistics
    copy.state.epoch, copy.state.history = 3, [{}]


def test_what_steps_change_does_not_reach_the_run(run: Run) -> None:
    before = {n: t.clone() for n, t in run.network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    rehearse(run, train)
    assert torch.rand(1) == expected
    assert all(torch.equal(t, before[n]) for n, t in run.network.state_dict().items())
    assert all(p.requires_grad for p in run.network.parameters())
    assert (run.state.epoch, run.state.history) == (0, [])


def test_a_rehearsal_that_works_on_the_run_itself_is_caught(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "deepcopy", lambda network: network)
    with pytest.raises(ReceiptError, match=r"measuring batch_size='auto' changed tensor 'head"):
        rehearse(run, train)


def test_random_states_that_are_not_put_back_are_caught(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "restore_random_state", lambda *_: None)
    with pytest.raises(ReceiptError, match="changed the random state of torch"):
        rehearse(run, train)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda network: network.head.linear.bias.requires_grad_(False), "what trains"),
        (lambda network: network.head.eval(), "modes"),
        (lambda network: network.register_buffer("more", torch.ones(1)), "tensor 'more'"),
        (lambda network: network.backbone.blocks["stem"][1].running_var.add_(1), "running_var"),
    ],
)
def test_each_change_of_the_run_is_caught(run: Run, spoil: Any, words: str) -> None:
    with pytest.raises(ReceiptError, match=words):
        rehearse(run, lambda copy: spoil(run.network))


def test_an_error_of_a_trial_step_is_passed_on(run: Run) -> None:
    def fail(copy: Run) -> None:
        raise RuntimeError("a step failed")

    with pytest.raises(RuntimeError, match="a step failed"):
        rehearse(run, fail)


def test_several_processes_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two:
        num_processes = 2

    with (
        pytest.raises(
            OptionError, match="measured in one process, but the run has 2; pass a number"
        ),
        rehearsal(run, Two(), "batch_size='auto'"),  # type: ignore[arg-type]
    ):
        pass
